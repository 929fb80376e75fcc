"""The work of `models` and `files`: list, show, upload, download and delete. Nothing here costs money."""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import attrs

from lemon_async import LemonError, LemonSession
from lemon_async.cli.arguments import slug_of
from lemon_async.cli.console import print_error, print_note
from lemon_async.cli.destination import Destination
from lemon_async.cli.runner import SessionOptions, exit_code_of, raise_problems, run_command, worst
from lemon_async.cli.stdout import STDOUT, aligned, json_text, print_line, stdout_problems, write_stdout
from lemon_async.types import Model, Problem, StoredFile

__all__ = ["delete_files", "download_file", "show", "upload_files"]

Work = Callable[[LemonSession], Awaitable[int]]
_ID = re.compile(r"(?!.*\.\.)[!-~]+")


def show(
    fetch: Callable[[LemonSession], Awaitable[Any]], *, as_json: bool, ids: Sequence[str] = (), **session: Any
) -> None:
    """Run a command that lists or shows models or files: fetch them, and print them.

    Args:
        fetch: Returns a sequence of models or files, or one of them.
        as_json: Print a line of JSON for each; one that is not in a list is always printed as JSON.
        ids: The ids that `fetch` asks for.
        **session: The options of the session.
    """

    async def work(lemon: LemonSession) -> int:
        found = await fetch(lemon)
        if not isinstance(found, tuple):
            print_line(json_text(found.raw, is_indented=not as_json))
            return 0
        if not found:
            print_note("the list is empty")
        for line in (json_text(entry.raw) for entry in found) if as_json else aligned([_row(entry) for entry in found]):
            print_line(line)
        return 0

    _run(session, work, problems=_id_problems(ids))


def upload_files(paths: Sequence[str], *, purpose: str, model: str | None, as_json: bool, **session: Any) -> None:
    """Run `files upload`."""

    async def upload(lemon: LemonSession, path: str) -> None:
        stored = await lemon.files.upload(path, purpose=purpose, model=model)
        print_line(json_text(stored.raw) if as_json else stored.id)

    def problems(lemon: LemonSession) -> Iterator[Problem]:
        for path in paths:
            for problem in lemon.files.validate(path, purpose=purpose, model=model):
                yield attrs.evolve(problem, field=path) if problem.field in {"file", "filename"} else problem

    _run(session, partial(_each, paths, upload), check=problems)


def download_file(file: str, *, output: str, **session: Any) -> None:
    """Run `files download`."""

    async def work(lemon: LemonSession) -> int:
        if output == STDOUT:
            await write_stdout(await lemon.files.content(file))
            return 0
        place = Destination.prepare(output, jobs=1)
        name = (slug_of(file) or "file") if place.name is None else place.name
        print_line(await lemon.files.save(file, place.folder / name, replace=place.name is not None))
        return 0

    found = stdout_problems(pictures=1) if output == STDOUT else _folder_problems(output)
    _run(session, work, problems=[*_id_problems([file]), *found])


def delete_files(ids: Sequence[str], **session: Any) -> None:
    """Run `files delete`."""

    async def delete(lemon: LemonSession, file: str) -> None:
        await lemon.files.delete(file)
        print_line(file)

    unique = tuple(dict.fromkeys(ids))
    _run(session, partial(_each, unique, delete), problems=_id_problems(unique))


def _run(
    options: Mapping[str, Any],
    work: Work,
    *,
    problems: Iterable[Problem] = (),
    check: Callable[[LemonSession], Iterable[Problem]] = lambda _: (),
) -> None:
    """Run the work in a session, unless there are problems with the options or those that `check` finds."""
    session = SessionOptions(**options)

    async def checked() -> int:
        raise_problems([*problems, *session.problems()])
        async with session.open() as lemon:
            raise_problems(check(lemon))
            return await work(lemon)

    run_command(checked)


async def _each(names: Sequence[str], act: Callable[[LemonSession, str], Awaitable[None]], lemon: LemonSession) -> int:
    """Process all names in order, even after failures, and return the worst exit code."""
    codes = [0]
    for name in names:
        try:
            await act(lemon, name)
        except LemonError as error:
            print_error(error, name)
            codes.append(exit_code_of(error))
    return worst(codes)


def _id_problems(ids: Sequence[str]) -> Iterator[Problem]:
    """Check ids roughly, before anything is done with the first of several; the library checks each."""
    for word in ids:
        if not _ID.fullmatch(word):
            yield Problem("ID", f"{word!r} cannot be an id: it is not one word of printable ASCII")


def _folder_problems(output: str) -> tuple[Problem, ...]:
    found = Destination.find_problems(output, jobs=1)
    if not found and Destination.parse(output).has_fields:
        return (Problem("-o", f"must be a file or a folder, without fields: {output!r}"),)
    return found


def _row(entry: Model | StoredFile) -> tuple[object, ...]:
    if isinstance(entry, StoredFile):
        time = _time(entry.created_at)
        return entry.id, entry.size_bytes, entry.purpose, time, entry.status, entry.filename or ""
    rank = entry.preference.get("preferred_rank")
    shown_rank = f"#{rank}" if isinstance(rank, int | str) else ""
    return entry.id, entry.owned_by, entry.pricing_unit, ",".join(entry.supported_operations), shown_rank


def _time(unix_s: int | None) -> str | None:
    try:
        return None if unix_s is None else f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):  # a year that no calendar has
        return None
