"""Contact sheets: what a batch came to, as one page that can be opened anywhere and shown around.

A few pictures are in memory at a time, each only until its thumbnail is drawn in a thread. Links never get onto the
page: they expire, and whoever has one has the picture.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

import attrs

from lemon_async._display.bundle import MOST_EMBEDDED_BYTES, data_address
from lemon_async._display.html import escaped
from lemon_async._display.page import Entry, Fault, Tile, load_template, render_page
from lemon_async._display.thumbnails import thumbnail
from lemon_async._formats.pictures import sniff
from lemon_async._formats.safe_text import safe_repr, safe_str
from lemon_async._images.atomic_file import write_file
from lemon_async._images.image import Image
from lemon_async._images.images import Images
from lemon_async._images.naming import checked_target
from lemon_async._images.threads import run_uncancellable, run_within
from lemon_async._tasks.map import Outcome
from lemon_async.errors import (
    ContractError,
    DownloadError,
    LemonError,
    Problem,
    SaveError,
    TaskCancelled,
    TaskFailed,
)

__all__ = ["Sheet", "contact_sheet"]

_EDGE = 384
_AT_ONCE = 4
_DRAWN_AT_ONCE = 2  # more threads keep the event loop waiting for the interpreter's lock
_LONGEST_WORK_S = 180.0
_LONGEST_REASON = 4000
_MOST_PROBLEMS = 10
_TOKENS = ("input_tokens", "output_tokens", "total_tokens")
_FRAME = "width:100%;height:min(80vh,900px);border:1px solid rgba(127,127,127,.4);border-radius:.5em;resize:vertical"
_FRAME += ";box-sizing:border-box;display:block"  # or the border makes the cell scroll
_TOO_LARGE = "Too large to be embedded as it is; thumbnails need Pillow: pip install pillow"

P = ParamSpec("P")
T = TypeVar("T")
Showable = Outcome | Images | Image


@attrs.frozen
class Sheet:
    """A contact sheet; a notebook shows it in a sandboxed frame of its own.

    Attributes:
        html: The whole page.
        path: Where it was written, if it was.
    """

    html: str = attrs.field(repr=False)
    path: Path | None = None

    def _repr_html_(self) -> str:
        if len(self.html) > 2 * MOST_EMBEDDED_BYTES:
            return f"<p>{escaped(self)} is too large for a notebook: open the file in a browser.</p>"
        page = self.html.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")  # quick for megabytes
        return f'<iframe title="Contact sheet" sandbox style="{_FRAME}" srcdoc="{page}"></iframe>'


async def contact_sheet(
    outcomes: Iterable[Showable] | Showable,
    path: str | PathLike[str] | None = None,
    *,
    title: str = "Contact sheet",
) -> Sheet:
    """Return a page that shows pictures with their prompts and facts, and failures with their reasons.

    The page is one file without scripts and without anything from elsewhere. With Pillow, thumbnails are embedded;
    without, saved pictures are shown from their files and others are embedded whole, up to 24 MB of them. Pictures that
    were saved are linked by their relative paths. One that cannot be fetched leaves its reason in its place.

    Outcomes of one `LemonSession.map` stand in the order of their `index`, and have that as their number; anything else
    stands as it is given, numbered from 0.

    Costs nothing: pictures that are only links are fetched for their thumbnails, and not kept. Cancelling stops that,
    and leaves no file, except when it was complete.

    Args:
        outcomes: What `LemonSession.map` handed out, results, single pictures, or a mix of them, in any iterable.
        path: Where to write the page; a file of that name is replaced, missing folders are made.
        title: What stands above it.

    Raises:
        ContractError: `outcomes` holds something else, `path` names no file, or Jinja2 is not installed
            (`pip install 'lemon-async[sheet]'`); nothing was fetched.
        SaveError: The page cannot be written there, or not within 180 s.
    """
    items = _numbered(_checked(outcomes, title))
    target = None if path is None else checked_target(path)
    await asyncio.to_thread(load_template)  # a missing extra is reported before anything is fetched
    if target is not None and await _on_disk(target, os.path.isdir, target):
        raise _refusal("path", f"must name a file, not a folder: {safe_repr(str(target))}")
    tiles = await _Drawing(None if target is None else target.parent.absolute()).draw(
        [_images(item) for _, item in items]
    )
    entries = [_entry(item, drawn, number=number) for (number, item), drawn in zip(items, tiles, strict=True)]
    html = await asyncio.to_thread(render_page, entries, title=title)
    if target is not None:
        await _on_disk(target, write_file, target, html.encode())
    return Sheet(html, target)


@attrs.define
class _Drawing:
    """The thumbnails of one sheet, a few at a time.

    Attributes:
        folder: Where the sheet will be, if it is written.
        room_bytes: How much may still be embedded as it is, where Pillow is missing.
    """

    folder: Path | None
    room_bytes: int = MOST_EMBEDDED_BYTES
    _turns: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(_DRAWN_AT_ONCE), init=False)

    async def draw(self, pictures: list[tuple[Image, ...]]) -> list[tuple[Tile, ...]]:
        """Return a tile for each picture."""
        tiles: dict[tuple[int, int], Tile] = {}
        waiting = ((job, place, image) for job, images in enumerate(pictures) for place, image in enumerate(images))

        async def work() -> None:
            for job, place, image in waiting:
                tiles[job, place] = await self._tile(image)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work(), name="lemon_async sheet")
        return [tuple(tiles[job, place] for place in range(len(images))) for job, images in enumerate(pictures)]

    async def _tile(self, image: Image) -> Tile:
        name = None if image.path is None else image.path.name
        try:
            content = await image._bytes()
            file = await run_within(_LONGEST_WORK_S, self._address, image.path)
        except (LemonError, OSError) as failure:
            reason = failure.reason if isinstance(failure, DownloadError) else str(failure)
            return Tile(note=f"This picture could not be fetched: {reason[:_LONGEST_REASON]}", name=name)
        facts = sniff(content)
        size = f"{facts.size[0]} × {facts.size[1]} " if facts and facts.size else ""  # noqa: RUF001 - the sign for it
        tile = Tile(file=file, name=name, facts=f"{size}{facts.format.upper() if facts else ''}".strip())
        try:
            async with self._turns:
                source = await run_uncancellable(_embedded, content)
        except ValueError as damage:
            return attrs.evolve(tile, note=f"No thumbnail: {damage}")
        return attrs.evolve(tile, source=source) if source else await self._whole(tile, content)

    async def _whole(self, tile: Tile, content: bytes) -> Tile:
        """Show a picture as it is, for want of a thumbnail."""
        if tile.file is not None:
            return attrs.evolve(tile, source=tile.file)
        facts = sniff(content)
        if facts is None or len(content) > self.room_bytes:
            return attrs.evolve(tile, note=_TOO_LARGE)
        self.room_bytes -= len(content)
        return attrs.evolve(tile, source=await asyncio.to_thread(data_address, content, facts.format))

    def _address(self, file: Path | None) -> str | None:
        """Return where a saved picture is, seen from the sheet; blocks."""
        if file is None or self.folder is None or not file.is_file():
            return None
        try:
            relative = os.path.relpath(file.absolute(), self.folder)
        except ValueError:  # another drive
            return file.absolute().as_uri()
        return quote(os.fsencode(relative.replace(os.sep, "/")))


def _embedded(content: bytes) -> str | None:
    """Return the address of a thumbnail; blocks. `None` without Pillow."""
    small = thumbnail(content, _EDGE)
    return None if small is None else data_address(small, "webp")


async def _on_disk(target: Path, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what blocking work for a file returns.

    Raises:
        SaveError: It failed, or took too long.
    """
    try:
        return await run_within(_LONGEST_WORK_S, work, *args, **kwargs)
    except OSError as failure:
        reason = failure.strerror or safe_str(failure)
        raise SaveError(path=str(target), reason=reason, errno=failure.errno) from failure


def _entry(item: Showable, tiles: tuple[Tile, ...], *, number: int | None) -> Entry:
    """Put what is known of a job next to its pictures."""
    images = item.images if isinstance(item, Outcome) else item if isinstance(item, Images) else None
    request = item.request if isinstance(item, Outcome) else None
    pictures = _images(item)
    prompt = next((image.prompt for image in pictures if image.prompt), None) or getattr(request, "prompt", None)
    revised = dict.fromkeys(image.revised_prompt for image in pictures)
    return Entry(
        number=number,
        prompt=prompt,
        revised=tuple(text for text in revised if text and text != prompt),
        model=(images.model if images is not None else None) or getattr(request, "model", None),
        seconds=_seconds(item),
        facts=tuple(_facts(images)) if images is not None else (),
        tiles=tiles,
        fault=_fault(item) if isinstance(item, Outcome) else None,
    )


def _seconds(item: Showable) -> float | None:
    if isinstance(item, Outcome):
        return None if item.task is None else item.task.seconds
    return item.seconds if isinstance(item, Images) else None


def _facts(images: Images) -> Iterator[tuple[str, str]]:
    if images.created is not None:
        try:
            yield "Made", f"{datetime.fromtimestamp(images.created, UTC):%Y-%m-%d %H:%M} UTC"
        except (ValueError, OverflowError, OSError):  # a number that is no time
            yield "Made", str(images.created)[:_LONGEST_REASON]
    if images.task_id:
        yield "Task", images.task_id
    usage = images.usage or {}
    parts = [f"{usage[key]:,} {key.removesuffix('_tokens')}" for key in _TOKENS if isinstance(usage.get(key), int)]
    if parts:
        yield "Tokens", ", ".join(parts)
    if images.billing.transaction_id:
        yield "Transaction", images.billing.transaction_id[:_LONGEST_REASON]


def _fault(outcome: Outcome) -> Fault | None:
    error = outcome.error
    if error is None:
        return None
    if isinstance(error, TaskFailed | TaskCancelled):  # there is nothing to pick up
        return Fault(kind=type(error).__name__, reason=str(error)[:_LONGEST_REASON])
    token = error.resume_token if isinstance(error, LemonError) else None
    if token is None and outcome.task is not None and outcome.task.id is not None:
        token = outcome.task.resume_token()
    return Fault(kind=type(error).__name__, reason=str(error)[:_LONGEST_REASON], resume_token=token)


def _images(item: Showable) -> tuple[Image, ...]:
    if isinstance(item, Image):
        return (item,)
    images = item.images if isinstance(item, Outcome) else item
    return tuple(images or ())


def _checked(outcomes: Any, title: object) -> list[Showable]:
    """Return what is to be shown, as a list.

    Raises:
        ContractError: Something in it cannot be shown.
    """
    if not isinstance(title, str):
        raise _refusal("title", f"must be text, not {safe_repr(title)}")
    if isinstance(outcomes, Outcome | Images | Image):
        return [outcomes]
    if not isinstance(outcomes, Iterable) or isinstance(outcomes, str | bytes):
        advice = "must be an iterable of Outcome, Images or Image (of an async one: [each async for each in it])"
        raise _refusal("outcomes", f"{advice}, not {safe_repr(outcomes)}")
    items = list(outcomes)
    problems = [
        Problem(f"outcomes[{index}]", f"must be an Outcome, Images or an Image, not {safe_repr(item)}")
        for index, item in enumerate(items)
        if not isinstance(item, Outcome | Images | Image)
    ]
    if problems:
        raise ContractError(problems=tuple(problems[:_MOST_PROBLEMS]))
    return items


def _numbered(items: list[Showable]) -> list[tuple[int | None, Showable]]:
    """Return all items in their order, outcomes of one map with their numbers: others are counted by the page."""
    numbers = {item.index: item for item in items if isinstance(item, Outcome)}
    if len(numbers) < len(items):  # something else, or several maps
        return [(None, item) for item in items]
    return [(number, numbers[number]) for number in sorted(numbers)]


def _refusal(field: str, advice: str) -> ContractError:
    return ContractError.of(field, advice)
