"""Run the work of a command in an event loop: open its session, handle signals, and exit with a code."""

import asyncio
import logging
import os
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from os import environ
from typing import Any, NoReturn, TypeVar, cast

import attrs

from lemon_async import LemonSession, PollPolicy, RetryPolicy, SubmissionUnknown, TaskTimeout
from lemon_async.cli.console import EventPrinter, LogPrinter, print_error
from lemon_async.emulator import Emulator
from lemon_async.errors import ContractError, LemonError
from lemon_async.types import Problem

__all__ = [
    "BASE_URL_VARIABLE", "BROKEN_PIPE", "KEY_VARIABLE", "SessionOptions", "exit_code_of", "options_from",
    "problems_of", "raise_problems", "run_command", "worst",
]  # fmt: skip

Options = TypeVar("Options", bound=attrs.AttrsInstance)

KEY_VARIABLE = "LEMONDATA_API_KEY"
BASE_URL_VARIABLE = "LEMONDATA_BASE_URL"
BROKEN_PIPE = 128 + 13  # what a shell shows of programs that SIGPIPE ends
# In order of severity: the exit code is the most severe one.
_GRAVITY = (0, BROKEN_PIPE, 2, 1, 4, 3)
_EMULATED_SPEED = 60
# By name: Windows has no SIGHUP.
_ENDING = [number for number in signal.Signals if number.name in {"SIGHUP", "SIGTERM"}]


@attrs.frozen(kw_only=True)
class SessionOptions:
    """The options of a command that become those of its session, with the service or its own emulator.

    The fields are those of `LemonSession` and `PollPolicy`; `None` means their defaults, and for `is_emulated` that the
    command has no such option. `emulator_port` is 0 for any free one.
    """

    base_url: str | None = None
    allow_http: frozenset[str] = frozenset()
    is_emulated: bool | None = None
    requests_per_minute: int | None = None
    shared_limit: str | None = attrs.field(default=None, repr=False)  # may have a password
    deadline_s: float = 900.0
    min_gap_s: float | None = None
    max_gap_s: float | None = None
    emulator_port: int = 0

    def problems(self) -> tuple[Problem, ...]:
        """Return everything that is wrong with the options; connects nothing."""
        found = problems_of(self._polling)
        if self.is_emulated:
            clash = Problem("--base-url", "cannot be combined with --emulator, which has its own address")
            return (clash, *found) if self.base_url else found
        found += problems_of(
            lambda: LemonSession(
                base_url=self.base_url,
                allow_http=self.allow_http,
                requests_per_minute=self.requests_per_minute,
                shared_limit=self.shared_limit,
            )
        )
        if not self.base_url:
            found = tuple(attrs.evolve(p, field=BASE_URL_VARIABLE) if p.field == "base_url" else p for p in found)
        if environ.get(KEY_VARIABLE):
            return tuple(attrs.evolve(p, field=KEY_VARIABLE) if p.field == "api_key" else p for p in found)
        advice = "must be set" if self.is_emulated is None else "must be set, or add --emulator, which needs no key"
        return (Problem(KEY_VARIABLE, advice), *(problem for problem in found if problem.field != "api_key"))

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[LemonSession, None]:
        """Open a session for the block.

        Raises:
            ContractError: As `problems` returns.
        """
        async with AsyncExitStack() as stack:
            key, base_url = None, self.base_url
            if self.is_emulated:
                service = await stack.enter_async_context(Emulator(port=self.emulator_port, speed=_EMULATED_SPEED))
                key, base_url = service.api_key, service.base_url
            lemon = LemonSession(
                key,
                base_url=base_url,
                allow_http=self.allow_http,
                polling=self._polling(),
                retry=RetryPolicy(max_elapsed_s=min(RetryPolicy().max_elapsed_s, self.deadline_s)),
                requests_per_minute=self.requests_per_minute,
                shared_limit=self.shared_limit,
                on_event=EventPrinter(),
            )
            yield await stack.enter_async_context(lemon)

    def offline(self) -> LemonSession:
        """Return a session that checks requests and is never opened; needs no key."""
        base_url = f"http://127.0.0.1:{self.emulator_port}" if self.is_emulated else self.base_url
        return LemonSession("none", base_url=base_url, allow_http=self.allow_http)

    def resume_command(self, output: str) -> str:
        """Return the command that resumes a task, without its id; empty if an emulator ends with this one.

        A shared limit is left out: its URL may have a password.
        """
        if self.is_emulated:
            return ""
        options = [
            ("--base-url", self.base_url),
            *(("--allow-http", host) for host in sorted(self.allow_http)),
            ("--requests-per-minute", self.requests_per_minute),
            ("-o", output),
        ]
        words = (word for name, value in options if value for word in (name, str(value)))
        return shlex.join(["lemon-async", "task", *words])

    def _polling(self) -> PollPolicy:
        given: dict[str, Any] = {"min_gap_s": self.min_gap_s, "max_gap_s": self.max_gap_s}
        return PollPolicy(deadline_s=self.deadline_s, **{name: gap for name, gap in given.items() if gap is not None})


def options_from(kind: type[Options], given: dict[str, Any]) -> Options:
    """Remove and return the options that an attrs class has fields for."""
    return kind(**{name: given.pop(name) for name in attrs.fields_dict(kind) if name in given})


def problems_of(attempt: Callable[[], object]) -> tuple[Problem, ...]:
    """Return the problems that an attempt is refused for."""
    try:
        attempt()
    except ContractError as refusal:
        return refusal.problems
    return ()


def raise_problems(problems: Iterable[Problem]) -> None:
    """Do nothing if there are no problems.

    Raises:
        ContractError: With all of them, each once.
    """
    found = tuple(dict.fromkeys(problems))
    if found:
        raise ContractError(problems=found)


def exit_code_of(error: Exception) -> int:
    """Return the exit code for a failure."""
    match error:
        case ContractError() | ValueError():
            return 2
        case SubmissionUnknown():
            return 3
        case TaskTimeout():
            return 4
        case _:
            return 1


def worst(codes: Iterable[int]) -> int:
    """Return the most severe of several exit codes."""
    return max(codes, key=_GRAVITY.index)


def run_command(work: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run the work in an event loop, and exit with the code that it returns, or that fits its failure.

    What `work` does before it returns its coroutine runs before the loop, and may block.
    """
    if callable(signal.getsignal(signal.SIGINT)):  # the imports are done; what is ignored stays so
        with suppress(ValueError):  # not off the main thread
            signal.signal(signal.SIGINT, signal.default_int_handler)
    logger = logging.getLogger("lemon_async")
    logger.handlers = [LogPrinter(logging.WARNING)]
    logger.propagate = False
    received: list[signal.Signals] = []
    try:
        code = asyncio.run(_until_signalled(work(), received))
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except asyncio.CancelledError:
        code = 128 + (received or [signal.SIGTERM])[0]
    except BrokenPipeError:
        code = BROKEN_PIPE
    except (LemonError, ImportError, OSError, RecursionError, ValueError) as error:
        print_error(error)
        code = exit_code_of(error)
    if code == BROKEN_PIPE:
        _drop_stdout()
    sys.exit(code)


async def _until_signalled(work: Coroutine[Any, Any, int], received: list[signal.Signals]) -> int:
    """Let SIGTERM and SIGHUP cancel the work as Ctrl-C does, so that it prints the pending tasks."""
    this = cast("asyncio.Task[int]", asyncio.current_task())

    def end(number: signal.Signals) -> None:
        received.append(number)
        this.cancel()

    for number in _ENDING:
        # Not on Windows, and not off the main thread; `nohup` has SIGHUP ignored.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            if signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, end, number)
    return await work


def _drop_stdout() -> None:
    """Redirect stdout to the null device: an error in the interpreter's last flush would change the exit code."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
