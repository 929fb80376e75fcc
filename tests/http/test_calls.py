"""Free requests are repeated only where that is harmless."""

import asyncio

import pytest

from lemon_async import ApiError, LemonSession, RetryPolicy, Timeouts, TransportError
from lemon_async.emulator import Blackhole, Body, Cut, Drip, Garbage, HalfClose, Redirect, Reset, Status
from lemon_async.errors import BadRequest, NotFound, RateLimited, ServerError
from lemon_async.types import StoredFile

PATIENT = RetryPolicy(max_elapsed_s=20, first_backoff_s=0.001, max_backoff_s=0.01)
SOON = {"Retry-After": "0.001"}


def tries(emulator, route):
    return sum(request.route == route for request in emulator.requests)


PASSING = [
    Status(502, "html"),
    Status(503, "empty"),
    Status(500),
    Status(504, "truncated"),
    Status(408),
    Status(429, headers=SOON),
    Status(429, "html", headers=SOON),
    *(Reset(at) for at in ("request_head", "request_end", "response_head", "response_body")),
    HalfClose("request_end"),
    Garbage(),
    Cut(3),
]


@pytest.mark.parametrize("action", PASSING, ids=str)
async def test_question_is_asked_again_after_a_fault_of_the_way(connect, emulator, action):
    fault = emulator.fault("models", action, times=3)
    async with connect(retry=PATIENT) as session:
        assert len(await session.models()) > 10
    assert fault.hits == 3


@pytest.mark.parametrize("action", [Blackhole(), Drip(bytes_per_s=1)], ids=str)
async def test_question_without_an_answer_in_time_is_asked_again(connect, emulator, action):
    emulator.fault("models", action, times=1)
    async with connect(retry=PATIENT, timeouts=Timeouts(request_s=0.05)) as session:
        assert (await session.model("flux-pro")).id == "flux-pro"


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Status(400), BadRequest),
        (Status(404), NotFound),
        (Status(200, "html"), ApiError),
        (Status(200), ApiError),
        (Body(b"[]", "application/json"), ApiError),
        (Redirect("/elsewhere"), ApiError),
    ],
    ids=str,
)
async def test_answer_that_will_not_change_is_raised_at_once(connect, emulator, action, error):
    emulator.fault("models", action)
    async with connect(retry=PATIENT) as session:
        with pytest.raises(error):
            await session.models()
    assert tries(emulator, "models") == 1


async def test_retries_of_a_question_end_with_the_time_of_the_policy(connect, emulator):
    emulator.fault("models", Status(503))
    retry = RetryPolicy(max_elapsed_s=0.4, first_backoff_s=0.002, max_backoff_s=0.005)
    calls = 0
    async with asyncio.timeout(60), connect(retry=retry) as session:
        while tries(emulator, "models") <= calls:  # a busy machine may have no time for a second try
            calls += 1
            with pytest.raises(ServerError):
                await session.models()


async def test_wait_that_the_service_asks_for_and_does_not_fit_raises_at_once(connect, emulator):
    emulator.fault("models", Status(429, headers={"Retry-After": "30"}))
    async with connect(retry=PATIENT) as session:
        with pytest.raises(RateLimited) as caught:
            await session.models()
    assert caught.value.retry_after == 30
    assert tries(emulator, "models") == 1


async def test_close_ends_the_retries_of_a_question(connect, emulator, caplog):
    caplog.set_level("INFO", logger="lemon_async")
    emulator.fault("models", Status(503))
    retry = RetryPolicy(max_elapsed_s=500, first_backoff_s=100, max_backoff_s=100)
    async with asyncio.timeout(60), connect(retry=retry) as session:
        asking = asyncio.create_task(session.models())
        while "again in" not in caplog.text:
            await asyncio.sleep(0)
        await session.aclose()
        with pytest.raises(TransportError, match="the session is closed"):
            await asking


# Deeds


@pytest.mark.parametrize(
    "action",
    [Reset("request_body"), Reset("request_end"), Reset("response_body"), Garbage(), Blackhole()],
    ids=str,
)
async def test_upload_that_may_have_arrived_is_not_repeated(connect, emulator, picture, action):
    """`list` shows whether it did."""
    emulator.fault("files", action, times=1)
    async with connect(retry=PATIENT, timeouts=Timeouts(submit_s=0.3)) as session:
        with pytest.raises(TransportError, match="POST /v1/files: "):
            await session.files.upload(picture())
        assert tries(emulator, "files") <= 1
        assert len(await session.files.list()) <= 1


@pytest.mark.parametrize(
    "action",
    [Status(502, "html"), Status(500), Status(503, error={"retryable": False}), Status(200, "empty")],
    ids=str,
)
async def test_upload_with_an_answer_that_does_not_invite_is_not_repeated(connect, emulator, picture, action):
    emulator.fault("files", action)
    async with connect(retry=PATIENT) as session:
        with pytest.raises(ApiError):
            await session.files.upload(picture())
    assert tries(emulator, "files") == 1


@pytest.mark.parametrize("action", [Reset("response_head"), Reset("request_head"), Status(502, "html")], ids=str)
async def test_deletion_that_may_have_happened_is_not_repeated(connect, emulator, picture, action):
    """Repeating it would report a file that never existed."""
    async with connect(retry=PATIENT) as session:
        stored = await session.files.upload(picture())
        before = tries(emulator, "files")
        emulator.fault("files", action)
        with pytest.raises((TransportError, ApiError)):
            await session.files.delete(stored)
        assert tries(emulator, "files") <= before + 1


@pytest.mark.parametrize("deed", ["upload", "delete"])
@pytest.mark.parametrize("action", [Status(429, headers=SOON), Status(503, error={"retryable": True})], ids=str)
async def test_deed_that_was_refused_with_an_invitation_is_repeated(connect, emulator, picture, deed, action):
    async with connect(retry=PATIENT) as session:
        stored = await session.files.upload(picture())
        fault = emulator.fault("files", action, times=2)
        if deed == "upload":
            await session.files.upload(picture())
        else:
            await session.files.delete(stored)
        assert fault.hits == 2
        assert len(await session.files.list()) == (2 if deed == "upload" else 0)


@pytest.mark.parametrize("deed", ["upload", "delete"])
async def test_request_with_an_effect_that_found_no_server_is_repeated(connect, emulator, picture, deed):
    """A request that was not sent had no effect."""
    async with connect(retry=RetryPolicy(max_elapsed_s=60, first_backoff_s=0.01, max_backoff_s=0.02)) as session:
        down = asyncio.create_task(emulator.restart(down_s=0.04))
        await asyncio.sleep(0)
        if deed == "upload":
            await session.files.upload(picture())
            assert len(await session.files.list()) == 1
        else:
            with pytest.raises(NotFound):
                await session.files.delete(StoredFile("file-1"))
        await down


async def test_deed_that_found_no_server_says_so_when_time_is_over(picture):
    async with LemonSession("sk-x", base_url="http://127.0.0.1:9", retry=RetryPolicy(max_elapsed_s=0)) as session:
        with pytest.raises(TransportError, match=r"POST /v1/files: .*Connect call failed"):
            await session.files.upload(picture())
