"""The work of `batch run`: check everything, then buy rows, save their pictures, and say how all rows stand."""

import asyncio
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import attrs

from lemon_async import LemonSession
from lemon_async.batch import Batch, BatchOutcome, State, open_journal
from lemon_async.cli.arguments import STDIN, read_extra
from lemon_async.cli.batch.addresses import may_exist, title_of, without_password
from lemon_async.cli.batch.report import advice, exit_code, outcome_record, summary
from lemon_async.cli.console import print_error, print_note, print_result, print_status, translate
from lemon_async.cli.destination import prepare_sheet, sheet_problems
from lemon_async.cli.runner import (
    BROKEN_PIPE,
    KEY_VARIABLE,
    SessionOptions,
    options_from,
    raise_problems,
    run_command,
    worst,
)
from lemon_async.cli.stdout import json_text, plain, print_line
from lemon_async.errors import BatchPaused, ContractError, JournalError, LemonError
from lemon_async.sheet import batch_sheet
from lemon_async.types import Problem

__all__ = ["read_prices", "run", "template_of"]

_MAX_FAREWELL_S = 5.0
_EMULATOR = re.compile(r"http://127\.0\.0\.1:([0-9]+)")


@attrs.frozen(kw_only=True)
class _RunOptions:
    """The options of `batch run` that are neither fields nor options of the session."""

    journal: str
    key: str | None
    model: tuple[str, ...]
    output: str | None
    in_flight: int
    budget_usd: float | None
    price_usd: tuple[str, ...]
    attempts: int
    provenance: bool
    sheet: str | None
    as_json: bool
    is_quiet: bool
    extra: tuple[str, ...]
    no_check: bool

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with them, as far as the library does not check it."""
        yield from read_extra(self.extra)[1]
        yield from read_prices(self.price_usd)[1]
        yield from sheet_problems(self.sheet, self.output or ".")
        if self.output is not None and template_of(self.output) is None:
            ways = f"a folder, as in {self.output + '/'!r}, or a template, as in 'out/{{key}}'"
            yield Problem("-o", f"{self.output!r} is one file for all rows; name {ways}")

    def open(self, lemon: LemonSession, rows: str | None, fields: Mapping[str, Any]) -> Batch:
        """Return the batch, which is not open yet."""
        extra, _ = read_extra(self.extra)
        models = self.model[0] if len(self.model) == 1 else self.model
        given = {**fields, "extra": extra, "model": models}
        return lemon.batch(
            self.journal,
            rows,
            key=self.key,
            save=self.output and template_of(self.output),
            in_flight=self.in_flight,
            attempts=self.attempts,
            budget_usd=self.budget_usd,
            price_usd=read_prices(self.price_usd)[0],
            provenance=self.provenance,
            check_contracts=not self.no_check,
            progress=not self.is_quiet,
            **{name: value for name, value in given.items() if value not in (None, (), {})},
        )


def run(*, rows: str | None, dry_run: bool, **given: Any) -> None:
    """Run `batch run`."""
    session, options = options_from(SessionOptions, given), options_from(_RunOptions, given)
    act = _plan if dry_run else _run
    with ExitStack() as stack:
        # Stdin is read before there is an event loop, whose Ctrl-C would not end the reading.
        run_command(lambda: act(session, options, _spool_stdin(stack) if rows == STDIN else rows, given))


def template_of(output: str) -> str | None:
    """Return where `-o` has pictures saved, as a template; `None` if it names one file."""
    if output.endswith("/") or Path(output).is_dir():
        folder = output.rstrip("/")
        if Path(output).is_dir():
            folder = folder.replace("{", "{{").replace("}", "}}")
        return f"{folder}/{{key}}"
    return output if "{" in output else None


def read_prices(words: Sequence[str]) -> tuple[float | dict[str, float] | None, tuple[Problem, ...]]:
    """Return the price of a picture, or prices by model, and the problems with them."""
    prices: dict[str, float] = {}
    problems = []
    for word in words:
        model, _, number = word.rpartition("=")
        try:
            prices[model] = float(number)
        except ValueError:
            problems.append(f"must be USD or MODEL=USD, not {word!r}")
    if "" in prices and len(prices) > 1:
        problems.append("is one number for all models, or MODEL=USD for each, not both")
    return prices.get("", prices or None), tuple(Problem("--price-usd", problem) for problem in problems)


def _spool_stdin(stack: ExitStack) -> str:
    """Copy stdin to a file that lives as long as the stack, and return its path.

    Raises:
        ContractError: It is closed, or cannot be copied.
    """
    if sys.stdin is None:
        raise ContractError.of("ROWS", "stdin is closed")
    path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "stdin.jsonl")
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    except OSError as error:
        raise ContractError.of("ROWS", f"cannot copy stdin to {str(path)!r}: {error.strerror or error}") from None
    return str(path)


async def _plan(session: SessionOptions, options: _RunOptions, rows: str | None, fields: Mapping[str, Any]) -> int:
    """Print what a run would buy; connects nothing and writes nothing."""
    found = [problem for problem in session.problems() if problem.field != KEY_VARIABLE]
    raise_problems([*options.problems(), *found])
    session = await _at_known_address(session, options.journal)
    plan = await options.open(session.offline(), rows, fields).plan()
    plan = attrs.evolve(plan, problems=tuple(map(translate, plan.problems)))
    print_line(json_text(plan.as_json()) if options.as_json else plan)
    return 2 if plan.problem_count else 0


async def _run(session: SessionOptions, options: _RunOptions, rows: str | None, fields: Mapping[str, Any]) -> int:
    """Buy the rows, and return the exit code. Spends money, at most once for each row."""
    raise_problems([*options.problems(), *session.problems()])
    if rows is None and not await asyncio.to_thread(may_exist, options.journal):
        raise ContractError.of("ROWS", f"is missing, and there is no journal {options.journal!r} to continue")
    if options.sheet is not None:
        prepare_sheet(options.sheet)
    session = await _at_known_address(session, options.journal)
    async with session.open() as lemon:
        batch = options.open(lemon, rows, fields)
        printer = _Printer(batch, as_json=options.as_json)
        try:
            async with batch:
                await printer.print_outcomes()
        finally:
            await printer.print_end(options.journal)
    return worst([printer.exit_code, await _write_sheet(options)])


async def _write_sheet(options: _RunOptions) -> int:
    """Write the page, if there is to be one; return an exit code."""
    if options.sheet is None:
        return 0
    try:
        async with open_journal(options.journal) as journal:
            page = await batch_sheet(journal, options.sheet, title=title_of(options.journal))
    except LemonError as error:
        print_error(error, "--sheet")
        return 1
    print_status(f"sheet: {page.path}")
    return 0


async def _at_known_address(session: SessionOptions, journal: str) -> SessionOptions:
    """Have an emulator listen where the earlier ones of a journal did, which belongs to one address."""
    if not session.is_emulated:
        return session
    found = None
    with suppress(JournalError):  # there is none yet, or the batch says why it cannot be used
        async with open_journal(journal) as opened:
            found = _EMULATOR.fullmatch(await opened.read_note("base_url") or "")
    if found is None:
        return session
    try:
        socket.create_server(("127.0.0.1", int(found[1]))).close()
    except OSError:
        words = f"the rows of the journal are for {found[0]}, where another program listens"
        advice = "if that is an emulator, run this without --emulator and with its key; or use another journal"
        raise ContractError.of("--emulator", f"{words}; {advice}") from None
    return attrs.evolve(session, emulator_port=int(found[1]))


@attrs.define
class _Printer:
    """Prints rows as they end, and at last how all rows stand.

    Attributes:
        batch: The batch.
        as_json: Whether stdout gets JSON instead of paths.
        doubtful: Keys of the first doubtful rows.
        is_begun: Whether the batch was open.
        is_paused: Whether it was paused.
        has_reader: Whether stdout still takes lines: a pipe may have been closed.
        has_printed_all: Whether it has taken all of them.
    """

    batch: Batch
    as_json: bool
    doubtful: list[str] = attrs.field(factory=list[str], init=False)
    is_begun: bool = attrs.field(default=False, init=False)
    is_paused: bool = attrs.field(default=False, init=False)
    has_reader: bool = attrs.field(default=True, init=False)
    has_printed_all: bool = attrs.field(default=True, init=False)

    @property
    def exit_code(self) -> int:
        """The exit code of the run, after the batch was closed."""
        counts = self.batch.counts
        if not self.has_reader:
            return worst([BROKEN_PIPE, 3 * bool(counts[State.DOUBTFUL])])
        return worst([exit_code(counts), int(self.is_paused or not self.has_printed_all)])

    async def print_outcomes(self) -> None:
        """Print rows until all have ended, the batch is paused, or the reader of stdout has gone."""
        self.is_begun = True
        self.doubtful += [row.key for row in await self.batch.doubtful()]
        try:
            async for outcome in self.batch:
                self._print(outcome)
                if not self.has_reader:
                    return
        except BatchPaused as pause:
            print_error(pause)
            self.is_paused = True
        except asyncio.CancelledError:
            print_status("interrupted; waiting for responses to paid requests and for pictures that are being saved")
            print_status("  Ctrl-C again ends this: rows whose request is under way become doubtful")
            raise

    async def print_end(self, journal: str) -> None:
        """Print what ended while the batch was closed, the sums, and what to do next, unless it was never open."""
        if not self.is_begun:
            return
        with suppress(LemonError, TimeoutError):
            async with asyncio.timeout(_MAX_FAREWELL_S):
                async for outcome in self.batch:
                    self._print(outcome)
        counts = self.batch.counts
        for line in (*summary(counts, self.batch.spending), *advice(counts, without_password(journal), self.doubtful)):
            print_status(line)

    def _print(self, outcome: BatchOutcome) -> None:
        if outcome.error is not None:
            print_error(outcome.error, outcome.key)
        if outcome.status is State.DOUBTFUL:
            self.doubtful.append(outcome.key)
        if not self.has_reader:
            return
        lines = [json_text(outcome_record(outcome))] if self.as_json else [plain(path) for path in outcome.paths]
        try:
            for line in lines:
                self.has_printed_all &= print_result(line, about=outcome.key)
        except BrokenPipeError:
            self.has_reader = False
            print_note("stdout was closed: nothing more is submitted; run the same command again to continue")
