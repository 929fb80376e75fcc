"""What a journal holds: rows, changes of rows, and sums of money."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from lemon_async._api.resume_token import parse_reference
from lemon_async.batch.states import State, Transition
from lemon_async.errors import ContractError

__all__ = ["Change", "Claim", "JournalRow", "NewRow", "SavedPicture", "Spending"]


@attrs.frozen
class NewRow:
    """A row to add to a journal.

    Attributes:
        key: Its identity in the journal.
        request: The request as canonical JSON (`request_json`).
        columns: The columns that are no fields of the request, as a JSON object; empty if there are none.
        digest: SHA-256 of `request` and `columns`: the same key with another digest is an error.
    """

    key: str
    request: bytes
    columns: bytes
    digest: bytes


@attrs.frozen
class SavedPicture:
    """A file of a finished row.

    Attributes:
        path: Where it is: relative to the folder of the journal if it is in there, otherwise absolute.
        size_bytes: Its size.
        sha256: The digest of its content, in hexadecimal.
    """

    path: str
    size_bytes: int
    sha256: str


@attrs.frozen(kw_only=True)
class JournalRow:
    """A row as the journal holds it.

    Attributes:
        number: Its position in the journal, from 0.
        key: Its identity.
        state: Where it is.
        request: The request as canonical JSON.
        columns: The other columns as a JSON object; empty if there are none.
        attempt: Number of attempts to buy it, except those that provably sold nothing; a retry by the user starts at 0.
        changed_at: When its state changed last, in Unix seconds; of a doubtful row, when it was being bought.
        task: The resume token of its task; `None` if there is none, as after an inline response.
        fingerprint: The fingerprint of the request that was sent last, as in `SubmissionUnknown`.
        price_usd: What was reserved for it; `None` if its price is not known.
        cost_usd: What the service reported; `None` if it did not.
        sunk_usd: What earlier attempts have cost or may have cost.
        error: Why it is where it is, in one line.
        pictures: Its files, once it is done.
    """

    number: int
    key: str
    state: State
    request: bytes
    columns: bytes = b""
    attempt: int = 0
    changed_at: float = 0.0
    task: str | None = None
    fingerprint: str | None = None
    price_usd: float | None = None
    cost_usd: float | None = None
    sunk_usd: float = 0.0
    error: str | None = None
    pictures: tuple[SavedPicture, ...] = ()

    @property
    def task_id(self) -> str | None:
        """The id of its task; `None` if there is no task, or if this version cannot read the token."""
        try:
            return None if self.task is None else parse_reference(self.task).task_id
        except ContractError:
            return None


def _check_amount(_change: "Change", field: "attrs.Attribute[float | None]", value: float | None) -> None:
    if value is not None and not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{field.name}={value!r}: must be a finite number of dollars, at least 0")


@attrs.frozen(kw_only=True)
class Change:
    """One transition of one row, with the facts that it brings.

    Attributes:
        key: Which row.
        transition: What has happened.
        fingerprint: With `INTEND`: the fingerprint of the request.
        price_usd: With `INTEND`: what to reserve.
        cap_usd: With `INTEND`: the change is refused if all spending would exceed this, or if there is no price.
        task: With `ACCEPT`: the resume token; `None` after an inline response.
        cost_usd: With `SAVE` or `LOSE`: what the service reported.
        pictures: With `SAVE`: the files.
        error: The reason, in one line.
        run: The run that reports it, as in `Journal.claim`; a row that another run holds changes only by `ACCEPT`.
    """

    key: str
    transition: Transition
    fingerprint: str | None = None
    price_usd: float | None = attrs.field(default=None, validator=_check_amount)
    cap_usd: float | None = attrs.field(default=None, validator=_check_amount)
    task: str | None = None
    cost_usd: float | None = attrs.field(default=None, validator=_check_amount)
    pictures: tuple[SavedPicture, ...] = ()
    error: str | None = None
    run: str = ""


@attrs.frozen
class Claim:
    """What a run has got of the rows that it asked for.

    Attributes:
        rows: The rows, which no other run gets while this one holds them.
        held_elsewhere: Number of rows that other runs hold, in whatever state; counted only if `rows` is empty.
    """

    rows: Sequence[JournalRow] = ()
    held_elsewhere: int = 0


@attrs.frozen(kw_only=True)
class Spending:
    """The money of a batch, over all its runs, in US dollars.

    Attributes:
        spent: Of finished rows, as the service reported it or else at their price; also what is lost.
        reserved: Of rows that are being bought or made.
        doubtful: Of rows that may have been sold.
        refunded: Of tasks that failed, which the service releases or refunds.
        unpriced: Number of rows whose price is not known, and which are in none of these sums.
    """

    spent: float = 0.0
    reserved: float = 0.0
    doubtful: float = 0.0
    refunded: float = 0.0
    unpriced: int = 0

    @property
    def committed(self) -> float:
        """What counts against a cap: everything but refunds."""
        return self.spent + self.reserved + self.doubtful

    def as_json(self) -> Mapping[str, Any]:
        """Return the sums as a JSON object, rounded to millionths."""
        sums = attrs.asdict(self)
        return {name: value if isinstance(value, int) else round(value, 6) for name, value in sums.items()}
