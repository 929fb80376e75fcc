"""The work of `emulator`: serve an emulated API until interrupted."""

import asyncio
import math
import socket
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from os import environ
from pathlib import Path
from typing import Any

import attrs
import click

from lemon_async import LemonSession
from lemon_async._web.host_header import is_loopback
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE, problems_of, raise_problems, run_command
from lemon_async.emulator import Emulator, Fault, InvalidFaults, parse_faults
from lemon_async.errors import ContractError
from lemon_async.types import Problem

__all__ = ["serve"]


@attrs.frozen(kw_only=True)
class ServeOptions:
    """The options of `emulator`; `rpm` is a number of requests per minute, `balance` one of US dollars."""

    host: str
    port: int
    speed: float
    rpm: int | None
    balance: float | None
    seed: int
    faults: str | None
    ledger: str | None
    api_key_file: str | None
    fetch_remote: bool

    def make(self) -> tuple[Emulator, bool]:
        """Return the emulator, and whether its key is the user's own; nothing is started.

        Raises:
            ContractError: With everything that is wrong with the options.
        """
        keys: list[str | None] = []
        faults: list[Fault] = []
        found = list(self._problems())
        # Each file is read once: it may be a pipe.
        found += problems_of(lambda: keys.append(_read_key(self.api_key_file)))
        found += problems_of(lambda: faults.extend(_read_faults(self.faults)))
        found += problems_of(lambda: _check_ledger(self.ledger))
        if found:
            raise ContractError(problems=tuple(found), undone="started")
        service = Emulator(
            host=self.host,
            port=self.port,
            speed=self.speed,
            requests_per_minute=self.rpm,
            balance_usd=self.balance,
            seed=self.seed,
            api_key=keys[0],
            fetch_remote=self.fetch_remote,
            ledger_file=self.ledger,
            studio=True,
        )
        service.faults.extend(faults)
        return service, keys[0] is not None

    def _problems(self) -> Iterator[Problem]:
        if not 0 < self.speed < math.inf:
            yield Problem("--speed", f"must be a number above 0, not {self.speed}")
        if not self.host:
            yield Problem("--host", "must be an address or a name; 0.0.0.0 is every address of this machine")
        if self.balance is not None and not 0 <= self.balance < math.inf:
            yield Problem("--balance", f"must be an amount of US dollars, not {self.balance}")


def serve(**given: Any) -> None:
    """Run `emulator`."""

    async def work(service: Emulator, *, is_own_key: bool) -> int:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(service)
            except OSError as fault:
                raise _not_listening(given["host"], given["port"], fault) from None
            click.echo(f"export {BASE_URL_VARIABLE}={service.base_url}")
            if not is_own_key:
                click.echo(f"export {KEY_VARIABLE}={service.api_key}")
            click.echo(f"the studio is at {service.base_url}/", err=True)
            if not is_loopback(given["host"]):
                click.echo("other machines can connect: whoever opens the studio there has the key", err=True)
            click.echo("serving the emulated API; Ctrl-C ends it and drops its tasks", err=True)
            await asyncio.Event().wait()
        return 0

    def begin() -> Coroutine[Any, Any, int]:
        # Before there is an event loop: a file may be a pipe without a writer, and Ctrl-C would not end the waiting.
        service, is_own_key = ServeOptions(**given).make()
        return work(service, is_own_key=is_own_key)

    run_command(begin)


def _not_listening(host: str, port: int, fault: OSError) -> Exception:
    """Return the error of an emulator that could not start."""
    if fault.filename is not None:  # the file of the ledger has gone since it was checked
        return fault
    option = "--host" if isinstance(fault, socket.gaierror) else "--port"
    return ContractError.of(option, f"cannot listen on {host}:{port}: {fault.strerror or fault}", undone="started")


def _check_ledger(path: str | None) -> None:
    """Check that lines can be appended to the file.

    Raises:
        ContractError: They cannot.
    """
    if path is None:
        return
    try:
        if not Path(path).is_fifo():  # opening one waits for its reader, and closing it sends that away
            with Path(path).open("ab"):
                pass
    except (OSError, ValueError) as error:
        raise ContractError.of("--ledger", f"cannot write {path!r}: {error}") from None


def _read_faults(path: str | None) -> list[Fault]:
    """Return the faults in a file.

    Raises:
        ContractError: It cannot be read, or faults are wrong.
    """
    if path is None:
        return []
    try:
        return parse_faults(Path(path).read_bytes())
    except InvalidFaults as error:
        raise ContractError(problems=tuple(Problem("--faults", problem) for problem in error.problems)) from None
    except (OSError, ValueError) as error:
        raise ContractError.of("--faults", f"cannot read {path!r}: {error}") from None


def _read_key(path: str | None) -> str | None:
    """Return the key that the user chose; `None` if the emulator is to make one.

    Raises:
        ContractError: There is no key in the file, or it cannot be one.
    """
    if path is None and not environ.get(KEY_VARIABLE):
        return None
    name = KEY_VARIABLE if path is None else "--api-key-file"
    try:
        key = environ[KEY_VARIABLE] if path is None else Path(path).read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ContractError.of(name, f"cannot read {path!r}: {error}") from None
    if not key:  # the library's message says how to pass a key to a session
        raise ContractError.of(name, f"{path!r} holds no key")
    problems = problems_of(lambda: LemonSession(key, base_url="https://localhost"))
    raise_problems(Problem(name, problem.message) for problem in problems)
    return key
