"""A disk that is full ends a batch, and nothing is lost."""

import asyncio
import subprocess
import sys

import pytest

from journals import PICTURE, accept, intend, new_row, save
from lemon_async.batch.opening import open_journal
from lemon_async.batch.states import State
from lemon_async.errors import JournalError


async def fill_up(journal):
    """Record until the disk is full, and return the keys whose rows were confirmed as done."""
    done = []
    for first in range(0, 100_000, 50):
        keys = [f"k{index}" for index in range(first, first + 50)]
        await journal.add([new_row(key, note="x" * 500) for key in keys])
        for change in (intend, accept, lambda key: save(key, 0.05, PICTURE)):
            await asyncio.gather(*[journal.record(change(key)) for key in keys])
        done += keys
    return done


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


async def test_full_disk_is_one_clear_error_and_loses_nothing(small_disk):
    """What was confirmed is there; with more room, the batch continues."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    with pytest.raises(JournalError, match="the disk is full; free some space, then run the batch again to continue"):
        async with open_journal(small_disk / "run.db", create=True) as journal:
            await fill_up(journal)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    async with open_journal(small_disk / "run.db") as journal:
        counts = await journal.counts()
        assert counts[State.DONE] >= 50
        assert counts[State.INTENT] == 0
        spending = await journal.spending()
        assert spending.spent == pytest.approx(0.05 * counts[State.DONE])
        await journal.add([new_row("z")])
        assert await journal.record(intend("z")) is State.INTENT
