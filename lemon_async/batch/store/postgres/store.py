"""The tables of a journal in PostgreSQL, and its transactions; synchronous, for one thread.

Any number of processes may use the journal. Each transaction locks the sums, reads, asks the pure `Ledger`, and writes:
two round trips. `link.py` makes each of them exactly once.
"""

import random
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import compress
from typing import Any

import orjson

from lemon_async.batch.records import Change, Claim, JournalRow, NewRow, SavedPicture, Spending
from lemon_async.batch.states import State, Transition
from lemon_async.batch.store.claims import abandoned
from lemon_async.batch.store.faults import conflict, not_text
from lemon_async.batch.store.ledger import Ledger, RowFacts
from lemon_async.batch.store.postgres import statements as sql
from lemon_async.batch.store.postgres.address import Address
from lemon_async.batch.store.postgres.connection import Connection
from lemon_async.batch.store.postgres.link import Link, first
from lemon_async.batch.store.postgres.schema import prepare
from lemon_async.batch.store.postgres.values import (
    array,
    content_out,
    escaped,
    facts_of,
    identity,
    ledger_of,
    new_row,
    text_in,
    text_out,
    totals_of,
    update_of,
)
from lemon_async.batch.store.values import is_text, journal_row
from lemon_async.errors import JournalError

__all__ = ["PostgresStore"]

_GRACE_S = 15.0
_PATIENCE_S = 60.0
_BURY_EVERY_S = 2.0
_BURY_SELDOM_S = 20.0  # an idle session ends after a minute
_OWNERS_TOGETHER = 8
_UNSIGNED = 1 << 32
_MOST_MARKED = 500
_LEAVE_WITHIN_S = 2.0


class PostgresStore:
    """A journal in a schema of a database.

    Args:
        address: Where it is.
        base_url: The service that the rows are for; a journal of another one is refused. `None` does not check.
        create: Whether to create the schema and its tables if they are missing.
        grace_s: For how long after a start of the server no earlier owner counts as dead.
        patience_s: How long to wait for a server that is gone.

    Raises:
        JournalError: It cannot be used.
    """

    def __init__(
        self,
        address: Address,
        base_url: str | None = None,
        *,
        create: bool = True,
        grace_s: float = _GRACE_S,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._grace_s = grace_s
        self._due = 0.0
        self._link = Link(address, patience_s=patience_s)
        try:
            self._link.read(lambda connection: prepare(connection, address, base_url, create=create))
            self.tend()
        except BaseException:
            self._link.close()
            raise

    def apply(self, changes: Sequence[Change]) -> list[State | None]:
        """Make changes, in one transaction; return the new state for each, as `Journal.record`."""
        identities = array({identity(change.key) for change in changes})
        results = self._link.transact(lambda connection: self._apply(connection, changes, identities))
        if self._link.owner is not None:
            return results
        # Buried before the answer came: what was intended is in doubt already, so that it must not be sent any more.
        return [
            None if each.transition is Transition.INTEND else state
            for each, state in zip(changes, results, strict=True)
        ]

    def _apply(self, connection: Connection, changes: Sequence[Change], identities: str) -> list[State | None]:
        locked, loaded = connection.execute(sql.LOCK), connection.execute(sql.LOAD, (identities,))
        self._link.settle()
        number, now, *sums = first(locked)
        ledger = ledger_of(*sums)
        known = {row.key: row for row in map(facts_of, loaded.fetchall())}
        runs = {key: row.holder for key, row in known.items()}
        for each in known.values():
            each.holder = each.holder or None
        results = [
            None if (row := known.get(change.key)) is None else ledger.change(row, change, now) for change in changes
        ]
        if changed := {change.key: known[change.key] for change in compress(changes, results)}:
            self._write(connection, changed.values(), ledger, number)
            self._write_pictures(
                connection, known, [each for each, state in zip(changes, results, strict=True) if state]
            )
            self._write_claims(connection, [(row, runs[key]) for key, row in changed.items()])
        return results

    def _write(self, connection: Connection, rows: Collection[RowFacts], ledger: Ledger, number: int) -> None:
        connection.execute(sql.UPDATE, (_json([update_of(row) for row in rows]),))
        connection.execute(sql.WRITE_SUMS, (number, totals_of(ledger), ledger.sunk, ledger.refunded))

    def _write_pictures(self, connection: Connection, rows: Mapping[str, RowFacts], changes: Sequence[Change]) -> None:
        pictures = [
            {
                "number": rows[change.key].number,
                "position": position,
                "path": text_in(picture.path),
                "size_bytes": picture.size_bytes,
                "sha256": picture.sha256,
            }
            for change in changes
            for position, picture in enumerate(change.pictures)
        ]
        if pictures:
            connection.execute(sql.INSERT_PICTURES, (_json(pictures),))

    def _write_claims(self, connection: Connection, rows: Sequence[tuple[RowFacts, str | None]]) -> None:
        """Claim and let go; a request that is being sent without a run is noted for its owner, too."""
        freed, taken = [], []
        for row, before in rows:
            after = "" if row.holder is None and _dies_with_owner(row) else row.holder
            if after is None and before is not None:
                freed.append(str(row.number))
            elif after is not None and after != before:
                taken.append({"number": row.number, "run": after})
        if freed:
            connection.execute(sql.UNCLAIM, (array(freed),))
        if taken:
            connection.execute(sql.CLAIMS, (self._me, _json(taken)))

    @property
    def _me(self) -> int:
        return self._link.owner.id if self._link.owner else -1

    def add(self, rows: Sequence[NewRow]) -> int:
        """Add rows, as `Journal.add`."""
        if not self._link.read(lambda connection: self._fresh(connection, rows)):
            return 0
        return self._link.transact(lambda connection: self._add(connection, rows))

    def check(self, rows: Sequence[NewRow]) -> None:
        """Check rows, as `Journal.check`."""
        self._link.read(lambda connection: self._fresh(connection, rows))

    def _fresh(self, connection: Connection, rows: Sequence[NewRow]) -> list[NewRow]:
        """Return the rows whose key is new.

        Raises:
            ContractError: A key exists with another digest, or is not text.
        """
        if unreadable := [row.key for row in rows if not is_text(row.key)]:
            raise not_text(unreadable)
        lists = array(identity(row.key) for row in rows), array(row.digest.hex() for row in rows)
        fresh: dict[str, NewRow] = {}
        conflicts: list[NewRow] = []
        for position, is_new in self._fetch(connection, sql.FRESH, lists):
            row = rows[position]
            if not is_new or fresh.setdefault(row.key, row).digest != row.digest:
                conflicts.append(row)
        if conflicts:
            raise conflict([(self._content(connection, row.key, fresh), row) for row in conflicts])
        return list(fresh.values())

    def _content(self, connection: Connection, key: str, fresh: Mapping[str, NewRow]) -> tuple[bytes, bytes]:
        """Return what the journal, or the same call, holds under a key."""
        if key in fresh:
            return fresh[key].request, fresh[key].columns
        ((request, columns),) = self._fetch(connection, sql.CONTENT, (identity(key),))
        return content_out(request), content_out(columns)

    def _add(self, connection: Connection, rows: Sequence[NewRow]) -> int:
        locked = connection.execute(sql.LOCK)
        fresh = self._fresh(connection, rows)
        number, now, *sums = first(locked)
        if fresh:
            ledger = ledger_of(*sums)
            total = ledger.totals[State.NEW]
            total.rows += len(fresh)
            total.unpriced += len(fresh)
            objects = _json([new_row(position, row) for position, row in enumerate(fresh, number)])
            connection.execute(sql.ADD, {"rows": objects, "now": now})
            sums = [totals_of(ledger), ledger.sunk, ledger.refunded]
            connection.execute(sql.WRITE_SUMS, (number + len(fresh), *sums))
        return len(fresh)

    def rows(self, states: Sequence[State], after: int, limit: int) -> list[JournalRow]:
        """Return rows, as `Journal.rows`."""
        values = {"states": array({str(state) for state in states}), "after": after, "limit": limit}
        select = sql.ROWS_BY_STATE if states else sql.ROWS
        return self._link.read(lambda connection: self._select(connection, select, values))

    def last_rows(self, states: Sequence[State], before: int, limit: int) -> list[JournalRow]:
        """Return rows, as `Journal.last_rows`."""
        values = {"states": array({str(state) for state in states}), "before": before, "limit": limit}
        select = sql.LAST_ROWS_BY_STATE if states else sql.LAST_ROWS
        return self._link.read(lambda connection: self._select(connection, select, values))

    def find(self, key: str) -> JournalRow | None:
        """Return a row, as `Journal.find`."""
        values = (identity(key),)
        return next(iter(self._link.read(lambda connection: self._select(connection, sql.FIND, values))), None)

    def _select(self, connection: Connection, select: str, values: Any) -> list[JournalRow]:
        """Return rows with their pictures."""
        found = self._fetch(connection, select, values)
        pictures: dict[int, list[SavedPicture]] = {}
        if numbers := [str(row[0]) for row in found if row[2] == State.DONE]:
            for number, path, size_bytes, sha256 in self._fetch(connection, sql.PICTURES, (array(numbers),)):
                pictures.setdefault(number, []).append(SavedPicture(text_out(path), size_bytes, sha256))
        return [_journal_row(row, tuple(pictures.get(row[0], ()))) for row in found]

    def _fetch(self, connection: Connection, select: str, values: Any) -> list[tuple[Any, ...]]:
        cursor = connection.execute(select, values)
        self._link.settle()
        return cursor.fetchall()

    def claim(self, run: str, states: Sequence[State], after: int, limit: int, keys: Sequence[str] | None) -> Claim:
        """Hold rows for a run, as `Journal.claim`."""
        values: dict[str, Any] = {"states": array({str(state) for state in states or State}), "run": run}
        if keys is None:
            values |= {"after": after, "limit": limit}
            return self._link.transact(lambda each: self._claim(each, sql.CLAIM, values, (sql.HELD, (run,))))
        values["identities"] = array(dict.fromkeys(identity(key) for key in keys))
        held = sql.HELD_OF, (run, values["identities"])
        return self._link.transact(lambda each: self._claim(each, sql.CLAIM_KEYS, values, held))

    def _claim(self, connection: Connection, take: str, values: Mapping[str, Any], held: tuple[str, Any]) -> Claim:
        connection.execute(sql.LOCK)
        if rows := self._select(connection, take, {**values, "owner": self._me}):
            return Claim(rows)
        ((others,),) = self._fetch(connection, *held)
        return Claim((), others)

    def release(self, run: str) -> None:
        """Let go of the rows of a run, as `Journal.release`."""
        self._link.transact(lambda connection: _release(connection, run))

    def runs(self) -> int:
        """Return how many runs hold rows."""
        (runs,) = self._link.read(lambda connection: first(connection.execute(sql.RUNS)))
        return int(runs)

    def counts(self) -> Mapping[State, int]:
        """Return the number of rows in every state."""
        return self._sums().counts()

    def spending(self) -> Spending:
        """Return the sums of money."""
        return self._sums().spending()

    def _sums(self) -> Ledger:
        return ledger_of(*self._link.read(lambda connection: first(connection.execute(sql.SUMS))))

    def owner_of(self, path: str) -> str | None:
        """Return the key of the row that has this file."""
        values = (text_in(path),)
        found = self._link.read(lambda connection: connection.execute(sql.OWNER_OF, values).fetchone())
        return None if found is None else text_out(found[0])

    def read_note(self, name: str) -> str | None:
        """Return a note."""
        found = self._link.read(lambda connection: connection.execute(sql.READ_NOTE, (name,)).fetchone())
        return None if found is None else str(found[0])

    def write_note(self, name: str, text: str) -> None:
        """Keep a note."""
        values = name, escaped(text)
        self._link.read(lambda connection: connection.execute(sql.WRITE_NOTE, values))

    def tend(self) -> None:
        """Look after the rows of owners that died, every few seconds; the more owners there are, the less often."""
        if time.monotonic() < self._due:
            return
        values = {"me": self._me, "grace": self._grace_s}
        dead, owners = self._link.read(
            lambda each: first(each.execute(sql.DEAD, {**values, "tag": self._link.tag(each) % _UNSIGNED}))
        )
        if dead:
            while not self._link.transact(lambda connection: self._bury(connection, dead)):
                pass
        pause = min(max(owners / _OWNERS_TOGETHER, 1.0) * _BURY_EVERY_S, _BURY_SELDOM_S)
        self._due = time.monotonic() + pause * random.uniform(0.75, 1.25)  # noqa: S311 - not all together

    def _bury(self, connection: Connection, owners: Sequence[int]) -> bool:
        """Free what owners held, unless they have come back; what they were sending is in doubt.

        Return whether that was all: others wait for a transaction, so that it must not be long.
        """
        locked = connection.execute(sql.LOCK)
        values = {"owners": array(map(str, owners)), "tag": self._link.tag(connection)}
        dead = [owner for (owner,) in self._fetch(connection, sql.LOCK_DEAD, values)]
        number, now, *sums = first(locked)
        return not dead or self._mark(connection, dead, number, now, ledger_of(*sums))

    def _mark(self, connection: Connection, dead: Sequence[int], number: int, now: float, ledger: Ledger) -> bool:
        owners = array(map(str, dead))
        found = self._fetch(connection, sql.LEFT_BY, (owners, _MOST_MARKED))
        left = {row.key: row for row in map(facts_of, found)}
        sent = [key for key, row in left.items() if row.state is State.INTENT]
        for change in abandoned(sent, [key for key in left if key not in {*sent}]):
            ledger.change(left[change.key], change, now)
        if left:
            self._write(connection, left.values(), ledger, number)
        if len(left) == _MOST_MARKED:
            connection.execute(sql.UNCLAIM, (array(str(row.number) for row in left.values()),))
            return False
        connection.execute(sql.BURY, {"owners": owners})
        return True

    def _leave(self, connection: Connection) -> bool:
        ((number, now, *sums),) = self._fetch(connection, sql.LOCK, ())
        is_done = self._mark(connection, [self._me], number, now, ledger_of(*sums))
        if is_done:
            connection.execute(sql.FORGET, (self._me,))
        return is_done

    def listen(self) -> None:
        """Return nothing: others may open the journal."""

    def give_up(self) -> None:
        """Wait no longer for a server that is gone."""
        self._link.give_up()

    def close(self) -> None:
        """Let go of everything; may be called again."""
        self.give_up()
        if self._link.owner is not None:
            with suppress(JournalError):  # others see then that this owner has ended
                until = time.monotonic() + _LEAVE_WITHIN_S
                while not self._link.transact(self._leave) and time.monotonic() < until:
                    pass
            self._link.owner = None
        self._link.close()


def _json(values: Sequence[Any]) -> str:
    return orjson.dumps(values).decode()


def _dies_with_owner(row: RowFacts) -> bool:
    return row.state is State.INTENT or (row.state is State.SOLD and row.task is None)


def _release(connection: Connection, run: str) -> None:
    connection.execute(sql.LOCK)
    connection.execute(sql.RELEASE, {"run": run})


def _journal_row(row: Sequence[Any], pictures: tuple[SavedPicture, ...]) -> JournalRow:
    number, key, *facts, request, columns = row
    return journal_row([number, text_out(key), *facts, content_out(request), content_out(columns)], pictures)
