"""Options that commands share, and those that the fields of a request become."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar, get_type_hints

import click
from click.shell_completion import CompletionItem

from lemon_async._api.families import FAMILIES, families_with, family_of
from lemon_async._api.field_rules import RULES
from lemon_async._tasks.settings import BASE_URL_VARIABLE
from lemon_async.requests import EditFields, EditRequest, GenerateFields, GenerateRequest

__all__ = [
    "allow_http",
    "as_json",
    "base_url",
    "complete_files",
    "complete_models",
    "emulated",
    "field_help",
    "making_options",
    "output",
    "pacing",
    "results",
]

C = TypeVar("C", bound=Callable[..., Any])
_FIELDS: dict[type[Any], type[Any]] = {GenerateRequest: GenerateFields, EditRequest: EditFields}
# What the name of an option and its values leave open.
_MEANINGS = {
    "n": "Number of images",
    "response_format": "How inline images arrive",
    "async_": "Create a task first",
    "output_compression": "Per cent",
    "compression": "The service's other name of --output-compression",
    "partial_images": "Number of previews for those who stream",
    "user": "Your own id of the end user",
}

Decorator = Callable[[Any], Any]


def complete_files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Let the shell complete the name of a file."""
    return [CompletionItem(incomplete, type="file")]


def complete_models(
    _: click.Context, __: click.Parameter, incomplete: str, *, operation: str = "generate"
) -> list[str]:
    """Complete the ids of the models that are documented for an operation."""
    ids = (id_ for family in FAMILIES if operation in family.operations for id_ in family.ids)
    return [id_ for id_ in ids if id_.startswith(incomplete) and not id_.endswith("*")]


output: Decorator = click.option(
    "-o",
    "output",
    default=".",
    metavar="PATH",
    show_default="this folder",
    shell_complete=complete_files,
    help="A file, a folder for pictures under free names, or a template of names such as 'out/{index:03}-{slug}' "
    "(also model, task_id, created, format, width, height; the suffix comes from the bytes); "
    "tried before anything is sent. - writes one picture to stdout.",
)
base_url: Decorator = click.option(
    "--base-url", help=f"URL of the API, the part before /v1; by default {BASE_URL_VARIABLE} or the service."
)
allow_http: Decorator = click.option(
    "--allow-http",
    metavar="HOST",
    multiple=True,
    callback=lambda _context, _option, hosts: frozenset(hosts),
    help="Permit http without encryption to this host, or host and port, in --base-url and in links; repeatable.",
)
# How a session is used; see `running.Access`.
_PACING: tuple[Decorator, ...] = (
    click.option(
        "--requests-per-minute",
        type=click.IntRange(1),
        metavar="NUMBER",
        help="What the account allows, for all requests together; learned by default.",
    ),
    click.option("--poll-min-gap", "min_gap_s", type=float, metavar="SECONDS", help="No task is polled more often."),
    click.option("--poll-max-gap", "max_gap_s", type=float, metavar="SECONDS", help="No task is polled less often."),
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
emulated: Decorator = click.option(
    "--emulator", "is_emulated", is_flag=True, help="No key, no network, no money, drawn pictures."
)
as_json: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="One line of JSON each, as the service sent it."
)
_RESULTS: tuple[Decorator, ...] = (
    output,
    click.option(
        "--sheet",
        metavar="FILE.html",
        shell_complete=complete_files,
        help="Write a page that shows all pictures and failures with their facts, at the end.",
    ),
    click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="One line of JSON for each picture or failure as it ends, instead of the path.",
    ),
    click.option("--no-progress", "is_quiet", is_flag=True, help="No bar on the terminal."),
)


def results(command: C) -> C:
    """Give a command the options that say what becomes of its results; see `delivery.Wishes`."""
    return _decorated(command, _RESULTS)


def pacing(command: C) -> C:
    """Give a command the options that say how fast requests and polls go; see `running.Access`."""
    return _decorated(command, _PACING)


def _decorated(command: C, decorators: Sequence[Decorator]) -> C:
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def field_help(name: str, operation: str) -> str:
    """Return which values a field takes, and in which families that do the operation."""
    able = [family for family in FAMILIES if operation in family.operations]
    takers = [family for family in families_with(name) if operation in family.operations]
    rule = RULES[name].words.removeprefix("one of ")
    values: dict[str, list[str]] = {}
    for family in takers:
        values.setdefault(", ".join(family.values.get(name, ())) or rule, []).append(family.name)
    is_everywhere = len(values) == 1 and len(takers) == len(able)
    parts = sorted(text if is_everywhere else _with_names(text, names) for text, names in values.items())
    return "; ".join(parts)


def making_options(kind: type[Any]) -> Callable[[C], C]:
    """Return a decorator: what commands have in common that make pictures, and every field of the kind of request."""
    shared = (
        click.argument("prompts", nargs=-1, metavar="[PROMPT]..."),
        click.option(
            "-m",
            "--model",
            shell_complete=partial(complete_models, operation=kind.operation),
            help=f"Model id; the service's default is {kind.default_model}.",
        ),
        click.option(
            "--prompts",
            "prompts_file",
            metavar="FILE",
            shell_complete=complete_files,
            help="A prompt in each line of FILE, too; - for stdin.",
        ),
        *_RESULTS,
        *(_field_option(kind, name) for name in _names(kind)),
        click.option("--extra", multiple=True, metavar="NAME=VALUE", help="A field not listed here; JSON or text."),
        click.option("--no-check", is_flag=True, help="Send even what the documented rules forbid."),
        emulated,
        base_url,
        allow_http,
        *_PACING,
        click.option(
            "--in-flight", type=click.IntRange(1), default=100, show_default=True, help="Number of jobs out at once."
        ),
    )
    return lambda command: _decorated(command, shared)


def _names(kind: type[Any]) -> list[str]:
    """Fields with an option of their own, in the order of the rules."""
    hints = get_type_hints(_FIELDS[kind])
    return [name for name in RULES if name in hints and name != "model"]


def _field_option(kind: type[Any], name: str) -> Callable[[C], C]:
    flag = "--" + name.rstrip("_").replace("_", "-")
    hint = get_type_hints(_FIELDS[kind])[name]
    is_flag = hint is bool
    words = field_help(name, kind.operation)
    meaning = _MEANINGS.get(name)
    if meaning:
        # A flag has no values to tell: only in which families it is.
        words = meaning + words[words.index(" (") :] if is_flag else f"{meaning}: {words}"
    return click.option(
        flag,
        name,
        type=hint if hint in {bool, int} else str,
        is_flag=is_flag,
        default=None,
        shell_complete=None if is_flag else partial(_complete_values, name=name, operation=kind.operation),
        help=f"{words}.",
    )


def _complete_values(
    ctx: click.Context, _: click.Parameter, incomplete: str, *, name: str, operation: str
) -> list[str]:
    """Complete a field whose values are a closed list: that of the model, or else that of every family."""
    family = family_of(ctx.params.get("model"))
    families = [family] if family else [family for family in FAMILIES if operation in family.operations]
    values = (family.values.get(name, RULES[name].values) for family in families if name in family.fields)
    return [value for value in dict.fromkeys(chain.from_iterable(values)) if value.startswith(incomplete)]


def _with_names(text: str, names: list[str]) -> str:
    return f"{text} ({', '.join(sorted(names))})" if names else text
