"""`Outcome`: how one job of a map ended."""

from typing import TYPE_CHECKING, Any

import attrs

from lemon_async._formats.json_documents import safe_repr, safe_str
from lemon_async._images.images import Images
from lemon_async._tasks.task import ImageTask
from lemon_async.requests import Request

if TYPE_CHECKING:
    from lemon_async._display.bundle import Bundle

__all__ = ["Outcome"]

_MAX_STATE_CHARS = 90


@attrs.frozen(eq=False)
class Outcome:
    """How one job of `LemonSession.map` ended.

    Attributes:
        index: The position of its request in the input, from 0.
        request: The request; `None` if the item was not a valid one.
        task: The task; `None` if the request was not accepted.
        images: The images; `None` if there is an error.
        error: The error, as `generate` would raise it; `None` if there are images.
        key: The key of its item, if it had one.
    """

    index: int
    request: Request | None
    task: ImageTask | None = None
    images: Images | None = None
    error: Exception | None = None
    key: Any = attrs.field(default=None, kw_only=True)

    def _repr_mimebundle_(self, **_: object) -> "Bundle":
        from lemon_async._display.bundle import failure_bundle  # noqa: PLC0415 - for notebooks

        if self.images is None:
            return failure_bundle(self._state(), label=repr(self))
        data, metadata = self.images._repr_mimebundle_()
        return {**data, "text/plain": repr(self)}, metadata

    def _state(self) -> str:
        if self.error is not None:
            return f"{type(self.error).__name__}: {safe_str(self.error)}"
        return f"{len(self.images or ())} image{'s' * (len(self.images or ()) != 1)}"

    def __repr__(self) -> str:
        prompt = getattr(self.request, "prompt", None)
        key = "" if self.key is None else f" key={safe_repr(self.key)}"
        job = f"{self.index}{key}{f' {safe_repr(prompt)}' if prompt else ''}"
        return f"<Outcome {job} {self._state()[:_MAX_STATE_CHARS]}>"
