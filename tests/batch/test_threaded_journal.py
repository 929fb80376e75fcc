"""Faults of a journal in SQLite: full disks, failing syncs, second runners, killed owners, disks that hang."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from journals import accept, intend, new_row, new_rows
from lemon_async.batch import threaded_journal
from lemon_async.batch.opening import open_journal
from lemon_async.batch.states import State
from lemon_async.batch.store.sqlite.store import SqliteStore
from lemon_async.batch.threaded_journal import _ThreadedJournal
from lemon_async.errors import JournalError
from maps import until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


class Faulty(sqlite3.Connection):
    """A connection whose statements fail, or wait, on request."""

    fault = None
    gate = None
    statements = ()

    def execute(self, statement, *values):
        self.statements = (*self.statements, statement.split()[0])
        if self.gate is not None and statement.startswith(("WITH", "BEGIN")):
            self.gate.wait()
        if self.fault is not None and statement.startswith(("COMMIT", "WITH")):
            failure = sqlite3.OperationalError("disk I/O error")
            failure.sqlite_errorname = self.fault
            raise failure
        return super().execute(statement, *values)


class FaultyStore(SqliteStore):
    def _connect(self):
        return sqlite3.connect(self._path, timeout=0, isolation_level=None, factory=Faulty)


@asynccontextmanager
async def faulty_journal(path):
    """Open a journal, and return it with its connection."""
    stores = []

    def open_store():
        stores.append(FaultyStore(path))
        return stores[-1]

    journal = _ThreadedJournal(str(path), open_store, path.parent, "the disk")
    await journal.start()
    try:
        yield journal, stores[0]._connection
    finally:
        await journal.aclose()


async def test_first_failure_ends_all_writing(path):
    """What is queued and what comes later fails with the same error; reads still work; nothing is half written."""
    async with faulty_journal(path) as (journal, connection):
        await journal.add(new_rows(5))
        await journal.record(intend("k0"))
        connection.fault = "SQLITE_IOERR_FSYNC"
        results = await asyncio.gather(
            journal.record(intend("k1")),
            journal.record(accept("k0")),
            journal.write_note("a", "b"),
            journal.record(intend("k2")),
            return_exceptions=True,
        )
        connection.fault = None
        assert {type(result) for result in results} == {JournalError}
        assert len({str(result) for result in results}) == 1
        assert "failed to sync, so that changes may be lost" in str(results[0])
        assert isinstance(results[0].__cause__, sqlite3.OperationalError)
        with pytest.raises(JournalError, match="failed to sync"):
            await journal.record(intend("k3"))
        with pytest.raises(JournalError, match="failed to sync"):
            await journal.add([new_row("z")])
        assert (await journal.counts())[State.INTENT] == 1
        assert [str(row.state) for row in await journal.rows()] == ["intent", "new", "new", "new", "new"]
    async with open_journal(path) as journal:
        assert (await journal.counts())[State.DOUBTFUL] == 1


async def test_bug_in_the_store_ends_all_writing(path):
    """An unforeseen exception is a failure like others, and does not end the thread."""
    async with faulty_journal(path) as (journal, _):
        await journal.add(new_rows(1))
        broken = intend("k0")
        object.__setattr__(broken, "fingerprint", object())
        with pytest.raises(JournalError, match="Error binding parameter"):
            await journal.record(broken)
        with pytest.raises(JournalError, match="Error binding parameter"):
            await journal.record(intend("k0"))
        assert (await journal.find("k0")).state is State.NEW


async def test_end_of_the_thread_is_an_error_of_all_waiters(path):
    """Nobody waits for a thread that a bug has ended."""
    journal = _ThreadedJournal(str(path), lambda: FaultyStore(path), path.parent, "the disk")
    await journal.start()
    journal._take = lambda: 1 / 0
    results = []
    for _ in range(3):  # the thread may be in the former `_take`
        results += await asyncio.gather(journal.counts(), return_exceptions=True)
    await journal.aclose()
    assert isinstance(results[1], JournalError)
    assert "is closed" in str(results[2])


async def test_closing_says_that_the_last_changes_failed(path):
    """Nobody waited for them."""

    async def run():
        async with faulty_journal(path) as (journal, connection):
            await journal.add(new_rows(1))
            connection.fault = "SQLITE_FULL"
            journal.record(intend("k0"))

    with pytest.raises(JournalError, match="the disk is full"):
        await run()


async def test_closing_does_not_wait_for_a_disk_that_hangs(path, monkeypatch):
    """After its bound, whoever waits gets an error, and the thread ends when the disk responds."""
    monkeypatch.setattr(threaded_journal, "_CLOSE_WITHIN_S", 0.05)
    gate, before = threading.Event(), {*threading.enumerate()}
    async with faulty_journal(path) as (journal, connection):
        (thread,) = [each for each in {*threading.enumerate()} - before if each.name == "lemon_async journal"]
        await journal.add(new_rows(2))
        connection.gate = gate
        first, second = journal.record(intend("k0")), asyncio.ensure_future(journal.counts())
        await asyncio.sleep(0)
        await until(lambda: journal._taken)
        with pytest.raises(JournalError, match=r"the disk has not responded within 0\.05 s"):
            await journal.aclose()
        for waiter in (first, second):
            with pytest.raises(JournalError, match="the last changes may be missing"):
                await waiter
    gate.set()
    await until(lambda: not thread.is_alive())
    monkeypatch.setattr(threaded_journal, "_CLOSE_WITHIN_S", 60.0)  # of a disk that is only busy
    async with open_journal(path) as journal:
        assert (await journal.counts())[State.DOUBTFUL] == 1


async def test_cancelled_closing_still_closes(path):
    """The file is free when the cancellation arrives."""
    async with faulty_journal(path) as (journal, connection):
        await journal.add(new_rows(1))
        connection.gate = threading.Event()
        waiter = journal.record(intend("k0"))
        closing = asyncio.ensure_future(journal.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.sleep(0)
        connection.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert await waiter is State.INTENT
        async with open_journal(path):
            pass


async def test_cancelled_opening_releases_the_file(path):
    """It can be opened again immediately."""

    async def open_it():
        async with open_journal(path, create=True):
            await asyncio.Event().wait()

    for turns in range(4):
        opening = asyncio.ensure_future(open_it())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        async with open_journal(path, create=True):
            pass


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
async def test_impossible_names_are_refused(tmp_path, name):
    """As an error of the journal, whoever finds it."""
    with pytest.raises(JournalError, match="cannot use the journal"):
        async with open_journal(tmp_path / name, create=True):
            pass


async def test_waiters_of_a_group_share_one_commit(path):
    """And one call of the event loop, however many they are."""
    async with faulty_journal(path) as (journal, connection):
        await journal.add(new_rows(300))
        connection.statements = ()
        connection.gate = threading.Event()
        waiting = [journal.record(intend(f"k{index}")) for index in range(300)]
        connection.gate.set()
        await asyncio.gather(*waiting)
        assert connection.statements.count("COMMIT") <= 2


async def test_loop_is_free_while_the_disk_is_busy(path):
    """Everything that blocks runs in the thread."""
    async with faulty_journal(path) as (journal, connection):
        await journal.add(new_rows(1))
        connection.gate = threading.Event()
        waiter = journal.record(intend("k0"))
        await asyncio.sleep(0.01)
        assert not waiter.done()
        connection.gate.set()
        assert await waiter is State.INTENT


async def test_status_file_lives_as_long_as_the_run(path):
    """It is there from the beginning, and gone at the end."""
    async with open_journal(path, create=True):
        assert json.loads(Path(f"{path}.status").read_text())["pid"] == os.getpid()
    assert [each.name for each in path.parent.iterdir()] == ["run.db"]


async def test_journal_is_found_after_the_working_folder_changes(tmp_path, monkeypatch):
    """A relative path is that of the moment of opening."""
    monkeypatch.chdir(tmp_path)
    async with open_journal("run.db", create=True) as journal:
        monkeypatch.chdir("/")
        await journal.add([new_row("a")])
        assert journal.name == str(tmp_path / "run.db")
        assert repr(journal) == f"<Journal {str(tmp_path / 'run.db')!r}>"


def test_importing_the_package_does_not_load_sqlite():
    """Only batches pay for it."""
    code = "import sys, lemon_async.session, lemon_async.batch.opening; print('sqlite3' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_forked_process_may_not_use_the_journal(path):
    """Its connection and its locks belong to the first process."""
    async with open_journal(path, create=True) as journal:
        child = os.fork()
        if not child:
            waiter = journal.record(intend("a"))
            os._exit(42 if "before a fork" in str(waiter.exception()) else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 42
        assert await journal.add([new_row("a")]) == 1


OWNER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from journals import PICTURE, accept, intend, new_rows, save
from lemon_async.batch.opening import open_journal

async def main():
    async with open_journal(sys.argv[1], create=True) as journal:
        await journal.add(new_rows(2000))
        print("ready", flush=True)
        async def row(index):
            for change in (intend(f"k{index}"), accept(f"k{index}"), save(f"k{index}", 0.05, PICTURE)):
                print(f"k{index}", str(await journal.record(change)), flush=True)
        for first in range(0, 2000, 20):
            await asyncio.gather(*[row(index) for index in range(first, first + 20)])
        await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def owner_process(path):
    """Run an owner of the journal in another process until the end of the block."""
    support = str(Path(__file__).parents[1] / "support")
    # Opened twice: with one position for both, reading would move where the process writes.
    with tempfile.NamedTemporaryFile("r") as output, Path(output.name).open("ab") as written:
        process = subprocess.Popen([sys.executable, "-c", OWNER, path, support, *sys.path], stdout=written)
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()


async def lines_of(output, number):
    """Return the first lines of the output of a process."""
    while True:
        output.seek(0)
        if len(lines := output.read().splitlines()) >= number:
            return lines
        await asyncio.sleep(0.005)


async def test_second_runner_is_refused_until_the_first_is_killed(path):
    """Its error names the first one; after `kill -9` every change that was confirmed is there."""
    async with owner_process(path) as (process, output):
        await lines_of(output, 200)
        with pytest.raises(JournalError, match=f"process {process.pid} on .* has it open") as caught:
            async with open_journal(path):
                pass
        assert caught.value.owner["pid"] == process.pid
        process.send_signal(signal.SIGKILL)
        process.wait()
        output.seek(0)
        lines = output.read().splitlines(keepends=True)[1:]
        # The last line may be torn.
        confirmed = dict(line.split() for line in lines if line.count(" ") == 1 and line.endswith("\n"))
    expected = {"intent": {"doubtful", "sold", "done"}, "sold": {"sold", "done"}, "done": {"done"}}
    async with open_journal(path) as journal:
        rows = {row.key: str(row.state) for row in await journal.rows(limit=5000)}
        assert len(rows) == 2000
        assert all(rows[key] in expected[state] for key, state in confirmed.items())
        assert "intent" not in rows.values()
        assert len(confirmed) > 50


async def test_changes_that_come_one_by_one_share_transactions(path):
    """Those of eight rows in flight: a transaction costs more than a change."""
    async with faulty_journal(path) as (journal, connection):
        await journal.add(new_rows(80))
        connection.statements = ()

        async def follow(keys):
            for key in keys:
                await journal.record(intend(key))
                await journal.record(accept(key))
                await asyncio.sleep(0.001)

        await asyncio.gather(*[follow([f"k{index}" for index in range(first, 80, 8)]) for first in range(8)])
        assert len([word for word in connection.statements if word in {"WITH", "COMMIT"}]) < 110


async def test_lone_changes_do_not_wait_for_others(path):
    """If gathering brings nothing, it is not tried again for sixteen groups; a large group gathers nothing."""
    journal = _ThreadedJournal(str(path), lambda: FaultyStore(path), path.parent, "the disk")
    journal._gather(32)
    assert journal._groups_to_skip == 0
    for left in (16, *reversed(range(16)), 16):
        journal._gather(1)
        assert journal._groups_to_skip == left


async def test_failure_between_calls_ends_all_writing(path):
    """As that of a server that has gone while nobody asked for anything."""

    class Failing(SqliteStore):
        def tend(self):
            if self.counts()[State.NEW]:
                raise JournalError(message="it has gone")

    journal = _ThreadedJournal(str(path), lambda: Failing(path), path.parent, "the disk")
    await journal.start()
    assert await journal.add(new_rows(1)) == 1
    await journal.counts()
    with pytest.raises(JournalError, match="it has gone"):
        await journal.record(intend("k0"))
    with suppress(JournalError):
        await journal.aclose()
