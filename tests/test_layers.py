"""Imports point down only, pure rooms do no I/O, files stay short, and the emulator shares nothing with the client."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import lemon_async
from lemon_async import errors, events, requests, types

PACKAGE = Path(lemon_async.__file__).parent
# From the bottom up: a room may import itself and the rooms that come before it in this list.
LAYERS = (
    "_version", "_web", "types", "requests", "errors", "events", "_formats", "_api", "_pace", "_display", "_http",
    "_images", "_uploads", "_tasks", "batch", "session", "telemetry", "distributed", "_batch_sheet", "sheet", "_public",
    "",
)  # fmt: skip
# The same inside the emulator; modules of one set may import each other.
EMULATOR = (
    {"emulator.actions", "emulator.clock", "emulator.service_errors"},
    {"emulator.pictures"},
    {"emulator.service"},
    {"emulator.http"},
    {"emulator.web"},
    {"emulator.app", "emulator._public", "emulator", "emulator.plugin"},
)
# The public modules, which are all that the command may import besides itself.
PUBLIC = {"", "_version", "batch", "errors", "events", "types", "requests", "sheet", "emulator"}
# What the batch imports although it is not public, and why.
PRIVATE_IN_BATCH = {
    "_formats.pictures": "exports name files by their content",
    "_formats.provenance": "pure; the batch is its only caller",
    "_api.resume_token": "a row shows the id in its token, for which `LemonSession.task` would start to poll",
}
PURE = {"types", "requests", "errors", "events", "_formats", "_api", "_pace", "_display"}
IMPURE = {"asyncio", "anyio", "aiohttp", "time", "socket", "threading", "random", "os", "logging"}
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({path.parent for path in MODULES})


def name_of(path):
    """Return the dotted name of a module below the package; that of a folder for its `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(name):
    """Return the room of a module: its folder, or itself if it stands in the package's own folder."""
    room = name if (PACKAGE / name.replace(".", "/")).is_dir() else name.rpartition(".")[0]
    return room or name


def layer_of(name):
    """Return the layer of a module; the rooms inside `batch` and `_http` are of their layers."""
    room = room_of(name)
    return next((layer for layer in ("batch", "_http") if room.startswith(f"{layer}.")), room)


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


@cache
def imports():
    """Return what each module imports of the package; not at the top, because each process collects this file."""
    return {name_of(path): ours(path) for path in MODULES}


def emulator_layer(name):
    """Return the index in `EMULATOR` of a module inside the emulator."""
    names = {name} if room_of(name) == "emulator" else {room_of(name)}
    return next(index for index, rooms in enumerate(EMULATOR) if names & rooms)


def test_imports_point_down_only():
    """A room imports itself and the rooms below it; nothing imports the command."""
    upward = set()
    for name, targets in imports().items():
        room = layer_of(name)
        if not room.startswith(("emulator", "cli")) and room != "__main__":
            allowed = {*LAYERS[: LAYERS.index(room)], room}
            upward |= {(name, target) for target in targets if layer_of(target) not in allowed}
    assert not upward


def test_the_command_uses_the_public_api_only():
    """Neither a private module nor a private attribute of an object that is not its own; `_web` serves its page."""
    for path in (PACKAGE / "cli").rglob("*.py"):
        imported = {
            "" if name == "lemon_async" else name.removeprefix("lemon_async.") for name in modules_imported(path)
        }
        modules = {name for name in imported if name in imports() and room_of(name) not in {"cli", "cli.batch", "_web"}}
        assert modules <= PUBLIC, path
        tree = ast.parse(path.read_text())
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")}
        assert {name for name in used if not name.startswith("__")} <= names_defined(tree), path


def test_the_batch_uses_the_public_api_only():
    """It imports public names from where they are defined, because the root stands above it; few are private."""
    public = {*lemon_async.__all__, *types.__all__, *requests.__all__, *errors.__all__, *events.__all__}
    private = set()
    for path in (PACKAGE / "batch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("lemon_async."):
                module = node.module.removeprefix("lemon_async.")
                if layer_of(module) != "batch" and not {alias.name for alias in node.names} <= public:
                    private.add(module)
    assert private == PRIVATE_IN_BATCH.keys()


def names_defined(tree):
    """Return the names of functions and attributes that a module defines."""
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    fields = {
        node.target.id for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and hasattr(node.target, "id")
    }
    return (
        functions
        | fields
        | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    )


def test_imports_inside_the_emulator_point_down_only():
    """`pictures` does not import `service`, and `service` does not import `http`."""
    for name, targets in imports().items():
        if name.startswith("emulator"):
            inside = {target for target in targets if target.startswith("emulator")}
            assert {target for target in inside if emulator_layer(target) > emulator_layer(name)} == set(), name


def test_no_import_circles():
    """Neither between folders nor inside one, and no import inside a function hides one."""
    graph = {name: {target for target in targets if target in imports()} for name, targets in imports().items()}
    TopologicalSorter(graph).prepare()


def test_the_emulator_shares_nothing_with_the_client():
    """Only the pytest fixtures import the public package; `_web` serves pages, and knows nothing of the contract."""
    for path in (PACKAGE / "emulator").rglob("*.py"):
        if path.name != "plugin.py":
            assert all(name.startswith(("emulator", "_web")) for name in imports()[name_of(path)]), path
            assert "lemon_async" not in set(modules_imported(path)), path


def test_pure_rooms_do_no_io_and_know_no_clock():
    """They import nothing that reads a clock, opens a socket or runs a loop."""
    for path in MODULES:
        if room_of(name_of(path)) in PURE:
            assert not top_level_imports(path) & IMPURE, path


def test_emulator_imports_pillow_only_to_draw_and_decode():
    """These modules are loaded when the emulator starts, so that importing it works without Pillow."""
    inside = [path for path in MODULES if name_of(path).startswith("emulator")]
    users = {name_of(path) for path in inside if "PIL" in top_level_imports(path)}
    assert users == {f"emulator.pictures.{name}" for name in ("caption", "composite", "decode", "fonts", "render")}


def top_level_imports(path):
    """Return the top-level packages that a file imports."""
    return {name.split(".")[0] for name in modules_imported(path)}


def test_importing_the_package_loads_no_extra():
    """Users without the extras do not pay for them."""
    loaded = modules_after("from lemon_async import LemonSession")
    assert not loaded & {"PIL", "click", "jinja2", "tqdm", "pytest"}
    assert "aiohttp" in loaded


def test_importing_the_session_enters_no_room_that_few_programs_need():
    """Each is imported by the function that enters it."""
    loaded = modules_after("from lemon_async import LemonSession", "lemon_async.")
    ours = {name.removeprefix("lemon_async.") for name in loaded}
    rooms = ("_display", "_http.shared_limit", "batch", "cli", "distributed", "emulator")
    assert not {name for name in ours if name.startswith(rooms)}
    assert not ours & {"_http.emitter", "_http.job_events", "events"}
    assert not ours & {"_batch_sheet", "_pace.leases", "_uploads.sources", "_uploads.stored_files", "_uploads.upload"}
    assert not modules_after("from lemon_async import LemonSession") & {"difflib", "sqlite3"}


def test_importing_the_front_door_alone_loads_nothing():
    """The start of the command and of every pytest run passes through it."""
    assert not modules_after("import lemon_async; lemon_async.__version__") & {"aiohttp", "attrs", "asyncio"}


def modules_after(statement, within=""):
    """Return the modules that a statement loads in a new interpreter: the top-level ones, or those of a package."""
    code = f"{statement}; import sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name if within else name.split(".")[0] for name in run.stdout.split() if name.startswith(within)}


def test_folders_stay_small():
    """A folder holds at most 15 files, `__init__.py` included."""
    for folder in FOLDERS:
        assert len(list(folder.glob("*.py"))) <= 15, folder


def test_files_stay_readable():
    """No file is longer than 400 lines, and the median is at most 150."""
    sizes = sorted(len(path.read_text().splitlines()) for path in MODULES)
    assert sizes[-1] <= 400
    assert sizes[len(sizes) // 2] <= 150


def test_each_module_can_be_the_first_that_is_imported():
    """No module depends on another having been imported before it."""
    code = (
        "import sys\n"
        "from importlib import import_module\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [key for key in sys.modules if key.split('.')[0] == 'lemon_async']:\n"
        "        del sys.modules[loaded]\n"
        "    import_module(name)\n"
    )
    names = [f"lemon_async.{name}" for name in imports() if room_of(name) in PURE | {"_http", "_images"}]
    run = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=False)
    assert not run.returncode, run.stderr
