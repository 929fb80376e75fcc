"""Running a command: what is wrong with it is told at once, what interrupts it is met, and a code tells how it went."""

import asyncio
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from os import environ
from typing import Any, NoReturn

import attrs

from lemon_async.api.errors import ContractError, LemonError, Problem
from lemon_async.cli.jobs import exit_code_of
from lemon_async.cli.telling import complain
from lemon_async.client.key import KEY_VARIABLE, ApiKey
from lemon_async.client.session import LemonSession
from lemon_async.client.settings import find_base_url
from lemon_async.emulator import Emulator
from lemon_async.pace.retry import RetryPolicy
from lemon_async.pace.schedule import PollPolicy

__all__ = ["Access", "go", "problems_of", "stop_at"]

_MISSING_KEY = Problem(
    "API key",
    f"is missing: set {KEY_VARIABLE}; `lemon-async generate --emulator` works without",
)


@attrs.frozen(kw_only=True)
class Access:
    """How a command gets at the service, or at an emulator that lives as long as the command."""

    base_url: str | None = None
    allow_http: frozenset[str] = frozenset()
    deadline_s: float = 900.0
    is_emulated: bool = False

    def problems(self) -> tuple[Problem, ...]:
        """Return everything that is wrong with the settings; nothing is connected."""
        found = problems_of(partial(PollPolicy, deadline_s=self.deadline_s))
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
            return _emulated(PollPolicy(min_gap_s=0.1, max_gap_s=0.5, deadline_s=self.deadline_s))
        retry = RetryPolicy(max_elapsed_s=min(RetryPolicy().max_elapsed_s, self.deadline_s))
        return LemonSession(
            base_url=self.base_url,
            allow_http=self.allow_http,
            polling=PollPolicy(deadline_s=self.deadline_s),
            retry=retry,
        )

    def pick_up(self, output: str) -> str:
        """Return the command that picks a task up again, without its id; empty where nothing can be."""
        if self.is_emulated:
            return ""
        origin = ["--base-url", self.base_url] if self.base_url else []
        hosts = [word for host in sorted(self.allow_http) for word in ("--allow-http", host)]
        return shlex.join(["lemon-async", "task", *origin, *hosts, "-o", output])


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
    try:
        code = asyncio.run(_until_terminated(work()))
    except KeyboardInterrupt:
        code = 130
    except asyncio.CancelledError:
        code = 143
    except BrokenPipeError:
        raise  # nobody reads on, as in `lemon-async models | head -1`: click ends that without a word
    except (LemonError, ImportError, OSError, RecursionError, ValueError) as error:
        complain(error)
        code = exit_code_of(error)
    sys.exit(code)


async def _until_terminated(work: Coroutine[Any, Any, int]) -> int:
    """Let SIGTERM end the work as Ctrl-C does, with the list of what goes on without us."""
    this = asyncio.current_task()
    # Not on Windows, and not off the main thread.
    with suppress(NotImplementedError, RuntimeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel if this else sys.exit)
    return await work


@asynccontextmanager
async def _emulated(polling: PollPolicy) -> AsyncGenerator[LemonSession, None]:
    async with (
        Emulator(speed=60) as service,
        LemonSession(service.api_key, base_url=service.base_url, polling=polling) as lemon,
    ):
        yield lemon
