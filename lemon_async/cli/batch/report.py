"""Say in words, exit codes and JSON how the rows of a batch stand."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from lemon_async.batch import BatchOutcome, JournalRow, Spending, State
from lemon_async.cli.json_lines import error_record, text_of
from lemon_async.cli.runner import worst

__all__ = [
    "advice", "doubtful_record", "doubtful_table", "exit_code", "outcome_record", "rows", "running_record",
    "status_record", "status_table", "summary", "usd",
]  # fmt: skip

Counts = Mapping[State, int]

# In the order of interest at the end of a run.
_SHOWN = (
    State.DONE, State.SOLD, State.NEW, State.INTENT, State.DOUBTFUL, State.REFUSED, State.FAILED, State.DEAD,
)  # fmt: skip
_CODES = {
    State.DOUBTFUL: 3,
    **dict.fromkeys((State.SOLD, State.INTENT), 4),
    **dict.fromkeys((State.NEW, State.REFUSED, State.FAILED, State.DEAD), 1),
}
_SUMS = ("spent", "reserved", "doubtful", "refunded")
_MAX_KEYS = 5


def exit_code(counts: Counts) -> int:
    """Return the exit code of a run that leaves its rows like this."""
    return worst([0, *(code for state, code in _CODES.items() if counts.get(state))])


def usd(amount: float | None) -> str:
    """Return an amount of US dollars: at least cents, and no further digits than it has."""
    if amount is None:
        return "?"
    whole, _, fraction = f"{amount:,.6f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def summary(counts: Counts, spending: Spending) -> Iterator[str]:
    """Yield what a person wants to know of a batch: its rows by state, and its money."""
    shown = [f"{counts[state]:,} {state}" for state in _SHOWN if counts.get(state)]
    yield f"rows: {', '.join(shown) or 'none'}"
    sums = {name: getattr(spending, name) for name in _SUMS}
    parts = [f"{usd(amount)} USD {name}" for name, amount in sums.items() if amount or name == "spent"]
    if spending.unpriced:
        parts.append(f"and {rows(spending.unpriced)} of unknown price")
    yield f"money: {', '.join(parts)}"


def advice(counts: Counts, journal: str, doubtful: Sequence[str]) -> Iterator[str]:
    """Yield what to do next about rows that are not done.

    Args:
        counts: The number of rows by state.
        journal: The path of the journal.
        doubtful: Keys of the first doubtful rows.
    """
    retry = _command("retry", journal)
    if number := counts.get(State.DOUBTFUL):
        keys = shlex.join(doubtful[:_MAX_KEYS])
        more = f" and {number - _MAX_KEYS:,} more" if number > _MAX_KEYS else ""
        itself = "is not sent again by itself" if number == 1 else "are not sent again by themselves"
        yield f"{rows(number)} may have been sold and {itself}: {keys}{more}"
        yield f"  look at them: {_command('doubtful', journal)}"
        yield f"  then decide: {_command('resolve', journal)} KEY... (--task ID | --not-sold | --buy-again)"
    if number := counts.get(State.REFUSED):
        yield f"{rows(number)} {_are(number)} refused; to send {_them(number)} again: {retry} KEY..."
    if number := counts.get(State.DEAD):
        yield f"{rows(number)} {_are(number)} dead, without pictures; to buy again: {retry}"
    if number := sum(count for state, count in counts.items() if state.is_open):
        again = "run the same command again to continue; it buys nothing twice"
        yield f"{rows(number)} {_are(number)} not finished; {again}"


def status_record(counts: Mapping[State, int], spending: Mapping[str, Any], running: Any = None) -> dict[str, Any]:
    """Return the object of `status --json`.

    Args:
        counts: The number of rows by state.
        spending: The sums, as `Spending.as_json` returns them.
        running: The process that runs the batch, or how many do, if any does.
    """
    by_state = {state.value: counts.get(state, 0) for state in State}
    return {**by_state, "rows": sum(by_state.values()), "spending": spending, "running": running}


def running_record(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object of `status --json` for a batch that another process runs, from its status file."""
    running = {name: status.get(name) for name in ("pid", "host", "started", "updated")}
    return status_record(status["counts"], status["spending"], running)


def status_table(record: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield the lines of `status` as names and values."""
    yield from ((name, record[name]) for name in [state.value for state in State] + ["rows"])
    yield from ((f"{name}_usd", usd(record["spending"][name])) for name in _SUMS)
    yield "unpriced", record["spending"]["unpriced"]
    yield "running", _running(record["running"])


def _running(running: Mapping[str, Any] | None) -> str:
    if running is None:
        return "no"
    if "runs" in running:
        return f"{running['runs']:,} at a time"
    return f"process {running['pid']} on {running['host']}"


def outcome_record(outcome: BatchOutcome) -> dict[str, Any]:
    """Return the object of `run --json` for a row that has ended."""
    error = outcome.error
    return {
        "key": outcome.key,
        "status": outcome.status.value,
        "paths": [text_of(path) for path in outcome.paths],
        "prompt": getattr(outcome.request, "prompt", None),
        "model": outcome.request.model or outcome.request.default_model,
        "task_id": outcome.task.id if outcome.task is not None else None,
        "attempt": outcome.attempt,
        "cost_usd": outcome.cost_usd,
        "price_usd": outcome.price_usd,
        "columns": outcome.columns,
        "error": None if error is None else error_record(error),
    }


def doubtful_record(row: JournalRow) -> dict[str, Any]:
    """Return the object of `doubtful --json`."""
    request = orjson.loads(row.request)
    return {
        "key": row.key,
        "time": _time(row.changed_at),
        "fingerprint": row.fingerprint,
        "price_usd": row.price_usd,
        "model": request.get("model"),
        "prompt": request.get("prompt"),
        "error": row.error,
    }


def doubtful_table(rows: Sequence[JournalRow]) -> Iterator[str]:
    """Yield the lines of a table; keys are quoted for a shell."""
    records = [doubtful_record(row) for row in rows]
    table = [
        (shlex.quote(each["key"]), each["time"], usd(each["price_usd"]), each["fingerprint"] or "?") for each in records
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells, each in zip(table, records, strict=True):
        start = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield f"{start}  {' '.join((each['prompt'] or '').split())}".rstrip()


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _them(number: int) -> str:
    return "it" if number == 1 else "them"


def _command(name: str, journal: str) -> str:
    return shlex.join(["lemon-async", "batch", name, journal])


def rows(number: int) -> str:
    """Return a number of rows, with the noun."""
    return f"{number:,} row{'s' * (number != 1)}"


def _time(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
