"""Every field is an option, and its help tells what the families' data say."""

import attrs
import click
import pytest
from click.testing import CliRunner

from lemon_async import EditRequest, GenerateRequest
from lemon_async._api.families import FAMILIES
from lemon_async.cli import options
from lemon_async.cli.commands import cli

COMMANDS = {"generate": GenerateRequest, "edit": EditRequest}
# What is no field of the model's: an argument, a shared option, or given in another way.
OTHERWISE = {"prompt", "model", "image", "mask", "label", "extra"}


def option(command, name):
    return next(parameter for parameter in cli.commands[command].params if parameter.name == name)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_of_a_request_is_an_option(command):
    """A field that a later version adds is not forgotten here."""
    fields = {field.name for field in attrs.fields(COMMANDS[command])} - OTHERWISE
    shown = {parameter.name for parameter in cli.commands[command].params if isinstance(parameter, click.Option)}
    assert fields <= shown
    assert all(option(command, name).default is None for name in fields)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_each_closed_value_and_each_family_that_takes_it(command):
    for family in FAMILIES:
        for name, values in family.values.items():
            if command in family.operations and name in attrs.fields_dict(COMMANDS[command]):
                words = next(part for part in option(command, name).help.split("; ") if family.name in part)
                assert words.startswith(", ".join(values) + " (")


@pytest.mark.parametrize(
    ("name", "operation", "words"),
    [
        ("quality", "generate", "auto, low, medium, high (GPT Image 2); standard, hd (DALL-E 2, DALL-E 3)"),
        ("quality", "edit", "auto, low, medium, high (GPT Image 2); standard, hd (DALL-E 2)"),
        ("style", "generate", "vivid, natural (DALL-E 3)"),
        ("n", "generate", "a whole number from 1 to 10"),
        ("response_format", "edit", "url, b64_json"),
        ("compression", "edit", "a whole number from 0 to 100 (GPT Image 2)"),
    ],
)
def test_help_of_a_field_tells_values_and_families(name, operation, words):
    """Families that do not do the operation are left out, and where all take the same none is named."""
    assert options.field_help(name, operation) == words


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("n", click.INT, "Number of images: a whole number from 1 to 10."),
        ("async_", click.BOOL, "Create a task first (FLUX, GPT Image 2)."),
        ("moderation", click.STRING, "auto, low (GPT Image 2)."),
    ],
)
def test_option_has_the_type_of_its_field(name, kind, words):
    found = option("generate", name)
    assert (found.type, found.is_flag, found.help) == (kind, kind is click.BOOL, words)


@pytest.mark.parametrize(("command", "model"), [("generate", "dall-e-3"), ("edit", "dall-e-2")])
def test_help_tells_the_default_model(command, model):
    shown = " ".join(CliRunner().invoke(cli, [command, "--help"]).output.split())
    assert f"the service's default is {model}." in shown
