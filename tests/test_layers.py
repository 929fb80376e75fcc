"""Rooms: imports point down only, pure rooms stay pure, and the emulator shares nothing with the client."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lemon_async

PACKAGE = Path(lemon_async.__file__).parent

# Room -> rooms it may import from, besides itself.
MAY_IMPORT = {
    "api": set(),
    "pace": {"api"},
    "show": {"api"},
    "client": {"api", "pace", "show"},
    "emulator": set(),
    "cli": {"api", "pace", "show", "client", "emulator"},
    "": {"_public", "api", "pace", "show", "client", "cli"},  # the front door, and `python -m`
}
GROUND = {"_version"}  # imports nothing of ours
IMPURE = {"asyncio", "anyio", "aiohttp", "time", "socket", "threading", "random", "os", "logging"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    """Return the room of a source file; the package's own folder is the front door."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports_of(path):
    """Return every module that a file imports, wherever the statement stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "lemon_async"}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_only(path):
    """A room imports itself and the rooms below it."""
    room = room_of(path)
    rooms = {name.split(".")[1] for name in imports_of(path) if name.startswith("lemon_async.")}
    if path == PACKAGE / "emulator" / "plugin.py":
        # The fixtures hand out a session, as a user would make it: from the front door.
        rooms -= {"LemonSession", "PollPolicy"}
    assert rooms - {room} <= (set() if room == "emulator" else GROUND) | MAY_IMPORT[room]
    assert path.stem not in GROUND or not rooms
    assert room != "emulator" or path.name == "plugin.py" or "lemon_async" not in imports_of(path)


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if room_of(path) in {"api", "pace", "show"}],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_pure_rooms_do_no_io_and_know_no_clock(path):
    """`api`, `pace` and `show` import nothing that reads a clock, opens a socket or runs a loop."""
    assert not {name.split(".")[0] for name in imports_of(path)} & IMPURE


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
