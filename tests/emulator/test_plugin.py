"""The pytest fixtures that come with the package."""

import os
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest

from lemon_async.emulator.plugin import lemon_emulator  # noqa: F401 - a fixture

ANYIO = ["-p", "anyio.pytest_plugin", "-o", "anyio_mode=auto"]
ASYNCIO = ["-p", "pytest_asyncio.plugin", "-o", "asyncio_mode=auto"]
SESSION_LOOP, FUNCTION_LOOP = (f"asyncio_default_fixture_loop_scope={scope}" for scope in ("session", "function"))
USER_TESTS = """
    from lemon_async import LemonSession

    async def test_session(lemon_session, lemon_emulator):
        await lemon_session.generate("a cat", model="dall-e-3")
        assert lemon_emulator.ledger.sold == {"a cat": 1}

    async def test_emulator(lemon_emulator):
        async with LemonSession(lemon_emulator.api_key, base_url=lemon_emulator.base_url) as session:
            await session.generate("a cat", model="dall-e-3")
"""

needs_pytest_asyncio = pytest.mark.skipif(not find_spec("pytest_asyncio"), reason="pytest-asyncio is not installed")
needs_trio = pytest.mark.skipif(not find_spec("trio"), reason="trio is not installed")


async def test_lemon_emulator_fixture_is_a_fast_running_emulator(lemon_emulator, client_of):  # noqa: F811
    client = client_of(lemon_emulator)
    answer = await client.submit(model="dall-e-3")
    assert answer.status == 200
    assert answer.headers["X-Emulator-Speed"] == "600"


@pytest.fixture
def run_user_tests(tmp_path):
    """Run a user's tests in another process, with these plugins and settings; return what pytest prints."""
    (tmp_path / "test_user.py").write_text(textwrap.dedent(USER_TESTS))

    def run(*options):
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-rsfE",
            "-p",
            "no:cacheprovider",
            "-p",
            "lemon_async.emulator.plugin",
        ]
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "400"}
        environment.pop("PYTEST_ADDOPTS", None)
        where = {"cwd": tmp_path, "env": environment}
        # A hang would last for minutes: the session waits for a response.
        return subprocess.run(
            [*command, *options], **where, capture_output=True, text=True, timeout=180, check=False
        ).stdout

    return run


def test_start_of_pytest_loads_nothing_that_the_fixtures_need(run_user_tests, tmp_path):
    """Every pytest run of every user imports the plugin; most of them use no fixture of it."""
    (tmp_path / "test_user.py").write_text(
        "import sys\n\n"
        "def test_modules():\n"
        "    assert 'lemon_async.emulator.plugin' in sys.modules\n"
        "    ours = {'lemon_async.session', 'lemon_async.emulator.app'}\n"
        "    assert not ({'aiohttp', 'attrs', 'PIL'} | ours) & {*sys.modules}\n"
    )
    assert "1 passed" in run_user_tests()


@needs_trio
def test_tests_that_anyio_runs_on_trio_are_skipped(run_user_tests):
    printed = run_user_tests(*ANYIO)
    assert "2 passed, 2 skipped" in printed
    assert "lemon_async runs on asyncio only, not on trio; an `anyio_backend` fixture selects the backend" in printed


@needs_pytest_asyncio
@pytest.mark.parametrize("scope", [SESSION_LOOP, FUNCTION_LOOP])
def test_fixtures_work_in_the_loop_of_the_test(run_user_tests, scope):
    same = scope.replace("fixture", "test")
    assert "2 passed" in run_user_tests(*ASYNCIO, "-o", scope, "-o", same)


@needs_pytest_asyncio
@pytest.mark.parametrize(
    "options",
    [
        [*ASYNCIO, "-o", SESSION_LOOP],
        [*ASYNCIO, "-o", FUNCTION_LOOP, *ANYIO, "-k", "not trio"],
    ],
    ids=["fixture loop of the session", "two plugins in auto mode"],
)
def test_fixture_of_another_loop_is_an_immediate_error_that_says_what_to_change(run_user_tests, options):
    """The fixture's loop does not run while the test's does."""
    printed = run_user_tests(*options)
    assert "2 failed" in printed
    assert "SessionError: the session belongs to another event loop" in printed
    assert "RuntimeError: the emulator's event loop is not running, so it cannot answer" in printed
    assert printed.count("In pytest, ") >= 2
