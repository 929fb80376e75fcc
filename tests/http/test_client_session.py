"""What HTTP sessions with and without the key have in common."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from aiohttp.http_exceptions import BadHttpMessage, BadStatusLine, InvalidHeader, LineTooLong

import lemon_async
from lemon_async._http.connections import TooLarge, failure_reason, open_session, safe_cause


def broken_head(how):
    failure = aiohttp.ClientResponseError(None, (), message=str(how))
    failure.__cause__ = how
    return failure


def test_reason_is_one_printable_line_without_a_word_of_the_server():
    for failure, reason in [
        (TimeoutError(), "no response within 2.5 s"),
        (aiohttp.ServerTimeoutError("Connection timeout to host http://x"), "no response within 2.5 s"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (OSError(104, "Connection reset by peer"), "[Errno 104] Connection reset by peer"),
        (OSError("two\r\nlines\x1b[31m and \u202emore"), "two lines [31m and more"),
        (OSError("x" * 500), "x" * 200),
        (OSError(), "OSError"),
        (OSError("\n"), "OSError"),
        (TooLarge("the answer is larger than 9 bytes"), "the answer is larger than 9 bytes"),
        (ValueError("what a server sent"), "ValueError"),
        (aiohttp.ServerDisconnectedError("half a head"), "Server disconnected"),
        (aiohttp.ClientConnectionError("odd"), "Connection closed"),
        (aiohttp.ClientPayloadError("half a body"), "the response broke off before its end"),
        (broken_head(BadStatusLine("odd")), "the response has no HTTP status line"),
        (broken_head(InvalidHeader("odd")), "the response has a header that is not HTTP"),
        (broken_head(LineTooLong("odd")), "the head of the response has a line that is too long"),
        (broken_head(BadHttpMessage("odd")), "the head of the response is not HTTP"),
        (socket.gaierror(-2, "Name or service not known"), "[Errno -2] Name or service not known"),
    ]:
        assert failure_reason(failure, 2.5) == reason


async def test_session_has_no_cookies_no_environment_and_no_compression():
    """No cookies, no proxy or netrc credentials, no decompression; the user agent names the library."""
    async with open_session({"Accept": "image/*"}, idle_s=1.0) as http:
        assert isinstance(http.cookie_jar, aiohttp.DummyCookieJar)
        assert (http.trust_env, http.auto_decompress) == (False, False)
        assert http.headers["User-Agent"] == f"lemon-async/{lemon_async.__version__}"
        assert (http.headers["Accept-Encoding"], http.headers["Accept"]) == ("identity", "image/*")


def test_cause_is_the_system_error_without_frames_and_causes():
    """Local variables of inner frames, and text of the server, must not be visible."""

    def fail():
        try:
            raise ValueError("what a server sent")  # noqa: TRY301 - it is the point
        except ValueError as first:
            raise ConnectionResetError(104, "Connection reset by peer") from first

    with pytest.raises(OSError, match="reset") as caught:
        fail()
    reset = safe_cause(caught.value)
    assert reset is caught.value
    assert (reset.__traceback__, reset.__cause__, reset.__context__) == (None, None, None)
    assert reset.args == (104, "Connection reset by peer")


def test_failure_that_may_quote_the_server_is_the_cause_of_nothing():
    for failure in [
        aiohttp.ServerDisconnectedError("half a head"),
        broken_head(BadStatusLine("odd")),
        ValueError("odd"),
    ]:
        assert safe_cause(failure) is None


async def test_response_shows_neither_its_reason_nor_its_headers(serve):
    """A traceback with local variables prints it."""
    server = await serve(b"HTTP/1.1 200 what-a-server-sent\r\nX-Odd: what-a-server-sent\r\nContent-Length: 0\r\n\r\n")
    async with open_session({}, idle_s=1.0) as http, http.get(server.origin) as response:
        assert response.reason == response.headers["X-Odd"] == "what-a-server-sent"
        assert repr(response) == "<_Response 200>"


async def test_odd_cookie_is_not_even_logged(serve, caplog):
    server = await serve(b"HTTP/1.1 200 OK\r\nSet-Cookie: what{a}server=sent\r\nContent-Length: 0\r\n\r\n")
    async with open_session({}, idle_s=1.0) as http, http.get(server.origin):
        pass
    assert not [record for record in caplog.records if record.name != "asyncio"]  # which may speak of other tests


def test_refused_connection_has_a_plain_message():
    """The message has host, port and the system's reason."""
    key = aiohttp.client_reqrep.ConnectionKey("api.test", 443, True, True, None, None, None)
    failure = aiohttp.ClientConnectorError(key, OSError(111, "Connect call failed"))
    assert failure_reason(failure, 2.5) == "cannot connect to api.test:443: [Errno 111] Connect call failed"


def test_library_works_without_its_metadata(tmp_path):
    """Programs that carry a copy of the package, unpacked or in an archive, have no metadata of it."""
    others = shutil.ignore_patterns("__pycache__")  # where other processes replace files
    shutil.copytree(Path(lemon_async.__file__).parent, tmp_path / "lemon_async", ignore=others)
    code = f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if not hasattr(finder, "find_distributions")] + [
    type("Finder", (), {{"find_spec": staticmethod(finder.find_spec)}})
    for finder in sys.meta_path
    if hasattr(finder, "find_distributions")
]
sys.path.insert(0, {str(tmp_path)!r})
import lemon_async
print(lemon_async.__version__)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"{lemon_async.__version__}\n"
