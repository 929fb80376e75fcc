"""A paid request is recorded before it is sent, and what came of it after."""

import asyncio

import pytest

from lemon_async import ContractError, LemonError, RetryPolicy, SubmissionUnknown, TransportError
from lemon_async._tasks.journal_entry import HookFailed, HookRefused, JournalEntry
from lemon_async.errors import JournalError, RateLimited, ServerError
from memory_journal import MemoryJournal, failing, waiting
from scripted_submits import (
    DOUBTFUL,
    NOT_SENT,
    ONCE,
    ORDER,
    SENT,
    TASK,
    cancelled_as_a_transport_does,
    refusal,
    submissions_of,
)


def entry_of(journal, *, index=7):
    return JournalEntry(journal, index, set())


async def test_intent_comes_after_all_waiting_and_before_the_first_byte():
    """It holds the slot and the place in the rate limit."""
    seen = []
    transport, submissions = submissions_of(TASK)
    journal = MemoryJournal(lambda *_: seen.append((len(transport.patience), submissions.under_way, transport.sent[:])))
    await submissions.submit(ORDER, entry=entry_of(journal))
    assert seen == [(1, 1, [])]
    assert journal.events == [("intend", 7)]
    assert len(transport.sent) == 1


async def test_every_attempt_is_intended_and_withdrawn_if_it_sold_nothing():
    transport, submissions = submissions_of(NOT_SENT, refusal(429), refusal(503, retryable=True), TASK)
    journal = MemoryJournal()
    await submissions.submit(ORDER, entry=entry_of(journal))
    assert journal.names == ["intend", "withdraw"] * 3 + ["intend"]
    assert [type(reason) for reason in journal.reasons] == [TransportError, RateLimited, ServerError]
    assert len(transport.sent) == 4


@pytest.mark.parametrize(
    "outcome",
    [NOT_SENT, refusal(402), refusal(400), ContractError.of("image", "is gone")],
    ids=["not sent", "402", "400", "a source that is gone"],
)
async def test_last_attempt_is_withdrawn_before_its_error_is_raised(outcome):
    _, submissions = submissions_of(outcome, policy=ONCE)
    journal = MemoryJournal()
    with pytest.raises(LemonError) as caught:
        await submissions.submit(ORDER, entry=entry_of(journal))
    assert journal.names == ["intend", "withdraw"]
    assert journal.reasons == [caught.value]


@pytest.mark.parametrize("outcome", DOUBTFUL.values(), ids=DOUBTFUL)
async def test_attempt_with_an_unknown_outcome_is_not_withdrawn(outcome):
    _, submissions = submissions_of(outcome)
    journal = MemoryJournal()
    with pytest.raises(SubmissionUnknown):
        await submissions.submit(ORDER, entry=entry_of(journal))
    assert journal.names == ["intend"]


async def test_what_follows_an_unknown_outcome_withdraws_nothing():
    """After opting in, one intent covers all attempts: a refusal of the second says nothing about the first."""
    policy = RetryPolicy(max_elapsed_s=60, first_backoff_s=0.001, resubmit_unknown=True)
    _, submissions = submissions_of(NOT_SENT, SENT, NOT_SENT, refusal(429), refusal(402), policy=policy)
    journal = MemoryJournal()
    with pytest.raises(SubmissionUnknown):
        await submissions.submit(ORDER, entry=entry_of(journal))
    assert journal.names == ["intend", "withdraw", "intend"]


@pytest.mark.parametrize(
    "failure",
    [
        OSError("the disk is full"),
        JournalError(message="no"),
        TransportError(message="no"),
        RateLimited(status=429, message="no"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_request_whose_intent_fails_is_not_sent_and_not_tried_again(failure):
    """Even if the error is one that requests are sent again after; what it held is released."""
    transport, submissions = submissions_of(TASK)
    journal = MemoryJournal(failing("intend", failure))
    with pytest.raises(HookFailed) as caught:
        await submissions.submit(ORDER, entry=entry_of(journal))
    assert caught.value.failure is caught.value.__cause__ is failure
    assert (transport.sent, journal.events) == ([], [])
    assert len(transport.patience) == 1
    assert submissions.under_way == 0


async def test_request_that_the_journal_refuses_is_not_sent():
    """What it held is released, and nothing is withdrawn."""
    transport, submissions = submissions_of(TASK)
    journal = MemoryJournal(refused={7})
    with pytest.raises(HookRefused):
        await submissions.submit(ORDER, entry=entry_of(journal))
    assert (transport.sent, journal.names, submissions.under_way) == ([], ["intend"], 0)


async def test_request_whose_withdrawal_fails_is_not_tried_again():
    failure = JournalError(message="the disk is full")
    transport, submissions = submissions_of(NOT_SENT, TASK)
    with pytest.raises(HookFailed) as caught:
        await submissions.submit(ORDER, entry=entry_of(MemoryJournal(failing("withdraw", failure))))
    assert caught.value.failure is failure
    assert len(transport.sent) == 1


async def test_request_that_is_cancelled_in_its_intent_is_not_sent_and_withdrawn():
    """The intent may have become durable."""
    transport, submissions = submissions_of(TASK)
    journal = MemoryJournal(waiting("intend", asyncio.Event()))
    submitting = asyncio.create_task(submissions.submit(ORDER, entry=entry_of(journal)))
    while not journal.events:
        await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert (transport.sent, submissions.under_way) == ([], 0)
    assert journal.names == ["intend", "withdraw"]
    assert str(journal.reasons[0]) == "not sent, nothing was sold: cancelled before it was sent"


@pytest.mark.parametrize(("was_sent", "names"), [(False, ["intend", "withdraw"]), (True, ["intend"])])
async def test_cancelled_request_is_withdrawn_unless_it_may_have_been_sent(was_sent, names):
    transport, submissions = submissions_of(cancelled_as_a_transport_does(was_sent=was_sent))
    journal = MemoryJournal()
    submitting = asyncio.create_task(submissions.submit(ORDER, entry=entry_of(journal)))
    while not transport.sent:
        await asyncio.sleep(0)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert journal.names == names


async def test_request_that_is_cancelled_while_it_waits_was_never_intended():
    _, submissions = submissions_of(cancelled_as_a_transport_does(was_sent=True), limit=1)
    journal = MemoryJournal()
    first = asyncio.create_task(submissions.submit(ORDER))
    second = asyncio.create_task(submissions.submit(ORDER, entry=entry_of(journal)))
    await asyncio.sleep(0)
    for submitting in (second, first):
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
    assert journal.events == []
