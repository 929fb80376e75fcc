"""What `lemon-async` can do."""

import asyncio
import logging

import click

from lemon_async._version import __version__
from lemon_async.cli import library, making
from lemon_async.cli.running import go
from lemon_async.cli.telling import Notes
from lemon_async.client.key import KEY_VARIABLE
from lemon_async.client.settings import BASE_URL_VARIABLE
from lemon_async.emulator import Emulator

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
@click.option("--api-key", help="The key to accept; made up by default.")
@click.option("--fetch-remote", is_flag=True, help="Fetch pictures behind public addresses, as the service does.")
def emulator(*, port: int, speed: float, api_key: str | None, fetch_remote: bool) -> None:
    """Serve the API on this machine until interrupted.

    The first two lines of output are what clients need in their environment.
    """

    async def work() -> int:
        async with Emulator(port=port, speed=speed, api_key=api_key, fetch_remote=fetch_remote) as service:
            click.echo(f"{BASE_URL_VARIABLE}={service.base_url}\n{KEY_VARIABLE}={service.api_key}")
            click.echo("serving the emulated API; Ctrl-C ends it, and it forgets its tasks", err=True)
            await asyncio.Event().wait()
        return 0

    go(work)


for _command in (making.generate, making.edit, making.task, library.models, library.files):
    cli.add_command(_command)
