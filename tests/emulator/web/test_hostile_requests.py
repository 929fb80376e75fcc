"""Bytes that no browser of the user would send to the page."""

import asyncio
from pathlib import Path

import pytest

import lemon_async
from lemon_async.emulator import Emulator, Status
from pages import FLOOD

FAULT = b'{"route": "submit", "actions": [{"type": "Stuck"}]}'
PAGE_FILES = Path(lemon_async.__file__).parent / "_web" / "static"


def head(line, *headers):
    return "\r\n".join([line, *headers, "Connection: close", "", ""]).encode("latin-1")


def own(emu):
    """The headers of the page itself."""
    token = emu._handler.pages.protection.token
    return f"Host: 127.0.0.1:{emu._port}", f"Origin: http://127.0.0.1:{emu._port}", f"X-Page-Token: {token}"


def status_of(raw):
    return int(raw.head.split(b" ", 2)[1]) if raw.head else None


async def test_the_page_itself_is_understood(emu, wire):
    """Otherwise the refusals below would mean nothing."""
    size, kind = f"Content-Length: {len(FAULT)}", "Content-Type: application/json"
    assert status_of(await wire(head("POST /_page/faults HTTP/1.1", *own(emu), kind, size) + FAULT)) == 201
    assert len(emu.faults) == 1


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "127.0.0.1@evil.example", "[::1", "0x7f.1"],
)
@pytest.mark.parametrize("path", ["/", "/_page/faults", "/_page/events", "/_page/static/studio.js"])
async def test_a_rebound_name_reaches_nothing(emu, wire, host, path):
    raw = await wire(head(f"GET {path} HTTP/1.1", f"Host: {host}"))
    assert status_of(raw) in {400, 421}
    assert emu.api_key.encode() not in raw.data


async def test_a_second_host_or_an_absolute_target_does_not_help(emu, wire):
    good = f"Host: 127.0.0.1:{emu._port}"
    for request in (
        head("GET / HTTP/1.1", good, "Host: evil.example"),
        head("GET / HTTP/1.1", "Host: evil.example", good),
        head("GET / HTTP/1.1"),
        head("GET http://127.0.0.1/ HTTP/1.1", "Host: evil.example"),
    ):
        raw = await wire(request)
        assert status_of(raw) in {400, 421}
        assert emu.api_key.encode() not in raw.data


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("method", ["POST /_page/faults", "DELETE /_page/faults", "DELETE /_page/faults/1"])
async def test_without_host_origin_or_token_nothing_is_changed(emu, wire, missing, method):
    emu.fault("submit", Status(500))
    wrong = ("Host: evil.example", "Origin: null", "X-Page-Token: guessed")
    headers = [wrong[index] if index == missing else header for index, header in enumerate(own(emu))]
    size = f"Content-Length: {len(FAULT)}"
    raw = await wire(head(f"{method} HTTP/1.1", *headers, "Content-Type: application/json", size) + FAULT)
    assert status_of(raw) == (421 if missing == 0 else 403)
    assert len(emu.faults) == 1


@pytest.mark.parametrize("name", ["Host", "Origin", "X-Page-Token"])
async def test_bytes_that_are_no_text_are_refused(emu, wire, name):
    headers = [f"{name}: \xff" if header.startswith(f"{name}:") else header for header in own(emu)]
    assert status_of(await wire(head("DELETE /_page/faults HTTP/1.1", *headers))) in {400, 403, 421}


async def test_two_origins_are_none(emu, wire):
    raw = await wire(head("DELETE /_page/faults HTTP/1.1", *own(emu), "Origin: http://evil.example"))
    assert status_of(raw) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "PROPFIND"])
async def test_no_other_method_changes_anything(emu, wire, method):
    """Nor does a GET with a body, or one that names another method."""
    emu.fault("submit", Status(500))
    for path in ("/_page/faults", "/_page/faults/1", "/", "/_page/pictures"):
        headers = (*own(emu), "X-HTTP-Method-Override: DELETE", f"Content-Length: {len(FAULT)}")
        raw = await wire(head(f"{method} {path}?_method=DELETE HTTP/1.1", *headers) + FAULT)
        assert status_of(raw) in {200, 404, 405}
        assert b"Access-Control" not in raw.head
    assert len(emu.faults) == 1


@pytest.mark.parametrize(
    "path",
    [
        "static/../studio.html",
        "static/%2e%2e/pages.py",
        "static/..%2fpages.py",
        "static/..\\pages.py",
        "static//etc/passwd",
        "static/%00studio.js",
        "static/studio.js%00.css",
        "static/studio.js/",
        "static/studio.html",
        "thumbs/../../v1/models",
        "thumbs/1/..%2f..%2fetc%2fpasswd",
        "files/%2e%2e/0",
        "files/1/0%0d%0aSet-Cookie:%20a=b",
        "../_page/static/..",
    ],
)
async def test_paths_lead_nowhere_else(emu, wire, client, path):
    await client.submit("a cat", model="dall-e-3")
    raw = await wire(head(f"GET /_page/{path} HTTP/1.1", own(emu)[0]))
    assert status_of(raw) in {400, 401, 404}
    assert b"Set-Cookie" not in raw.head


async def test_line_breaks_do_not_end_headers(emu, wire):
    """In queries, which come back in no header, and in a file name of a request that is replayed."""
    raw = await wire(head("GET /_page/requests?route=%0d%0aX-Evil:%201 HTTP/1.1", own(emu)[0]))
    assert status_of(raw) == 200
    assert b"X-Evil" not in raw.head


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_huge_body_is_refused_early(emu, wire, framing):
    """The emulator reads no more than its limit, and goes on."""
    kind = "Content-Type: application/json"
    if framing == "length":
        request = [head("POST /_page/faults HTTP/1.1", *own(emu), kind, "Content-Length: 100000000000")]
    else:
        request = [head("POST /_page/faults HTTP/1.1", *own(emu), kind, "Transfer-Encoding: chunked")]
        request += [b"10000\r\n" + b" " * 65536 + b"\r\n"] * 3
    reader, writer = await asyncio.open_connection("127.0.0.1", emu._port)
    writer.write(b"".join(request))
    assert (await reader.readline()).startswith(b"HTTP/1.1 413")
    writer.transport.abort()
    assert emu.faults == []


async def test_a_flood_of_streams_does_not_keep_the_api(client_of, until):
    """The page takes a few, and answers; their connections are closed with their clients."""
    async with Emulator(durations=0, studio=True) as emu:
        summaries = emu._handler.pages.summaries
        sockets = []
        for _ in range(FLOOD):
            reader, writer = await asyncio.open_connection("127.0.0.1", emu._port)
            writer.write(head("GET /_page/events HTTP/1.1", own(emu)[0]))
            sockets.append((reader, writer))
        await until(lambda: summaries.clients == summaries.max_clients)
        assert (await client_of(emu).submit(model="dall-e-3")).status == 200
        assert (await client_of(emu).ask("GET", "/_page/pictures")).json["total"] == 1
        for _, writer in sockets:
            writer.transport.abort()
        await until(lambda: not summaries.is_running)


@pytest.mark.skipif(not (PAGE_FILES / "studio.html").exists(), reason="without the page")
async def test_the_page_cannot_be_framed_or_read_by_others(emu, wire):
    raw = await wire(head("GET / HTTP/1.1", own(emu)[0]))
    assert b"frame-ancestors 'none'" in raw.head
    assert b"Cross-Origin-Resource-Policy: same-origin" in raw.head
    assert b"Access-Control" not in raw.head
