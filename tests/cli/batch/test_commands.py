"""The declarations of `lemon-async batch`."""

import inspect
from typing import get_args

import pytest

from lemon_async import LemonSession
from lemon_async.batch.exports import Format
from lemon_async.cli.batch.commands import FORMATS, batch


def test_formats_are_those_of_the_library():
    assert get_args(Format) == FORMATS


def test_defaults_are_those_of_the_library():
    parameters = inspect.signature(LemonSession.batch).parameters
    shown = {option.name: option.default for option in batch.commands["run"].params}
    assert {name: shown[name] for name in ("in_flight", "attempts")} == {
        name: parameters[name].default for name in ("in_flight", "attempts")
    }


@pytest.mark.parametrize("name", batch.commands)
def test_short_help_is_one_whole_sentence(name):
    """The list of commands does not cut it off."""
    shown = batch.commands[name].get_short_help_str(limit=60)
    assert shown.endswith(".")
    assert not shown.endswith("...")
