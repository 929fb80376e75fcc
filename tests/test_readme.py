"""Every example of the README runs, against the emulator."""

import ast
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
from PIL import ImageChops

from lemon_async.emulator import Emulator

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
# What each example leaves on the disk.
FILES = [
    {"cat.png", "cats/0-a-white-cat-on-a-windowsill.png"},
    {"sunset.png"},
    {"boat-0.png", "boat-1.png", "boat-2.png"},
    {"mask.png", "before.png", "after.png"},
    {"fog.png", "snow.png"},
    {"preview-0.png", "preview-1.png", "lighthouse.png"},
    set(),
    set(),  # the recipes for FastAPI, aiohttp.web and a file of prompts: test_recipes.py
    set(),
    set(),
    {"lighthouses.html"},
    set(),
    set(),
]
PICTURES = Path(__file__).parent / "pictures"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
async def test_readme_example_runs(number, monkeypatch, tmp_path, lemon_session, lemon_emulator):
    """The code runs as it stands; only the environment points to the emulator."""
    monkeypatch.chdir(tmp_path)
    async with Emulator(speed=6000) as service:
        monkeypatch.setenv("LEMONDATA_BASE_URL", service.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", service.api_key)
        names = {"__name__": "readme"}
        code = compile(BLOCKS[number], f"README block {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = eval(code, names)
        if inspect.isawaitable(outcome):
            await outcome
        if "test_my_app" in names:
            await names["test_my_app"](lemon_session, lemon_emulator)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    files = {path.relative_to(tmp_path).as_posix() for path in paths}
    assert files == FILES[number]
    signatures = {".png": b"\x89PNG", ".html": b"<!DOCTYPE html>"}
    for path in paths:
        assert path.read_bytes().startswith(signatures[path.suffix])
    for name in files & {"before.png", "after.png"}:
        check_picture(tmp_path / name)


def check_picture(made):
    """The README shows what its example makes; a picture that is missing is made anew, to be looked at."""
    shown = PICTURES / made.name
    if not shown.exists():
        shutil.copy(made, shown)
        pytest.fail(f"{shown} was missing and is made anew: look at it")
    with PIL.Image.open(made) as ours, PIL.Image.open(shown) as theirs:
        assert ours.size == theirs.size
        assert ImageChops.difference(ours.convert("RGBA"), theirs.convert("RGBA")).getbbox(alpha_only=False) is None


def test_readme_has_the_two_commands():
    """One makes a picture, one runs the tests."""
    assert re.findall(r"<!-- command: (\w+) -->\n```sh\n", README) == ["picture", "tests"]
    assert len(BLOCKS) == len(FILES)


def test_readme_pytest_example_runs_in_a_project_of_its_own(tmp_path):
    """The fixtures come with the package; all a project adds is the mode of its async plugin."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    (tmp_path / "test_app.py").write_text(BLOCKS[-1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in run.stdout, run.stdout + run.stderr
