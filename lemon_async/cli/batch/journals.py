"""The work of `status`, `doubtful`, `resolve`, `retry` and `export`: show a journal, and decide about its rows.

Nothing here sends a request.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import attrs

from lemon_async.batch import Change, Journal, JournalRow, State, Transition, export, open_journal
from lemon_async.cli.arguments import STDIN, read_lines
from lemon_async.cli.batch.addresses import file_problems
from lemon_async.cli.batch.report import (
    doubtful_record,
    doubtful_table,
    rows,
    running_record,
    status_record,
    status_table,
)
from lemon_async.cli.console import print_note, print_status
from lemon_async.cli.runner import raise_problems, run_command
from lemon_async.cli.stdout import aligned, json_text, print_line
from lemon_async.errors import ContractError, JournalError
from lemon_async.types import Problem

__all__ = ["export_rows", "resolve_rows", "retry_rows", "show_doubtful", "show_status"]

Format = Literal["imagefolder", "webdataset", "csv", "jsonl", "parquet"]
_TASK = re.compile(r"[!-~]+")
_RETRIED = (State.DEAD, State.REFUSED, State.FAILED)
_RESOLVED = (State.DOUBTFUL,)  # a sale is possible in other states, too, but there it is a mistake of the caller's


Work = Callable[[Journal], Awaitable[int]]


def show_status(journal: str, *, as_json: bool) -> None:
    """Run `batch status`."""

    async def work(opened: Journal) -> int:
        spending, runs = await opened.spending(), await opened.runs()
        running = {"runs": runs} if runs else None
        _print_status(status_record(await opened.counts(), spending.as_json(), running), as_json=as_json)
        return 0

    def print_owners(status: Mapping[str, Any]) -> int:
        _print_status(running_record(status), as_json=as_json)
        return 0

    _run(journal, work, if_running=print_owners)


def show_doubtful(journal: str, *, as_json: bool) -> None:
    """Run `batch doubtful`."""

    async def work(opened: Journal) -> int:
        found = [row async for row in _rows(opened, State.DOUBTFUL)]
        for line in [json_text(doubtful_record(row)) for row in found] if as_json else doubtful_table(found):
            print_line(line)
        if not found:
            print_status("no row is doubtful")
        return 0

    _run(journal, work)


def resolve_rows(journal: str, *, keys: Sequence[str], task: str | None, is_bought_again: bool) -> None:
    """Run `batch resolve`."""
    if task is not None:
        transition, then = Transition.ACCEPT, "the next `batch run` waits for the task of {} and saves its pictures"
    elif is_bought_again:
        transition, then = (
            Transition.BUY_AGAIN,
            "the next `batch run` buys {} again; the money in doubt stays counted as spent",
        )
    else:
        transition, then = Transition.NOT_SOLD, "the next `batch run` buys {}"
    wrong = task is not None and not _TASK.fullmatch(task)
    problems = [Problem("--task", f"neither a task id nor a resume token: {task!r}")] if wrong else []
    read, unread = read_lines(STDIN if STDIN in keys else None, option="KEY", noun="key")

    async def work(opened: Journal) -> int:
        words = await _found(opened, (*keys, *read), transition)
        if task is not None:
            await _check_task(opened, words[0], task)
        await _change(opened, words, transition, task=task)
        print_status(then.format(rows(len(words))))
        return 0

    _run(journal, work, problems=[*problems, *unread])


def retry_rows(journal: str, *, keys: Sequence[str]) -> None:
    """Run `batch retry`."""
    read, problems = read_lines(STDIN if STDIN in keys else None, option="KEY", noun="key")

    async def work(opened: Journal) -> int:
        if keys:
            words = await _found(opened, (*keys, *read), Transition.RETRY)
        else:
            words = [row.key async for row in _rows(opened, State.DEAD)]
        await _change(opened, words, Transition.RETRY)
        print_status(f"the next `batch run` buys {rows(len(words))} again" if words else "no row is dead")
        return 0

    _run(journal, work, problems=problems)


def export_rows(journal: str, *, destination: str, format_: Format) -> None:
    """Run `batch export`."""

    async def work(opened: Journal) -> int:
        done = await export(opened, destination, format=format_)
        print_line(destination)
        for fault in done.faults:
            print_note(fault)
        if more := done.left_out - len(done.faults):
            print_note(f"{more:,} more pictures are missing or have changed")
        return int(done.left_out > 0)

    _run(journal, work)


def _run(
    journal: str,
    work: Work,
    *,
    problems: Iterable[Problem] = (),
    if_running: Callable[[Mapping[str, Any]], int] | None = None,
) -> None:
    """Open a journal that exists, and do the work.

    Args:
        journal: The path or URL.
        work: Returns the exit code.
        problems: What is wrong with other options.
        if_running: Called instead with the status of a running batch, if that is known.
    """

    async def opened() -> int:
        raise_problems([*problems, *await asyncio.to_thread(lambda: [*file_problems(journal)])])
        try:
            async with open_journal(journal) as found:
                return await work(found)
        except JournalError as error:
            if error.owner and if_running:
                return if_running(error.owner)
            raise

    run_command(opened)


async def _rows(journal: Journal, *states: State) -> AsyncIterator[JournalRow]:
    """Yield all rows in these states."""
    last = -1
    while chunk := await journal.rows(*states, after=last):
        for row in chunk:
            yield row
        last = chunk[-1].number


async def _found(journal: Journal, keys: Iterable[str], transition: Transition) -> list[str]:
    """Return the keys, each once, if all of their rows can have a transition.

    Raises:
        ContractError: Some cannot; nothing was written.
    """
    unique = [key for key in dict.fromkeys(keys) if key != STDIN]
    wanted = _RETRIED if transition is Transition.RETRY else _RESOLVED
    problems = []
    for key in unique:
        row = await journal.find(key)
        if row is None:
            problems.append(Problem("KEY", f"there is no row {key!r}"))
        elif row.state not in wanted:
            words = " or ".join(", ".join(wanted).rsplit(", ", 1))
            problems.append(Problem("KEY", f"row {key!r} is {row.state}, not {words}"))
    if problems:
        raise ContractError(problems=tuple(problems), undone="written")
    return unique


async def _check_task(journal: Journal, key: str, task: str) -> None:
    """Check that a task can be resumed, and is of no other row, whose pictures this one would get.

    A row with a task that cannot be resumed would be sold for good: only doubtful rows can be resolved.

    Raises:
        ContractError: It cannot, or is; nothing was written.
    """
    row = await journal.find(key)
    task_id = None if row is None else attrs.evolve(row, task=task).task_id
    if task_id is None:
        raise ContractError.of("--task", f"neither a task id nor a resume token: {task!r}", undone="written")
    async for other in _rows(journal):
        if other.task_id is not None and other.task_id == task_id:
            words = f"{task_id} is the task of row {other.key!r}, which is {other.state}"
            raise ContractError.of("--task", words, undone="written")


async def _change(journal: Journal, keys: Sequence[str], transition: Transition, **facts: Any) -> None:
    """Record a transition of rows, and print their keys."""
    changes = [journal.record(Change(key=key, transition=transition, **facts)) for key in keys]
    for key, change in zip(keys, changes, strict=True):
        await change
        print_line(key)


def _print_status(record: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_line(json_text(record))
        return
    for line in aligned(list(status_table(record))):
        print_line(line)
