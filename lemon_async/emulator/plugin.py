"""pytest fixtures: an emulator, and a session connected to it.

The fixtures are async and need a plugin that runs async fixtures: anyio's pytest plugin with `anyio_mode = "auto"` (or
`@pytest.mark.anyio` on the test), or pytest-asyncio in auto mode. A test must run in the event loop of its fixtures;
otherwise the first use raises an error that says what to change. Tests that anyio runs on trio are skipped.

pytest imports this module whenever it starts. Both imports of the package are cheap until one of their names is used.
"""

from collections.abc import AsyncIterator

import pytest

import lemon_async
import lemon_async.emulator

_SPEED = 600.0


@pytest.fixture
async def lemon_emulator(request: pytest.FixtureRequest) -> AsyncIterator["lemon_async.emulator.Emulator"]:
    """A running emulator in which ten minutes pass in a second."""
    _skip_unless_asyncio(request)
    async with lemon_async.emulator.Emulator(speed=_SPEED) as emulator:
        yield emulator


@pytest.fixture
async def lemon_session(
    lemon_emulator: "lemon_async.emulator.Emulator",
) -> AsyncIterator["lemon_async.LemonSession"]:
    """A session that is connected to `lemon_emulator`."""
    # Entering binds the session to the loop that the emulator runs in, so that use in any other is an error.
    async with lemon_async.LemonSession(lemon_emulator.api_key, base_url=lemon_emulator.base_url) as session:
        yield session


def _skip_unless_asyncio(request: pytest.FixtureRequest) -> None:
    """Skip a test that anyio runs on another backend."""
    if "anyio_backend" not in request.fixturenames:
        return
    backend = request.getfixturevalue("anyio_backend")
    name = backend if isinstance(backend, str) else backend[0]
    if name != "asyncio":
        pytest.skip(f"lemon_async runs on asyncio only, not on {name}; an `anyio_backend` fixture selects the backend")
