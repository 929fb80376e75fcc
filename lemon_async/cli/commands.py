"""What `lemon-async` can do, and its options."""

import asyncio
import logging
import shlex
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from os import environ
from typing import Any, NoReturn

import click
import orjson

from lemon_async.api.contracts import check
from lemon_async.api.errors import ContractError, LemonError, Problem
from lemon_async.api.models import GenerateRequest
from lemon_async.cli.jobs import Job, Notes, complain, exit_code_of, run
from lemon_async.cli.output import Destination
from lemon_async.client.key import KEY_VARIABLE
from lemon_async.client.session import BASE_URL_VARIABLE, LemonSession
from lemon_async.client.task import ImageTask
from lemon_async.emulator import Emulator
from lemon_async.pace.schedule import PollPolicy

__all__ = ["cli"]

_FIELDS: Mapping[str, tuple[Any, str]] = {
    "n": (int, "Number of images, 1-10."),
    "size": (str, "'auto' or WIDTHxHEIGHT in pixels."),
    "aspect_ratio": (str, "WIDTH:HEIGHT (Gemini, Grok and others)."),
    "resolution": (str, "1k, 2k or 4k (Gemini with resolution, Grok)."),
    "quality": (str, "standard or hd (DALL-E); auto, low, medium or high (GPT Image)."),
    "style": (str, "vivid or natural (DALL-E 3)."),
    "response_format": (str, "url or b64_json: how inline images arrive."),
    "async_": (bool, "Create a task first (gpt-image-2, FLUX)."),
    "background": (str, "auto, transparent or opaque (gpt-image-2)."),
    "output_format": (str, "png, jpeg or webp (gpt-image-2)."),
    "output_compression": (int, "Per cent, 0-100 (gpt-image-2)."),
    "moderation": (str, "auto or low (gpt-image-2)."),
    "partial_images": (int, "Number of previews while streaming (gpt-image-2)."),
    "user": (str, "Your own id of the end user."),
}


def _field_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, (kind, text) in reversed(list(_FIELDS.items())):
        flag = "--" + name.rstrip("_").replace("_", "-")
        command = click.option(flag, name, type=kind, is_flag=kind is bool, default=None, help=text)(command)
    return command


_output = click.option(
    "-o",
    "output",
    default=".",
    show_default="this folder",
    help="A file, or a folder for several pictures; tried before anything is paid.",
)
_base_url = click.option("--base-url", help=f"Origin of the API; by default {BASE_URL_VARIABLE} or the service.")
_deadline = click.option(
    "--deadline", type=float, default=900.0, show_default=True, metavar="SECONDS", help="Longest wait for a task."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lemon-async")
def cli() -> None:
    """Pictures from the LemonData image API; the key comes from LEMONDATA_API_KEY."""
    # What the library warns of, such as another attempt in 8 s, is printed around the progress bar.
    logger = logging.getLogger("lemon_async")
    logger.handlers = [Notes(logging.WARNING)]
    logger.propagate = False


@cli.command()
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@click.option("-m", "--model", help="Model id; the service's default is dall-e-3.")
@_output
@_field_options
@click.option("--extra", multiple=True, metavar="NAME=VALUE", help="A field this version does not know; JSON or text.")
@click.option("--no-check", is_flag=True, help="Send even what the documented rules forbid.")
@click.option("--emulator", "is_emulated", is_flag=True, help="No key, no network, no money, drawn pictures.")
@_base_url
@_deadline
def generate(
    *,
    prompts: Sequence[str],
    output: str,
    extra: Sequence[str],
    no_check: bool,
    is_emulated: bool,
    base_url: str | None,
    deadline: float,
    **fields: Any,
) -> None:
    """Make a picture for each PROMPT and save it.

    Spends money, unless --emulator is given.
    """

    async def work() -> int:
        unknown = dict(map(_name_and_value, extra))
        requests = [GenerateRequest(prompt, extra=unknown, **fields) for prompt in prompts]
        problems = {} if no_check else dict.fromkeys(problem for request in requests for problem in check(request))
        if problems:
            raise ContractError(problems=tuple(problems))
        destination = Destination.prepare(output, jobs=len(requests))
        async with _session(base_url, deadline, is_emulated=is_emulated) as lemon:
            jobs = [Job(r.prompt, partial(lemon.submit, r, check_contracts=False)) for r in requests]
            return await run(lemon, jobs, destination, pick_up="" if is_emulated else _pick_up(base_url, output))

    _go(work)


@cli.command()
@click.argument("reference", metavar="ID")
@_output
@_base_url
@_deadline
def task(*, reference: str, output: str, base_url: str | None, deadline: float) -> None:
    """Wait for the task ID (or resume token) and save its pictures.

    Spends nothing: the task was paid for when it was submitted.
    """

    async def work() -> int:
        destination = Destination.prepare(output, jobs=1)
        async with _session(base_url, deadline, is_emulated=False) as lemon:

            async def resume() -> ImageTask:
                return lemon.task(reference)

            return await run(lemon, [Job("", resume)], destination, pick_up=_pick_up(base_url, output))

    _go(work)


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="any free one")
@click.option("--speed", type=float, default=1.0, show_default=True, help="60 makes a minute of the service a second.")
@click.option("--api-key", help="The key to accept; made up by default.")
def emulator(*, port: int, speed: float, api_key: str | None) -> None:
    """Serve the API on this machine until interrupted.

    The first two lines of output are what clients need in their environment.
    """

    async def work() -> int:
        async with Emulator(port=port, speed=speed, api_key=api_key) as service:
            click.echo(f"{BASE_URL_VARIABLE}={service.base_url}\n{KEY_VARIABLE}={service.api_key}")
            click.echo("serving the emulated API; Ctrl-C ends it, and it forgets its tasks", err=True)
            await asyncio.Event().wait()
        return 0

    _go(work)


def _go(work: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    try:
        code = asyncio.run(_until_terminated(work))
    except KeyboardInterrupt:
        code = 130
    except asyncio.CancelledError:
        code = 143
    except (LemonError, ImportError, OSError, ValueError) as error:
        complain(error)
        code = exit_code_of(error)
    sys.exit(code)


async def _until_terminated(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Let SIGTERM end the work as Ctrl-C does, with the list of what goes on without us."""
    this = asyncio.current_task()
    # Not on Windows, and not off the main thread.
    with suppress(NotImplementedError, RuntimeError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel if this else sys.exit)
    return await work()


@asynccontextmanager
async def _session(base_url: str | None, deadline_s: float, *, is_emulated: bool) -> AsyncGenerator[LemonSession, None]:
    if is_emulated:
        polling = PollPolicy(min_gap_s=0.1, max_gap_s=0.5, deadline_s=deadline_s)
        async with (
            Emulator(speed=60) as service,
            LemonSession(service.api_key, base_url=service.base_url, polling=polling) as lemon,
        ):
            yield lemon
    elif not environ.get(KEY_VARIABLE):
        advice = f"is missing: set {KEY_VARIABLE}; `lemon-async generate --emulator` works without"
        raise ContractError(problems=(Problem("API key", advice),))
    else:
        async with LemonSession(base_url=base_url, polling=PollPolicy(deadline_s=deadline_s)) as lemon:
            yield lemon


def _pick_up(base_url: str | None, output: str) -> str:
    words = ["lemon-async", "task", *(["--base-url", base_url] if base_url else []), "-o", output]
    return shlex.join(words)


def _name_and_value(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not name or not equals:
        raise ContractError(problems=(Problem("--extra", f"must be NAME=VALUE, not {pair!r}"),))
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value
