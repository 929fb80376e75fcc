"""The pictures of one job, together."""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

from lemon_async.api.errors import LemonError, PartlySaved, ResumableTask, SessionMisuse
from lemon_async.api.models import Billing, TaskSnapshot
from lemon_async.api.pictures import PictureFacts
from lemon_async.api.requests import Request
from lemon_async.client.image import Image
from lemon_async.client.naming import Template, alternatives, checked_folder, slug_of, suffix_of
from lemon_async.client.results import ResultLinks, Results
from lemon_async.show.bundle import Bundle, pictures_bundle
from lemon_async.show.sheet import Sheet

__all__ = ["Images"]

T = TypeVar("T")


class Timed(ResumableTask, Protocol):
    """A task that knows how long it took."""

    @property
    def seconds(self) -> float | None:
        """Seconds from its submit to its end; `None` if that is not known."""


class Images(Sequence[Image]):
    """The pictures of one job, in the service's order; at least one. A notebook shows them.

    Attributes:
        created: Unix seconds, as the service tells them.
        usage: Token counts of token-priced models, as they came.
        billing: What the service said about money.
        task_id: `None` when the service answered inline.
        prompt: What was asked for; `None` for a task that was resumed.
        model: What made them, as far as it was told.
    """

    __slots__ = ("_images", "_task", "billing", "created", "model", "prompt", "task_id", "usage")

    def __init__(
        self,
        snapshot: TaskSnapshot,
        results: Results,
        task: Timed | None = None,
        *,
        request: Request | None = None,
        images: Sequence[Image] = (),
    ) -> None:
        told = task if task is not None and task.id is not None else None
        links = ResultLinks(results, told, snapshot.images)
        self._images = tuple(images) or tuple(
            Image(data, results, index=index, links=links, task=told, request=request)
            for index, data in enumerate(snapshot.images)
        )
        self._task = task
        self.created: int | None = snapshot.created
        self.usage: Mapping[str, Any] | None = snapshot.billing.usage
        self.billing: Billing = snapshot.billing
        self.task_id: str | None = snapshot.task_id if told is None else told.id
        self.prompt: str | None = getattr(request, "prompt", None)
        self.model: str | None = snapshot.model or getattr(request, "model", None)

    @property
    def seconds(self) -> float | None:
        """Seconds from the submit to the end, as this session saw it; `None` if it did not see both."""
        return self._task.seconds if self._task is not None else None

    async def read(self) -> tuple[bytes, ...]:
        """Return the bytes of all pictures, and keep them; see `Image.read`.

        Costs nothing; cancelling keeps those that have arrived.

        Raises:
            DownloadError: Of the first that could not be fetched; the others are kept.
        """
        contents = await _each(image.read() for image in self._images)
        for content in contents:
            if isinstance(content, LemonError):
                raise content
        return tuple(content for content in contents if isinstance(content, bytes))

    async def save(
        self, folder: str | PathLike[str], name: str = "{index}-{slug}", *, replace: bool = False
    ) -> tuple[Path, ...]:
        """Write all pictures into a folder, and return where they are, in their order; see `Image.save`.

        Costs nothing; cancelling keeps the files that are complete.

        Args:
            folder: Where to; made if it is missing.
            name: What to call them: text with the fields `index` (from 0), `slug` (of the prompt), `model`, `task_id`,
                `created`, `format`, `width` and `height` in braces, such as `{index:03}-{model}`. The suffix comes
                from the bytes.
            replace: Whether files of these names are replaced; otherwise the pictures go to `NAME-2`, or `NAME-3`.

        Raises:
            ContractError: `folder` or `name` cannot be; nothing was written.
            PartlySaved: With the error of each picture that could not be fetched or written. All others are saved.
        """
        template, place = Template(name), checked_folder(folder)
        taken: set[Path] = set()

        async def save(image: Image) -> Path:
            def names(facts: PictureFacts) -> Iterable[Path]:
                wanted = place / (template.fill(**self._values(image, facts)) + suffix_of(facts.format))
                if not replace:
                    return alternatives(wanted)
                # Two pictures of one answer never replace each other.
                path = next(path for path in alternatives(wanted) if path not in taken)
                taken.add(path)
                return [path]

            return await image._save(place / f"{image.index}", names, replace=replace)

        ends = await _each(save(image) for image in self._images)
        saved = {index: path for index, path in enumerate(ends) if isinstance(path, Path)}
        errors = {index: error for index, error in enumerate(ends) if isinstance(error, LemonError)}
        if errors:
            raise PartlySaved(saved=saved, errors=errors, task=self._images[0]._task)
        return tuple(saved.values())

    async def sheet(self, path: str | PathLike[str] | None = None, *, title: str = "Contact sheet") -> Sheet:
        """Return a page that shows these pictures with their facts, written to `path` if given; see `sheet`.

        Costs nothing; cancelling leaves no file.
        """
        from lemon_async.client.sheet import sheet  # noqa: PLC0415 - it imports this room

        return await sheet([self], path, title=title)

    def _values(self, image: Image, facts: PictureFacts) -> dict[str, Any]:
        width, height = facts.size or (0, 0)
        return {
            "index": image.index,
            "slug": slug_of(self.prompt or ""),
            "model": self.model,
            "task_id": self.task_id,
            "created": self.created,
            "format": facts.format,
            "width": width,
            "height": height,
        }

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        return self._images[index]

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Image]:
        return iter(self._images)

    def _repr_mimebundle_(self, **_: object) -> Bundle:
        return pictures_bundle([image._shown() for image in self._images])

    def __repr__(self) -> str:
        return f"<Images [{', '.join(map(repr, self._images))}]>"


async def _each(works: Iterable[Awaitable[T]]) -> list[T | LemonError]:
    """Do all of it side by side, and return what each came to: none is ended by another's failure.

    Raises:
        SessionMisuse: Nothing can be done any more.
    """

    async def end(work: Awaitable[T]) -> T | LemonError:
        try:
            return await work
        except LemonError as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(end(work), name="lemon_async pictures") for work in works]
    ends = [task.result() for task in tasks]
    for misuse in ends:
        if isinstance(misuse, SessionMisuse):
            raise misuse
    return ends
