"""What a session has bought: counted once, whatever becomes of it."""

import asyncio
from contextlib import suppress

import pytest

from lemon_async import (
    ContractError,
    EditRequest,
    LemonError,
    LemonSession,
    PollPolicy,
    RetryPolicy,
    SubmissionUnknown,
    TaskTimeout,
)
from lemon_async._tasks.submission import Submissions
from lemon_async.emulator import Blackhole, Emulator, Fail, Reset, Result, Script, Status, Stuck
from lemon_async.errors import ServerError
from lemon_async.types import ImageData, SubmissionCounts, TaskSnapshot

SLOW = PollPolicy(min_gap_s=120_000, max_gap_s=120_000)  # 20 s at the speed of the emulator


def counts(session):
    spent = session.submission_counts
    return spent.sold, spent.settled, spent.released, spent.unknown


# The counter


def counter():
    return Submissions(None, RetryPolicy(), limit=1)


def test_fresh_account_has_bought_nothing():
    assert counter().counts == SubmissionCounts() == SubmissionCounts(sold=0, settled=0, released=0, unknown=0)


def test_what_is_sold_and_has_not_ended_is_open():
    assert SubmissionCounts(sold=5, settled=2, released=1, unknown=4).open == 2


def test_task_that_ends_twice_counts_once():
    account = counter()
    account.count_accepted(TaskSnapshot(status="pending", task_id="a"))
    assert account.counts.open == 1
    for status in ("pending", "completed", "failed"):
        account.count_ended(TaskSnapshot(status=status, task_id="a"))
    assert account.counts == SubmissionCounts(sold=1, settled=1)


def test_task_that_was_bought_elsewhere_does_not_count():
    account = counter()
    account.count_ended(TaskSnapshot(status="completed", task_id="b"))
    assert account.counts == SubmissionCounts()


@pytest.mark.parametrize(("status", "expected"), [("completed", (1, 1, 0)), ("failed", (1, 0, 1))])
def test_answer_that_is_over_at_once_is_closed_at_once(status, expected):
    account = counter()
    account.count_accepted(TaskSnapshot(status=status, images=(ImageData(url="https://x.test"),)))
    spent = account.counts
    assert (spent.sold, spent.settled, spent.released) == expected


# The session


async def test_every_kind_of_job_is_counted(connect, emulator, picture):
    """Inline and through a task, generated, edited, varied and streamed."""
    edit = EditRequest("a hat", image=picture(), model="gpt-image-2")
    async with connect() as session:
        assert counts(session) == (0, 0, 0, 0)
        await session.generate("a cat", model="dall-e-3")
        await session.generate("a cat", model="flux-pro")
        await session.edit("a hat", image=picture(), model="flux-pro")
        await session.edit(edit)
        await session.edit(edit, async_=True)
        await session.create_variation(picture(), size="256x256")
        async with session.stream(edit) as stream:
            async for _ in stream:
                pass
        assert counts(session) == (7, 7, 0, 0)
        assert session.submission_counts.open == 0
    assert (emulator.ledger.sold.total(), emulator.ledger.settled.total()) == (7, 7)


@pytest.mark.parametrize("action", [Fail("no"), Fail("no", cancelled=True)], ids=["failed", "cancelled"])
async def test_failed_job_is_released(connect, emulator, action):
    emulator.fault("submit", action)
    async with connect() as session:
        with pytest.raises(LemonError):
            await session.generate("a cat", model="flux-pro")
        assert counts(session) == (1, 0, 1, 0)
    assert emulator.ledger.released.total() == 1


async def test_job_without_a_usable_picture_may_have_been_billed(connect, emulator):
    """The service calls it completed, so it counts as that."""
    emulator.fault("submit", Result([]))
    async with connect() as session:
        with pytest.raises(LemonError):
            await session.generate("a cat", model="flux-pro")
        assert counts(session) == (1, 1, 0, 0)


async def test_running_job_is_open_and_ends_once_however_it_is_resumed(connect, emulator):
    emulator.fault("submit", Script(("pending",) * 3 + ("completed",)))
    async with connect(polling=PollPolicy(min_gap_s=0.001, max_gap_s=0.001, deadline_s=0.0015)) as session:
        task = await session.submit("a cat", model="flux-pro")
        assert (counts(session), session.submission_counts.open) == ((1, 0, 0, 0), 1)
        attempts = 0
        while not session.submission_counts.settled:
            attempts += 1
            try:
                await session.task(task.resume_token())
            except TaskTimeout:
                assert session.submission_counts.open == 1
        assert attempts > 1
        with suppress(TaskTimeout):
            await session.task(task.id)
        assert counts(session) == (1, 1, 0, 0)


async def test_job_of_another_session_is_not_counted(connect):
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
    async with connect() as session:
        await session.task(task.resume_token())
        assert counts(session) == (0, 0, 0, 0)


async def test_cancelled_job_is_released():
    async with (
        Emulator(cancellable=True) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url, polling=SLOW) as session,
    ):
        task = await session.submit("a cat", model="flux-pro")
        await task.request_cancel()
        assert counts(session) == (1, 0, 1, 0)


@pytest.mark.parametrize("route", ["submit", "edit"])
async def test_doubt_is_counted_apart(connect, emulator, picture, route):
    emulator.fault(route, Reset("request_end"))
    request = EditRequest("a hat", image=picture(), model="flux-pro") if route == "edit" else "a cat"
    async with connect() as session:
        with pytest.raises(SubmissionUnknown):
            await session.submit(request)
        assert counts(session) == (0, 0, 0, 1)


async def test_every_attempt_in_doubt_counts(connect, emulator):
    """Who opted in sees what it may have cost."""
    emulator.fault("submit", Reset("request_end"), times=2)
    retry = RetryPolicy(max_elapsed_s=5, first_backoff_s=0.001, resubmit_unknown=True)
    async with connect(retry=retry) as session:
        await session.generate("a cat", model="flux-pro")
        assert counts(session) == (1, 1, 0, 2)
    assert emulator.ledger.sold == {"a cat": 3}


async def test_cancelled_request_counts_as_unknown_and_more_than_a_thousand_of_them_do(connect, emulator):
    """The list of doubts is bounded, the count is not."""
    emulator.fault("submit", Blackhole(), prompt="held")
    async with connect() as session:
        submitting = asyncio.create_task(session.submit("held", model="flux-pro"))
        while not emulator.ledger.sold:
            await asyncio.sleep(0)
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        assert counts(session) == (0, 0, 0, 1)
        session._engine.submissions._unknown += 1000
        assert session.submission_counts.unknown == 1001


async def test_refused_and_bad_requests_cost_nothing(connect, emulator):
    emulator.fault("submit", Status(500))
    async with connect() as session:
        with pytest.raises(ServerError):
            await session.generate("a cat", model="dall-e-3")
        with pytest.raises(ContractError):
            await session.generate("", model="dall-e-3")
        assert counts(session) == (0, 0, 0, 0)


async def test_stuck_job_stays_open_after_its_deadline(connect, emulator):
    emulator.fault("submit", Stuck())
    async with connect(polling=PollPolicy(min_gap_s=0.005, max_gap_s=0.01, deadline_s=0.02)) as session:
        with pytest.raises(TaskTimeout):
            await session.generate("a cat", model="flux-pro")
        assert session.submission_counts.open == 1
