"""Every attempt of a job has an event for how it ended, and every job that had an event has one for its end."""

import asyncio

import pytest

from lemon_async import ContractError, LemonError, RetryPolicy, SubmissionUnknown, TransportError
from lemon_async._http.emitter import Emitter
from lemon_async._http.job_events import JobEvents
from lemon_async._tasks.journal_entry import HookFailed, JournalEntry
from lemon_async._tasks.submission import PreparedRequest
from lemon_async.errors import RateLimited, ServerError
from lemon_async.events import Failed, NotSent, OutcomeUnknown, Refused, RetryScheduled, Submitted
from memory_journal import MemoryJournal, failing
from scripted_submits import (
    NOT_SENT,
    ONCE,
    ORDER,
    PATIENT,
    SENT,
    TASK,
    cancelled_as_a_transport_does,
    refusal,
    submissions_of,
)


def observed(*outcomes, policy=PATIENT):
    """Return submissions with these outcomes, their transport, a request with events, and those."""
    transport, submissions = submissions_of(*outcomes, policy=policy)
    seen = []
    events = JobEvents(Emitter([seen.append]), ORDER.request, "/v1/images/generations")
    return submissions, transport, PreparedRequest(ORDER.request, ORDER.payload, events), seen


def kinds(events):
    return [type(event) for event in events]


async def test_each_attempt_ends_with_an_event():
    """They are numbered, and the error of each is in its event and in that of the retry."""
    submissions, _, prepared, seen = observed(NOT_SENT, refusal(429), refusal(503, retryable=True), TASK)
    await submissions.submit(prepared)
    attempts = [Submitted, NotSent, RetryScheduled, Submitted, Refused, RetryScheduled]
    assert kinds(seen) == [*attempts, Submitted, Refused, RetryScheduled, Submitted]
    assert [event.attempt for event in seen] == [1] * 3 + [2] * 3 + [3] * 3 + [4]
    assert {event.job for event in seen} == {1}
    retries = [event for event in seen if isinstance(event, RetryScheduled)]
    assert [type(event.error) for event in retries] == [TransportError, RateLimited, ServerError]
    assert {event.what for event in retries} == {"POST /v1/images/generations"}
    assert seen[0].request == ORDER.request
    assert seen[0].model == "flux-pro"


@pytest.mark.parametrize(
    ("outcome", "kind", "money"),
    [
        (NOT_SENT, NotSent, "none"),
        (refusal(402), Refused, "none"),
        (SENT, OutcomeUnknown, "open"),
        (ContractError.of("image", "is gone"), NotSent, "none"),
    ],
    ids=["not sent", "refused", "unknown", "a source that is gone"],
)
async def test_job_that_is_not_accepted_ends_with_failed(outcome, kind, money):
    submissions, _, prepared, seen = observed(outcome, policy=ONCE)
    with pytest.raises(LemonError) as caught:
        await submissions.submit(prepared)
    assert kinds(seen) == [Submitted, kind, Failed]
    assert seen[-1].money == money
    assert str(seen[-1].error) == str(caught.value)
    assert type(seen[-1].error) is type(caught.value)


async def test_error_of_an_event_holds_no_frames():
    """A program that keeps events keeps neither its own stack nor the request's."""
    submissions, _, prepared, seen = observed(SENT)
    with pytest.raises(SubmissionUnknown) as caught:
        await submissions.submit(prepared)
    assert caught.value.__traceback__
    for event in seen[1:]:
        assert event.error.__traceback__ is event.error.__cause__ is event.error.__context__ is None


async def test_unknown_outcome_stays_the_error_of_the_job():
    """What a later attempt ends with proves nothing about it."""
    policy = RetryPolicy(max_elapsed_s=60, first_backoff_s=0.001, resubmit_unknown=True)
    submissions, _, prepared, seen = observed(SENT, refusal(402), policy=policy)
    with pytest.raises(SubmissionUnknown):
        await submissions.submit(prepared)
    assert kinds(seen) == [Submitted, OutcomeUnknown, RetryScheduled, Submitted, Refused, Failed]
    assert isinstance(seen[-1].error, SubmissionUnknown)
    assert seen[-1].money == "open"


@pytest.mark.parametrize(("was_sent", "kind", "money"), [(False, NotSent, "none"), (True, OutcomeUnknown, "open")])
async def test_cancelled_attempt_has_an_end(was_sent, kind, money):
    submissions, transport, prepared, seen = observed(cancelled_as_a_transport_does(was_sent=was_sent))
    submitting = asyncio.create_task(submissions.submit(prepared))
    while not transport.sent:
        await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert kinds(seen) == [Submitted, kind, Failed]
    assert seen[-1].money == money


async def test_job_that_is_cancelled_between_attempts_ends():
    """With the error of the last attempt."""
    policy = RetryPolicy(max_elapsed_s=900, first_backoff_s=300)
    submissions, _, prepared, seen = observed(refusal(429), policy=policy)
    submitting = asyncio.create_task(submissions.submit(prepared))
    while not any(isinstance(event, RetryScheduled) for event in seen):
        await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert kinds(seen)[-2:] == [RetryScheduled, Failed]
    assert isinstance(seen[-1].error, RateLimited)


async def test_job_that_is_cancelled_before_anything_happened_has_no_events():
    submissions, _, prepared, seen = observed(cancelled_as_a_transport_does(was_sent=True))
    async with submissions._slots, asyncio.timeout(60):
        for _ in range(9):
            await submissions._slots.acquire()
        submitting = asyncio.create_task(submissions.submit(prepared))
        await asyncio.sleep(0)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
    assert seen == []


async def test_job_whose_journal_fails_after_an_attempt_ends():
    submissions, _, prepared, seen = observed(NOT_SENT, TASK)
    entry = JournalEntry(MemoryJournal(failing("withdraw", OSError("the disk is full"))), 0, set())
    with pytest.raises(HookFailed):
        await submissions.submit(prepared, entry=entry)
    assert kinds(seen) == [Submitted, NotSent, Failed]
