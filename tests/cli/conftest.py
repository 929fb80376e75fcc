"""The command, run against an emulator in the event loop of the test."""

import asyncio
import contextlib
import logging
import os
import signal
import sys

import pytest
from click.testing import CliRunner
from PIL import Image

from commands import FORKS
from lemon_async.cli.commands import cli
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE
from lemon_async.emulator import Emulator


@pytest.fixture(scope="session", autouse=True)
def forks():
    """The interpreter of which commands are forks ends after the tests."""
    yield
    FORKS.close()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """Remove the key and URL of this machine from the environment, and change to an empty folder."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(BASE_URL_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def library_logger():
    """Restore the library's logger, which the command takes over for its process."""
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
    """Run the command with these arguments in a thread, because it starts its own event loop.

    Used as `result = await lemon("generate", "a cat")`; key and address come from the environment.
    """

    async def run(*words, **environment):
        environment = {KEY_VARIABLE: emulator.api_key, BASE_URL_VARIABLE: emulator.base_url, **environment}
        return await asyncio.to_thread(CliRunner().invoke, cli, words, env=environment)

    return run


@pytest.fixture
def pictures():
    """List the PNGs of a folder and of those in it."""

    def find(folder):
        found = (path for path in folder.rglob("*.*") if path.read_bytes().startswith(b"\x89PNG"))
        return sorted(path.relative_to(folder).as_posix() for path in found)

    return find


@pytest.fixture
def all_settled():
    """Wait until every job of an emulator is over, so that the first poll of the command is the last."""

    async def wait(emulator):
        async with asyncio.timeout(60):
            while emulator.ledger.open:
                await asyncio.sleep(0.001)

    return wait


@pytest.fixture
def draw(tmp_path):
    """Make a fully transparent picture in the current folder, as dall-e-2 and masks need it, and return its name."""

    def make(name, *, size=(64, 64), mode="RGBA"):
        Image.new(mode, size).save(tmp_path / name)
        return name

    return make


@pytest.fixture
def interruptible():
    """Ctrl-C and a closed terminal end children, even where the tests run in the background or under nohup."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def in_terminal():
    """Run the command as a process whose stdout and stderr are a terminal; return its exit code and output."""
    import fcntl  # noqa: PLC0415 - not on Windows
    import struct  # noqa: PLC0415
    import termios  # noqa: PLC0415

    async def run(*words, **environment):
        ours, its = os.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        try:
            command = (sys.executable, "-m", "lemon_async", *words)
            environment = {**os.environ, "TERM": "xterm-256color", **environment}
            process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=its, stderr=its)
        finally:
            os.close(its)
        screen = await asyncio.to_thread(_read_out, ours)
        return await process.wait(), screen

    return run


def _read_out(descriptor):
    pieces = []
    with contextlib.suppress(OSError):  # what Linux says at the end
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
    os.close(descriptor)
    return b"".join(pieces)
