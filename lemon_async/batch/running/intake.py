"""What a batch does before it buys anything: it checks its rows and file names, and adds the rows to its journal."""

import asyncio
from collections.abc import Iterable, Sequence

from lemon_async._images.images import Images
from lemon_async.batch.journal import Journal
from lemon_async.batch.prices import Prices
from lemon_async.batch.records import JournalRow
from lemon_async.batch.rows.builder import columns_of
from lemon_async.batch.rows.identity import IDENTITY, identity_problem
from lemon_async.batch.rows.reader import RowReader
from lemon_async.batch.running.saving import split_template
from lemon_async.batch.running.shared_folder import join_folder, shared_template
from lemon_async.batch.states import State
from lemon_async.errors import ContractError
from lemon_async.types import Problem

__all__ = ["add_rows", "check_rows", "keys_of", "learn_prices"]

_TEMPLATE = "save"
_ADDED = "rows added "
_DEFAULT = "{key}"
_SAMPLE = 1000


async def check_rows(reader: RowReader, save: str | None) -> None:
    """Check rows and template, before a journal is made for them.

    Raises:
        ContractError: They are invalid.
    """
    found = await reader.read()
    found.check()
    _check_template(save or _DEFAULT, found.columns)


async def keys_of(reader: RowReader) -> list[str]:
    """Return the keys of all rows.

    Raises:
        ContractError: Some are invalid.
    """
    return [row.key async for chunk in reader.chunks() for row in chunk]


async def learn_prices(journal: Journal, prices: Prices) -> None:
    """Learn from what the first 1,000 finished rows have cost."""

    def learn(rows: Sequence[JournalRow]) -> None:
        for row in rows:
            prices.learn_row(row)

    await asyncio.to_thread(learn, await journal.rows(State.DONE, limit=_SAMPLE))


async def add_rows(journal: Journal, reader: RowReader | None, save: str | None) -> tuple[str, int]:
    """Check rows and template, and add the rows, unless the journal says that it has all of this file.

    Args:
        journal: The journal.
        reader: The rows; `None` if it has them already.
        save: The template of file names; `None` for that of the last run, or `{key}`.

    Returns:
        The template, and the number of rows that were added.

    Raises:
        ContractError: Of the rows or the template; nothing was added.
        JournalError: Also if the pictures would go to another folder than those of other runs.
    """
    known = await journal.read_note(_TEMPLATE)
    if journal.folder is None:
        template = await shared_template(journal, save, known)
    else:
        template = save or known or _DEFAULT
    added = await _add(journal, reader, template)
    if journal.folder is None:
        if (now_known := await journal.read_note(_TEMPLATE)) != known:  # by a run that has started since
            known, template = now_known, await shared_template(journal, save, now_known)
        await join_folder(journal, template, save=save, is_new=template != known)
    if template != known:
        await journal.write_note(_TEMPLATE, template)
    return template, added


async def _add(journal: Journal, reader: RowReader | None, save: str) -> int:
    """Check rows and template, and add the rows; return how many are new."""
    added = 0
    has_rows = any((await journal.counts()).values())
    if reader is not None and has_rows:
        problem = identity_problem(await journal.read_note(IDENTITY), reader.identity)
        if problem is not None:
            raise ContractError(problems=(problem,), undone="added")
    digest = None if reader is None else await reader.digest()
    if reader is None or (digest and await journal.read_note(_ADDED + digest)):
        columns = await asyncio.to_thread(_columns, await journal.rows(limit=_SAMPLE))
        _check_template(save, columns)
    else:
        found = await reader.read()
        found.check()
        _check_template(save, found.columns)
        if has_rows:  # a conflict in the last chunk must not leave the others behind
            async for chunk in reader.chunks():
                await journal.check(chunk)
        else:
            await journal.write_note(IDENTITY, reader.identity)
        async for chunk in reader.chunks():
            added += await journal.add(chunk)
        if digest:
            await journal.write_note(_ADDED + digest, "yes")
    return added


def _columns(rows: Iterable[JournalRow]) -> set[str]:
    return {name for row in rows for name in columns_of(row)}


def _check_template(save: str, columns: Iterable[str]) -> None:
    """Check the template of file names.

    Raises:
        ContractError: It is invalid, or has a field that is no column.
    """
    if problems := Images.validate(*split_template(save), fields=["key", *columns]):
        raise ContractError(problems=tuple(Problem("save", problem.message) for problem in problems))
