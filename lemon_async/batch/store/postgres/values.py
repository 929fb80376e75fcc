"""Values as PostgreSQL holds them. Pure."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from lemon_async.batch.records import NewRow
from lemon_async.batch.states import State
from lemon_async.batch.store.ledger import Ledger, RowFacts, Total
from lemon_async.batch.store.values import STATES

__all__ = [
    "array", "content_in", "content_out", "escaped", "facts_of", "identity", "ledger_of", "new_row", "text_in",
    "text_out", "totals_of", "update_of",
]  # fmt: skip


def identity(key: str) -> str:
    """Return the digest of a key, as text of a `uuid`: an index cannot hold keys of any length."""
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def text_in(text: str) -> str:
    """Return text that PostgreSQL can hold: zeros and lone surrogates, as in names of files, are escaped."""
    if "\0" not in text and not text.startswith("\\"):
        if text.isascii():
            return text
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
    return "\\" + text.encode("unicode_escape").decode()


def text_out(text: str) -> str:
    """Return the text that `text_in` was given."""
    return text[1:].encode().decode("unicode_escape") if text.startswith("\\") else text


def content_in(content: bytes) -> str:
    """Return JSON as text."""
    return text_in(content.decode(errors="surrogateescape"))


def content_out(text: str) -> bytes:
    """Return the JSON that `content_in` was given."""
    return text_out(text).encode(errors="surrogateescape")


def array(values: Iterable[str]) -> str:
    """Return the literal of an array of words without special characters."""
    return f"{{{','.join(values)}}}"


def new_row(number: int, row: NewRow) -> Mapping[str, Any]:
    """Return a row to insert, as a JSON object."""
    return {
        "number": number,
        "identity": identity(row.key),
        "key": text_in(row.key),
        "digest": row.digest.hex(),
        "request": content_in(row.request),
        "columns": content_in(row.columns),
    }


def facts_of(row: Sequence[Any]) -> RowFacts:
    """Return what `LOAD` has selected."""
    return RowFacts(row[0], text_out(row[1]), STATES[row[2]], *row[3:])


def update_of(row: RowFacts) -> Mapping[str, Any]:
    """Return the columns of a changed row, as a JSON object."""
    return {
        "number": row.number,
        "state": str(row.state),
        "attempt": row.attempt,
        "changed_at": row.changed_at,
        "task": row.task,
        "fingerprint": row.fingerprint,
        "price": row.price,
        "cost": row.cost,
        "sunk": row.sunk,
        "refunded": row.refunded,
        "error": row.error and escaped(row.error),
    }


def escaped(text: str) -> str:
    """Return text for people that PostgreSQL can hold; its escapes stay."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


def ledger_of(totals: str, sunk: int, refunded: int) -> Ledger:
    """Return the sums that a journal holds."""
    found = {State(state): Total(*numbers) for state, numbers in orjson.loads(totals).items()}
    return Ledger({state: found.get(state) or Total() for state in State}, sunk, refunded)


def totals_of(ledger: Ledger) -> str:
    """Return the totals of a ledger, as JSON."""
    return orjson.dumps(
        {str(state): (total.rows, total.amount, total.unpriced) for state, total in ledger.totals.items()}
    ).decode()
