"""`Images`: read, save and show the images of one job together."""

import asyncio
import errno
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from lemon_async._api.job_responses import CREATED, IMAGES, MODEL, TASK_ID, Packed, unpack_billing, unpack_image
from lemon_async._formats.pictures import PictureFacts
from lemon_async._images.atomic_file import alternatives, suffix_of
from lemon_async._images.image import Image
from lemon_async._images.naming import Template, checked_folder, slug_of
from lemon_async._images.renewable_urls import RenewableUrls, ResultAccess, TaskRef
from lemon_async.errors import ContractError, LemonError, PartialSaveError, SaveError, SessionError
from lemon_async.requests import Request
from lemon_async.types import Billing, Problem

if TYPE_CHECKING:
    from lemon_async._display.bundle import Bundle

__all__ = ["Images"]

T = TypeVar("T")
_NO_VALUES: Mapping[str, Any] = MappingProxyType({})


class Images(Sequence[Image]):
    """The images of one job, in the service's order; at least one. Notebooks display them.

    Attributes:
        created: Unix seconds, as the service reports them.
        task_id: `None` if the service answered inline.
        prompt: The prompt; `None` for a task that was resumed from a token without it.
        model: The model, if it is known.
        seconds: Seconds from the submit to the end; `None` for a resumed task.
    """

    __slots__ = ("_access", "_made", "_packed", "_ref", "created", "model", "prompt", "seconds", "task_id")

    def __init__(
        self,
        packed: Packed,
        access: ResultAccess,
        *,
        ref: TaskRef | None = None,
        request: Request | None = None,
        prompt: str | None = None,
        seconds: float | None = None,
        images: Sequence[Image] = (),
    ) -> None:
        self._packed = packed
        self._access = access
        self._ref = ref
        self._made = tuple(images)
        self.seconds: float | None = seconds
        self.created: int | None = packed[CREATED]
        self.task_id: str | None = ref.id if ref else packed[TASK_ID]
        self.prompt: str | None = prompt or getattr(request, "prompt", None)
        self.model: str | None = packed[MODEL] or getattr(request, "model", None)

    @property
    def billing(self) -> Billing:
        """What the service reported about money."""
        return unpack_billing(self._packed)

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """Token counts of token-priced models, as received."""
        return self.billing.usage

    @property
    def _images(self) -> tuple[Image, ...]:
        """The images, made when they are first needed: many results wait before anybody looks at them."""
        if not self._made:
            data = [unpack_image(entry) for entry in self._packed[IMAGES]]
            urls = RenewableUrls(self._access, data, self._ref)
            self._made = tuple(
                Image(entry, self._access, index=index, urls=urls, ref=self._ref, prompt=self.prompt)
                for index, entry in enumerate(data)
            )
        return self._made

    async def read(self) -> tuple[bytes, ...]:
        """Return the bytes of all images, and keep them; see `Image.read`.

        Spends nothing. Cancelling keeps those that have arrived.

        Raises:
            DownloadError: Of the first image that could not be downloaded; the others are kept.
            SessionError: The session is closed.
        """
        contents = await _each(image.read() for image in self._images)
        for content in contents:
            if isinstance(content, LemonError):
                raise content
        return tuple(content for content in contents if isinstance(content, bytes))

    @staticmethod
    def validate(folder: str | PathLike[str], name: str, *, fields: Iterable[str] = ()) -> tuple[Problem, ...]:
        """Return the problems of a `folder` and `name` for `save`, for a check before money is spent.

        Checks the syntax only, not the disk. `fields` are the further names that `values` will have.
        """
        problems: list[Problem] = []
        for check in (partial(checked_folder, folder), partial(Template, name, fields)):
            try:
                check()
            except ContractError as refusal:
                problems += refusal.problems
        return tuple(problems)

    async def save(
        self,
        folder: str | PathLike[str],
        name: str = "{index}-{slug}",
        *,
        replace: bool = False,
        values: Mapping[str, Any] = _NO_VALUES,
    ) -> tuple[Path, ...]:
        """Write all images into a folder, and return their paths, in their order; see `Image.save`.

        Spends nothing. Cancelling keeps the files that are complete.

        Args:
            folder: The folder; created if it is missing.
            name: The file name: text with the fields `index` (from 0), `slug` (of the prompt, or else the revised
                one), `model`, `task_id`, `created`, `format`, `width` and `height` in braces, such as
                `{index:03}-{model}`. A `/` in it creates a folder, as in `{model}/{index}`, but not one in a field. The
                suffix is that of the format.
            replace: Replace files of these names; otherwise the images go to `NAME-2`, `NAME-3` and so on.
            values: Overrides fields, such as `{"index": 8, "slug": "cat"}`; `index` is that of the first image. Other
                names are further fields, such as `{"sku": "A-17"}`; these values keep their case.

        Raises:
            ContractError: `folder` or `name` is invalid; nothing was written.
            SaveError: `folder` is a file, or the disk hangs (`errno.ETIMEDOUT`); nothing was written.
            PartialSaveError: Some images could not be downloaded or written, each with its error; the others are saved.
        """
        template, place = Template(name, values), checked_folder(folder)
        if await self._images[0]._check_path(Path.is_file, place):
            raise SaveError(path=str(place), reason="is a file, not a folder", errno=errno.ENOTDIR)

        async def save(image: Image) -> Path:
            # Two images of one job must neither swap names by chance nor replace each other.
            first = 1 if template.is_numbered else image.index + 1

            def names(facts: PictureFacts) -> Iterable[Path]:
                wanted = place / (template.fill(**self._values(image, facts, values)) + suffix_of(facts.format))
                return alternatives(wanted, first)

            return await image._save(place / f"{image.index}", names, replace=replace)

        ends = await _each(save(image) for image in self._images)
        saved = {index: path for index, path in enumerate(ends) if isinstance(path, Path)}
        errors = {index: error for index, error in enumerate(ends) if isinstance(error, LemonError)}
        if errors:
            raise PartialSaveError(saved=saved, errors=errors, task=self._ref.task if self._ref else None)
        return tuple(saved.values())

    def _values(self, image: Image, facts: PictureFacts, given: Mapping[str, Any] = _NO_VALUES) -> dict[str, Any]:
        width, height = facts.size or (0, 0)
        return {
            "slug": slug_of(self.prompt or image.revised_prompt or ""),
            "model": self.model,
            "task_id": self.task_id,
            "created": self.created,
            "format": facts.format,
            "width": width,
            "height": height,
            **given,
            "index": given.get("index", 0) + image.index,
        }

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        return self._images[index]

    def __len__(self) -> int:
        return len(self._made or self._packed[IMAGES])

    def __iter__(self) -> Iterator[Image]:
        return iter(self._images)

    def _repr_mimebundle_(self, **_: object) -> "Bundle":
        from lemon_async._display.bundle import MAX_EMBEDDED_BYTES, pictures_bundle  # noqa: PLC0415 - for notebooks

        room_bytes, shown = MAX_EMBEDDED_BYTES, []
        for image in self._images:
            shown.append(image._shown(room_bytes))
            room_bytes -= len(shown[-1].content or b"")
        return pictures_bundle(shown)

    def __repr__(self) -> str:
        return f"<Images [{', '.join(map(repr, self._images))}]>"


async def _each(works: Iterable[Awaitable[T]]) -> list[T | LemonError]:
    """Run all concurrently, and return their results or errors: a failure does not end the others.

    Raises:
        SessionError: The session is closed.
    """

    async def end(work: Awaitable[T]) -> T | Exception:
        try:
            return await work
        except Exception as error:  # noqa: BLE001 - raised or returned once the others are done
            return error

    first, *others = works
    if others:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(end(work), name="lemon_async pictures") for work in (first, *others)]
        outcomes = [task.result() for task in tasks]
    else:  # most jobs have one
        outcomes = [await end(first)]
    ends: list[T | LemonError] = []
    for outcome in outcomes:
        if isinstance(outcome, SessionError) or (
            isinstance(outcome, Exception) and not isinstance(outcome, LemonError)
        ):
            raise outcome
        ends.append(outcome)
    return ends
