"""Rows are kept in a temporary file, exactly and in bounded memory."""

import gc

import pytest

from lemon_async.batch.records import NewRow
from lemon_async.batch.rows.spool import RowSpool
from lemon_async.errors import JournalError


@pytest.fixture
def spool():
    spool = RowSpool()
    yield spool
    spool.close()
    spool.close()


def all_of(spool):
    rows, position, sizes = [], 0, []
    while True:
        found, position = spool.load(position)
        if not found:
            return rows, sizes
        rows += found
        sizes.append(len(found))


def test_rows_come_back_in_chunks(spool):
    """Equal and in their order, as often as wanted; rows may be added in between."""
    rows = [NewRow(f"猫-{number}", b'{"a":1}', b"", bytes(range(32))) for number in range(2500)]
    spool.add(rows[:2000])
    assert all_of(spool) == (rows[:2000], [1000, 1000])
    spool.load(0)
    spool.add(rows[2000:])
    assert all_of(spool) == (rows, [1000, 1000, 500])


def test_chunks_of_long_rows_are_short(spool):
    """A thousand requests of a megabyte are not loaded together."""
    spool.add(NewRow(str(number), b"x" * 1_000_000, b"{}", bytes(32)) for number in range(12))
    assert all_of(spool)[1] == [5, 5, 2]


def test_a_full_disk_is_a_journal_error(spool):
    """The message says what to do."""
    spool._file = FullDisk()
    for use in (lambda: spool.add([NewRow("a", b"", b"", b"")]), lambda: spool.load(0)):
        with pytest.raises(JournalError, match=r"No space left on device; make room, or set TMPDIR"):
            use()


class FullDisk:
    def seek(self, position, whence=0):
        raise OSError(28, "No space left on device")


def test_a_spool_that_is_forgotten_is_closed():
    """Without a warning, as after a plan."""
    spool = RowSpool()
    spool.add(NewRow(str(number), b"x" * 1_000_000, b"", bytes(32)) for number in range(10))
    del spool
    gc.collect()
