"""Options that commands share, and those that the fields of a request become."""

from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

import click

from lemon_async.api.families import FAMILIES, families_with
from lemon_async.api.fields import RULES
from lemon_async.api.requests import EditFields, EditRequest, GenerateFields, GenerateRequest
from lemon_async.client.settings import BASE_URL_VARIABLE

__all__ = ["as_json", "base_url", "deadline", "emulated", "field_help", "making_options", "output"]

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

output: Decorator = click.option(
    "-o",
    "output",
    default=".",
    metavar="PATH",
    show_default="this folder",
    help="A file, or a folder for pictures under free names; tried before anything is sent.",
)
base_url: Decorator = click.option(
    "--base-url", help=f"Origin of the API; by default {BASE_URL_VARIABLE} or the service."
)
deadline: Decorator = click.option(
    "--deadline", type=float, default=900.0, show_default=True, metavar="SECONDS", help="Longest wait for a task."
)
emulated: Decorator = click.option(
    "--emulator", "is_emulated", is_flag=True, help="No key, no network, no money, drawn pictures."
)
as_json: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="One line of JSON each, as the service sent it."
)


def field_help(name: str, operation: str) -> str:
    """Return which values a field takes, and in which families that do the operation."""
    able = [family for family in FAMILIES if operation in family.operations]
    takers = [family for family in families_with(name) if operation in family.operations]
    rule = RULES[name].words.removeprefix("one of ")
    values: dict[str, list[str]] = {} if takers else {f"{rule} (no documented family)": []}
    for family in takers:
        values.setdefault(", ".join(family.values.get(name, ())) or rule, []).append(family.name)
    is_everywhere = len(values) == 1 and len(takers) == len(able)
    parts = sorted(text if is_everywhere else _with_names(text, names) for text, names in values.items())
    parts += [f"not sent to {family.name}: the service would remove it" for family in able if name in family.removed]
    return "; ".join(parts)


def making_options(kind: type[Any]) -> Callable[[C], C]:
    """Return a decorator: what commands have in common that make pictures, and every field of the kind of request."""
    shared = (
        click.argument("prompts", nargs=-1, required=True, metavar="PROMPT..."),
        click.option("-m", "--model", help=f"Model id; the service's default is {kind.default_model}."),
        output,
        *(_field_option(kind, name) for name in _names(kind)),
        click.option("--extra", multiple=True, metavar="NAME=VALUE", help="A field not listed here; JSON or text."),
        click.option("--no-check", is_flag=True, help="Send even what the documented rules forbid."),
        emulated,
        base_url,
        deadline,
    )

    def decorate(command: C) -> C:
        for option in reversed(shared):
            command = option(command)
        return command

    return decorate


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
        flag, name, type=hint if hint in {bool, int} else str, is_flag=is_flag, default=None, help=f"{words}."
    )


def _with_names(text: str, names: list[str]) -> str:
    return f"{text} ({', '.join(sorted(names))})" if names else text
