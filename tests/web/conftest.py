"""A browser for tests of the pages."""

from contextlib import AsyncExitStack

import pytest

from chromium import running_chromium, visiting


@pytest.fixture(scope="module")
async def browser():
    """Chromium, once for a module of tests; the pages of a test share nothing with those of others."""
    async with running_chromium() as running:
        yield running


@pytest.fixture
async def visit(browser):
    """Open pages in fresh profiles, `await visit(url, ...)`: a test fails if one of them had problems."""
    async with AsyncExitStack() as visits:
        yield lambda url, **options: visits.enter_async_context(visiting(browser, url, **options))
