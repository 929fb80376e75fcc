"""The command, run against an emulator in the event loop of the test."""

import asyncio
import logging
import signal

import pytest
from click.testing import CliRunner

from lemon_async.cli.commands import cli
from lemon_async.client.key import KEY_VARIABLE
from lemon_async.client.session import BASE_URL_VARIABLE
from lemon_async.emulator import Emulator


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No key and no address of the machine that runs the tests, and an empty current folder."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(BASE_URL_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def library_logger():
    """The command takes the library's logger over for its process; the next test needs it as it was."""
    logger = logging.getLogger("lemon_async")
    before = logger.handlers, logger.propagate
    yield logger
    logger.handlers, logger.propagate = before


@pytest.fixture
async def emulator():
    """An emulator whose jobs take a few milliseconds."""
    async with Emulator(speed=6000, durations=30.0) as running:
        yield running


@pytest.fixture
def lemon(emulator):
    """Run the command as a user of the emulator does, in a thread, because it brings an event loop of its own.

    Used as `result = await lemon("generate", "a cat")`.
    """

    async def run(command, *words, **environment):
        options = ["--base-url", emulator.base_url] if command in {"generate", "task"} else []
        environment = {KEY_VARIABLE: emulator.api_key, **environment}
        return await asyncio.to_thread(CliRunner().invoke, cli, [command, *options, *words], env=environment)

    return run


@pytest.fixture
def interruptible():
    """Ctrl-C works, here and in children, even where the tests were started with it switched off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
