"""Measure the shape of the package: `python tests/structure.py`.

It prints the number of files in each folder, circles of imports, modules without a test file of their own, and two
walks; with `--json`, as one JSON object. A walk is traced in a real run against the emulator; only files of the client
count. With `--coverage` it prints instead how much of each module its own test file covers, which takes some minutes.

Walk of a prompt: `generate` with a model that answers with a task, then `images[0].save`. Its spine is the set of files
that hold a frame at one of two moments: when the bytes of the paid request are sent, and when the bytes of the picture
are written to the file. At each moment that is the stack of the running thread, the coroutines that the caller is
suspended in, and those of the asyncio task whose HTTP request is under way. Entered are all files of which a function
ran between the first line of `generate` and the last of `save`, in any thread, polls and download included.

Walk of a poll: its spine is measured in the same way at three moments: when the poll is popped from the heap, when the
bytes of its request are sent, and when the future that the caller waits for is resolved.
"""

import ast
import asyncio
import gc
import inspect
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import aiohttp.client

import lemon_async
from lemon_async import LemonSession, PollPolicy
from lemon_async.emulator import Emulator

PACKAGE = Path(lemon_async.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
WRITES = {"write", "writev"}
SENDS = {"send", "sendmsg"}
HEAP, POLLER, TASK, DOWNLOADS = "_pace/schedule.py", "_tasks/poller.py", "_tasks/task.py", "_images/downloads.py"
_AIOHTTP = {aiohttp.client.__file__}
# They hold names only.
UNTESTED = {"__init__.py", "__main__.py", "_public.py", "_version.py"}


def files_per_folder():
    """Return the number of modules in each folder of the package."""
    folders = {path.parent.as_posix() for path in MODULES}
    return {folder: len(list((PACKAGE / folder).glob("*.py"))) for folder in sorted(folders)}


def imports_of(path):
    """Return the modules of the package that one of its files imports, wherever the statement stands."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lemon_async":
            target = Path(*node.module.split(".")[1:])
            for alias in node.names:
                choices = (target / f"{alias.name}.py", target / alias.name / "__init__.py")
                found.add(next((path for path in choices if path in MODULES), None) or _file_of(target))
        elif isinstance(node, ast.Import):
            names = (alias.name.split(".") for alias in node.names)
            found |= {_file_of(Path(*parts[1:])) for parts in names if parts[0] == "lemon_async"}
    return found - {path}


def _file_of(module):
    path = module.with_suffix(".py") if module.parts else Path("__init__.py")
    return path if path in MODULES else module / "__init__.py"


def import_circle():
    """Return a circle of imports as a list of files, or an empty one."""
    try:
        TopologicalSorter({path: imports_of(path) for path in MODULES}).prepare()
    except CycleError as error:
        return [path.as_posix() for path in error.args[1]]
    return []


def test_file_of(path):
    """Return where the tests of a module belong."""
    if path.name == "__init__.py":
        path = path.with_name("init.py")
    rooms = [part.removeprefix("_") for part in path.parts[:-1]]
    return TESTS.joinpath(*rooms, f"test_{path.stem.removeprefix('_')}.py")


def modules_without_tests():
    """Return the modules that have no test file of their own."""
    return [path.as_posix() for path in MODULES if path.name not in UNTESTED and not test_file_of(path).exists()]


class Walk:
    """Collect the client's files that a run passes through; profile a thread with `on_event`."""

    def __init__(self, caller, port):
        self.caller, self.port = caller, port
        self.entered, self.prompt, self.poll = set(), set(), set()
        self.entered_by_generate = set()
        self._last_pop = set()

    def on_event(self, frame, event, argument):
        if event == "call":
            self.entered |= _clients([_path(frame.f_code)])
        elif event == "c_call":
            self._on_builtin(frame, argument)

    def _on_builtin(self, frame, builtin):
        name, owner = builtin.__name__, builtin.__self__
        if name == "heappop" and HEAP in (stack := _stack(frame)):
            self._last_pop = _clients(stack)
        elif name in SENDS and isinstance(owner, socket.socket) and self._is_to_service(owner):
            self._on_request(_clients(self._requester(frame)))
        elif name in WRITES and (owner is sys.modules[os.name] or isinstance(owner, io.FileIO | io.BufferedWriter)):
            if writer := _clients(_stack(frame)):
                self.prompt |= writer | self._suspended()
        elif name == "set_result" and owner is self.caller._fut_waiter and TASK in self._suspended():
            self.poll |= _clients(_stack(frame))

    def _on_request(self, files):
        if POLLER in files:
            self.poll |= self._last_pop | files
        elif DOWNLOADS not in files:
            self.prompt |= files | self._suspended()

    def _suspended(self):
        return _clients(_frames(self.caller))

    def _is_to_service(self, sock):
        try:
            return sock.family == socket.AF_INET and sock.getpeername()[1] == self.port
        except OSError:
            return False

    def _requester(self, frame):
        """Return the files of the task whose HTTP request is under way: it runs now, or awaits its request's writer."""
        suspended = [_frames(task) for task in asyncio.all_tasks()]
        return {path for chain in (_stack(frame), *suspended) if _AIOHTTP & set(chain) for path in chain}


def _path(code):
    path = Path(code.co_filename)
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else code.co_filename


def _clients(files):
    """Leave out what is not the client's: the emulator, what it serves pages with, and files outside the package."""
    return {path for path in files if not path.startswith(("/", "<", "emulator/", "_web/"))}


def _stack(frame):
    found = []
    while frame is not None:
        found.append(_path(frame.f_code))
        frame = frame.f_back
    return found


def _frames(task):
    """Return the file of each coroutine that a task is suspended in, and of those of the tasks that it awaits."""
    found, awaited = [], task.get_coro()
    while awaited is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(awaited, f"{kind}_code")), None)
        if kind is None:  # the iterator of a coroutine or an asynchronous generator, which does not say of which
            awaited = next(filter(_has_frame, gc.get_referents(awaited)), None)
            continue
        found.append(_path(getattr(awaited, f"{kind}_code")))
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return found + (_frames(task._fut_waiter) if isinstance(task._fut_waiter, asyncio.Task) else [])


def _has_frame(value):
    return inspect.iscoroutine(value) or inspect.isgenerator(value) or inspect.isasyncgen(value)


async def walk():
    """Trace one prompt, from `generate` to its file."""
    with tempfile.TemporaryDirectory() as folder:
        async with Emulator(speed=600, durations=60.0) as emulator:
            polling = PollPolicy(min_gap_s=0.01, max_gap_s=0.05)
            async with LemonSession(emulator.api_key, base_url=emulator.base_url, polling=polling) as session:
                seen = Walk(asyncio.current_task(), int(emulator.base_url.rpartition(":")[2]))
                threading.setprofile(seen.on_event)
                sys.setprofile(seen.on_event)
                try:
                    images = await session.generate("a white cat", model="flux-pro")
                    seen.entered_by_generate = set(seen.entered)
                    await images[0].save(Path(folder, "cat.png"))
                finally:
                    sys.setprofile(None)
                    threading.setprofile(None)
    return seen


def own_coverage():
    """Yield for each module the percentage of it that its own test file covers, branches included."""
    with tempfile.TemporaryDirectory() as folder:
        for path in MODULES:
            if not (test := test_file_of(path)).exists():
                continue
            data, report = Path(folder, "data"), Path(folder, "report.json")
            run = [sys.executable, "-m", "coverage"]
            pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", test]
            subprocess.run([*run, "run", f"--data-file={data}", *pytest], check=True, capture_output=True)
            options = [f"--data-file={data}", f"--include={PACKAGE / path}", "-o", report]
            subprocess.run([*run, "json", "-q", *options], check=True, capture_output=True)
            yield path.as_posix(), json.loads(report.read_text())["totals"]["percent_covered"]


def main():
    if "--coverage" in sys.argv:
        for name, percent in own_coverage():
            print(f"{percent:5.1f} %  {name}", flush=True)
        return
    seen = asyncio.run(walk())
    measured = {
        "files in each folder": files_per_folder(),
        "import circle": import_circle(),
        "modules without a test file": modules_without_tests(),
        "spine of a prompt": sorted(seen.prompt),
        "entered by a prompt": sorted(seen.entered),
        "of these, by generate": sorted(seen.entered_by_generate),
        "spine of a poll": sorted(seen.poll),
    }
    if "--json" in sys.argv:
        print(json.dumps(measured))
        return
    for title, found in measured.items():
        print(f"{title}: {len(found)}")
        for name in found:
            print("   ", name, *([found[name]] if isinstance(found, dict) else []))


if __name__ == "__main__":
    main()
