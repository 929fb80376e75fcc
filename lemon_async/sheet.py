"""Make contact sheets: the results of a session, a map or a batch as one page that opens anywhere.

At most four pictures are in memory at a time, each only until a thread has drawn its thumbnail. The page has no links
to results: they expire, and give access to the picture.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from lemon_async._batch_sheet import SavedFile, entry_of, totals_of
from lemon_async._display.bundle import MAX_EMBEDDED_BYTES, data_address
from lemon_async._display.html import escaped
from lemon_async._display.page import Entry, Fault, Tile, load_template, render_page
from lemon_async._display.thumbnails import thumbnail
from lemon_async._formats.json_documents import safe_repr, safe_str
from lemon_async._formats.pictures import sniff
from lemon_async._images.atomic_file import checked_target, write_file
from lemon_async._images.image import Image
from lemon_async._images.images import Images
from lemon_async._images.threads import on_disk, run_uncancellable, run_within
from lemon_async._tasks.outcome import Outcome
from lemon_async.batch.exports.exporting import folder_of
from lemon_async.batch.journal import Journal, pages_of
from lemon_async.batch.records import JournalRow
from lemon_async.errors import ContractError, DownloadError, LemonError, TaskCancelled, TaskFailed
from lemon_async.types import Problem

__all__ = ["Sheet", "batch_sheet", "contact_sheet"]

_EDGE = 384
_SMALL_EDGE = 192
_MANY_PICTURES = 500
_MAX_ROWS = 10_000
_MAX_FETCHES = 4
_MAX_DRAWINGS = 2  # more threads keep the event loop waiting for the interpreter's lock
_MAX_WORK_S = 180.0
_MAX_REASON = 4000
_MAX_PROBLEMS = 10
_TOKENS = ("input_tokens", "output_tokens", "total_tokens")
_FRAME = "width:100%;height:min(80vh,900px);border:1px solid rgba(127,127,127,.4);border-radius:.5em;resize:vertical"
_FRAME += ";box-sizing:border-box;display:block"  # or the border makes the cell scroll
_TOO_LARGE = "Too large to be embedded as it is; thumbnails need Pillow: pip install pillow"

Showable = Outcome | Images | Image


@attrs.frozen
class Sheet:
    """A contact sheet; a notebook shows it in a sandboxed frame.

    Attributes:
        html: The whole page.
        path: Where it was written, if it was.
    """

    html: str = attrs.field(repr=False)
    path: Path | None = None

    def _repr_html_(self) -> str:
        if len(self.html) > 2 * MAX_EMBEDDED_BYTES:
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

    Needs Jinja2: `pip install 'lemon-async[sheet]'`.

    The page is one file, without scripts, and loads nothing from elsewhere. With Pillow, it embeds thumbnails; without,
    it shows saved pictures from their files and embeds others whole, up to 24 MB in total. Saved pictures are linked by
    their relative paths. For a picture that cannot be fetched, the page shows the reason.

    Outcomes of one `LemonSession.map` are ordered and numbered by their `index`; anything else keeps its order and is
    numbered from 0.

    Costs nothing: pictures that are only links are fetched for their thumbnails, and not kept. Cancelling stops that,
    and leaves no file unless it is complete.

    Args:
        outcomes: Outcomes of `LemonSession.map`, results, single pictures, or a mix of them, in any iterable.
        path: Where to write the page; a file of that name is replaced, missing folders are created.
        title: The heading.

    Raises:
        ContractError: `outcomes` holds something else, `path` names no file, or Jinja2 is not installed; nothing was
            fetched.
        SaveError: The page cannot be written there, or not within 180 s.
    """
    items = _numbered(_checked(outcomes, title))
    target = await _prepared(path)
    tiles = await _Tiles.beside(target).draw([_images(item) for _, item in items])
    entries = [_entry(item, drawn, number=number) for (number, item), drawn in zip(items, tiles, strict=True)]
    html = await asyncio.to_thread(render_page, entries, title=title)
    return await _written(html, target)


async def batch_sheet(journal: Journal, path: str | PathLike[str] | None = None, *, title: str = "Batch") -> Sheet:
    """Return a page that shows the rows of a batch, finished or not, from its journal.

    Rows that are done show their pictures, others their state, and the reason if they were refused, are in doubt or
    have failed; the head has the number of rows in every state and the spending. The first 10,000 rows are shown; with
    more than 500 pictures the thumbnails are smaller. See `contact_sheet`.

    Costs nothing, and fetches nothing: pictures are read from their files. Cancelling leaves no file unless it is
    complete.

    Args:
        journal: From `open_journal`.
        path: Where to write the page; a file of that name is replaced, missing folders are created.
        title: The heading.

    Raises:
        ContractError: `path` names no file, or Jinja2 is not installed.
        JournalError: The journal cannot be read.
        SaveError: The page cannot be written there, or not within 180 s.
    """
    _check_title(title)
    target = await _prepared(path)
    rows = await _first_rows(journal)
    base = folder_of(journal)
    tiles = await _Tiles.beside(target).draw([[SavedFile.of(each, base) for each in row.pictures] for row in rows])
    entries = [entry_of(row, drawn) for row, drawn in zip(rows, tiles, strict=True)]
    totals = list(totals_of(await journal.counts(), await journal.spending(), entries))
    html = await asyncio.to_thread(render_page, entries, title=title, totals=totals)
    return await _written(html, target)


async def _first_rows(journal: Journal) -> list[JournalRow]:
    rows: list[JournalRow] = []
    async for page in pages_of(journal):
        rows += page
        if len(rows) >= _MAX_ROWS:
            break
    return rows[:_MAX_ROWS]


async def _prepared(path: str | PathLike[str] | None) -> Path | None:
    """Return where to write, after what can be checked before anything is fetched.

    Raises:
        ContractError: That is no file, or Jinja2 is not installed.
    """
    target = None if path is None else checked_target(path)
    await asyncio.to_thread(load_template)
    if target is not None and await on_disk(_MAX_WORK_S, target, os.path.isdir, target):
        raise ContractError.of("path", f"must name a file, not a folder: {safe_repr(str(target))}")
    return target


async def _written(html: str, target: Path | None) -> Sheet:
    if target is not None:
        await on_disk(_MAX_WORK_S, target, lambda: write_file(target, html.encode()))
    return Sheet(html, target)


@attrs.define
class _Tiles:
    """Draws the thumbnails of one sheet, a few at a time.

    Attributes:
        folder: The folder of the sheet, if it is written.
        left_bytes: How much may still be embedded whole if Pillow is missing.
    """

    folder: Path | None
    left_bytes: int = MAX_EMBEDDED_BYTES
    _edge: int = attrs.field(default=_EDGE, init=False)
    _slots: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(_MAX_DRAWINGS), init=False)

    @classmethod
    def beside(cls, sheet: Path | None) -> "_Tiles":
        return cls(None if sheet is None else sheet.parent.absolute())

    async def draw(self, pictures: Sequence[Sequence[Image | SavedFile]]) -> list[tuple[Tile, ...]]:
        """Return a tile for each picture."""
        self._edge = _EDGE if sum(map(len, pictures)) <= _MANY_PICTURES else _SMALL_EDGE
        tiles: dict[tuple[int, int], Tile] = {}
        waiting = ((job, place, image) for job, images in enumerate(pictures) for place, image in enumerate(images))

        async def work() -> None:
            for job, place, image in waiting:
                tiles[job, place] = await self._tile(image)

        async with asyncio.TaskGroup() as group:
            for _ in range(_MAX_FETCHES):
                group.create_task(work(), name="lemon_async sheet")
        return [tuple(tiles[job, place] for place in range(len(images))) for job, images in enumerate(pictures)]

    async def _tile(self, image: Image | SavedFile) -> Tile:
        name = None if image.path is None else image.path.name
        try:
            content = await (image.content() if isinstance(image, SavedFile) else image._bytes())
            file = await run_within(_MAX_WORK_S, self._address, image.path)
        except (LemonError, OSError) as failure:
            reason = failure.reason if isinstance(failure, DownloadError) else str(failure)
            return Tile(note=f"This picture could not be fetched: {reason[:_MAX_REASON]}", name=name)
        facts = sniff(content)
        size = f"{facts.size[0]} × {facts.size[1]} " if facts and facts.size else ""  # noqa: RUF001 - the sign for it
        tile = Tile(file=file, name=name, facts=f"{size}{facts.format.upper() if facts else ''}".strip())
        try:
            async with self._slots:
                source = await run_uncancellable(_embedded, content, self._edge)
        except ValueError as damage:
            return attrs.evolve(tile, note=f"No thumbnail: {damage}")
        return attrs.evolve(tile, source=source) if source else await self._whole(tile, content)

    async def _whole(self, tile: Tile, content: bytes) -> Tile:
        """Show the picture itself, because there is no Pillow to draw a thumbnail."""
        if tile.file is not None:
            return attrs.evolve(tile, source=tile.file)
        facts = sniff(content)
        if facts is None or len(content) > self.left_bytes:
            return attrs.evolve(tile, note=_TOO_LARGE)
        self.left_bytes -= len(content)
        return attrs.evolve(tile, source=await asyncio.to_thread(data_address, content, facts.format))

    def _address(self, file: Path | None) -> str | None:
        """Return the address of a saved picture relative to the sheet; blocks."""
        if file is None or self.folder is None or not file.is_file():
            return None
        try:
            relative = os.path.relpath(file.absolute(), self.folder)
        except ValueError:  # another drive
            return file.absolute().as_uri()
        return quote(os.fsencode(relative.replace(os.sep, "/")))


def _embedded(content: bytes, edge: int) -> str | None:
    """Return the address of a thumbnail; blocks. `None` without Pillow."""
    small = thumbnail(content, edge)
    return None if small is None else data_address(small, "webp")


def _entry(item: Showable, tiles: tuple[Tile, ...], *, number: int | None) -> Entry:
    """Combine the facts about a job with its pictures."""
    outcome = item if isinstance(item, Outcome) else None
    images = outcome.images if outcome else item if isinstance(item, Images) else None
    timed = outcome.task if outcome else images
    request = outcome.request if outcome else None
    pictures = _images(item)
    prompt = next((image.prompt for image in pictures if image.prompt), None) or getattr(request, "prompt", None)
    revised = dict.fromkeys(image.revised_prompt for image in pictures)
    return Entry(
        number=number,
        prompt=prompt,
        revised=tuple(text for text in revised if text and text != prompt),
        model=(images.model if images is not None else None) or getattr(request, "model", None),
        seconds=timed.seconds if timed else None,
        facts=tuple(_facts(images)) if images is not None else (),
        tiles=tiles,
        fault=_fault(outcome) if outcome else None,
    )


def _facts(images: Images) -> Iterator[tuple[str, str]]:
    if images.created is not None:
        try:
            yield "Made", f"{datetime.fromtimestamp(images.created, UTC):%Y-%m-%d %H:%M} UTC"
        except (ValueError, OverflowError, OSError):  # out of range
            yield "Made", str(images.created)[:_MAX_REASON]
    if images.task_id:
        yield "Task", images.task_id
    usage = images.usage or {}
    parts = [f"{usage[key]:,} {key.removesuffix('_tokens')}" for key in _TOKENS if isinstance(usage.get(key), int)]
    if parts:
        yield "Tokens", ", ".join(parts)
    if images.billing.transaction_id:
        yield "Transaction", images.billing.transaction_id[:_MAX_REASON]


def _fault(outcome: Outcome) -> Fault | None:
    error, token = outcome.error, None
    if error is None:
        return None
    if not isinstance(error, TaskFailed | TaskCancelled):  # they leave nothing to resume
        token = error.resume_token if isinstance(error, LemonError) else None
        if token is None and outcome.task is not None and outcome.task.id is not None:
            token = outcome.task.resume_token()
    reason = str(error)[:_MAX_REASON] if isinstance(error, LemonError) else safe_str(error)
    return Fault(kind=type(error).__name__, reason=reason, resume_token=token)


def _images(item: Showable) -> tuple[Image, ...]:
    if isinstance(item, Image):
        return (item,)
    images = item.images if isinstance(item, Outcome) else item
    return tuple(images or ())


def _checked(outcomes: Any, title: object) -> list[Showable]:
    """Return the items as a list.

    Raises:
        ContractError: One of them cannot be shown.
    """
    _check_title(title)
    if isinstance(outcomes, Outcome | Images | Image):
        return [outcomes]
    if not isinstance(outcomes, Iterable) or isinstance(outcomes, str | bytes):
        advice = "collect an async iterable first: [each async for each in it]"
        fault = f"must be an iterable of Outcome, Images or Image, not {safe_repr(outcomes)}; {advice}"
        raise ContractError.of("outcomes", fault)
    items = list(outcomes)
    problems = [
        Problem(f"outcomes[{index}]", f"must be an Outcome, Images or an Image, not {safe_repr(item)}")
        for index, item in enumerate(items)
        if not isinstance(item, Outcome | Images | Image)
    ]
    if problems:
        raise ContractError(problems=tuple(problems[:_MAX_PROBLEMS]))
    return items


def _check_title(title: object) -> None:
    if not isinstance(title, str):
        raise ContractError.of("title", f"must be text, not {safe_repr(title)}")


def _numbered(items: list[Showable]) -> list[tuple[int | None, Showable]]:
    """Return all items in order, outcomes of one map with their numbers; the page numbers others."""
    numbers = {item.index: item for item in items if isinstance(item, Outcome)}
    if len(numbers) < len(items):  # something else, or several maps
        return [(None, item) for item in items]
    return [(number, numbers[number]) for number in sorted(numbers)]
