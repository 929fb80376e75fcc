"""Run given rows of a shared journal to their end, also those that other runs hold, and return what came of each."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from lemon_async.batch.journal import Journal
from lemon_async.batch.outcome import BatchOutcome
from lemon_async.batch.records import JournalRow
from lemon_async.batch.rows.builder import checked_key
from lemon_async.batch.states import State
from lemon_async.errors import ContractError, JournalError, LemonError
from lemon_async.session import LemonSession
from lemon_async.types import Problem

__all__ = ["GivenRows", "RowResult"]

_NUMBERED = re.compile(r"row (\d+), (.*)", re.DOTALL)
_KEYED = re.compile(r"row (['\"].*)", re.DOTALL)
_MORE = "rows"  # how many problems are not listed
_OF_ALL = {"price_usd"}  # problems of all rows of a model, which are listed once
_MOST_CHARS = 500
_HELD = "another worker has held this row for too long; run the data set again"


@attrs.frozen(kw_only=True)
class RowResult:
    """What came of a row: the columns that are added to it.

    Attributes:
        status: Its state in the journal; `refused` also if it is no valid row, and `None` if that is not known.
        paths: Its files.
        error: Why it is not done, in one line; `None` if it is.
        cost_usd: What the service reported.
        task_id: The id of its task.
    """

    status: str | None
    paths: list[str] = attrs.field(factory=list[str])
    error: str | None = None
    cost_usd: float | None = None
    task_id: str | None = None


class GivenRows:
    """Rows of a journal that one call runs; `run`, and then `results`.

    Rows that are done are reported from the journal, rows that others hold are awaited, and doubtful ones stay as they
    are. Errors of rows are results; so is what stops the run once something may have been sold.

    Args:
        session: Where the jobs run.
        journal: Where they are recorded.
        rows: The rows.
        key: The column that identifies a row.
        options: Those of `LemonSession.batch`.

    Attributes:
        failure: What has stopped the run, if anything has.
    """

    def __init__(
        self,
        session: LemonSession,
        journal: Journal,
        rows: Sequence[Mapping[str, Any]],
        key: str,
        options: Mapping[str, Any],
    ) -> None:
        self._session, self._journal, self._rows, self._key, self._options = session, journal, rows, key, options
        self.failure: Exception | None = None
        self._invalid: dict[int, str] = {}
        self._outcomes: dict[str, BatchOutcome] = {}
        self._found: dict[str, JournalRow] = {}
        self._keys: list[str | None] = []
        for index, row in enumerate(rows):
            try:
                self._keys.append(checked_key(row.get(key)))
            except ValueError as fault:
                self._keys.append(None)
                self._invalid[index] = f"ContractError: {key}: {fault}"

    async def run(self) -> None:
        """Run the valid rows to their end, and read what the journal says of them. Spends money, once for each row.

        Cancelling ends the run as leaving a batch does.

        Raises:
            ContractError: An option is invalid, or the journal is that of other rows; nothing was sent.
            JournalError: The rows cannot be added; nothing was sent.
        """
        while left := [index for index in range(len(self._rows)) if index not in self._invalid]:
            problems = await self._run(left)
            if not problems:
                break
            self._set_apart(left, problems)
        keys = {key for index in left if (key := self._keys[index]) is not None}
        try:
            rows = await asyncio.gather(*map(self._journal.find, keys))
            self._found = {row.key: row for row in rows if row is not None}
        except JournalError as failure:
            self.failure = self.failure or failure

    async def _run(self, left: Sequence[int]) -> Sequence[Problem]:
        """Run some rows to their end, or return their problems."""
        rows = [self._rows[index] for index in left]
        batch = self._session.batch(self._journal, rows, key=self._key, only_given=True, **self._options)
        is_entered = False
        try:
            async with batch:
                is_entered = True
                async for outcome in batch:
                    self._outcomes[outcome.key] = outcome
        except LemonError as failure:
            if is_entered:
                self.failure = failure
            elif isinstance(failure, ContractError):
                return failure.problems
            else:
                raise
        return ()

    def _set_apart(self, left: Sequence[int], problems: Sequence[Problem]) -> None:
        """Note the problems of rows.

        Raises:
            ContractError: One is not of a row.
        """
        others = []
        for problem in problems:
            numbered, keyed = _NUMBERED.fullmatch(problem.field), _KEYED.fullmatch(problem.field)
            if numbered and numbered[2] not in _OF_ALL:
                self._refuse(left[int(numbered[1]) - 1], f"{numbered[2]}: {problem.message}")
            elif keyed:
                for index in left:
                    if repr(self._keys[index]) == keyed[1]:
                        self._refuse(index, f"{self._key}: {problem.message}")
            elif problem.field != _MORE:
                others.append(problem)
        if others or not self._invalid.keys() & set(left):
            raise ContractError(problems=tuple(others or problems))

    def _refuse(self, index: int, problem: str) -> None:
        known = self._invalid.get(index)
        self._invalid[index] = f"{known}; {problem}" if known else f"ContractError: {problem}"

    def results(self) -> list[RowResult]:
        """Return what came of each row, in their order."""
        return [self._result(index) for index in range(len(self._rows))]

    def _result(self, index: int) -> RowResult:
        if index in self._invalid:
            return RowResult(status=State.REFUSED.value, error=_line(self._invalid[index]))
        key = self._keys[index] or ""
        row, outcome = self._found.get(key), self._outcomes.get(key)
        if row is None:
            return self._unread(outcome)
        folder = self._journal.folder
        return RowResult(
            status=row.state.value,
            paths=[str(folder / picture.path if folder else picture.path) for picture in row.pictures],
            error=None if row.state is State.DONE else self._reason(row, outcome),
            cost_usd=row.cost_usd,
            task_id=row.task_id,
        )

    def _reason(self, row: JournalRow, outcome: BatchOutcome | None) -> str:
        error = outcome.error if outcome is not None else None
        if error is None and row.error is None and row.state.is_open:
            error = self.failure
        if error is not None:
            return _line(_text(error))
        return _line(row.error or (_HELD if row.state.is_open else str(row.state)))

    def _unread(self, outcome: BatchOutcome | None) -> RowResult:
        """Return what is known of a row without the journal, which has failed."""
        error = self.failure or JournalError(message=f"the row is not in the journal {self._journal.name}")
        if outcome is None:
            return RowResult(status=None, error=_line(_text(error)))
        return RowResult(
            status=outcome.status.value,
            paths=[str(path) for path in outcome.paths],
            error=_line(_text(outcome.error)) if outcome.error is not None else None,
            cost_usd=outcome.cost_usd,
            task_id=outcome.task.id if outcome.task is not None else None,
        )


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _line(text: str) -> str:
    return " ".join(text.split())[:_MOST_CHARS]
