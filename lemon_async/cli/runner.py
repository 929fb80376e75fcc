"""Running a command: what is wrong with it is told at once, what interrupts it is met, and a code tells how it went."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from os import environ
from typing import Any, NoReturn, cast

import attrs

from lemon_async._http.key import KEY_VARIABLE, ApiKey
from lemon_async._pace.retry import RetryPolicy
from lemon_async._pace.schedule import PollPolicy
from lemon_async._tasks.settings import find_base_url
from lemon_async.cli.console import complain
from lemon_async.cli.jobs import BROKEN_PIPE, exit_code_of
from lemon_async.emulator import Emulator
from lemon_async.errors import ContractError, LemonError, Problem
from lemon_async.session import LemonSession

__all__ = ["Access", "go", "problems_of", "stop_at"]

_MISSING_KEY = Problem(
    "API key",
    f"is missing: set {KEY_VARIABLE}; `lemon-async generate --emulator` works without",
)
# By name: Windows has no SIGHUP.
_ENDING = [number for number in signal.Signals if number.name in {"SIGHUP", "SIGTERM"}]


@attrs.frozen(kw_only=True)
class Access:
    """How a command gets at the service, or at an emulator that lives as long as the command.

    The fields are those of `LemonSession` and `PollPolicy`; `None` stands for their defaults.
    """

    base_url: str | None = None
    allow_http: frozenset[str] = frozenset()
    is_emulated: bool = False
    requests_per_minute: int | None = None
    deadline_s: float = 900.0
    min_gap_s: float | None = None
    max_gap_s: float | None = None

    def problems(self) -> tuple[Problem, ...]:
        """Return everything that is wrong with the settings; nothing is connected."""
        found = problems_of(self._polling)
        if self.is_emulated:
            return found
        settings = problems_of(lambda: find_base_url(self.base_url, ApiKey.from_environment(), self.allow_http))
        if environ.get(KEY_VARIABLE):
            return found + settings
        return (_MISSING_KEY, *found, *(problem for problem in settings if problem.field != "api_key"))

    def open(self) -> AbstractAsyncContextManager[LemonSession]:
        """Return a session to be entered.

        Raises:
            ContractError: What `problems` tells.
        """
        if self.is_emulated:
            return _emulated(polling=self._polling(), requests_per_minute=self.requests_per_minute)
        retry = RetryPolicy(max_elapsed_s=min(RetryPolicy().max_elapsed_s, self.deadline_s))
        return LemonSession(
            base_url=self.base_url,
            allow_http=self.allow_http,
            polling=self._polling(),
            retry=retry,
            requests_per_minute=self.requests_per_minute,
        )

    def pick_up(self, output: str) -> str:
        """Return the command that picks a task up again, without its id; empty where nothing can be."""
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
        given: dict[str, Any] = {
            "min_gap_s": self.min_gap_s,
            "max_gap_s": self.max_gap_s,
            "deadline_s": self.deadline_s,
        }
        return PollPolicy(**{name: value for name, value in given.items() if value is not None})


def problems_of(attempt: Callable[[], object]) -> tuple[Problem, ...]:
    """Return what an attempt is refused for."""
    try:
        attempt()
    except ContractError as refusal:
        return refusal.problems
    return ()


def stop_at(problems: Iterable[Problem]) -> None:
    """Go no further if there are problems, and tell each of them once.

    Raises:
        ContractError: With all of them.
    """
    found = tuple(dict.fromkeys(problems))
    if found:
        raise ContractError(problems=found)


def go(work: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Do the work in an event loop, and exit with the code that it returns or that fits what stopped it.

    What `work` does before it returns its coroutine is done before there is a loop, and may block.
    """
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
        complain(error)
        code = exit_code_of(error)
    if code == BROKEN_PIPE:
        _drop_stdout()
    sys.exit(code)


async def _until_signalled(work: Coroutine[Any, Any, int], received: list[signal.Signals]) -> int:
    """Let SIGTERM and SIGHUP end the work as Ctrl-C does, with the list of what goes on without us."""
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
    """Let the interpreter's last flush find a file that takes all: the error would change the exit code."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@asynccontextmanager
async def _emulated(**options: Any) -> AsyncGenerator[LemonSession, None]:
    async with (
        Emulator(speed=60) as service,
        LemonSession(service.api_key, base_url=service.base_url, **options) as lemon,
    ):
        yield lemon
