"""The work of `emulator`: serve an emulated API until interrupted."""

import asyncio
from os import environ
from pathlib import Path

import click

from lemon_async import LemonSession
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE, problems_of, raise_problems, run_command
from lemon_async.emulator import Emulator
from lemon_async.errors import ContractError
from lemon_async.types import Problem

__all__ = ["serve"]


def serve(*, port: int, speed: float, api_key_file: str | None, fetch_remote: bool) -> None:
    """Run `emulator`."""

    async def work() -> int:
        try:
            if not speed > 0:
                raise ContractError.of("--speed", f"must be above 0, not {speed}")
            key = _read_key(api_key_file)
        except ContractError as error:
            raise ContractError(problems=error.problems, undone="started") from None
        async with Emulator(port=port, speed=speed, api_key=key, fetch_remote=fetch_remote) as service:
            click.echo(f"export {BASE_URL_VARIABLE}={service.base_url}")
            if key is None:
                click.echo(f"export {KEY_VARIABLE}={service.api_key}")
            click.echo("serving the emulated API; Ctrl-C ends it and drops its tasks", err=True)
            await asyncio.Event().wait()
        return 0

    run_command(work)


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
