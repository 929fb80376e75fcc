"""One request on the wire: whether it was sent, and what its failure says and hides."""

import asyncio
import traceback

import aiohttp
import pytest

from lemon_async._http.attempt import NoResponse, RequestAttempt, StreamedResponse, _HiddenBytes
from lemon_async._http.connections import on_connected, open_session
from lemon_async._http.key import ApiKey

KEY = ApiKey("sk-canary-0123456789")


async def test_attempt_counts_as_sent_from_its_connection_on():
    attempt = RequestAttempt(60.0, aiohttp.ClientTimeout(connect=60.0))
    with attempt:
        assert not attempt.was_sent
        on_connected.get()()
    assert attempt.was_sent
    assert on_connected.get() is None
    assert attempt.sender is asyncio.current_task()


async def test_whatever_breaks_is_no_response_that_says_whether_it_was_sent():
    """Not only what aiohttp raises: no failure of a request that went out may look unsent."""
    for failure, reason in [
        (aiohttp.ServerDisconnectedError("sk-canary"), "Server disconnected"),
        (TimeoutError(), "no response within 5 s"),
        (aiohttp.ServerTimeoutError(), "no response within 2 s"),
        (ZeroDivisionError("sk-canary"), "ZeroDivisionError"),
    ]:
        for was_sent in True, False:
            attempt = RequestAttempt(5.0, aiohttp.ClientTimeout(connect=2.0))
            attempt.was_sent = was_sent
            with pytest.raises(NoResponse) as caught, attempt:
                raise failure
            assert (caught.value.reason, caught.value.was_sent, caught.value.status) == (reason, was_sent, None)
            assert caught.value.__context__ is None
            assert "sk-canary" not in "".join(traceback.format_exception(caught.value))


async def test_cancellation_goes_on_and_carries_what_is_known():
    attempt = RequestAttempt(60.0, aiohttp.ClientTimeout(connect=60.0))
    attempt.was_sent = True
    with pytest.raises(asyncio.CancelledError) as caught, attempt:
        raise asyncio.CancelledError
    assert isinstance(caught.value.__cause__, NoResponse)
    assert caught.value.__cause__.was_sent


async def test_deadline_bounds_reads_that_wait_and_reads_that_do_not():
    attempt = RequestAttempt(0.01, aiohttp.ClientTimeout(connect=5.0))
    with pytest.raises(NoResponse, match=r"no response within 0\.01 s"), attempt:
        async with attempt.deadline():
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError):
        attempt.check_deadline()


async def test_response_is_read_whole_or_in_pieces(serve, http_ok):
    """The whole one is reported to whoever learns from its head; an event stream is read as it arrives."""
    async with open_session({}, idle_s=None) as http:

        async def start(body, kind):
            server = await serve(http_ok(body, kind))
            seen, attempt = [], RequestAttempt(60.0, aiohttp.ClientTimeout(connect=60.0))
            with attempt:
                attempt.response = await http.get(server.origin)
            return StreamedResponse(attempt.response, attempt, KEY.in_success, seen.append), seen

        response, seen = await start(b'{"a": 1}', "application/json")
        assert not response.is_event_stream
        assert (await response.read(100)).json() == {"a": 1}
        assert [each.status for each in seen] == [200]
        response, _ = await start(b"data: 1\n\n", "text/event-stream")
        assert response.is_event_stream
        assert await response.read_piece() == b"data: 1\n\n"
        assert await response.read_piece() == b""


async def test_response_that_is_too_large_is_none(serve, http_ok):
    server = await serve(http_ok(b'"' + b"a" * 200, "application/json"))
    async with open_session({}, idle_s=None) as http:
        attempt = RequestAttempt(60.0, aiohttp.ClientTimeout(connect=60.0))
        attempt.response = await http.get(server.origin)
        response = StreamedResponse(attempt.response, attempt, KEY.in_success, lambda _: None)
        with pytest.raises(NoResponse, match="the response is larger than 100 bytes"):
            await response.read(100)


def test_bytes_of_a_server_are_not_shown():
    """Tracebacks print local variables, and a response may quote the key."""
    assert repr(_HiddenBytes(b"sk-canary")) == "<9 bytes>"
