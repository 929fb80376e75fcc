"""What `lemon-async` can do."""

import asyncio
import logging
from os import environ
from pathlib import Path

import click

from lemon_async._http.key import KEY_VARIABLE, ApiKey
from lemon_async._tasks.settings import BASE_URL_VARIABLE
from lemon_async._version import __version__
from lemon_async.cli import catalog as library
from lemon_async.cli import generate as making
from lemon_async.cli import options
from lemon_async.cli.console import Notes
from lemon_async.cli.runner import go, stop_at
from lemon_async.emulator import Emulator
from lemon_async.errors import ContractError, Problem

__all__ = ["cli"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nTo complete commands, options and values in zsh (in bash: bash_source, in fish: fish_source):\n"
    '  eval "$(_LEMON_ASYNC_COMPLETE=zsh_source lemon-async)"',
)
@click.version_option(__version__)
def cli() -> None:
    """Pictures from the LemonData image API; the key comes from LEMONDATA_API_KEY."""
    # What the library warns of, such as another attempt in 8 s, is printed around the progress bar.
    logger = logging.getLogger("lemon_async")
    logger.handlers = [Notes(logging.WARNING)]
    logger.propagate = False


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="any free one")
@click.option("--speed", type=float, default=1.0, show_default=True, help="60 makes a minute of the service a second.")
@click.option(
    "--api-key-file",
    metavar="FILE",
    shell_complete=options.complete_files,
    help=f"FILE holds the key to accept; by default that of {KEY_VARIABLE}, or else a new one.",
)
@click.option("--fetch-remote", is_flag=True, help="Fetch pictures behind public addresses, as the service does.")
def emulator(*, port: int, speed: float, api_key_file: str | None, fetch_remote: bool) -> None:
    """Serve the API on this machine until interrupted.

    The first lines of output are what clients need in their environment: the address and, if it was made up, the key.
    """

    async def work() -> int:
        key = _key_of(api_key_file)
        async with Emulator(port=port, speed=speed, api_key=key, fetch_remote=fetch_remote) as service:
            click.echo(f"{BASE_URL_VARIABLE}={service.base_url}")
            if key is None:
                click.echo(f"{KEY_VARIABLE}={service.api_key}")
            click.echo("serving the emulated API; Ctrl-C ends it, and it forgets its tasks", err=True)
            await asyncio.Event().wait()
        return 0

    go(work)


def _key_of(path: str | None) -> str | None:
    """Return the key that the user wants; `None` if it is to be made up.

    Raises:
        ContractError: There is no key in the file, or it cannot be one.
    """
    if path is None and not environ.get(KEY_VARIABLE):
        return None
    name = KEY_VARIABLE if path is None else "--api-key-file"
    try:
        key = environ[KEY_VARIABLE] if path is None else Path(path).read_text("utf-8").strip()
    except (OSError, ValueError) as refusal:
        raise ContractError.of(name, f"cannot read {path!r}: {refusal}") from None
    if not key:  # the usual message says how to pass a key to a session
        raise ContractError.of(name, f"{path!r} holds no key")
    stop_at(Problem(name, problem.message) for problem in ApiKey(key).problems())
    return key


for _command in (making.generate, making.edit, making.task, library.models, library.files):
    cli.add_command(_command)
