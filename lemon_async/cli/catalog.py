"""The commands about what the service keeps and knows: `models`, `files`. Nothing here costs money."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from lemon_async._api.source_rules import check_upload
from lemon_async._api.urls import path_segment
from lemon_async._uploads.sources import glance_at
from lemon_async.cli import options
from lemon_async.cli.console import complain
from lemon_async.cli.destination import Destination
from lemon_async.cli.jobs import exit_code_of, worst
from lemon_async.cli.runner import Access, go, stop_at
from lemon_async.cli.stdout import STDOUT, aligned, json_text, say, stdout_problems, write_stdout
from lemon_async.errors import LemonError, Problem
from lemon_async.session import LemonSession
from lemon_async.types import Model, StoredFile

__all__ = ["files", "models"]

Kept = TypeVar("Kept", Model, StoredFile)
Work = Callable[[LemonSession], Awaitable[int]]


@click.command()
@click.argument("model", required=False, metavar="[ID]", shell_complete=options.complete_models)
@click.option("--recommended-for", help="`image`: the current shortlist, best first.")
@click.option("--category", help="Only these, for instance image.")
@click.option("--provider", help="Only the models of this provider.")
@click.option("--tag", help="Only models with this tag.")
@options.as_json
@options.emulated
@options.base_url
@options.allow_http
def models(
    *,
    model: str | None,
    as_json: bool,
    is_emulated: bool,
    base_url: str | None,
    allow_http: frozenset[str],
    **filters: str | None,
) -> None:
    """List the models: id, owner, price unit, operations, rank. With an ID, tell all about one, as JSON."""
    if model is not None and any(value is not None for value in filters.values()):
        raise click.UsageError("a filter is for the list, an ID for one model: leave one of them out")

    async def show(lemon: LemonSession) -> int:
        if model is not None:
            say(json_text((await lemon.model(model)).raw, is_indented=not as_json))
        else:
            _list(await lemon.models(**filters), _model_row, as_json=as_json)
        return 0

    access = Access(base_url=base_url, allow_http=allow_http, is_emulated=is_emulated)
    _go(access, show, _id_problems([] if model is None else [model]))


@click.group()
def files() -> None:
    """Keep pictures at the service, so that edits can start from them. Spends nothing."""


@files.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=options.complete_files)
@click.option("--purpose", default="vision", show_default=True, help="What the files are for: vision or user_data.")
@click.option(
    "-m",
    "--model",
    shell_complete=partial(options.complete_models, operation="edit"),
    help="Whose edits will use them; the service's default is gpt-image-2.",
)
@options.as_json
@options.base_url
@options.allow_http
def upload(*, paths: Sequence[str], purpose: str, model: str | None, as_json: bool, **access: Any) -> None:
    """Upload each PATH and print its id, in the order given."""

    async def send(lemon: LemonSession, path: str) -> None:
        stored = await lemon.files.upload(path, purpose=purpose, model=model)
        say(json_text(stored.raw) if as_json else stored.id)

    problems = (problem for path in paths for problem in _upload_problems(path, purpose, model))
    _go(Access(**access), partial(_each, paths, send), problems)


@files.command("list")
@click.option("--purpose", help="Only the files of this purpose.")
@options.as_json
@options.base_url
@options.allow_http
def list_(*, purpose: str | None, as_json: bool, **access: Any) -> None:
    """List the files: id, bytes, purpose, time (UTC), status, name."""

    async def show(lemon: LemonSession) -> int:
        _list(await lemon.files.list(purpose=purpose), _file_row, as_json=as_json)
        return 0

    _go(Access(**access), show)


@files.command()
@click.argument("reference", metavar="ID")
@options.as_json
@options.base_url
@options.allow_http
def get(*, reference: str, as_json: bool, **access: Any) -> None:
    """Tell all about the file ID, as JSON."""

    async def show(lemon: LemonSession) -> int:
        say(json_text((await lemon.files.get(reference)).raw, is_indented=not as_json))
        return 0

    _go(Access(**access), show, _id_problems([reference]))


@files.command()
@click.argument("reference", metavar="ID")
@options.output
@options.base_url
@options.allow_http
def download(*, reference: str, output: str, **access: Any) -> None:
    """Save the file ID and print its path.

    In a folder it is called by its ID: the service's name for it is never a path.
    """

    async def fetch(lemon: LemonSession) -> int:
        destination = None if output == STDOUT else Destination.prepare(output, jobs=1)
        content = await lemon.files.content(reference)
        if destination is None:
            await write_stdout(content)
        else:
            say(await destination.write(content, reference))
        return 0

    place = stdout_problems(pictures=1) if output == STDOUT else Destination.find_problems(output, jobs=1)
    problems = [*_id_problems([reference]), *place]
    _go(Access(**access), fetch, problems)


@files.command()
@click.argument("references", nargs=-1, required=True, metavar="ID...")
@options.base_url
@options.allow_http
def delete(*, references: Sequence[str], **access: Any) -> None:
    """Delete each file ID, and print those that are gone."""

    async def remove(lemon: LemonSession, reference: str) -> None:
        await lemon.files.delete(reference)
        say(reference)

    once = tuple(dict.fromkeys(references))
    _go(Access(**access), partial(_each, once, remove), _id_problems(once))


def _go(access: Access, work: Work, problems: Iterable[Problem] = ()) -> None:
    """Do the work in a session, unless something is wrong with the command."""

    async def checked() -> int:
        stop_at([*problems, *access.problems()])
        async with access.open() as lemon:
            return await work(lemon)

    go(checked)


async def _each(names: Sequence[str], act: Callable[[LemonSession, str], Awaitable[None]], lemon: LemonSession) -> int:
    """Do one after the other, none ended by another's failure; return the code of the worst."""
    codes = [0]
    for name in names:
        try:
            await act(lemon, name)
        except LemonError as error:
            complain(error, name)
            codes.append(exit_code_of(error))
    return worst(codes)


def _id_problems(references: Sequence[str]) -> Iterator[Problem]:
    for reference in references:
        try:
            path_segment(reference)
        except ValueError as fault:
            yield Problem("ID", f"{reference!r} cannot be an id: {fault}")


def _upload_problems(path: str, purpose: str, model: str | None) -> Iterator[Problem]:
    """Call a file by its path: there may be several."""
    facts = glance_at(path, Path(path))
    for problem in check_upload(facts, purpose=purpose, model=model, filename=Path(path).name):
        yield attrs.evolve(problem, field=path) if problem.field == "filename" else problem


def _model_row(model: Model) -> tuple[object, ...]:
    rank = model.preference.get("preferred_rank")
    return (
        model.id,
        model.owned_by,
        model.pricing_unit,
        ",".join(model.supported_operations),
        f"#{rank}" if isinstance(rank, int | str) else "",
    )


def _file_row(file: StoredFile) -> tuple[object, ...]:
    return file.id, file.size_bytes, file.purpose, _time(file.created_at), file.status, file.filename or ""


def _time(unix_s: int | None) -> str | None:
    try:
        return None if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):  # a year that no calendar has
        return None


def _list(found: Sequence[Kept], row: Callable[[Kept], Sequence[object]], *, as_json: bool) -> None:
    lines = (json_text(entry.raw) for entry in found) if as_json else aligned([row(entry) for entry in found])
    for line in lines:
        say(line)
