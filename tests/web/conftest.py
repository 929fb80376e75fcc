"""A browser for tests of the pages."""

from contextlib import AsyncExitStack

import pytest

from chromium import PATIENCE_MS, running_chromium, visiting
from lemon_async.emulator import Emulator
from lemon_async.emulator.pictures import render


@pytest.fixture(scope="package")
async def browser():
    """The window of a browser that all tests of this folder have; each has pages of an origin of its own."""
    async with running_chromium() as running:
        yield running


@pytest.fixture
async def visit(browser, studio):  # which outlives its pages
    """A function that opens a page; the test fails if one of them had problems."""
    async with AsyncExitStack() as visits:
        yield lambda url, **options: visits.enter_async_context(visiting(browser, url, **options))


@pytest.fixture(scope="session")
def expect():
    """Playwright's assertions, which wait until they hold."""
    driver = pytest.importorskip("playwright.async_api", reason="no driver of browsers here: pip install playwright")
    driver.expect.set_options(timeout=PATIENCE_MS)
    return driver.expect


@pytest.fixture
async def studio():
    """An emulator with its page, whose jobs take a few milliseconds."""
    async with Emulator(speed=6000, durations=30.0, studio=True) as running:
        yield running


@pytest.fixture
def undrawn(monkeypatch, png):
    """All pictures are one of six pixels, because drawing many takes seconds."""
    monkeypatch.setattr(render, "render", lambda wanted: png)


@pytest.fixture
def emulator(studio):
    """The same for the fixtures of other tests."""
    return studio
