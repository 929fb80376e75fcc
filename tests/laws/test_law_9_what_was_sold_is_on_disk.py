"""Law 9. What was sold is on disk: the intent before the request, the token before the wait, the file before `done`."""

import random
import subprocess

import orjson
import pytest

from kills import Batches, Books
from lemon_async import LemonSession, PollPolicy
from lemon_async.batch import State

QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)
TASKS = {"price_usd": 0.05}
INLINE = {"model": "flux-schnell", "response_format": "b64_json", "price_usd": 0.003}


@pytest.fixture
def batches(processes, emulator, tmp_path):
    """Make batches that can be killed."""
    return lambda **options: Batches(processes, emulator, tmp_path, **options)


@pytest.mark.parametrize("options", [TASKS, INLINE], ids=["tasks", "inline"])
async def test_kill_at_every_edge_sells_nothing_twice_and_loses_nothing(batches, options):
    """A row is killed at each edge of its life, and now and then in its second run, too."""
    batches = batches(**options)
    edges = await batches.edges_of(batches.new(1))
    assert {"before a commit", "after a commit", "before send", "after send", "after recv", "after link"} <= set(edges)
    dice = random.Random(9)
    for edge in range(len(edges)):
        again = [dice.randrange(len(edges))] * (edge % 4 == 0)
        await batches.kill_at_edges(batches.new(1), edge, *again)
    totals = batches.totals
    assert totals.kills > 0.9 * len(edges)
    assert totals.doubtful < totals.kills / 2
    assert not totals.dead or options is INLINE


async def test_kill_at_random_moments_sells_nothing_twice_and_loses_nothing(batches):
    """Many rows in flight are killed at any moment, until they end; a cap that is just enough for all of them holds."""
    batches = batches(**TASKS, in_flight=20, budget_usd=3.0)
    dice = random.Random(9)
    while batches.totals.kills < 6:
        await batches.kill_at_random(batches.new(60), dice, most_s=0.5)


async def test_the_journal_is_ahead_of_each_request(serve, http_ok, png, tmp_path):
    """The intent is on disk when the paid request arrives, the token when the poll does, and the file before `done`."""
    journal, seen = tmp_path / "run.db", {}

    def answering(moment, body, content_type="application/json"):
        async def answer(_reader, writer):
            seen[moment] = await row_after_a_crash(journal, moment)
            writer.write(http_ok(body, content_type))
            await writer.drain()

        return answer

    server = await serve()
    link = f"{server.origin}/1.png"
    pending = {"task_id": "ldtask_1", "status": "pending", "poll_url": "/v1/tasks/ldtask_1"}
    completed = {"task_id": "ldtask_1", "status": "completed", "data": [{"url": link}]}
    server.answers = [
        answering("submit", orjson.dumps(pending)),
        answering("poll", orjson.dumps(completed)),
        answering("download", png, "image/png"),
    ]
    session = LemonSession("sk-x", base_url=server.origin, polling=QUICK)
    batch = session.batch(journal, ["a cat"], save=str(tmp_path / "cat"), model="flux-pro")
    async with session, batch:
        (outcome,) = [outcome async for outcome in batch]
        seen["done"] = await row_after_a_crash(journal, "done")
        assert [path.read_bytes() for path in outcome.paths] == [png]
    assert [row.state for row in seen.values()] == [State.DOUBTFUL, State.SOLD, State.SOLD, State.DONE]
    assert [bool(row.task) for row in seen.values()] == [False, True, True, True]


async def row_after_a_crash(journal, name):
    """Return the row of a journal as it would be found if its process and the machine stopped now."""
    folder = journal.parent / name
    folder.mkdir()
    # Not in this process: closing a second descriptor would release SQLite's locks on the file.
    subprocess.run(["cp", journal, f"{journal}-wal", folder], check=True)
    (row,) = (await Books.of(folder / journal.name)).rows.values()
    return row
