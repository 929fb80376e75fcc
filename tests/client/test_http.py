"""What exchanges with the key and without have in common."""

import shutil
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import aiohttp
import pytest

import lemon_async
from lemon_async.client.http import TooLarge, open_session, read_body, reason_of, without_frames


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (TimeoutError(), "no answer within 2.5 s"),
        (aiohttp.ServerTimeoutError("Connection timeout to host http://x"), "no answer within 2.5 s"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (OSError(104, "Connection reset by peer"), "[Errno 104] Connection reset by peer"),
        (ValueError("two\r\nlines\x1b[31m and \u202emore"), "two lines [31m and more"),
        (ValueError("x" * 500), "x" * 200),
        (ValueError(), "ValueError"),
        (ValueError("\n"), "ValueError"),
        (socket.gaierror(-2, "Name or service not known"), "[Errno -2] Name or service not known"),
    ],
    ids=repr,
)
def test_reason_is_one_printable_line(failure, reason):
    assert reason_of(failure, 2.5) == reason


async def test_session_keeps_nothing_takes_nothing_from_the_environment_and_asks_for_plain_bytes():
    """No cookies, no proxy or netrc credentials, no unpacking; the library says who it is."""
    async with open_session({"Accept": "image/*"}, idle_s=1.0) as http:
        assert isinstance(http.cookie_jar, aiohttp.DummyCookieJar)
        assert (http.trust_env, http.auto_decompress) == (False, False)
        assert http.headers["User-Agent"] == f"lemon-async/{version('lemon-async')}"
        assert (http.headers["Accept-Encoding"], http.headers["Accept"]) == ("identity", "image/*")


@pytest.fixture
async def ask():
    """Send one request with a plain aiohttp session."""
    async with aiohttp.ClientSession() as http:
        yield http.get


async def test_body_is_read_to_its_end(ask, serve, http_ok):
    server = await serve(http_ok(b"x" * 100_000))
    async with ask(server.origin) as response:
        assert await read_body(response, 100_000) == b"x" * 100_000


async def test_body_above_the_cap_is_refused_while_it_comes_in(ask, serve):
    """An answer without end is cut by the reader, not by the memory."""

    async def endless(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 1000)
            await writer.drain()

    server = await serve(endless)
    async with ask(server.origin) as response:
        with pytest.raises(TooLarge, match="the answer is larger than 9,999 bytes"):
            await read_body(response, 9_999)


def test_frames_are_dropped_from_an_exception_and_from_all_that_led_to_it():
    """Local variables of the frames below are seen by nobody; the words stay."""

    def fail():
        try:
            try:
                {}["first"]
            except KeyError as first:
                raise ValueError("second") from first
        except ValueError:
            raise OSError("third")  # noqa: B904 - by context alone

    with pytest.raises(OSError, match="third") as caught:
        fail()
    third = caught.value
    assert without_frames(third) is third
    second = third.__context__
    assert [error.__traceback__ for error in (third, second, second.__cause__)] == [None] * 3
    assert second.__cause__.args == ("first",)


def test_frames_of_a_circle_of_exceptions_are_dropped_once():
    """A chain that leads back to itself ends."""
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__cause__ = two, one
    assert without_frames(one) is one


def test_refused_connection_is_told_in_plain_words():
    """Host, port and the system's reason; nothing of how the library connects."""
    key = aiohttp.client_reqrep.ConnectionKey("api.test", 443, True, True, None, None, None)
    failure = aiohttp.ClientConnectorError(key, OSError(111, "Connect call failed"))
    assert reason_of(failure, 2.5) == "cannot connect to api.test:443: [Errno 111] Connect call failed"


def test_library_works_without_its_metadata(tmp_path):
    """Programs that carry a copy of the package, unpacked or in an archive, have no metadata of it."""
    shutil.copytree(Path(lemon_async.__file__).parent, tmp_path / "lemon_async")
    code = f"""
import sys
sys.meta_path = [finder for finder in sys.meta_path if not hasattr(finder, "find_distributions")] + [
    type("Finder", (), {{"find_spec": staticmethod(finder.find_spec)}})
    for finder in sys.meta_path
    if hasattr(finder, "find_distributions")
]
sys.path.insert(0, {str(tmp_path)!r})
from lemon_async.client.http import _user_agent
print(_user_agent())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "lemon-async\n"
