"""Imports point down only, pure rooms stay pure, files stay short, and the emulator shares nothing with the client."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lemon_async

PACKAGE = Path(lemon_async.__file__).parent
# From the ground up: a room imports itself and the rooms above its own line in this list.
LAYERS = (
    "_version", "types", "requests", "errors", "_formats", "_api", "_pace", "_display", "_http", "_images", "_uploads",
    "_tasks", "session", "sheet", "_public", "",
)  # fmt: skip
EMULATOR = ("emulator.pictures", "emulator.service", "emulator.http")  # the same, inside the emulator
EMULATOR_GROUND = {"emulator.actions", "emulator.clock", "emulator.problems"}
PURE = {"types", "requests", "errors", "_formats", "_api", "_pace", "_display"}
IMPURE = {"asyncio", "anyio", "aiohttp", "time", "socket", "threading", "random", "os", "logging"}
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES})

# Imports that still point up; this list only shrinks.
PENDING = {
    ("_images.images", "sheet"),
}


def name_of(path):
    """Return the dotted name of a module below the package; that of a folder for its `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name):
    """Return the room of a module: its folder, or itself if it stands in the package's own folder."""
    room = name if (PACKAGE / name.replace(".", "/")).is_dir() else name.rpartition(".")[0]
    return room or name


def modules_imported(path):
    """Return every module that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            folder = PACKAGE.parent / node.module.replace(".", "/")
            for alias in node.names:
                is_module = (folder / f"{alias.name}.py").exists() or (folder / alias.name / "__init__.py").exists()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def ours(path):
    """Return the modules of the package that a file imports, by their names below it."""
    prefix = "lemon_async."
    return {name.removeprefix(prefix) for name in modules_imported(path) if name.startswith(prefix)}


IMPORTS = {name_of(path): ours(path) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_only(path):
    """A room imports itself and the rooms below it; the command alone may use everything."""
    name = name_of(path)
    room = room_of(name)
    if room.startswith("emulator") or room in {"cli", "__main__"}:
        return
    allowed = {*LAYERS[: LAYERS.index(room)], room}
    upward = {target for target in IMPORTS[name] if room_of(target) not in allowed}
    assert {(name, target) for target in upward} <= PENDING


def test_the_emulator_shares_nothing_with_the_client():
    """Only the pytest fixtures, which hand out a session as a user would make it, import the front door."""
    for path in (PACKAGE / "emulator").rglob("*.py"):
        if path.name != "plugin.py":
            assert all(name.startswith("emulator") for name in IMPORTS[name_of(path)]), path
            assert "lemon_async" not in set(modules_imported(path)), path


def test_pure_rooms_do_no_io_and_know_no_clock():
    """They import nothing that reads a clock, opens a socket or runs a loop."""
    for path in MODULES:
        if room_of(name_of(path)) in PURE:
            assert not {name.split(".")[0] for name in modules_imported(path)} & IMPURE, path


def test_importing_the_package_loads_no_extra():
    """Users who never draw or type commands do not pay for them."""
    loaded = modules_after("from lemon_async import LemonSession")
    assert not loaded & {"PIL", "click", "tqdm", "pytest"}
    assert "aiohttp" in loaded


def test_importing_the_front_door_alone_loads_nothing():
    """The start of the command and of every pytest run passes through it."""
    assert not modules_after("import lemon_async; lemon_async.__version__") & {"aiohttp", "attrs", "asyncio"}


def modules_after(statement):
    """Return the top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_files_stay_readable():
    """No file is longer than 400 lines, and the median is at most 150."""
    sizes = sorted(len(path.read_text().splitlines()) for path in MODULES)
    assert sizes[-1] <= 400
    assert sizes[len(sizes) // 2] <= 150
