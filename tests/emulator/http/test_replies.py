"""Replies: what faults put in their place, their heads, and byte ranges."""

import json

import pytest

from lemon_async.emulator import Body, Cut, Expire, Fault, Latency, Redirect, Status
from lemon_async.emulator.http.replies import error_reply, part_of, phrase, raw_head, read_whole, replacement_reply
from lemon_async.emulator.service.messages import Reply
from lemon_async.emulator.service_errors import ServiceError


async def chunks():
    """A streamed body."""
    yield b"a"
    yield b"bc"


def reply_to(action):
    return replacement_reply(Fault("poll", action))


def test_status_has_the_code_message_and_hints_of_its_action():
    reply = reply_to(Status(503, code="c", message="m", error={"retryable": True}, headers={"Retry-After": "x"}))
    error = json.loads(reply.body)["error"]
    assert (error["code"], error["message"], error["retryable"]) == ("c", "m", True)
    assert reply.headers == {"Retry-After": "x"}


def test_status_has_a_body_of_each_kind():
    assert reply_to(Status(502, "empty")).body == b""
    html = reply_to(Status(502, "html"))
    assert b"502 Bad Gateway" in html.body
    assert html.content_type.startswith("text/html")
    with pytest.raises(ValueError):
        json.loads(reply_to(Status(200, "truncated")).body)
    assert len(reply_to(Status(500, "huge")).body) > 8 * 2**20


def test_status_of_a_success_has_no_error_object():
    assert "error" not in json.loads(reply_to(Status(200)).body)


def test_redirect_body_and_expire_replace_the_reply():
    assert reply_to(Redirect("//evil", 302)).headers == {"Location": "//evil"}
    assert reply_to(Redirect("/x")).status == 307
    body = reply_to(Body(b"x", "image/png", {"Content-Encoding": "gzip"}))
    assert (body.status, body.body, body.content_type) == (200, b"x", "image/png")
    assert replacement_reply(Fault("cdn", Expire())).status == 410
    assert reply_to(Latency(1)) is None


def test_raw_head_is_http():
    head = raw_head(Reply(200, b"abc", "image/png")).decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Length: 3\r\n" in head
    assert head.endswith("\r\n\r\n")


def test_wrong_content_length_of_a_fault_is_kept():
    head = raw_head(Reply(200, b"abc", headers={"Content-Length": "9"}))
    assert b"Content-Length: 9\r\n" in head
    assert head.count(b"Content-Length") == 1


def test_phrase_of_an_unregistered_status():
    assert phrase(599) == "Unknown"


def test_error_reply_keeps_headers():
    reply = error_reply(ServiceError(429, headers={"Retry-After": "1"}))
    assert reply.headers == {"Retry-After": "1"}


async def test_read_whole_joins_the_chunks():
    reply = Reply(200, content_type="text/event-stream", headers={"X-Own": "1"}, chunks=chunks())
    assert await read_whole(reply) == Reply(200, b"abc", "text/event-stream", {"X-Own": "1"})


async def test_read_whole_returns_a_reply_without_chunks_as_it_is():
    reply = Reply(200, b"abc")
    assert await read_whole(reply) is reply


# Ranges


FILE = Reply(200, b"0123456789", "image/png")
TAG = part_of(FILE, {}).headers["ETag"]


def test_whole_file_announces_ranges():
    whole = part_of(FILE, {})
    assert (whole.status, whole.body, whole.content_type) == (200, FILE.body, "image/png")
    assert whole.headers == {"ETag": TAG, "Accept-Ranges": "bytes"}
    assert TAG.startswith('"')


def test_etag_depends_on_the_content():
    others = [Reply(200, body) for body in (b"", b"0123456780", b"01234567890")]
    assert len({TAG, *(part_of(other, {}).headers["ETag"] for other in others)}) == 4


def test_range_is_served():
    ranges = [
        ("bytes=0-", b"0123456789", "bytes 0-9/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=4-6", b"456", "bytes 4-6/10"),
        ("bytes=9-9", b"9", "bytes 9-9/10"),
        ("bytes=4-999", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("Bytes=1-1", b"1", "bytes 1-1/10"),
    ]
    for asked, body, content_range in ranges:
        part = part_of(FILE, {"Range": asked})
        assert (part.status, part.body, part.headers["Content-Range"]) == (206, body, content_range)
        assert part.headers["ETag"] == TAG


def test_range_beyond_the_end_is_refused():
    for asked in ("bytes=10-", "bytes=99-100", "bytes=-0"):
        part = part_of(FILE, {"Range": asked})
        assert (part.status, part.body, part.headers["Content-Range"]) == (416, b"", "bytes */10")


def test_malformed_range_is_ignored():
    """The whole file is served then, as servers may do (RFC 9110, 14.2)."""
    for asked in ("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=6-4"):
        assert part_of(FILE, {"Range": asked}) == part_of(FILE, {})


def test_range_of_another_file_is_ignored():
    assert part_of(FILE, {"Range": "bytes=4-", "If-Range": '"other"'}) == part_of(FILE, {})
    assert part_of(FILE, {"Range": "bytes=4-", "If-Range": TAG}).body == b"456789"


async def test_link_serves_the_rest_of_a_download(emu, client):
    """The client has the ETag of the first response."""
    url = (await client.submit(model="dall-e-2", size="256x256")).json["data"][0]["url"]
    whole = await client.get(url)
    assert (whole.status, whole.headers["Accept-Ranges"]) == (200, "bytes")
    headers = {"Range": "bytes=100-", "If-Range": whole.headers["ETag"]}
    rest = await client.get(url, headers=headers)
    assert (rest.status, rest.raw, rest.headers["Content-Type"]) == (206, whole.raw[100:], "image/png")
    assert rest.headers["Content-Range"] == f"bytes 100-{len(whole.raw) - 1}/{len(whole.raw)}"
    assert rest.headers["Content-Length"] == str(len(rest.raw))
    beyond = await client.get(url, headers={"Range": f"bytes={len(whole.raw)}-"})
    assert (beyond.status, beyond.raw) == (416, b"")
    assert [request.status for request in emu.requests[-3:]] == [200, 206, 416]


async def test_part_can_be_cut(emu, client, wire):
    """Content-Length is that of the part."""
    url = (await client.submit(model="dall-e-2", size="256x256")).json["data"][0]["url"]
    emu.fault("cdn", Cut(7))
    path = url.removeprefix(emu.base_url)
    head = f"GET {path} HTTP/1.1\r\nHost: {emu.base_url[7:]}\r\nRange: bytes=10-29\r\n\r\n"
    raw = await wire(head.encode())
    assert raw.head.startswith(b"HTTP/1.1 206 Partial Content")
    assert b"Content-Length: 20" in raw.head
    assert raw.is_reset
