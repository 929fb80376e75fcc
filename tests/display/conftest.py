"""A browser for tests of pages in files."""

import io
from contextlib import AsyncExitStack

import pytest
from PIL import Image

from chromium import running_chromium, visiting


@pytest.fixture(scope="package")
async def browser():
    """The window of a browser that all tests of this folder have."""
    async with running_chromium() as running:
        yield running


@pytest.fixture
async def visit(browser):
    """A function that opens a page from a file; the test fails if one of them had problems."""
    async with AsyncExitStack() as visits:
        yield lambda path, **options: visits.enter_async_context(visiting(browser, path.as_uri(), **options))


@pytest.fixture
def photograph():
    """Return a screenshot of a page, or of an element of one."""

    async def shoot(shown):
        with Image.open(io.BytesIO(await shown.screenshot())) as image:
            return image.convert("RGB")

    return shoot
