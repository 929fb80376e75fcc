"""Fixtures that every test folder shares; the emulator's own come from the package's pytest plugin."""

import pytest


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"
