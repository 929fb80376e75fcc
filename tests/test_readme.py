"""Every example of the README runs, against the emulator."""

import ast
import inspect
import re
from pathlib import Path

import pytest

from lemon_async import PollPolicy
from lemon_async.emulator import Emulator

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_readme_example_runs(number, monkeypatch, tmp_path, lemon_session, lemon_emulator):
    """The code runs as it stands; only the environment points to the emulator."""
    monkeypatch.chdir(tmp_path)
    async with Emulator(speed=6000) as service:
        monkeypatch.setenv("LEMONDATA_BASE_URL", service.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", service.api_key)
        # The examples show the default pace, which is for a service that takes minutes.
        block = BLOCKS[number].replace("LemonSession()", "LemonSession(polling=PollPolicy(min_gap_s=0.01))")
        names = {"PollPolicy": PollPolicy}
        code = compile(block, f"README block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = eval(code, names)
        if inspect.isawaitable(outcome):
            await outcome
        if "test_my_app" in names:
            await names["test_my_app"](lemon_session, lemon_emulator)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("*.png"))


def test_readme_has_the_two_commands():
    """One makes a picture, one runs the tests."""
    assert re.findall(r"<!-- command: (\w+) -->\n```sh\n", README) == ["picture", "tests"]
    assert len(BLOCKS) >= 6
