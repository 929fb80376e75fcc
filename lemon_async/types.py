"""What the service says of its jobs, files and models, as frozen data; `wire` makes it from what came in."""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs

__all__ = [
    "Billing",
    "ImageData",
    "Inline",
    "Model",
    "Progress",
    "ProgressOption",
    "ResumableTask",
    "StoredFile",
    "SubmissionCounts",
    "TaskFault",
    "TaskSnapshot",
]

_NOTHING: Mapping[str, Any] = {}


@attrs.define(eq=False, init=False, repr=False)
class Inline:
    """The bytes of a picture that came as base64 in an answer, until they are dropped.

    Attributes:
        content: The bytes; `None` when they were dropped, or when the text is not base64.
        fault: Why the text is not base64, in one line.
        size_bytes: How many bytes there are, or were.
    """

    content: bytes | None
    fault: str | None
    size_bytes: int

    def __init__(self, content: bytes | None, fault: str | None = None) -> None:
        self.content = content
        self.fault = fault
        self.size_bytes = len(content or b"")

    def drop(self) -> None:
        """Forget the bytes."""
        self.content = None

    def __repr__(self) -> str:
        state = "" if self.content is not None else f" at fault: {self.fault}" if self.fault else ", dropped"
        return f"<Inline {self.size_bytes:,} bytes{state}>"


@attrs.frozen
class ImageData:
    """One entry of `data`: a link, or the bytes that came as base64, and the prompt that was really used."""

    url: str | None = None
    inline: Inline | None = None
    revised_prompt: str | None = None

    @property
    def b64_json(self) -> str | None:
        """The bytes as base64 text, encoded anew at each call, which costs time; `None` when there are none."""
        if self.inline is None or self.inline.content is None:
            return None
        return base64.b64encode(self.inline.content).decode()

    def content(self) -> bytes:
        """Return the bytes that came with the answer, none where there is only a link; what they are is not checked.

        Raises:
            ValueError: What came is not base64, or was dropped.
        """
        if self.inline is None:
            return b""
        if self.inline.content is None:
            raise ValueError(self.inline.fault or "the bytes were dropped")
        return self.inline.content

    @property
    def is_usable(self) -> bool:
        """Whether there is an image behind it, even a damaged one; a placeholder has an empty `url`."""
        return bool(self.url) or self.inline is not None


def is_final(status: str) -> bool:
    """Tell whether the service will not change its mind about a task with this status."""
    return status in {"completed", "failed"}


@attrs.frozen
class TaskFault:
    """Why a task failed; the service sends a string or an object, and both read the same."""

    message: str
    code: str | None = None


@attrs.frozen
class Billing:
    """What the service said about money.

    Attributes:
        transaction_id: `billing_transaction_id` of a completed task.
        usage: Token counts of token-priced models, as they came.
        headers: Every `x-*` header of the answer, names in lower case; their names are not documented.
    """

    transaction_id: str | None = None
    usage: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


class ResumableTask(Protocol):
    """The task of an error: an `ImageTask`."""

    @property
    def id(self) -> str | None:
        """The service's id of the task; `None` if it answered inline."""

    def resume_token(self) -> str:
        """A string that `LemonSession.task` accepts to resume the task."""


@attrs.frozen(kw_only=True)
class TaskSnapshot:
    """One answer about a job: from "Create image" or from "Get image status".

    An inline answer is the snapshot of a job that completed at once and has no `task_id`.

    Attributes:
        status: `pending`, `processing`, `completed` or `failed`; any other word counts as still pending.
        images: The usable entries of `data`.
        is_id_guessed: Whether `task_id` may not be the task's name, because the service named only an address to poll.
        created: Unix seconds, as the service tells them.
        progress: As the service tells it; the scale is not documented.
    """

    status: str = ""
    task_id: str | None = None
    is_id_guessed: bool = False
    poll_url: str | None = None
    images: tuple[ImageData, ...] = ()
    created: int | None = None
    model: str | None = None
    progress: float | None = None
    fault: TaskFault | None = None
    is_cancelled: bool = False
    billing: Billing = attrs.field(factory=Billing)

    @property
    def is_done(self) -> bool:
        """Whether the service will not change its mind."""
        return is_final(self.status)


@attrs.frozen
class StoredFile:
    """A file that the service keeps for a key ("Files": OpenAI's file object); goes wherever a source picture goes.

    Attributes:
        id: What edits refer to; `StoredFile("file-abc123")` is enough for that.
        filename: As it was uploaded.
        size_bytes: The service calls it `bytes`.
        purpose: `vision` or `user_data`.
        created_at: Unix seconds.
        status: `processed` when it can be used.
        model: Whose channel it was uploaded to, as far as this side knows: edits need the same model.
        raw: The whole answer, fields included that this version does not know.
    """

    id: str
    filename: str | None = attrs.field(default=None, kw_only=True)
    size_bytes: int | None = attrs.field(default=None, kw_only=True)
    purpose: str | None = attrs.field(default=None, kw_only=True)
    created_at: int | None = attrs.field(default=None, kw_only=True)
    status: str | None = attrs.field(default=None, kw_only=True)
    model: str | None = attrs.field(default=None, kw_only=True)
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, repr=False, eq=False)


@attrs.frozen
class Model:
    """A model of the catalogue ("List models").

    Attributes:
        id: What goes into `model=`.
        created: Unix seconds.
        owned_by: The provider.
        lemondata: What LemonData adds, as it came: what is named below, and whatever else there is.
        raw: The whole answer, fields included that this version does not know.
    """

    id: str
    created: int | None = attrs.field(default=None, kw_only=True)
    owned_by: str | None = attrs.field(default=None, kw_only=True)
    lemondata: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, repr=False, eq=False)
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, repr=False, eq=False)

    @property
    def category(self) -> str | None:
        """What it makes, such as `image`."""
        value = self.lemondata.get("category")
        return value if isinstance(value, str) else None

    @property
    def pricing_unit(self) -> str | None:
        """What is billed, such as `per_image`."""
        value = self.lemondata.get("pricing_unit")
        return value if isinstance(value, str) else None

    @property
    def supported_operations(self) -> tuple[str, ...]:
        """What it can do, in the service's words; empty when not told."""
        value = self.lemondata.get("supported_operations")
        return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()

    @property
    def preference(self) -> Mapping[str, Any]:
        """Its place in the shortlist of `recommended_for="image"`: rank, success rate, samples; else empty."""
        preferences = self.lemondata.get("agent_preferences")
        image = preferences.get("image") if isinstance(preferences, Mapping) else None
        return image if isinstance(image, Mapping) else _NOTHING


@attrs.frozen
class SubmissionCounts:
    """The paid requests of a session so far.

    Attributes:
        sold: Accepted by the service, with an id or with pictures at once.
        settled: Of those, completed: billed by actual usage.
        released: Of those, failed or cancelled: the service releases or refunds what it had reserved.
        unknown: Sent, and nobody knows whether they were sold (`SubmissionUnknown`); not counted as sold.
    """

    sold: int = 0
    settled: int = 0
    released: int = 0
    unknown: int = 0

    @property
    def open(self) -> int:
        """Sold, and not known to have ended: still running, or given up waiting for."""
        return self.sold - self.settled - self.released


@attrs.frozen(kw_only=True)
class Progress:
    """How far one call has come, as its option `progress` tells it.

    Attributes:
        total: Number of jobs; `None` while it is not known, as for a generator.
        done: Jobs that have ended, well or badly.
        failed: Of those, the ones that ended in an error.
        in_flight: Jobs that were sold and are not over.
        submitting: Jobs that wait for their turn, or for the answer to their submit: not known to be sold.
        seconds: Since the start, to the end.
        status: Of a single job, as last heard; `None` before the service has accepted it, and for many jobs.
    """

    total: int | None = None
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    submitting: int = 0
    seconds: float = 0.0
    status: str | None = None


ProgressOption = bool | Callable[[Progress], object]
"""`True` for a bar, a function to be called with each `Progress`, or `False` for nothing."""
