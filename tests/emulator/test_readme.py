"""The examples in the emulator's README run as they stand."""

import ast
import inspect
import re
from pathlib import Path
from typing import get_args

import pytest

import lemon_async.emulator
from lemon_async.emulator.actions import Action
from lemon_async.emulator.http.faults import ROUTES, Match

README = Path(lemon_async.emulator.__file__).with_name("README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_example_runs(number, monkeypatch, tmp_path, lemon_session, lemon_emulator):
    monkeypatch.chdir(tmp_path)
    names = {}
    code = compile(BLOCKS[number], f"README block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    outcome = eval(code, names)
    if inspect.isawaitable(outcome):
        await outcome
    if "test_my_app" in names:
        await names["test_my_app"](lemon_session, lemon_emulator)


def test_faults_as_json_are_read():
    (block,) = (
        block for block in re.findall(r"^```json\n(.*?)^```", README, re.DOTALL | re.MULTILINE) if "route" in block
    )
    assert [fault.route for fault in lemon_async.emulator.parse_faults(block)] == [
        "poll",
        "submit",
        "submit",
        "submit",
        "cdn",
    ]


def test_readme_names_every_route_action_and_condition():
    tables = " ".join(line for line in README.splitlines() if line.startswith(("|", "`bill`")))
    named = set(re.findall(r"`(\w+)", tables))
    everything = {*ROUTES, *(action.__name__ for action in get_args(Action)), *Match.__annotations__}
    assert everything - named == {"seed"}
