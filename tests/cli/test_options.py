"""Every field of a request is an option, and the table of options agrees with the rules of the library."""

import attrs
import click
import pytest
from click.testing import CliRunner

from lemon_async import EditRequest, GenerateRequest
from lemon_async.cli.commands import cli

COMMANDS = {"generate": GenerateRequest, "edit": EditRequest}
# Arguments, and fields that are given in another way.
OTHERWISE = {"prompt", "model", "image", "mask", "label", "extra"}


def option(command, name):
    return next(parameter for parameter in cli.commands[command].params if parameter.name == name)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_of_a_request_is_an_option(command):
    """With its type and without a default: options that are not given are not sent."""
    fields = {field.name: field.type for field in attrs.fields(attrs.resolve_types(COMMANDS[command]))}
    shown = {parameter.name for parameter in cli.commands[command].params if isinstance(parameter, click.Option)}
    assert set(fields) - OTHERWISE <= shown
    kinds = {int | None: click.INT, bool | None: click.BOOL}
    for name in set(fields) - OTHERWISE:
        found = option(command, name)
        assert (found.default, found.type) == (None, kinds.get(fields[name], click.STRING)), name


@pytest.mark.parametrize(("command", "model"), [("generate", "dall-e-3"), ("edit", "dall-e-2")])
def test_help_names_the_default_model_and_its_values(command, model):
    shown = " ".join(CliRunner().invoke(cli, [command, "--help"]).output.split())
    assert COMMANDS[command].default_model == model
    assert f"the service's default is {model}." in shown
    assert "auto, low, medium, high (gpt-image-2)" in shown
