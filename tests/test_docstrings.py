"""Every example in a docstring is marked as Python, and runs against the emulator as it stands."""

import ast
import asyncio
import csv
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import numpy as np
import pytest

import lemon_async
from fake_ray import FakeRay
from kills import write_products
from lemon_async.emulator import Emulator

PACKAGE = Path(lemon_async.__file__).parent
FENCE = re.compile(r"^ *```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):\n(?:    .*\n?|\n)+", re.MULTILINE)
SHARED = {"shared/A0000.png", "shared/A0001.png", "shared/A0002.png"}
# The files that each example writes.
FILES = {
    "__init__.py": {"cat.png"},
    "batch/__init__.py": {"run.db", "out/A0000.png", "out/A0001.png", "out/A0002.png"},
    "batch/rows/expand.py": set(),
    "distributed/__init__.py": SHARED,
    "distributed/generator.py": SHARED,
    "emulator/__init__.py": set(),
    "telemetry/__init__.py": set(),
}


@cache
def docstrings():
    """Return all docstrings of the package, with their files."""
    return tuple(find_docstrings())


def find_docstrings():
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                yield path.relative_to(PACKAGE).as_posix(), text


def examples():
    """Return the code of each example with its file; none has two."""
    found = [(path, code) for path, text in docstrings() for code in FENCE.findall(text)]
    assert len(found) == len(dict(found))
    return dict(found)


def is_code(text):
    """Return whether a block of text is Python that does something."""
    try:
        tree = compile(dedent(text), "", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Call | ast.Import | ast.ImportFrom | ast.Assign) for node in ast.walk(tree))


class Dataset:
    """A data set of Ray, of one batch."""

    def __init__(self, path):
        with Path(path).open(encoding="utf-8", newline="") as file:
            self.rows = [*csv.DictReader(file)]

    def map_batches(self, generator, *, fn_constructor_kwargs, compute, batch_size):
        assert (compute.size, batch_size) == (4, 100)
        batch = {name: np.array([row[name] for row in self.rows], dtype=object) for name in ("sku", "prompt")}
        return asyncio.run(generator(**fn_constructor_kwargs)(batch))


@pytest.fixture
def surroundings(monkeypatch, tmp_path, request):
    """What the examples expect: a table of rows, a journal, and Ray."""

    def prepare(code):
        monkeypatch.chdir(tmp_path)
        write_products(tmp_path / "rows.csv", 3)
        if 'os.environ["JOURNAL"]' in code:
            monkeypatch.setenv("JOURNAL", request.getfixturevalue("postgres").new_database())
            ray = FakeRay()
            ray.data = SimpleNamespace(read_csv=Dataset, ActorPoolStrategy=SimpleNamespace)
            monkeypatch.setitem(sys.modules, "ray", ray)
            monkeypatch.setattr("lemon_async.distributed.driver._LOOK_S", 0.01)

    return prepare


@pytest.mark.parametrize("path", FILES)
async def test_example_runs(path, monkeypatch, tmp_path, surroundings):
    """The code runs unchanged; only the environment points to the emulator."""
    code = examples()[path]
    surroundings(code)
    async with Emulator(speed=6000) as service:
        monkeypatch.setenv("LEMONDATA_BASE_URL", service.base_url)
        monkeypatch.setenv("LEMONDATA_API_KEY", service.api_key)
        compiled = compile(code, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = await asyncio.to_thread(eval, compiled, {"__name__": "example"})
        if inspect.isawaitable(outcome):
            await outcome
    files = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("[!.]*") if file.is_file()}
    assert files - {"rows.csv"} == FILES[path]


def test_every_example_is_run():
    """As many as there are marks in the source, however a docstring is found."""
    assert examples().keys() == FILES.keys()
    marks = [path.read_text(encoding="utf-8").count("```python") for path in PACKAGE.rglob("*.py")]
    assert sum(marks) == len(FILES)


def test_no_example_is_without_its_mark():
    """Neither as an indented block, which would be shown as code but not run, nor in doctest's form."""
    for path, text in docstrings():
        rest = SECTION.sub("", FENCE.sub("", text))
        blocks = re.findall(r"(?:^    .*\n?)+", rest, re.MULTILINE)
        assert not [block for block in blocks if is_code(block)], path
        assert ">>>" not in rest, path


def test_code_is_told_from_tables():
    """The test above would find an example, and lets tables, lists and JSON be."""
    assert is_code('    async with LemonSession() as lemon:\n        await lemon.generate("a cat")\n')
    assert is_code("    rows = expand(template)\n")
    assert not is_code("    kind     what it is\n    POLL     a GET\n")
    assert not is_code('    {"image":["cat.png"],"prompt":"a hat"}\n')
