"""Describe the rows of a batch for its contact sheet."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import orjson

from lemon_async._display.page import Entry, Fault, Tile, Total
from lemon_async._images.threads import run_uncancellable
from lemon_async.batch.records import JournalRow, SavedPicture, Spending
from lemon_async.batch.states import State

__all__ = ["SavedFile", "entry_of", "totals_of"]

_MAX_TEXT = 4000
_MAX_COLUMNS = 30
_FAULTS = {
    State.REFUSED: "refused",
    State.DOUBTFUL: "may have been sold: look it up, then resolve it",
    State.FAILED: "failed",
    State.DEAD: "given up",
}


@attrs.frozen
class SavedFile:
    """A picture of a finished row.

    Attributes:
        path: Its file.
        size_bytes: The size that it was saved with.
    """

    path: Path
    size_bytes: int

    @classmethod
    def of(cls, picture: SavedPicture, base: Path) -> "SavedFile":
        """Return the file of a picture whose path may be relative to `base`."""
        return cls(base / picture.path, picture.size_bytes)

    async def content(self) -> bytes:
        """Return the bytes of the file.

        Raises:
            OSError: It cannot be read, or is not the file that was saved.
        """
        return await run_uncancellable(self._read)

    def _read(self) -> bytes:
        if not self.path.is_file() or self.path.stat().st_size != self.size_bytes:
            raise OSError("the file is missing, or is not the one that was saved")
        return self.path.read_bytes()


def entry_of(row: JournalRow, tiles: tuple[Tile, ...]) -> Entry:
    """Return the card of a row."""
    request = orjson.loads(row.request)
    fault = _FAULTS.get(row.state)
    return Entry(
        number=row.number,
        name=row.key,
        status=str(row.state),
        prompt=_text(request.get("prompt")),
        model=_text(request.get("model")),
        facts=tuple(_facts(row)),
        tiles=tiles,
        fault=Fault(kind=row.state.capitalize(), reason=(row.error or fault)[:_MAX_TEXT]) if fault else None,
    )


def totals_of(counts: Mapping[State, int], spending: Spending, entries: Sequence[Entry]) -> Iterator[Total]:
    """Yield what stands at the head of the sheet."""
    rows = sum(counts.values())
    shown = f", the first {len(entries):,} of them shown" if len(entries) < rows else ""
    yield "Rows", f"{rows:,}{shown}", False
    pictures = [tile for entry in entries for tile in entry.tiles]
    missing = sum(tile.source is None for tile in pictures)
    yield "Pictures", f"{len(pictures):,}" + (f", {missing:,} of them not shown" if missing else ""), False
    for state in State:
        if counts.get(state):
            yield state.capitalize(), f"{counts[state]:,}", state in _FAULTS
    for name, usd in attrs.asdict(spending, filter=lambda field, _: field.type is float).items():
        if usd:
            yield f"{name.capitalize()} (USD)" if name != "doubtful" else "In doubt (USD)", f"{usd:,.2f}", False
    if spending.unpriced:
        yield "Rows without a price", f"{spending.unpriced:,}", False


def _facts(row: JournalRow) -> Iterator[tuple[str, str]]:
    if row.error and row.state not in _FAULTS:
        yield "Last error", row.error[:_MAX_TEXT]
    columns = orjson.loads(row.columns) if row.columns else {}
    for name, value in list(columns.items())[:_MAX_COLUMNS]:
        yield name[:_MAX_TEXT], (_text(value) or "")
    if row.task:
        yield "Task", row.task_id or row.task
    if row.attempt > 1:
        yield "Attempt", f"{row.attempt:,}"
    if row.cost_usd is not None:
        yield "Cost", f"${row.cost_usd:,.4f}"
    elif row.price_usd is not None:
        yield "Price", f"${row.price_usd:,.4f}"
    if row.fingerprint and row.state is State.DOUBTFUL:
        yield "Fingerprint", row.fingerprint
    if row.changed_at:
        yield "Changed", f"{datetime.fromtimestamp(row.changed_at, UTC):%Y-%m-%d %H:%M} UTC"


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return (value if isinstance(value, str) else orjson.dumps(value).decode())[:_MAX_TEXT]
