"""A paid request ends in one accepted job, or in an error that says whether it was accepted."""

import asyncio
import hashlib
import logging
from contextlib import suppress

import pytest

from lemon_async import (
    ApiError,
    ContractError,
    EditRequest,
    GenerateRequest,
    LemonError,
    LemonSession,
    PollPolicy,
    RetryPolicy,
    SubmissionUnknown,
    TaskTimeout,
    TransportError,
)
from lemon_async._api.response import Response
from lemon_async._http.attempt import NoResponse
from lemon_async._tasks.submission import Submissions
from lemon_async.emulator import Blackhole, Emulator, Fail, Reset, Result, Script, Status, Stuck
from lemon_async.errors import InsufficientBalance, RateLimited, ServerError
from lemon_async.types import ImageData, SubmissionCounts, TaskSnapshot
from scripted_submits import (
    DOUBTFUL,
    INLINE,
    NOT_SENT,
    ONCE,
    ORDER,
    REQUEST,
    SENT,
    TASK,
    answer,
    cancelled_as_a_transport_does,
    order_of,
    refusal,
    submissions_of,
)

SLOW = PollPolicy(min_gap_s=1_200_000, max_gap_s=1_200_000)  # 200 s at the speed of the emulator


# Accepted


async def test_task_answer_is_a_snapshot_and_where_to_poll():
    transport, submissions = submissions_of(TASK)
    sale = await submissions.submit(ORDER)
    assert (sale.snapshot.task_id, sale.snapshot.status) == ("ldtask_1", "pending")
    assert sale.path == "/v1/images/generations/ldtask_1"
    assert transport.sent == [ORDER.payload]


async def test_inline_answer_is_a_snapshot_that_is_over_and_nothing_to_poll():
    _, submissions = submissions_of(INLINE)
    sale = await submissions.submit(ORDER)
    assert sale.snapshot.is_done
    assert sale.snapshot.images[0].url == "https://cdn.test/1.png"
    assert sale.path == ""


@pytest.mark.parametrize(
    "poll_url",
    ["https://evil.test/v1/tasks/1", "//evil.test/x", "http://api.test/x", "https://api.test@evil.test/", "/../x"],
)
async def test_hostile_poll_url_is_replaced_by_the_id(poll_url, library_log):
    """The key is not sent there, and the job is not lost."""
    library_log.set_level(logging.WARNING, logger="lemon_async")
    _, submissions = submissions_of(answer(body={"task_id": "ldtask_1", "status": "pending", "poll_url": poll_url}))
    sale = await submissions.submit(ORDER)
    assert sale.path == "/v1/tasks/ldtask_1"
    (record,) = library_log.records
    assert record.getMessage().startswith("poll_url of task ldtask_1 refused (")


async def test_task_that_cannot_be_polled_is_unknown_and_not_submitted_again():
    """It was certainly accepted: not even `resubmit_unknown` sends it again."""
    policy = RetryPolicy(max_elapsed_s=60, first_backoff_s=0.001, resubmit_unknown=True)
    transport, submissions = submissions_of(
        answer(body={"task_id": "a b", "status": "pending", "poll_url": "//evil.test"}), policy=policy
    )
    with pytest.raises(
        SubmissionUnknown, match=r"accepted as task 'a b', but neither that nor its poll_url can be polled"
    ):
        await submissions.submit(ORDER)
    assert len(transport.sent) == 1
    assert len(submissions.unknown) == 1


async def test_inline_images_are_not_lost_to_an_id_that_cannot_be_polled():
    """A job that is over needs no polling."""
    images = [{"url": "https://cdn.test/1.png"}]
    _, submissions = submissions_of(answer(body={"task_id": "a b", "status": "completed", "data": images}))
    sale = await submissions.submit(ORDER)
    assert (len(sale.snapshot.images), sale.path) == (1, "")


# Not sent, or refused


@pytest.mark.parametrize(
    "outcome",
    [
        NOT_SENT,
        refusal(429),
        refusal(429, retry_after=0.001),
        refusal(503, retryable=True),
    ],
    ids=["not sent", "429", "429 with a wait", "503 that invites"],
)
async def test_request_that_was_provably_not_sold_is_sent_again_until_it_is(outcome, library_log):
    library_log.set_level(logging.INFO, logger="lemon_async")
    transport, submissions = submissions_of(outcome, outcome, TASK)
    await submissions.submit(ORDER)
    assert len(transport.sent) == 3
    assert set(transport.sent) == {ORDER.payload}
    assert not submissions.unknown
    assert [record.getMessage()[:27] for record in library_log.records] == ["trying a paid request again"] * 2


async def test_request_that_was_not_sent_says_so_when_time_is_over():
    transport, submissions = submissions_of(NOT_SENT, policy=ONCE)
    with pytest.raises(TransportError, match=r"^not sent, nothing was sold: Connect call failed$") as caught:
        await submissions.submit(ORDER)
    assert caught.value.__cause__ is NOT_SENT
    assert len(transport.sent) == 1


async def test_retries_end_with_the_time_of_the_policy():
    policy = RetryPolicy(max_elapsed_s=0.4, first_backoff_s=0.001, max_backoff_s=0.005)
    transport, submissions = submissions_of(NOT_SENT, policy=policy)
    with pytest.raises(TransportError):
        await asyncio.wait_for(submissions.submit(ORDER), 60)
    assert len(transport.sent) > 1


async def test_attempt_after_the_first_waits_for_the_budget_no_longer_than_the_policy_allows():
    """A paused budget does not stretch the retries beyond the policy's time."""
    policy = RetryPolicy(max_elapsed_s=200, first_backoff_s=0.001)
    transport, submissions = submissions_of(NOT_SENT, NOT_SENT, TASK, policy=policy)
    await submissions.submit(ORDER)
    first, second, third = transport.patience
    assert first is None
    assert 200 > second > third > 100


async def test_wait_that_the_service_asks_for_and_does_not_fit_raises_at_once():
    transport, submissions = submissions_of(refusal(429, retry_after=30))
    with pytest.raises(RateLimited) as caught:
        await asyncio.wait_for(submissions.submit(ORDER), 60)
    assert caught.value.retry_after == 30
    assert len(transport.sent) == 1


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (refusal(400), ApiError),
        (refusal(402), InsufficientBalance),
        (refusal(500), ServerError),
        (refusal(503), ServerError),
        (refusal(503, retryable=False), ServerError),
        (refusal(504, retryable=True), ServerError),
    ],
    ids=lambda value: value.status if isinstance(value, Response) else value.__name__,
)
async def test_any_other_refusal_of_the_service_is_raised_at_once(outcome, error):
    transport, submissions = submissions_of(outcome)
    with pytest.raises(error, match="No"):
        await submissions.submit(ORDER)
    assert len(transport.sent) == 1
    assert not submissions.unknown


async def test_session_that_is_closed_ends_the_retries():
    """No caller is left."""
    transport, submissions = submissions_of(NoResponse("the session is closed", was_sent=False))
    transport.is_closed = True
    with pytest.raises(TransportError, match="nothing was sold: the session is closed"):
        await submissions.submit(ORDER)
    assert len(transport.sent) == 1


# Unknown


@pytest.mark.parametrize("outcome", DOUBTFUL.values(), ids=DOUBTFUL)
async def test_any_other_outcome_is_unknown_and_not_sent_again(outcome, library_log):
    """The error has what identifies the job, and the session keeps a copy."""
    library_log.set_level(logging.WARNING, logger="lemon_async")
    transport, submissions = submissions_of(outcome)
    with pytest.raises(SubmissionUnknown) as caught:
        await submissions.submit(ORDER)
    error = caught.value
    assert error.request is REQUEST
    assert error.fingerprint == hashlib.sha256(b'{"model":"flux-pro","prompt":"a cat"}').hexdigest()
    assert error.status == outcome.status
    assert isinstance(error.__cause__, NoResponse | ApiError)
    assert len(transport.sent) == 1
    (kept,) = submissions.unknown
    assert str(kept) == str(error)
    assert kept.__traceback__ is None
    assert library_log.records == []  # the caller gets the error


async def test_requests_with_unknown_outcomes_are_sent_again_after_opting_in():
    """Each unknown outcome is recorded, because each may have been accepted."""
    policy = RetryPolicy(max_elapsed_s=60, first_backoff_s=0.001, resubmit_unknown=True)
    transport, submissions = submissions_of(SENT, DOUBTFUL["html"], TASK, policy=policy)
    sale = await submissions.submit(ORDER)
    assert sale.snapshot.task_id == "ldtask_1"
    assert len(transport.sent) == 3
    assert [error.reason for error in submissions.unknown] == [
        "Server disconnected",
        "HTTP 502 with an HTML page '502 Bad Gateway'",
    ]


async def test_the_last_thousand_doubts_are_remembered():
    _, submissions = submissions_of(SENT, limit=2000)
    requests = [GenerateRequest(str(number)) for number in range(1001)]
    await asyncio.gather(*map(submissions.submit, map(order_of, requests)), return_exceptions=True)
    assert [error.request for error in submissions.unknown] == requests[1:]


# Cancelled


async def cancel_under_way(submissions, transport):
    submitting = asyncio.create_task(submissions.submit(ORDER))
    while not transport.sent:
        await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await submitting
    return caught.value


async def test_cancelled_request_that_was_sent_leaves_its_doubt_as_the_cause():
    transport, submissions = submissions_of(cancelled_as_a_transport_does(was_sent=True))
    cancelled = await cancel_under_way(submissions, transport)
    error = cancelled.__cause__
    assert isinstance(error, SubmissionUnknown)
    assert error.reason == "cancelled while waiting for the response"
    assert [str(kept) for kept in submissions.unknown] == [str(error)]
    assert submissions.under_way == 0


async def test_cancelled_request_that_was_not_sent_leaves_no_doubt():
    transport, submissions = submissions_of(cancelled_as_a_transport_does(was_sent=False))
    cancelled = await cancel_under_way(submissions, transport)
    assert isinstance(cancelled.__cause__, NoResponse)
    assert not submissions.unknown


async def test_cancelled_between_two_attempts_was_certainly_not_sent():
    """No request is in flight."""
    policy = RetryPolicy(max_elapsed_s=500, first_backoff_s=100, max_backoff_s=100)
    transport, submissions = submissions_of(NOT_SENT, policy=policy)
    cancelled = await cancel_under_way(submissions, transport)
    assert cancelled.__cause__ is None
    assert not submissions.unknown


# Many


async def test_no_more_requests_than_allowed_are_in_flight():
    """The others wait and are sent when a slot is free."""
    gate = asyncio.Event()

    async def wait():
        await gate.wait()
        return TASK

    transport, submissions = submissions_of(wait, limit=2)
    waiting = [asyncio.create_task(submissions.submit(ORDER)) for _ in range(5)]
    while len(transport.sent) < 2:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(transport.sent), submissions.under_way) == (2, 2)
    gate.set()
    await asyncio.gather(*waiting)
    assert (len(transport.sent), submissions.under_way) == (5, 0)


# Counts


def counts(session):
    spent = session.submission_counts
    return spent.sold, spent.settled, spent.released, spent.unknown


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
    emulator.fault("submit", Script(("pending",) * 60 + ("completed",)))  # more polls than before one deadline
    async with connect(polling=PollPolicy(min_gap_s=0.01, max_gap_s=0.01, deadline_s=0.5)) as session:
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


async def test_every_attempt_with_an_unknown_outcome_counts(connect, emulator):
    """It shows what `resubmit_unknown` may have cost."""
    emulator.fault("submit", Reset("request_end"), times=2)
    retry = RetryPolicy(max_elapsed_s=60, first_backoff_s=0.001, resubmit_unknown=True)
    async with connect(retry=retry) as session:
        await session.generate("a cat", model="flux-pro")
        assert counts(session) == (1, 1, 0, 2)
    assert emulator.ledger.sold == {"a cat": 3}


async def test_cancelled_request_counts_as_unknown_and_more_than_a_thousand_of_them_do(connect, emulator):
    """The list of unknown submissions is bounded, the count is not."""
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
