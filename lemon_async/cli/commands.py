"""Declare every command. Each imports its work when it runs: help, completion and usage errors need none of it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from lemon_async._version import __version__
from lemon_async.cli import options
from lemon_async.cli.batch.commands import batch

__all__ = ["cli"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nTo complete commands, options and values in zsh (in bash: bash_source, in fish: fish_source):\n"
    '  eval "$(_LEMON_ASYNC_COMPLETE=zsh_source lemon-async)"',
)
@click.version_option(__version__)
def cli() -> None:
    """Images from the LemonData API. The key comes from LEMONDATA_API_KEY."""


cli.add_command(batch)


@cli.command()
@options.request_options("generate", "dall-e-3")
def generate(**given: Any) -> None:
    """Generate a picture for each PROMPT and save it.

    Spends money, unless --emulator is given.
    """
    _submit("generate", given)


@cli.command()
@options.image(is_required=True)
@options.mask
@options.request_options("edit", "dall-e-2")
def edit(**given: Any) -> None:
    """Edit the pictures as each PROMPT says, and save the results.

    Every PROMPT starts from the same pictures. Spends money, unless --emulator is given.
    """
    _submit("edit", given)


def _submit(operation: str, given: dict[str, Any]) -> None:
    if not given["prompts"] and given["prompts_file"] is None:
        raise click.UsageError("Missing argument 'PROMPT...', or --prompts FILE.")
    from lemon_async.cli.generate import submit

    submit(operation, **given)


@cli.command(short_help="Wait for tasks and save their pictures.")
@click.argument("words", nargs=-1, required=True, metavar="ID...")
@options.results
@options.connection
@options.pacing
def task(**given: Any) -> None:
    """Wait for each task ID (or resume token) and save its pictures; - reads IDs from stdin.

    ID:INDEX:NAME gives its pictures a number and a name, as an interrupted command prints it. Spends nothing: a task
    was paid for when it was submitted.
    """
    from lemon_async.cli.generate import resume

    resume(**given)


@cli.command()
@click.argument("model", required=False, metavar="[ID]", shell_complete=options.complete_models)
@click.option("--recommended-for", metavar="PURPOSE", help="`image`: the current shortlist, best first.")
@click.option("--category", help="Only models of this category, such as image.")
@click.option("--provider", help="Only models of this provider.")
@click.option("--tag", help="Only models with this tag.")
@options.as_json
@options.emulator
@options.connection
def models(*, model: str | None, **given: Any) -> None:
    """List the models: id, owner, price unit, operations, rank. With an ID, show one model as JSON."""
    filters = {name: given.pop(name) for name in ("recommended_for", "category", "provider", "tag")}
    if model is not None and any(value is not None for value in filters.values()):
        raise click.UsageError("filters are for the list: leave out the ID or the filters")
    from lemon_async.cli.catalog import show

    if model is None:
        show(lambda lemon: lemon.models(**filters), **given)
    else:
        show(lambda lemon: lemon.model(model), ids=[model], **given)


@cli.group()
def files() -> None:
    """Keep pictures at the service, to edit them later. Spends nothing."""


@files.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=options.complete_files)
@click.option("--purpose", default="vision", show_default=True, help="vision or user_data.")
@click.option(
    "-m",
    "--model",
    shell_complete=partial(options.complete_models, operation="edit"),
    help="Model that will edit the files; the service's default is gpt-image-2.",
)
@options.as_json
@options.connection
def upload(paths: Sequence[str], **given: Any) -> None:
    """Upload each PATH and print its id, in the order given."""
    from lemon_async.cli.catalog import upload_files

    upload_files(paths, **given)


@files.command("list")
@click.option("--purpose", help="Only files of this purpose.")
@options.as_json
@options.connection
def list_(purpose: str | None, **given: Any) -> None:
    """List the files: id, bytes, purpose, time (UTC), status, name."""
    from lemon_async.cli.catalog import show

    show(lambda lemon: lemon.files.list(purpose=purpose), **given)


@files.command()
@click.argument("file", metavar="ID")
@options.as_json
@options.connection
def get(file: str, **given: Any) -> None:
    """Show what the service knows of the file ID, as JSON."""
    from lemon_async.cli.catalog import show

    show(lambda lemon: lemon.files.get(file), ids=[file], **given)


@files.command()
@click.argument("file", metavar="ID")
@click.option(
    "-o",
    "output",
    default=".",
    metavar="PATH",
    show_default="this folder",
    shell_complete=options.complete_files,
    help="A file, which is replaced, or a folder. - writes to stdout.",
)
@options.connection
def download(file: str, **given: Any) -> None:
    """Save the file ID and print its path.

    In a folder it is named after its ID: the service's own name for it is never a path.
    """
    from lemon_async.cli.catalog import download_file

    download_file(file, **given)


@files.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@options.connection
def delete(ids: Sequence[str], **given: Any) -> None:
    """Delete each file ID, and print those that are gone."""
    from lemon_async.cli.catalog import delete_files

    delete_files(ids, **given)


@cli.command()
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    show_default=True,
    help="Address to listen on; with 0.0.0.0, other machines can connect, and the page gives them the key.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="NUMBER", show_default="any free one")
@click.option("--speed", type=float, default=1.0, show_default=True, help="60 makes a minute of the service a second.")
@click.option(
    "--rpm", type=click.IntRange(1), metavar="NUMBER", show_default="unlimited", help="Requests per key and minute."
)
@click.option("--balance", type=float, metavar="USD", show_default="unlimited", help="Balance of the account.")
@click.option(
    "--seed",
    type=int,
    default=0,
    metavar="NUMBER",
    show_default=True,
    help="The same number gives the same key, ids, durations and pictures.",
)
@click.option(
    "--faults",
    metavar="FILE",
    shell_complete=options.complete_files,
    help='Faults, as a JSON list: [{"route": "poll", "actions": [{"type": "Status", "status": 502}]}].',
)
@click.option(
    "--ledger",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="Append what is reserved, billed and given back to FILE, as one line of JSON each.",
)
@click.option(
    "--api-key-file",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="Read the key to accept from FILE; by default it is LEMONDATA_API_KEY, or else a new one.",
)
@click.option("--fetch-remote", is_flag=True, help="Fetch pictures from public URLs, as the service does.")
def emulator(**given: Any) -> None:
    """Serve an emulated API on this machine until interrupted, and a page that shows what it does.

    The first lines of output export environment variables for clients: the URL and, if it is new, the key. The address
    of the page is on stderr.
    """
    from lemon_async.cli.emulator import serve

    serve(**given)
