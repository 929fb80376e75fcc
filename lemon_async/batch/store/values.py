"""Values as every store holds them. Pure."""

from collections.abc import Sequence
from typing import Any

from lemon_async.batch.records import JournalRow, SavedPicture
from lemon_async.batch.states import State
from lemon_async.batch.store.ledger import in_dollars

__all__ = ["STATES", "is_text", "journal_row", "storable"]

STATES = {str(state): state for state in State}


def journal_row(row: Sequence[Any], pictures: tuple[SavedPicture, ...]) -> JournalRow:
    """Return a row of the columns that stores select, in their order."""
    number, key, state, attempt, changed_at, task, fingerprint, price, cost, sunk, _, error, request, columns = row
    return JournalRow(
        number=number, key=key, state=STATES[state], request=request, columns=columns, attempt=attempt,
        changed_at=changed_at, task=task, fingerprint=fingerprint, price_usd=in_dollars(price),
        cost_usd=in_dollars(cost), sunk_usd=in_dollars(sunk) or 0.0, error=error, pictures=pictures,
    )  # fmt: skip


def is_text(key: str) -> bool:
    """Return whether a key has a UTF-8 form; lone surrogates, as in names of files, have none."""
    return key.isascii() or key.encode(errors="replace").decode() == key


def storable(text: str | None) -> str | None:
    """Return text with escapes for lone surrogates, as in names of files; they have no UTF-8 form."""
    return text if text is None or text.isascii() else text.encode(errors="backslashreplace").decode()
