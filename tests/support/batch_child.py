"""Run batches in child processes that can be killed: a program that forks a process for each line of its input.

Each line is a JSON object with the name of a function below and its arguments. The process prints what the function
returns, also as JSON, and then its exit status is printed. Everything is imported and warm before the first fork, so
that a process starts within milliseconds; this program has one thread, so that forking is safe.
"""

import ast
import asyncio
import ctypes
import gc
import inspect
import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import lemon_async
import lemon_async.batch._public
import lemon_async.batch.running.options
import lemon_async.batch.store.sqlite.store
from lemon_async import LemonSession, PollPolicy, RetryPolicy, Timeouts
from lemon_async.batch import threaded_journal

try:
    import psycopg.waiting

    import lemon_async.batch.store.postgres.store
except ImportError:  # then there are no journals in PostgreSQL
    psycopg = None

threaded_journal._CLOSE_WITHIN_S = 60.0  # as in `conftest.py`: a disk may be busy
QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=120, lost_after_s=0.02)
FILES = {"rename", "replace", "link"}
SENDS = {"send", "sendmsg"}
READS = {"recv", "recv_into"}
POLL = type(select.poll())  # waits for PostgreSQL; asyncio waits otherwise
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x40000


class Edges:
    """Count the moments at which a kill makes a difference, and kill this process at one of them.

    They are: before and after each commit of a journal in a file, each wait for PostgreSQL, each piece that is sent or
    received, and each rename.
    """

    def __init__(self, kill_at=None):
        self.seen = []
        self._kill_at = kill_at
        self._lock = threading.Lock()
        self._commits = threading.local()
        self._connect = sqlite3.connect

    def install(self):
        sqlite3.connect = self.connect
        if psycopg is not None:
            psycopg.waiting.wait = psycopg.waiting.wait_poll  # in Python, so that it is seen
        threading.setprofile(self.on_event)
        sys.setprofile(self.on_event)

    def connect(self, *arguments, **options):
        connection = self._connect(*arguments, **options)
        connection.set_trace_callback(self.on_statement)
        return connection

    def on_statement(self, statement):
        """Called before each statement."""
        if statement.upper().startswith("COMMIT"):
            self._commits.is_under_way = True
            self.reach("before a commit")

    def on_event(self, _frame, event, argument):
        if event in {"c_call", "c_return"}:
            name, owner = argument.__name__, getattr(argument, "__self__", None)
            (self.on_call if event == "c_call" else self.on_return)(name, owner)

    def on_call(self, name, owner):
        if is_file(name, owner) or is_poll(name, owner) or (name in SENDS and is_tcp(owner)):
            self.reach(f"before {name}")

    def on_return(self, name, owner):
        if isinstance(owner, sqlite3.Connection | sqlite3.Cursor) and getattr(self._commits, "is_under_way", False):
            self._commits.is_under_way = False
            self.reach("after a commit")
        elif is_file(name, owner) or is_poll(name, owner) or (name in SENDS | READS and is_tcp(owner)):
            self.reach(f"after {name}")

    def reach(self, edge):
        with self._lock:
            if len(self.seen) == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.seen.append(edge)


def is_file(name, owner):
    return name in FILES and owner is sys.modules[os.name]


def is_poll(name, owner):
    return name == "poll" and isinstance(owner, POLL)


def is_tcp(owner):
    return isinstance(owner, socket.socket) and owner.family != socket.AF_UNIX


def session_to(service, **options):
    options = {"polling": QUICK, "retry": RetryPolicy(max_elapsed_s=1), "requests_per_minute": 600_000, **options}
    options["timeouts"] = Timeouts(submit_s=60, close_s=options.pop("close_s", 2))
    return LemonSession(service["key"], base_url=service["base_url"], **options)


async def run(service, journal, rows, kill_at=None, session=None, is_counting=False, **options):
    """Run a batch to its end; return the error that ended it, its counts, and the edges that were reached."""
    edges = Edges(kill_at)
    if is_counting or kill_at is not None:
        edges.install()
    error, outcomes = None, 0
    async with session_to(service, **session or {}) as lemon:
        try:
            async with lemon.batch(journal, rows, **options) as batch:
                async for _ in batch:
                    outcomes += 1
        except lemon_async.LemonError as raised:
            error = [type(raised).__name__, str(raised)]
    return {"error": error, "outcomes": outcomes, "edges": edges.seen}


async def fill_disk(service, journal, rows, disk, kept, **options):
    """Run a batch while its disk becomes full, and again when it has space; copy the disk before it goes away."""
    if not mount_small_disk(disk):
        return {"skipped": "cannot mount a file system"}
    ballast = Path(disk) / "ballast"
    errors = []

    async def run_once(after_outcome):
        async with session_to(service) as lemon:
            try:
                async with lemon.batch(journal, rows, **options) as batch:
                    async for outcome in batch:
                        errors.append(type(outcome.error).__name__) if outcome.error else None
                        after_outcome()
            except lemon_async.LemonError as raised:
                errors.append(f"{type(raised).__name__}: {raised}")

    def fill():
        with suppress(OSError), ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    await run_once(fill)
    first = errors[:]
    errors.clear()
    ballast.unlink()
    await run_once(lambda: None)
    shutil.copytree(disk, kept)
    return {"full": first, "again": errors}


def mount_small_disk(path):
    """Mount a small file system that only this process sees; return whether that is possible here."""
    libc = own_mounts()
    return libc is not None and libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", 0, b"size=8m") == 0


def mount_read_only(path):
    """Make a folder read-only for this process; return whether that is possible here."""
    libc, folder = own_mounts(), os.fsencode(path)
    return libc is not None and all(
        libc.mount(folder, folder, None, MS_BIND | flags, None) == 0 for flags in (0, MS_REMOUNT | MS_RDONLY)
    )


def own_mounts():
    """Give this process mounts of its own; return the C library, or `None` if that is not possible."""
    if sys.platform != "linux":
        return None
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWNS if user == 0 else CLONE_NEWNS | CLONE_NEWUSER):
        return None
    if user:
        names = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        try:
            for name, line in names.items():
                Path("/proc/self", name).write_text(line, encoding="utf-8")
        except OSError:
            return None
    return None if libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) else libc


async def on_read_only_disk(folder, **arguments):
    """Run a batch whose folder cannot be written."""
    if not mount_read_only(folder):
        return {"skipped": "cannot mount a file system"}
    return await run(**arguments)


async def hold(service, journal, rows, **options):
    """Enter a batch, say so, and stay until the process is killed."""
    async with session_to(service) as lemon, lemon.batch(journal, rows, **options):
        say({"pid": os.getpid()})
        await asyncio.Event().wait()


async def example(code, folder, service):
    """Run an example of the documentation in a folder."""
    os.chdir(folder)
    os.environ |= {"LEMONDATA_BASE_URL": service["base_url"], "LEMONDATA_API_KEY": service["key"]}
    sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    outcome = eval(compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {"__name__": "example"})
    if inspect.isawaitable(outcome):
        await outcome
    return {}


def say(report):
    os.write(1, json.dumps(report).encode() + b"\n")


def warm_up():
    """Run a batch that sells nothing, because what runs first is slow; all its threads have ended afterwards."""
    nowhere = {"base_url": "http://127.0.0.1:1", "key": "sk-x"}
    with tempfile.TemporaryDirectory() as folder:
        options = {"journal": f"{folder}/run.db", "rows": ["a cat"], "model": "flux-pro"}
        asyncio.run(run(nowhere, session={"retry": RetryPolicy(max_elapsed_s=0)}, **options))
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join(60)  # a journal is closed a moment before its thread has ended
    if threading.active_count() > 1:
        raise RuntimeError(f"forking is not safe: {threading.enumerate()}")
    gc.freeze()


def serve():
    warm_up()
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if not pid:
            status = 1
            try:
                say(asyncio.run(globals()[job.pop("do")](**job)))
                status = 0
            except BaseException:  # noqa: BLE001 - the process ends
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(status)
        say({"child": pid})
        say({"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])})


if __name__ == "__main__":
    serve()
