"""The commands that make pictures, and the one that picks up what was left: `generate`, `edit`, `task`."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import attrs
import click
import orjson

from lemon_async.api.contracts import check, removed_fields
from lemon_async.api.errors import Problem
from lemon_async.api.requests import EditRequest, GenerateRequest
from lemon_async.api.sources import unreadable
from lemon_async.cli import options
from lemon_async.cli.jobs import Job, note, run
from lemon_async.cli.output import Destination
from lemon_async.cli.running import Access, go, stop_at
from lemon_async.client.preparation import look
from lemon_async.client.task import ImageTask

__all__ = ["edit", "generate", "task"]

Making = GenerateRequest | EditRequest


@click.command()
@options.making_options(GenerateRequest)
def generate(**given: Any) -> None:
    """Make a picture for each PROMPT and save it.

    Spends money, unless --emulator is given.
    """
    go(partial(_make, GenerateRequest, **given))


@click.command()
@click.option(
    "-i",
    "--image",
    multiple=True,
    required=True,
    metavar="IMAGE",
    help="A picture to start from, again for more: a file, an address, or the id of an uploaded file "
    "(./file-x is a file of that name).",
)
@click.option(
    "--mask", metavar="FILE", help="A PNG as large as the first picture, transparent where that is to be edited."
)
@options.making_options(EditRequest)
def edit(**given: Any) -> None:
    """Edit the pictures as each PROMPT says, and save the results.

    Every PROMPT starts from the same pictures. Spends money, unless --emulator is given.
    """
    go(partial(_make, EditRequest, **given))


@click.command()
@click.argument("reference", metavar="ID")
@options.output
@options.base_url
@options.deadline
def task(*, reference: str, output: str, base_url: str | None, deadline: float) -> None:
    """Wait for the task ID (or resume token) and save its pictures.

    Spends nothing: the task was paid for when it was submitted.
    """
    access = Access(base_url=base_url, deadline_s=deadline)

    async def work() -> int:
        stop_at([*Destination.find_problems(output, jobs=1), *access.problems()])
        destination = Destination.prepare(output, jobs=1)
        async with access.open() as lemon:

            async def resume() -> ImageTask:
                return lemon.task(reference)

            return await run(lemon, [Job("", resume)], destination, pick_up=access.pick_up(output))

    go(work)


async def _make(
    kind: type[Making],
    *,
    prompts: Sequence[str],
    output: str,
    extra: Sequence[str],
    no_check: bool,
    is_emulated: bool,
    base_url: str | None,
    deadline: float,
    **fields: Any,
) -> int:
    """Make and save pictures; everything that is wrong with the command is told before anything is sent."""
    access = Access(base_url=base_url, deadline_s=deadline, is_emulated=is_emulated)
    pairs = [pair.partition("=") for pair in extra]
    unknown = {name: _value(value) for name, equals, value in pairs if name and equals}
    requests = [kind(prompt, extra=unknown, **fields) for prompt in prompts]
    stop_at(
        [
            *_pair_problems(extra),
            *_request_problems(requests, is_checked=not no_check),
            *Destination.find_problems(output, jobs=len(requests)),
            *access.problems(),
        ]
    )
    destination = Destination.prepare(output, jobs=len(requests))
    sendable = _without_removed(requests)
    async with access.open() as lemon:
        jobs = [Job(r.prompt, partial(lemon.submit, r, check_contracts=not no_check)) for r in sendable]
        return await run(lemon, jobs, destination, pick_up=access.pick_up(output))


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
    looked = look(requests[0])
    for request in requests:
        yield from check(request, looked) if is_checked else unreadable(looked)


def _without_removed(requests: Sequence[Making]) -> list[Making]:
    """Leave out what the gateway would remove, and say so once; the library would with a warning to programmers."""
    removed: dict[str, Any] = dict.fromkeys(removed_fields(requests[0]))
    if removed:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in removed)
        note(f"{names} is not sent: the service would remove it for {requests[0].model}")
    return [attrs.evolve(request, **removed) for request in requests]
