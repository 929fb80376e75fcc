"""What the emulator may import: nothing that the client is made of."""

import ast
from pathlib import Path

import pytest

import lemon_async.emulator

ROOM = Path(lemon_async.emulator.__file__).parent
FILES = sorted(ROOM.glob("*.py"))


def imports(file):
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_room_imports_nothing_of_the_client(file):
    """A mistake that client and emulator shared would pass every test."""
    ours = {name for name in imports(file) if name.split(".")[0] == "lemon_async"}
    strangers = {name for name in ours if not name.startswith("lemon_async.emulator")}
    assert strangers <= ({"lemon_async"} if file.stem == "plugin" else set())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_pillow_is_imported_for_drawing_only(file):
    names = {name.split(".")[0] for name in imports(file)}
    assert ("PIL" in names) == (file.stem == "render")


def test_every_name_that_is_exported_exists():
    for name in lemon_async.emulator.__all__:
        assert hasattr(lemon_async.emulator, name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_file_is_too_long_to_read(file):
    assert len(file.read_text("utf-8").splitlines()) <= 300
