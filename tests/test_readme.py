"""README's examples run against the emulator, its links lead somewhere, and its pictures are what the examples make."""

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

from kills import kill_example, write_products
from lemon_async.emulator import Emulator
from redis_server import shared_redis

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *(ROOT / "lemon_async").rglob("README.md"), ROOT / "benchmarks" / "README.md"]
README = PAGES[0].read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^##+ ([^\n]+)\n(?:(?!^#).)*?^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
# The files that each example writes.
FILES = {
    "Generate": {"cat.png", "cats/0-a-white-cat-on-a-windowsill.png"},
    "Submit and resume": {"sunset.png"},
    "Map": {"boat-0.png", "boat-1.png", "boat-2.png"},
    "Batch": {"products.csv", "shop.db", "shoes/A0000.png", "bags/A0001.png", "bags/A0002.png"},
    "Several workers, several machines": {"products.csv", "shoes/A0000.png", "bags/A0001.png", "bags/A0002.png"},
    "Edit": {"mask.png", "before.png", "after.png"},
    "Stream": {"preview-0.png", "preview-1.png", "lighthouse.png"},
    "Test with pytest": set(),
    "Settings": set(),
}
PICTURES = ROOT / "tests" / "pictures"


@pytest.mark.parametrize("title", EXAMPLES)
async def test_example_runs(title, monkeypatch, tmp_path, lemon_session, lemon_emulator, request):
    """The code runs unchanged; only the environment points to the emulator."""
    monkeypatch.chdir(tmp_path)
    async with Emulator(speed=6000) as service:
        monkeypatch.setenv("LEMONDATA_BASE_URL", service.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", service.api_key)
        if 'os.environ["JOURNAL"]' in EXAMPLES[title]:
            monkeypatch.setenv("JOURNAL", request.getfixturevalue("postgres").new_journal())
            monkeypatch.setenv("SHARED_LIMIT", shared_redis().url)
        if "products.csv" in FILES[title]:
            write_products(tmp_path / "products.csv", 3)
        names = {"__name__": "readme"}
        code = compile(EXAMPLES[title], f"README: {title}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = eval(code, names)
        if inspect.isawaitable(outcome):
            await outcome
        if "test_my_app" in names:
            await names["test_my_app"](lemon_session, lemon_emulator)
    paths = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("[!.]*") if path.is_file()}
    assert paths.keys() == FILES[title]
    for name, path in paths.items():
        assert path.read_bytes().startswith(b"\x89PNG") or path.suffix in {".csv", ".db"}
        if name in {"before.png", "after.png"}:
            check_picture(path)


@pytest.mark.long
async def test_batch_of_hundreds_of_rows_is_killed_twice(processes, png, tmp_path):
    """Run again until it ends, the example has bought each row once, or says which it is not sure of."""
    totals = await kill_example(processes, tmp_path, rows=300, picture=png)
    assert (totals.kills, totals.rows) == (2, 300)
    assert totals.sold > 300 - totals.doubtful


def check_picture(made):
    """Compare a picture with the one that README shows; if that is missing, store the new one for review."""
    shown = PICTURES / made.name
    if not shown.exists():
        shutil.copy(made, shown)
        pytest.fail(f"{shown} was missing and has been created: review it")
    with PIL.Image.open(made) as ours, PIL.Image.open(shown) as theirs:
        assert ours.size == theirs.size
        assert ImageChops.difference(ours.convert("RGBA"), theirs.convert("RGBA")).getbbox(alpha_only=False) is None


def test_readme_is_short_and_has_the_two_commands():
    """It fits 250 lines; one command makes a picture, one runs the tests."""
    assert len(README.splitlines()) <= 250
    assert re.findall(r"<!-- command: (\w+) -->\n```sh\n", README) == ["picture", "tests"]
    assert EXAMPLES.keys() == FILES.keys()
    assert README.count("```python") == len(FILES)


def test_links_lead_to_files():
    """Every relative link of every README names a file of the repository."""
    for page in PAGES:
        links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text(encoding="utf-8"))
        targets = [path for pair in links for path in pair if path and "://" not in path]
        assert [path for path in targets if not (page.parent / path).exists()] == [], page


def test_pytest_example_runs_in_a_project_of_its_own(tmp_path):
    """The package registers the fixtures; a project adds only the mode of its async plugin."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    (tmp_path / "test_app.py").write_text(EXAMPLES["Test with pytest"])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"]  # a slow import
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in run.stdout, run.stdout + run.stderr
