"""Many processes share one journal: no row is held twice, no cap exceeded, and who dies is buried by the others."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from journals import PICTURE, accept, intend, new_rows, save
from lemon_async.batch.opening import open_journal
from lemon_async.batch.records import Change
from lemon_async.batch.states import State, Transition

SUPPORT = str(Path(__file__).parents[3] / "support")

OWNER = """
import os, signal, sys
sys.path[:0] = sys.argv[3:]
import attrs
from journals import accept, intend
from lemon_async.batch.states import State
from lemon_async.batch.store.postgres import connection
from lemon_async.batch.store.postgres.address import Address
from lemon_async.batch.store.postgres.store import PostgresStore

class Stopped(PostgresStore):
    def _write(self, *arguments):
        self.__class__ = PostgresStore
        os.kill(os.getpid(), signal.SIGSTOP)
        PostgresStore._write(self, *arguments)

connection._SETTINGS["idle_in_transaction_session_timeout"] = "200ms"
store = PostgresStore(Address.of(sys.argv[1]))
assert len(store.claim("first", [State.NEW], -1, 5, None).rows) == 5
own = lambda change: attrs.evolve(change, run="first")
print(*store.apply([own(each) for each in (
    intend("k0"), intend("k1"), accept("k1", None), intend("k2"), accept("k2"), intend("k3"))]), flush=True)
if sys.argv[2] == "stop":
    store.__class__ = Stopped
    print(*store.apply([own(accept("k0")), own(accept("k3"))]), flush=True)
sys.stdin.read()
"""


@contextmanager
def owner_process(url, what):
    """Run another owner: it holds k0 to k4, has sent k0 and k3, got k1 inline, and k2 as a task."""
    command = [sys.executable, "-c", OWNER, url, what, SUPPORT, *sys.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "intent intent sold intent sold intent\n"
            yield process
        finally:
            process.kill()  # also if it is stopped


def keys_of(claim):
    return [row.key for row in claim.rows]


def tend(store):
    store._due = 0.0
    store.tend()


def test_two_journals_share_the_rows_and_never_the_same_one(open_store):
    """What one has let go of, the other gets."""
    one, two = open_store(), open_store()
    one.add(new_rows(7))
    one.apply([Change(key="k2", transition=Transition.REFUSE)])
    assert keys_of(one.claim("a", [State.SOLD, State.NEW], -1, 2, None)) == ["k0", "k1"]
    assert keys_of(two.claim("b", [State.SOLD, State.NEW], -1, 2, None)) == ["k3", "k4"]
    assert keys_of(two.claim("c", [], -1, 9, ["k6", "k0", "x", "k2"])) == ["k6", "k2"]
    assert two.claim("c", [State.NEW], -1, 9, ["k6", "k0", "k3"]).held_elsewhere == 2
    assert keys_of(one.claim("a", [State.NEW], -1, 9, None)) == ["k5"]
    assert one.claim("a", [State.NEW], -1, 9, None).held_elsewhere == 4
    assert two.apply([attrs.evolve(intend("k0"), run="b"), attrs.evolve(intend("k3"), run="b")]) == [None, State.INTENT]
    one.release("a")
    assert keys_of(two.claim("b", [State.NEW], -1, 9, None)) == ["k0", "k1", "k5"]


def test_claims_at_the_same_time_are_disjoint(open_store):
    """Four connections take all rows, each of them once."""
    stores = [open_store() for _ in range(4)]
    stores[0].add(new_rows(200))
    taken = []

    def take(store):
        while rows := store.claim(str(id(store)), [State.NEW], -1, 5, None).rows:
            taken.extend(row.key for row in rows)

    run_together(take, stores)
    assert sorted(taken) == sorted(row.key for row in new_rows(200))


def test_cap_holds_over_all_processes(open_store):
    """Of 160 intents at 4 cents through four connections, 50 fit into 2 dollars."""
    stores = [open_store() for _ in range(4)]
    stores[0].add(new_rows(160))
    results = []

    def buy(store):
        mine = range(stores.index(store), 160, 4)
        for first in range(0, 40, 8):
            results.extend(store.apply([intend(f"k{index}", 0.04, 2.0) for index in mine[first : first + 8]]))

    run_together(buy, stores)
    assert results.count(State.INTENT) == 50
    assert stores[0].spending().reserved == 2.0


def run_together(work, stores):
    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.long
def test_killed_owner_is_buried_by_the_next(open_store, url):
    """Its requests may have arrived; what it was sold as a task is resumed; the rest is free."""
    store = open_store()
    store.add(new_rows(6))
    with owner_process(url, "wait") as process:
        tend(store)
        assert store.counts()[State.DOUBTFUL] == 0
        assert store.claim("second", [State.SOLD], -1, 9, None).held_elsewhere == 5
        process.send_signal(signal.SIGKILL)
        process.wait()
    while store.counts()[State.DOUBTFUL] == 0:
        tend(store)
    rows = store.rows([], -1, 9)
    assert [str(row.state) for row in rows] == ["doubtful", "dead", "sold", "doubtful", "new", "new"]
    assert rows[0].error == "the process ended before the response to its request was recorded"
    assert keys_of(store.claim("second", [State.SOLD, State.NEW], -1, 9, None)) == ["k2", "k4", "k5"]
    assert store.apply([accept("k0")]) == [State.SOLD]


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_stopped_owner_blocks_no_other_and_is_heard_late(open_store, url):
    """Its session ends although it holds the lock of all sums; when it goes on, what it has bought is accepted."""
    store = open_store()
    store.add(new_rows(6))
    with owner_process(url, "stop") as process:
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
        assert store.apply([intend("k5")]) == [State.INTENT]
        while store.counts()[State.DOUBTFUL] == 0:
            tend(store)
        process.send_signal(signal.SIGCONT)
        assert process.stdout.readline() == "sold sold\n"


@pytest.mark.long
async def test_restarts_of_the_server_lose_nothing_and_double_nothing(postgres):
    """In the middle of groups: every change is confirmed once, and every row says what was confirmed."""
    async with open_journal(postgres.new_journal(), create=True) as journal:
        await journal.add(new_rows(300))
        keys = iter([f"k{index}" for index in range(300)])
        confirmed = []

        async def work():
            for key in keys:
                confirmed.append(await journal.record(intend(key)))
                confirmed.append(await journal.record(accept(key)))
                confirmed.append(await journal.record(save(key, 0.05, PICTURE)))

        async def restart():
            for how in (signal.SIGQUIT, signal.SIGINT):
                reached = min(len(confirmed) + 100, 900)  # all of them, if the restart began late
                while len(confirmed) < reached:
                    await asyncio.sleep(0.001)
                await asyncio.to_thread(postgres.restart, how)

        await asyncio.gather(restart(), *[work() for _ in range(20)])
        assert len(confirmed) == 900
        assert None not in confirmed
        rows = await journal.rows()
        assert [(row.state, row.attempt, len(row.pictures)) for row in rows] == [(State.DONE, 1, 1)] * 300
        assert (await journal.spending()).spent == pytest.approx(15.0)


def test_many_rows_of_a_dead_owner_are_marked_in_steps(open_store, end_session, monkeypatch):
    """Others wait for each transaction, so that none is long."""
    monkeypatch.setattr("lemon_async.batch.store.postgres.store._MOST_MARKED", 2)
    store, other = open_store(), open_store()
    store.add(new_rows(5))
    store.apply([intend(f"k{index}") for index in range(5)])
    end_session(store)
    tend(other)
    assert other.counts()[State.DOUBTFUL] == 5


def test_released_row_that_is_being_sent_is_doubtful_when_its_owner_dies(open_store, end_session):
    """Its run has let go of it, and its owner still knows best."""
    store, other = open_store(), open_store()
    store.add(new_rows(2))
    store.claim("run", [State.NEW], -1, 9, None)
    store.apply([attrs.evolve(intend("k0"), run="run")])
    store.release("run")
    assert keys_of(other.claim("other", [], -1, 9, None)) == ["k1"]
    end_session(store)
    tend(other)
    assert other.find("k0").state is State.DOUBTFUL


def test_closing_says_what_is_in_doubt(open_store):
    """Nobody has to find out that this owner has ended."""
    store, other = open_store(), open_store()
    store.add(new_rows(1))
    store.apply([intend("k0")])
    store.close()
    store.close()
    assert other.find("k0").state is State.DOUBTFUL
