"""Law 1. A paid POST is sent again only when it was provably not sold."""

import asyncio
import socket
from itertools import count

import pytest

from lemon_async import (
    ApiError,
    EditRequest,
    GenerateRequest,
    LemonSession,
    RetryPolicy,
    SubmissionUnknown,
    Timeouts,
    TransportError,
)
from lemon_async.emulator import Answer, Blackhole, Body, Cut, Drip, Garbage, HalfClose, Redirect, Reset, Status, Stuck
from lemon_async.errors import BadRequest, InsufficientBalance, RateLimited, ServerError

ROUNDS = 12
AT_ONCE = 6
PATIENT = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, max_backoff_s=0.01)

CUTS = {
    "in the head": Reset("request_head"),
    "in the body": Reset("request_body"),
    "after the body": Reset("request_end"),
    "in the answer's head": Reset("response_head"),
    "in the answer's body": Reset("response_body"),
}
IS_SOLD = {"after the body", "in the answer's head", "in the answer's body"}


async def outcomes_of(session, wishes, send=LemonSession.submit):
    """Send all requests, several concurrently, and return the outcome of each."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def attempt(wish):
        async with slots:
            try:
                return await send(session, wish)
            except Exception as error:  # noqa: BLE001 - the class is what the test looks at
                return error

    return await asyncio.gather(*map(attempt, wishes))


def tries(emulator):
    return sum(request.route in {"submit", "edit"} for request in emulator.requests)


async def test_post_cut_at_any_point_after_the_first_byte_is_unknown_and_never_sold_twice(connect, emulator, paid):
    """A cut paid request ends as `SubmissionUnknown`, even for a policy with time to retry."""
    async with connect(retry=PATIENT) as session:
        for point, cut in CUTS.items():
            emulator.fault(paid.route, cut)
            prompts = [f"{point} {number}" for number in range(ROUNDS)]
            seen = await outcomes_of(session, map(paid.request, prompts), paid.send)
            emulator.clear_faults()
            assert {type(error) for error in seen} == {SubmissionUnknown}, point
            assert {error.request.prompt for error in seen} == set(prompts)
            assert [emulator.ledger.sold[prompt] for prompt in prompts] == [int(point in IS_SOLD)] * ROUNDS, point
        assert session.submission_counts.unknown == ROUNDS * len(CUTS)


async def test_inline_post_cut_in_its_answer_is_unknown_and_never_sold_twice(connect, emulator):
    """This also holds for responses that would have contained the pictures."""
    emulator.fault("submit", Reset("response_body"))
    prompts = [str(number) for number in range(ROUNDS)]
    async with connect(retry=PATIENT) as session:
        seen = await outcomes_of(session, [GenerateRequest(prompt, model="dall-e-3") for prompt in prompts])
    assert {type(error) for error in seen} == {SubmissionUnknown}
    assert set(emulator.ledger.sold.values()) == {1}


async def test_post_cut_before_the_connection_is_established_is_not_sent(paid):
    """A paid request that cannot connect raises `TransportError`: it is safe to try again."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        base_url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        options = {"retry": RetryPolicy(max_elapsed_s=0), "requests_per_minute": 60_000}
        async with LemonSession("sk-x", base_url=base_url, **options) as session:
            seen = await outcomes_of(session, map(paid.request, map(str, range(ROUNDS))), paid.send)
            assert session.unknown_submissions == ()
    assert {type(error) for error in seen} == {TransportError}


async def test_post_that_found_no_server_is_sent_again_and_sold_once(connect, emulator, paid):
    """What was never sent is retried while the policy has time, and then sold once."""
    async with connect(retry=RetryPolicy(max_elapsed_s=20, first_backoff_s=0.01, max_backoff_s=0.02)) as session:
        down = asyncio.create_task(emulator.restart(down_s=0.04))
        await asyncio.sleep(0)
        await paid.send(session, paid.request("late"))
        await down
    assert emulator.ledger.sold == {"late": 1}


UNCLEAR = (
    Status(500, "html"),
    Status(502, "html"),
    Status(502, "empty"),
    Status(503, "truncated"),
    Status(504, "html"),
    Status(429, "html", headers={"Retry-After": "0.01"}),
    Status(403, "html"),
    Status(200, "html"),
    Status(200, "empty"),
    Status(200, "truncated"),
    Body(b'{"created": 1, "data": []}', "application/json"),
    Body(b'{"created": 1, "data": [{"url": ""}]}', "application/json"),
    Body(b'{"error": {"message": "no"}}', "application/json"),
    Body(b"[]", "application/json"),
    Body(b'{"status": "pending", "data": []}', "application/json"),
    Body(b'{"task_id": "a/../b"}', "application/json"),
    Redirect("/v1/images/generations"),
    Redirect("/v1/images/generations", 303),
    Cut(1),
    Garbage(),
    HalfClose("request_end"),
    HalfClose("response_head"),
    HalfClose("response_body"),
)


@pytest.mark.parametrize("bill", [True, False])
async def test_post_with_an_unclear_response_is_unknown_and_not_repeated(connect, emulator, paid, bill):
    """Anything but a readable result or refusal is `SubmissionUnknown`; one request was sent."""
    async with connect(retry=PATIENT) as session:
        for action in UNCLEAR:
            before = tries(emulator)
            emulator.fault(paid.route, action, bill=bill)
            with pytest.raises(SubmissionUnknown) as caught:
                await paid.send(session, paid.request(str(action)))
            emulator.clear_faults()
            assert session.unknown_submissions[-1].fingerprint == caught.value.fingerprint
            assert caught.value.request.prompt == str(action)
            assert tries(emulator) - before <= 1, action
            assert emulator.ledger.sold[str(action)] == int(bill), action


async def test_post_without_a_response_in_time_is_unknown_and_not_repeated(connect, emulator, paid):
    """A timed-out paid request is never sent again: otherwise clients would be billed twice."""
    for action in Blackhole(), Drip(bytes_per_s=1):
        emulator.fault(paid.route, action)
        async with asyncio.timeout(60), connect(retry=PATIENT, timeouts=Timeouts(submit_s=0.4)) as session:
            for prompt in (f"{action} {number}" for number in count()):
                with pytest.raises((SubmissionUnknown, TransportError), match=r"0\.4 s") as caught:
                    await paid.send(session, paid.request(prompt))
                if emulator.ledger.sold[prompt]:
                    break  # a busy machine may not have sent or read the ones before in time
        emulator.clear_faults()
        assert isinstance(caught.value, SubmissionUnknown)
        assert "no response within" in str(caught.value)
    assert set(emulator.ledger.sold.values()) == {1}


async def test_post_that_is_cancelled_under_way_is_unknown_and_the_cancellation_goes_on(connect, emulator, paid):
    """`CancelledError` is raised; its cause is a `SubmissionUnknown`, which the session keeps."""
    emulator.fault(paid.route, Blackhole())
    async with connect() as session:
        submitting = asyncio.create_task(paid.send(session, paid.request("dropped")))
        while not emulator.ledger.sold:
            await asyncio.sleep(0)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        (doubt,) = session.unknown_submissions
        assert doubt.request.prompt == "dropped"


INVITATIONS = (
    Status(429, headers={"Retry-After": "0.01"}),
    Status(429, error={"retry_after": 0.01}),
    Status(503, error={"retryable": True}),
)


async def test_post_that_the_service_asks_to_retry_is_sent_again_and_sold_once(connect, emulator, paid):
    """A JSON 429, or a 503 with `retryable: true`, is repeated until the job is accepted."""
    for action in INVITATIONS:
        before = tries(emulator)
        emulator.fault(paid.route, action, times=3)
        async with connect(retry=PATIENT) as session:
            await paid.send(session, paid.request(str(action)))
        assert emulator.ledger.sold[str(action)] == 1
        assert tries(emulator) - before == 4


REFUSALS = (
    (Status(400), BadRequest),
    (Status(402), InsufficientBalance),
    (Status(500), ServerError),
    (Status(502), ServerError),
    (Status(503, error={"retryable": False}), ServerError),
    (Status(503, error={"retryable": None}), ServerError),
    (Status(504), ServerError),
    (Status(418), ApiError),
)


async def test_post_that_was_refused_for_good_is_raised_and_not_repeated(connect, emulator, paid):
    """Any other refusal in the service's own JSON is raised, once, as its own class."""
    async with connect(retry=PATIENT) as session:
        for number, (action, error) in enumerate(REFUSALS, 1):
            emulator.fault(paid.route, action)
            with pytest.raises(error):
                await paid.send(session, paid.request("no"))
            emulator.clear_faults()
            assert session.unknown_submissions == ()
            assert tries(emulator) == number


async def test_post_whose_retry_after_does_not_fit_is_raised_immediately(connect, emulator):
    """`RateLimited` is raised without a wait if the policy's time is shorter than `Retry-After`."""
    emulator.fault("submit", Status(429, headers={"Retry-After": "30"}))
    async with connect(retry=PATIENT) as session:
        with pytest.raises(RateLimited) as caught:
            await session.submit("later", model="flux-pro")
    assert caught.value.retry_after == 30
    assert len(emulator.requests) == 1


async def test_post_with_an_unknown_outcome_is_repeated_only_after_opting_in(connect, emulator, paid):
    """With `resubmit_unknown` the job may be accepted twice, as the ledger shows."""
    emulator.fault(paid.route, Reset("request_end"), times=1)
    retry = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, resubmit_unknown=True)
    async with connect(retry=retry) as session:
        await paid.send(session, paid.request("twice"))
    assert emulator.ledger.sold == {"twice": 2}


async def test_stream_that_broke_off_is_not_repeated_even_after_opting_in(connect, emulator, picture):
    """A stream that has begun was certainly accepted: paying for it again is the caller's decision."""
    emulator.fault("edit", Reset("response_body"), times=1)
    retry = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, resubmit_unknown=True)
    wish = EditRequest("halfway", image=picture(), model="gpt-image-2", partial_images=3)
    async with connect(retry=retry) as session, session.stream(wish) as stream:
        with pytest.raises(SubmissionUnknown):
            _ = [picture async for picture in stream]
    assert emulator.ledger.sold == {"halfway": 1}


async def test_job_that_was_accepted_and_cannot_be_polled_is_not_repeated_even_after_opting_in(connect, emulator):
    """It was certainly accepted, although it cannot be polled."""
    emulator.fault("submit", Answer(task_id="a b", id=None, poll_url="//elsewhere.test"))
    retry = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, resubmit_unknown=True)
    async with connect(retry=retry) as session:
        with pytest.raises(SubmissionUnknown, match="accepted as task"):
            await session.submit("nameless", model="flux-pro")
    assert emulator.ledger.sold == {"nameless": 1}


@pytest.mark.parametrize("how", ["left", "unread", "error", "cancelled", "closed"])
async def test_stream_that_is_not_read_to_its_end_is_unknown(connect, emulator, picture, how):
    """However reading ends early, the session lists the request once in `unknown_submissions`."""
    emulator.fault("edit", Stuck())
    wish = EditRequest("given up", image=picture(), model="gpt-image-2", partial_images=1)
    has_begun = asyncio.Event()

    async def give_up(session):
        async with session.stream(wish) as stream:
            if how == "unread":
                return
            await anext(stream)
            has_begun.set()
            if how == "error":
                raise ZeroDivisionError
            if how == "closed":
                await session.aclose()
            if how != "left":
                await anext(stream)

    async with connect() as session:
        giving_up = asyncio.create_task(give_up(session))
        if how == "cancelled":
            await asyncio.wait_for(has_begun.wait(), 60)
            giving_up.cancel()
        async with asyncio.timeout(60):
            await asyncio.gather(giving_up, return_exceptions=True)
        assert session.submission_counts.unknown == len(session.unknown_submissions) == 1
        assert len(session.unknown_submissions[0].partial_images) == (how != "unread")
    assert emulator.ledger.sold == {"given up": 1}


async def test_unknown_outcome_of_an_earlier_attempt_is_raised(connect, emulator):
    """A refusal of the last attempt does not hide the unknown outcome of an earlier one."""
    emulator.fault("submit", Reset("request_end"), times=1)
    emulator.fault("submit", Status(400))
    retry = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, resubmit_unknown=True)
    async with connect(retry=retry) as session:
        with pytest.raises(SubmissionUnknown) as caught:
            await session.submit("maybe", model="flux-pro")
    assert isinstance(caught.value.__cause__, BadRequest)
    assert emulator.ledger.sold == {"maybe": 1}


async def test_paid_request_never_uses_a_connection_twice(connect, emulator):
    """On a connection that the server is about to close, failure cannot be distinguished from acceptance."""
    async with connect() as session:
        for number in range(3):
            await session.generate(str(number), model="dall-e-3", response_format="b64_json")
            assert emulator.connections == 0
        assert session._engine.transport._single_use.connector.force_close


async def test_connection_that_is_reset_before_the_request_accepts_nothing(connect, emulator, paid):
    """Whether the reset is seen before or after the request was written, it is not repeated indefinitely."""
    emulator.fault(paid.route, Reset("accept"))
    async with connect() as session:
        with pytest.raises((TransportError, SubmissionUnknown)):
            await paid.send(session, paid.request("reset"))
    assert emulator.ledger.sold["reset"] == 0


async def test_jobs_of_a_map_that_are_cut_are_never_sold_twice(connect, emulator):
    """A map retries in the same cases as a single request."""
    async with connect(retry=PATIENT) as session:
        for point, cut in CUTS.items():
            emulator.fault("submit", cut)
            prompts = [f"{point} {number}" for number in range(ROUNDS)]
            async with session.map(prompts, model="flux-pro", in_flight=AT_ONCE) as outcomes:
                seen = [outcome async for outcome in outcomes]
            emulator.clear_faults()
            assert {type(outcome.error) for outcome in seen} == {SubmissionUnknown}
            assert sorted(outcome.error.request.prompt for outcome in seen) == sorted(prompts)
            assert [emulator.ledger.sold[prompt] for prompt in prompts] == [int(point in IS_SOLD)] * ROUNDS
        assert session.submission_counts.unknown == ROUNDS * len(CUTS)
