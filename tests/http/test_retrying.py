"""The shell around the retry table: it waits, asks the table, and raises the error that matters to the caller."""

import asyncio

import pytest

from lemon_async import ApiError, RetryPolicy, SubmissionUnknown, TransportError
from lemon_async._http.transport import retrying
from lemon_async._pace.retry import RequestKind

QUICK = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, max_backoff_s=0.002)
NOT_SENT = TransportError(message="refused connection")
REFUSED = ApiError(status=400, message="no")


class FakeTransport:
    """Pauses without waiting, and records for how long."""

    def __init__(self, *, is_closed=False):
        self.is_closed = is_closed
        self.pauses = []

    async def pause(self, seconds):
        self.pauses.append(seconds)
        await asyncio.sleep(0)


def unknown(reason="reset"):
    return SubmissionUnknown(request=None, fingerprint="0" * 64, reason=reason)


async def run(*outcomes, kind=RequestKind.SUBMIT, policy=QUICK, transport=None, **options):
    """Return the result and the patience of each attempt; outcomes that are exceptions are raised."""
    patience, script = [], iter(outcomes)

    async def attempt(patience_s):
        patience.append(patience_s)
        outcome = next(script)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    result = await retrying(
        attempt, kind, "a request", policy=policy, transport=transport or FakeTransport(), **options
    )
    return result, patience


async def test_request_is_sent_until_it_succeeds(library_log):
    """Each retry is logged; the first attempt has its own patience, later ones what the policy leaves."""
    library_log.set_level("INFO", logger="lemon_async")
    transport = FakeTransport()
    result, patience = await run(NOT_SENT, NOT_SENT, "sent", transport=transport)
    assert result == "sent"
    assert patience[0] is None
    assert 20 >= patience[1] >= patience[2] > 0
    assert len(transport.pauses) == 2
    assert [record.message.partition(" again in ")[0] for record in library_log.records] == ["trying a request"] * 2


async def test_failure_that_the_table_does_not_retry_is_raised():
    for failure in REFUSED, unknown():
        with pytest.raises(type(failure)) as caught:
            await run(failure, "never")
        assert caught.value is failure


async def test_retries_end_with_the_session_the_callers_wish_or_the_policys_time():
    for options in (
        {"transport": FakeTransport(is_closed=True)},
        {"is_wanted": lambda: False},
        {"policy": RetryPolicy(max_elapsed_s=0)},
    ):
        with pytest.raises(TransportError) as caught:
            await run(NOT_SENT, "never", **options)
        assert caught.value is NOT_SENT


async def test_wait_is_what_the_service_asks_for():
    transport = FakeTransport()
    await run(ApiError(status=429, message="slow", retry_after=3.0), "sent", transport=transport)
    assert 3 <= transport.pauses[0] < 3.01


async def test_unknown_outcome_of_an_earlier_attempt_is_not_hidden_by_a_later_error():
    """The last attempt proves nothing about earlier ones."""
    opted_in = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, resubmit_unknown=True)
    first = unknown()
    with pytest.raises(SubmissionUnknown) as caught:
        await run(first, NOT_SENT, REFUSED, policy=opted_in)
    assert caught.value is first
    assert caught.value.__cause__ is REFUSED
    assert (await run(unknown(), "sent", policy=opted_in))[0] == "sent"


async def test_error_that_is_not_of_this_library_is_not_retried():
    with pytest.raises(ZeroDivisionError):
        await run(ZeroDivisionError(), "never")
