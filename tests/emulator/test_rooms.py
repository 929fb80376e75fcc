"""Pillow stays in the rooms that draw and look at pictures, which are loaded late."""

import ast
from pathlib import Path

import pytest

import lemon_async.emulator

ROOM = Path(lemon_async.emulator.__file__).parent
FILES = sorted(ROOM.rglob("*.py"))


def imports(file):
    """Every module that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_pillow_is_imported_for_pictures_only(file):
    names = {name.split(".")[0] for name in imports(file)}
    assert ("PIL" in names) == (file.stem in {"render", "caption", "composite", "decode"})
