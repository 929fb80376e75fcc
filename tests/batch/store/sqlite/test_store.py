import os
import random
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest

from journals import PICTURE, accept, intend, new_row, new_rows, save
from lemon_async.batch.records import Change
from lemon_async.batch.states import State, Transition
from lemon_async.batch.store.sqlite.status_file import StatusFile
from lemon_async.batch.store.sqlite.store import SqliteStore
from lemon_async.errors import JournalError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture
def open_store(path):
    """Open stores that are closed after the test."""
    stores = []

    def open_one(where=path, **options):
        stores.append(SqliteStore(where, **options))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


def test_settings_protect_against_power_failure(open_store):
    """Every commit is synced, and the file is locked for this connection alone."""
    execute = open_store()._connection.execute
    values = {name: execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "locking_mode")}
    assert values == {"journal_mode": "wal", "synchronous": 2, "locking_mode": "exclusive"}


def test_many_changes_are_one_transaction(open_store):
    """More than fit into one statement, with pictures; the commit hook of the connection counts."""
    store = open_store()
    store.add(new_rows(1300))
    statements = []
    store._connection.set_trace_callback(statements.append)
    store.apply([change for index in range(1300) for change in (intend(f"k{index}"), accept(f"k{index}"))])
    store.apply([save(f"k{index}", None, PICTURE) for index in range(1300)])
    store._connection.set_trace_callback(None)
    words = [statement.split()[0] for statement in statements]
    assert (words.count("BEGIN"), words.count("COMMIT")) == (2, 2)
    assert store.counts()[State.DONE] == 1300
    assert len(store.rows([State.DONE], -1, 2000)) == 1300


def test_rows_in_memory_are_bounded(open_store):
    """More rows than are kept in memory can be in flight; the tables know the others."""
    store = open_store()
    for first in range(0, 24_000, 6_000):
        keys = [f"k{index}" for index in range(first, first + 6_000)]
        store.add([new_row(key) for key in keys])
        store.apply([intend(key) for key in keys])
        assert len(store._known) <= 20_000
    assert store.apply([accept("k0"), accept("k23999")]) == [State.SOLD, State.SOLD]
    assert store.counts()[State.INTENT] == 23_998


def test_reading_new_rows_saves_looking_them_up(open_store):
    """A run reads its rows before it changes them."""
    store = open_store()
    store.add(new_rows(10))
    store.rows([State.NEW], -1, 10)
    statements = []
    store._connection.set_trace_callback(statements.append)
    store.apply([intend("k1")])
    store._connection.set_trace_callback(None)
    assert [statement.split()[0] for statement in statements] == ["WITH"]


def test_first_error_of_a_write_leaves_nothing_half_written(open_store):
    """The sums, too, are those of before."""
    store = open_store()
    store.add(new_rows(3))
    store._connection.execute(
        "CREATE TRIGGER fault BEFORE UPDATE ON rows WHEN new.key='k2' BEGIN SELECT raise(ABORT, 'no'); END"
    )
    with pytest.raises(JournalError, match="no"):
        store.apply([intend(f"k{index}") for index in range(3)])
    assert store.counts()[State.NEW] == 3
    assert not store.spending().reserved
    assert [row.state for row in store.rows([], -1, 10)] == [State.NEW] * 3
    store._connection.execute("DROP TRIGGER fault")
    assert store.apply([intend("k0")]) == [State.INTENT]


def test_index_serves_reading_by_state(open_store):
    """No scan, and nothing to sort, however many rows there are."""
    store = open_store()
    statements = []
    store._connection.set_trace_callback(statements.append)
    store.rows([State.NEW], -1, 10)
    store._connection.set_trace_callback(None)
    plan = [row[3] for row in store._connection.execute(f"EXPLAIN QUERY PLAN {statements[0]}")]
    assert plan[0] == "SEARCH rows USING INDEX rows_by_state (state=? AND number>?)"
    assert not any("TEMP B-TREE" in step for step in plan)


def test_link_to_a_journal_is_followed(open_store, path, tmp_path):
    """As SQLite does, so that the lock is that of the file."""
    link = tmp_path / "links" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    store = open_store(link)
    store.add([new_row("a")])
    with pytest.raises(JournalError, match="has it open"):
        open_store(path)


def refused(open_store, words, *arguments, **options):
    """Assert that opening is refused with these words, and that the next steps are not taken."""
    with pytest.raises(JournalError, match=words) as caught:
        open_store(*arguments, **options)
    return caught.value


def test_other_files_are_refused_and_left_alone(open_store, path):
    """Text, a picture, and a database of another program."""
    path.write_text("sku,prompt\n" * 200)
    refused(open_store, "it is not a journal, nor any SQLite database; choose another name")
    assert path.read_text() == "sku,prompt\n" * 200
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE customers (name)")
    other.close()
    before = path.read_bytes()
    refused(open_store, "it is a database of another program; choose another name")
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == ["run.db"]


def test_empty_file_becomes_a_journal(open_store, path):
    """As left by `touch`, or by a run that was killed first of all."""
    path.touch()
    assert open_store().add([new_row("a")]) == 1


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (0, "schema version 0 is older than 1, which this version uses; start a new journal"),
        (2, "schema version 2 is newer than 1, which this version uses; update lemon_async"),
    ],
)
def test_other_schema_versions_are_refused(open_store, path, version, words):
    """Both versions are named."""
    open_store().close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version={version}")
    other.close()
    refused(open_store, words)


def test_missing_folder_and_a_folder_are_refused(open_store, tmp_path):
    """With what to do."""
    refused(open_store, "there is no folder .*/missing'; create it", tmp_path / "missing" / "run.db")
    refused(open_store, "it is a folder; give the name of a file", tmp_path)


def test_damaged_journal_is_refused(open_store, path):
    """Whatever page it is that is damaged, no exception of SQLite escapes."""
    store = open_store()
    store.add(new_rows(2000))
    store.close()
    whole = path.read_bytes()
    assert path.stat().st_size > 100_000
    path.write_bytes(whole[:8192] + random.Random(1).randbytes(len(whole) - 8192))
    with pytest.raises(JournalError, match="it is damaged; use"):
        open_store().rows([], -1, 2000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: Path(f"{path}-wal").unlink(),
        lambda path: path.rename(path.with_name("moved.db")),
        lambda path: (shutil.copy(path, f"{path}.copy"), Path(f"{path}.copy").replace(path)),
    ],
    ids=["deleted", "log deleted", "moved", "replaced"],
)
def test_file_that_goes_while_it_is_in_use_is_noticed(open_store, path, damage):
    """What is written would be lost."""
    store = open_store()
    store.add(new_rows(2))
    damage(path)
    for write in (
        lambda: store.apply([intend("k0")]),
        lambda: store.write_note("a", "b"),
        lambda: store.add([new_row("z")]),
    ):
        with pytest.raises(JournalError, match="it was deleted, moved or replaced while it was in use"):
            write()


def test_second_connection_is_refused_with_the_owner_of_the_first(open_store, path):
    """From its status file, if there is one."""
    store = open_store()
    status = Path(f"{path}.status")
    known = status.read_bytes()
    status.unlink()
    error = refused(open_store, "another process has it open; wait until it ends, or stop it")
    assert error.owner == {}
    status.write_bytes(known)
    error = refused(open_store, "this process has it open already; leave the block of that batch or journal first")
    assert error.owner["counts"]["new"] == 0
    assert store.add([new_row("a")]) == 1


def test_lost_log_of_a_killed_run_is_refused(open_store, path):
    """Without it, rows that were sold would be bought again."""
    store = open_store()
    store.add([new_row("a")])
    shutil.copytree(path.parent, path.parent / "copy")
    crashed = path.parent / "copy" / "run.db"
    StatusFile(crashed).write(store.counts(), store.spending())
    Path(f"{crashed}-wal").unlink()
    link = path.parent / "link.db"
    link.symlink_to(crashed)
    words = r"left changes in 'run.db-wal', which is missing; put it back, or remove 'run.db.status'"
    for name in (crashed, link):
        refused(open_store, words, name)
    Path(f"{crashed}.status").unlink()
    open_store(crashed)


def test_hard_link_to_a_journal_is_refused(open_store, path):
    """The log has the name that the run used: by another one, rows that were sold would look new."""
    open_store().close()
    path.with_name("other.db").hardlink_to(path)
    for name in (path, path.with_name("other.db")):
        refused(open_store, r"it has 2 names \(hard links\).*; remove the others", name)
    path.with_name("other.db").unlink()
    open_store()


def test_network_file_system_is_refused(open_store, tmp_path, path):
    """Its locks do not exclude other machines."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"36 35 98:0 / {tmp_path} rw,noatime - nfs4 server:/export rw\n")
    refused(open_store, r"it is on a network file system \(nfs4\), .*; put it on a local disk", path, mounts=mounts)
    assert not path.exists()
    open_store(path, mounts=tmp_path / "missing").close()


@pytest.fixture
def open_folder():
    """A folder that any user may enter, for a test that is run as an ordinary user."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        if is_root:
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)
            Path(name).chmod(0o777)


def test_read_only_file_and_folder_are_refused(open_store, open_folder):
    """Nothing is sent that cannot be recorded."""
    path = open_folder / "run.db"
    open_store(path).close()
    path.chmod(0o444)
    refused(open_store, "it is read-only; make the file and its folder writable", path)
    path.chmod(0o666)
    folder = open_folder / "closed"
    folder.mkdir()
    path.rename(folder / "run.db")
    folder.chmod(0o555)
    refused(open_store, "it is read-only; make the file and its folder writable", folder / "run.db")
    refused(open_store, "check the permissions of the file and of its folder", folder / "new.db")
    folder.chmod(0o777)


def journal_with_log(path):
    """Write a journal that is not closed, and return the sizes of its log with the state of the row after each."""
    store = SqliteStore(path)
    store.add([new_row("a")])
    log = Path(f"{path}-wal")
    sizes = [(log.stat().st_size, "new")]
    for change in (
        intend("a"),
        Change(key="a", transition=Transition.WITHDRAW),
        intend("a"),
        accept("a"),
        save("a", 0.1, PICTURE),
    ):
        (state,) = store.apply([change])
        sizes.append((log.stat().st_size, str(state)))
    return store, sizes


@pytest.mark.parametrize("garble", [False, True], ids=["cut", "garbled"])
def test_torn_log_loses_no_change_that_was_synced_before_the_tear(tmp_path, garble):
    """A change counts if all of its commit is there, however the rest is torn; nothing is ever half there."""
    store, sizes = journal_with_log(tmp_path / "run.db")
    shuffled = random.Random(7)
    whole = Path(f"{tmp_path}/run.db-wal").read_bytes()
    offsets = {size + shift for size, _ in sizes for shift in (-1, 0, 1)} | set(shuffled.sample(range(len(whole)), 40))
    recovered = {"intent": "doubtful"}
    for offset in sorted(offsets & set(range(sizes[0][0], len(whole)))):
        torn = tmp_path / f"torn-{offset}.db"
        shutil.copy(tmp_path / "run.db", torn)
        rest = shuffled.randbytes(len(whole) - offset) if garble else b""
        Path(f"{torn}-wal").write_bytes(whole[:offset] + rest)
        opened = SqliteStore(torn)
        row = opened.find("a")
        opened.close()
        synced = [state for size, state in sizes if size <= offset][-1]
        assert row.state == recovered.get(synced, synced), offset
        assert row.pictures == ((PICTURE,) if synced == "done" else ())
    store.close()


def test_log_that_is_torn_anywhere_never_crashes(tmp_path):
    """Even if bytes are gone that were synced: an error that says so, or an older state."""
    store, _ = journal_with_log(tmp_path / "run.db")
    whole = Path(f"{tmp_path}/run.db-wal").read_bytes()
    for offset in range(0, len(whole), 4999):
        torn = tmp_path / f"torn-{offset}.db"
        shutil.copy(tmp_path / "run.db", torn)
        Path(f"{torn}-wal").write_bytes(whole[:offset])
        opened = SqliteStore(torn)
        assert opened.find("a") is None or opened.find("a").attempt in {0, 1}
        opened.close()
    store.close()
