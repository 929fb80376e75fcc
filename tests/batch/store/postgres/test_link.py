"""Each transaction is made exactly once, wherever the connection ends."""

from contextlib import suppress

import attrs
import psycopg
import pytest

from journals import accept, intend, new_rows
from lemon_async.batch.states import State
from lemon_async.batch.store.postgres import statements as sql
from lemon_async.batch.store.postgres.link import Link
from lemon_async.errors import JournalError


class CutLink(Link):
    """Ends its session at one point of its next transaction.

    The points are those between the messages of client and server, and the loss of the response to COMMIT.
    """

    point = None
    end = None

    def _cut(self, point):
        if self.point == point:
            self.point = None
            self.end()

    def _attempt(self, connection, group, work):
        def cut_work():
            self._cut("begun")
            work()
            self._cut("worked")

        self._cut("idle")
        super()._attempt(connection, group, cut_work)
        if self.point == "committed":
            self._cut("committed")
            connection.close()
            raise psycopg.OperationalError("no response")


@pytest.fixture
def store(open_store, end_session):
    store = open_store(patience_s=60)
    store._link.__class__ = CutLink
    store._link.end = lambda: end_session(store)
    return store


@pytest.mark.parametrize("point", ["idle", "begun", "worked", "committed"])
def test_transaction_is_made_once_wherever_the_connection_ends(store, point):
    """A change that was made again would be impossible, and rows that were added again would be none."""
    assert store.add(new_rows(3)) == 3
    store._link.point = point
    assert store.apply([intend("k0"), intend("k1")]) == [State.INTENT, State.INTENT]
    assert store._link.point is None
    store._link.point = point
    assert store.add(new_rows(5)) == 2
    store._link.point = point
    assert [row.key for row in store.claim("run", [State.NEW], -1, 2, None).rows] == ["k2", "k3"]
    assert [row.attempt for row in store.rows((), -1, 10)] == [1, 1, 0, 0, 0]
    assert store.counts()[State.NEW] == 3
    assert store.spending().reserved == 0.08


def test_reading_survives_the_end_of_a_session(store, end_session):
    """It is repeated."""
    store.add(new_rows(1))
    for read in (
        store.counts,
        lambda: store.find("k0"),
        lambda: store.read_note("x"),
        lambda: store.check(new_rows(1)),
    ):
        end_session(store)
        read()


def test_owner_comes_back_under_its_number(store, end_session, open_store):
    """It still holds its rows, and nobody buries it."""
    store.add(new_rows(2))
    store.claim("run", [State.NEW], -1, 1, None)
    owner = store._link.owner.id
    end_session(store)
    assert store.apply([intend("k1")]) == [State.INTENT]
    assert store._link.owner.id == owner
    other = open_store()
    assert other.counts()[State.DOUBTFUL] == 0
    assert other.claim("other", [State.NEW], -1, 9, None).held_elsewhere == 1


def test_buried_owner_is_heard_and_owns_nothing(store, end_session, open_store):
    """Its rows are those of others; what it has bought is accepted."""
    store.add(new_rows(3))
    store.claim("run", [State.NEW], -1, 2, None)
    store.apply([attrs.evolve(intend("k0"), run="run"), intend("k2")])
    end_session(store)
    other = open_store()
    assert other.counts()[State.DOUBTFUL] == 2
    assert [row.key for row in other.claim("other", [State.NEW], -1, 9, None).rows] == ["k1"]
    late = [accept("k0"), attrs.evolve(intend("k1"), run="run"), accept("k2", None)]
    assert store.apply(late) == [State.SOLD, None, State.SOLD]


def test_an_intent_whose_owner_was_buried_before_the_answer_came_is_refused(store, end_session, open_store):
    """It is in doubt, and a user may have decided about it: sending it then could buy the row twice."""
    store.add(new_rows(2))
    store.apply([intend("k0")])
    store._link.point, store._link.end = "committed", lambda: (end_session(store), open_store())
    assert store.apply([accept("k0"), intend("k1")]) == [State.SOLD, None]
    assert [row.state for row in store.rows((), -1, 2)] == [State.SOLD, State.DOUBTFUL]


def test_transaction_whose_sessions_all_end_is_given_up(store, end_session):
    """Each time the server is there again: waiting for it does not end that."""
    store.add(new_rows(1))
    store._link._patience_s = 0.1
    store._link.point, store._link.end = "worked", lambda: (end_session(store), setattr(store._link, "point", "worked"))
    with pytest.raises(JournalError, match="cannot use the journal"):
        store.apply([intend("k0")])
    store._link.point = None
    assert [row.state for row in store.rows((), -1, 1)] == [State.NEW]


def test_server_that_lost_changes_is_refused(store, end_session, url, postgres):
    """An older copy of the database would buy again."""
    store.add(new_rows(2))
    for key in ("k0", "k1"):
        store.apply([intend(key)])
    schema = url.partition("schema=")[2]
    postgres.execute(f"UPDATE {schema}.owners SET last_group = last_group - 1", url.partition("?")[0])
    end_session(store)
    for _ in range(2):
        with pytest.raises(JournalError, match="has lost changes that it had confirmed"):
            store.counts()


def test_patience_ends(store, postgres):
    """After it, every call fails immediately."""
    store.add(new_rows(1))
    store._link._patience_s = 0.2
    postgres.stop()
    try:
        for _ in range(2):
            with pytest.raises(JournalError, match="the server does not respond; start it, or check host and port"):
                store.apply([intend("k0")])
    finally:
        postgres.start()
    with pytest.raises(JournalError, match="does not respond"):
        store.counts()


def test_error_of_a_statement_undoes_the_transaction(store):
    """And the next one is made."""
    with pytest.raises(JournalError, match=r"its tables were changed by another program: .* \(42P01\)"):
        store._link.transact(lambda connection: connection.execute("SELECT FROM nothing"))
    with pytest.raises(JournalError, match="nothing"):
        store._link.transact(lambda connection: connection.execute("SELECT FROM nothing").fetchall())
    assert store.add(new_rows(1)) == 1


def test_session_that_holds_the_sums_without_going_on_is_ended(store, open_store, monkeypatch):
    """As that of a process that was stopped before its COMMIT; for the server it is not idle."""
    store.add(new_rows(1))
    other = open_store()
    connection = other._link._connection
    with suppress(psycopg.Error), connection.pipeline():
        connection.execute("BEGIN")
        connection.execute(sql.LOCK).fetchone()
        monkeypatch.setattr(sql, "END_HOLDERS", sql.END_HOLDERS.replace("5 s", "0 s"))
        store._link._connection.execute("SET lock_timeout = '100ms'")
        assert store.apply([intend("k0")]) == [State.INTENT]
    assert other.apply([accept("k0")]) == [State.SOLD]
