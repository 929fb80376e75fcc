"""The commands that make pictures, and the one that picks up what was left: `generate`, `edit`, `task`."""

from collections.abc import Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import click
import orjson

from lemon_async._api.source_rules import unreadable
from lemon_async._api.validation import check
from lemon_async._tasks.resume_token import parse_reference
from lemon_async._tasks.task import ImageTask
from lemon_async._uploads.preparation import glance_at_sources
from lemon_async.cli import options
from lemon_async.cli.jobs import Job, run
from lemon_async.cli.outputs import Delivery, Wishes
from lemon_async.cli.prompts import STDIN, read_lines
from lemon_async.cli.references import Reference
from lemon_async.cli.runner import Access, go, problems_of, stop_at
from lemon_async.errors import Problem
from lemon_async.requests import EditRequest, GenerateRequest
from lemon_async.session import LemonSession

__all__ = ["edit", "generate", "task"]

Making = GenerateRequest | EditRequest
Options = TypeVar("Options", Access, Wishes)


@click.command()
@options.making_options(GenerateRequest)
def generate(**given: Any) -> None:
    """Make a picture for each PROMPT and save it.

    Spends money, unless --emulator is given.
    """
    _go(GenerateRequest, **given)


@click.command()
@click.option(
    "-i",
    "--image",
    multiple=True,
    required=True,
    metavar="IMAGE",
    shell_complete=options.complete_files,
    help="A picture to start from, again for more: a file, an address, or the id of an uploaded file "
    "(./file-x is a file of that name).",
)
@click.option(
    "--mask",
    metavar="FILE",
    shell_complete=options.complete_files,
    help="A PNG as large as the first picture, transparent where that is to be edited.",
)
@options.making_options(EditRequest)
def edit(**given: Any) -> None:
    """Edit the pictures as each PROMPT says, and save the results.

    Every PROMPT starts from the same pictures. Spends money, unless --emulator is given.
    """
    _go(EditRequest, **given)


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="ID...")
@options.results
@options.base_url
@options.allow_http
@options.pacing
def task(*, words: Sequence[str], **given: Any) -> None:
    """Wait for each task ID (or resume token) and save its pictures; - reads more of them from stdin.

    ID:INDEX:NAME gives its pictures the number and the name that they were to have: an interrupted command prints
    its tasks so. Spends nothing: a task was paid for when it was submitted.
    """
    access, wishes = _taken(Access, given), _taken(Wishes, given)

    def work() -> Coroutine[Any, Any, int]:
        read, problems = read_lines(STDIN if STDIN in words else None, option="ID", noun="task")
        once = dict.fromkeys(word for word in (*words, *read) if word != STDIN)
        return _pick_up(access, wishes, [Reference.parse(word) for word in once], problems)

    go(work)


async def _pick_up(access: Access, wishes: Wishes, references: Sequence[Reference], problems: Sequence[Problem]) -> int:
    """Save the pictures of tasks; everything that is wrong with the command is reported before anything is sent."""
    wrong = (
        Problem(f"task {reference.task!r}", problem.message)
        for reference in references
        for problem in problems_of(partial(parse_reference, reference.task))
    )
    number = len(references)
    stop_at((*problems, *wrong, *wishes.find_problems(jobs=number, pictures=number), *access.problems()))
    delivery = Delivery.prepare(wishes, jobs=number, pick_up=access.pick_up(wishes.output))
    async with access.open() as lemon:

        async def resume(reference: str) -> ImageTask:
            return lemon.task(reference)

        jobs = [
            Job(reference.name, partial(resume, reference.task), place if reference.index is None else reference.index)
            for place, reference in enumerate(references)
        ]
        return await run(lemon, jobs, delivery, in_flight=number, has_bar=not wishes.is_quiet)


def _go(kind: type[Making], *, prompts: Sequence[str], prompts_file: str | None, **given: Any) -> None:
    if not prompts and prompts_file is None:
        raise click.UsageError("Missing argument 'PROMPT...', or --prompts FILE.")
    access, wishes = _taken(Access, given), _taken(Wishes, given)

    def work() -> Coroutine[Any, Any, int]:
        # Before there is an event loop, whose Ctrl-C would not end the reading.
        read, problems = read_lines(prompts_file, option="--prompts", noun="prompt")
        return _make(kind, access, wishes, prompts=(*prompts, *read), problems=problems, **given)

    go(work)


async def _make(
    kind: type[Making],
    access: Access,
    wishes: Wishes,
    *,
    prompts: Sequence[str],
    problems: Sequence[Problem],
    extra: Sequence[str],
    no_check: bool,
    in_flight: int,
    **fields: Any,
) -> int:
    """Make and save pictures; everything that is wrong with the command is told before anything is sent."""
    pairs = [pair.partition("=") for pair in extra]
    unknown = {name: _value(value) for name, equals, value in pairs if name and equals}
    # Without a prompt there is a problem already; what else is wrong is told beside it.
    requests = [kind(prompt, extra=unknown, **fields) for prompt in prompts or ("none",)]
    stop_at(
        [
            *problems,
            *_pair_problems(extra),
            *_request_problems(requests, is_checked=not no_check),
            *wishes.find_problems(jobs=len(requests), pictures=sum(request.n or 1 for request in requests)),
            *access.problems(),
        ]
    )
    delivery = Delivery.prepare(wishes, jobs=len(requests), pick_up=access.pick_up(wishes.output))
    async with access.open() as lemon:
        jobs = [_job(lemon, place, request, is_checked=not no_check) for place, request in enumerate(requests)]
        return await run(lemon, jobs, delivery, in_flight=in_flight, has_bar=not wishes.is_quiet)


def _taken(kind: type[Options], given: dict[str, Any]) -> Options:
    """Take the options that a class has fields for."""
    return kind(**{name: given.pop(name) for name in attrs.fields_dict(kind) if name in given})


def _job(lemon: LemonSession, place: int, request: Making, *, is_checked: bool) -> Job:
    """Number the pictures of all jobs in the order of the prompts, whichever ends first."""
    start = partial(lemon.submit, request, check_contracts=is_checked)
    return Job(request.prompt, start, place * max(1, request.n or 1), request)


def _pair_problems(extra: Sequence[str]) -> Iterator[Problem]:
    for pair in extra:
        if pair.find("=") < 1:
            yield Problem("--extra", f"must be NAME=VALUE, not {pair!r}")


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _request_problems(requests: Sequence[Making], *, is_checked: bool) -> Iterator[Problem]:
    """All requests start from the same pictures, which are looked at once."""
    looked = glance_at_sources(requests[0])
    for request in requests:
        yield from check(request, looked) if is_checked else unreadable(looked)
