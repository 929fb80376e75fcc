"""Options that commands share, and those that the fields of a request become."""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import click
from click.shell_completion import CompletionItem

from lemon_async.cli.fields import Field, complete_value, fields_of, models_for

__all__ = [
    "as_json", "complete_files", "complete_models", "connection", "emulator", "field_options", "image", "in_flight",
    "mask", "no_progress", "output", "pacing", "request_options", "results", "sheet",
]  # fmt: skip

Decorator = Callable[[Any], Any]


def _together(*decorators: Decorator) -> Decorator:
    """Return one decorator that gives a command several options, in this order."""
    return lambda command: reduce(lambda given, decorate: decorate(given), reversed(decorators), command)


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Let the shell complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def complete_models(
    _: click.Context, __: click.Parameter, incomplete: str, *, operation: str = "generate"
) -> list[str]:
    """Complete the ids of the models that are documented for an operation."""
    return [model for model in models_for(operation) if model.startswith(incomplete)]


output: Decorator = click.option(
    "-o",
    "output",
    default=".",
    metavar="PATH",
    show_default="this folder",
    shell_complete=complete_files,
    help="A file, a folder, or a template of names such as 'out/{index:03}-{slug}' (also model, task_id, created, "
    "format, width, height; the suffix comes from the bytes). Only a file is replaced. - writes one picture to stdout.",
)
connection: Decorator = _together(
    click.option(
        "--base-url", metavar="URL", help="The API's URL, without /v1; by default LEMONDATA_BASE_URL, or the service."
    ),
    click.option(
        "--allow-http",
        metavar="HOST",
        multiple=True,
        callback=lambda _context, _option, hosts: frozenset(hosts),
        help="Allow unencrypted http to this host, or host:port, in --base-url and in links; repeatable.",
    ),
)
mask: Decorator = click.option(
    "--mask",
    metavar="FILE",
    shell_complete=complete_files,
    help="A PNG as large as the first picture, fully transparent where it is to be edited.",
)
emulator: Decorator = click.option(
    "--emulator", "is_emulated", is_flag=True, help="Use a built-in emulator: no key, no network, no money."
)
as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print the service's JSON, one line each.")
# They become `runner.SessionOptions`.
pacing: Decorator = _together(
    click.option(
        "--requests-per-minute",
        type=click.IntRange(1),
        metavar="NUMBER",
        help="Rate limit of the account, for all requests together; learned by default.",
    ),
    click.option(
        "--shared-limit",
        envvar="LEMONDATA_SHARED_LIMIT",
        metavar="URL",
        help="Share the rate limit with other processes, through a redis:// or postgresql:// server.",
    ),
    click.option("--poll-min-gap", "min_gap_s", type=float, metavar="SECONDS", help="Shortest time between two polls."),
    click.option("--poll-max-gap", "max_gap_s", type=float, metavar="SECONDS", help="Longest time between two polls."),
    click.option(
        "--deadline",
        "deadline_s",
        type=float,
        default=900.0,
        show_default=True,
        metavar="SECONDS",
        help="Longest wait for a task.",
    ),
)
sheet: Decorator = click.option(
    "--sheet",
    metavar="FILE.html",
    shell_complete=complete_files,
    help="Finally write a page that shows all pictures and failures.",
)
no_progress: Decorator = click.option("--no-progress", "is_quiet", is_flag=True, help="Show no progress bar.")
# They become `outputs.OutputOptions`.
results: Decorator = _together(
    output,
    sheet,
    click.option(
        "--json", "as_json", is_flag=True, help="Print a line of JSON for each picture or failure instead of paths."
    ),
    no_progress,
)
in_flight: Decorator = click.option(
    "--in-flight",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    metavar="NUMBER",
    help="Maximum number of concurrent jobs.",
)


def image(*, is_required: bool) -> Decorator:
    """Return the option for the pictures to edit."""
    return click.option(
        "-i",
        "--image",
        multiple=True,
        required=is_required,
        metavar="IMAGE",
        shell_complete=complete_files,
        help="A picture to edit: a file, a URL, or the id of an uploaded file (./file-x is a file of that name); "
        "repeatable.",
    )


def request_options(operation: str, default_model: str) -> Decorator:
    """Return a decorator that gives a command the prompts, fields and options of a paid operation."""
    return _together(
        click.argument("prompts", nargs=-1, metavar="[PROMPT]..."),
        click.option(
            "-m",
            "--model",
            shell_complete=partial(complete_models, operation=operation),
            help=f"Model id; the service's default is {default_model}.",
        ),
        click.option(
            "--prompts",
            "prompts_file",
            metavar="FILE",
            shell_complete=complete_files,
            help="Read more prompts from FILE, one on each line; - reads stdin.",
        ),
        results,
        field_options(operation),
        emulator,
        connection,
        pacing,
        in_flight,
    )


def field_options(operation: str) -> Decorator:
    """Return a decorator that gives a command the fields of an operation but those that only it has."""
    return _together(
        *(_field_option(field, operation) for field in fields_of(operation)),
        click.option(
            "--extra", multiple=True, metavar="NAME=VALUE", help="A field not listed here, as JSON or text; repeatable."
        ),
        click.option("--no-check", is_flag=True, help="Also send requests that break the documented rules."),
    )


def _field_option(field: Field, operation: str) -> Decorator:
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        model = context.params.get("model")
        values = complete_value(field, model[-1] if isinstance(model, tuple) and model else model or None, operation)
        return [value for value in values if value.startswith(incomplete)]

    is_flag = field.kind is bool
    return click.option(
        field.flag,
        field.name,
        type=field.kind,
        is_flag=is_flag,
        default=None,
        shell_complete=None if is_flag else complete,
        help=field.full_help(operation),
    )
