import json

import pytest

from lemon_async.emulator import Body, Expire, Fault, Latency, Redirect, Status
from lemon_async.emulator.http.replies import Reply, canned, phrase, refusal
from lemon_async.emulator.problems import Problem, error_json


async def chunks():
    """A body that comes into being."""
    yield b"a"
    yield b"bc"


def reply_to(action):
    return canned(Fault("poll", action))


def test_status_takes_words_and_hints_of_its_own():
    reply = reply_to(Status(503, code="c", message="m", error={"retryable": True}, headers={"Retry-After": "x"}))
    error = json.loads(reply.body)["error"]
    assert (error["code"], error["message"], error["retryable"]) == ("c", "m", True)
    assert reply.headers == {"Retry-After": "x"}


def test_bodies_of_every_kind():
    assert reply_to(Status(502, "empty")).body == b""
    html = reply_to(Status(502, "html"))
    assert b"502 Bad Gateway" in html.body
    assert html.content_type.startswith("text/html")
    with pytest.raises(ValueError):
        json.loads(reply_to(Status(200, "truncated")).body)
    assert len(reply_to(Status(500, "huge")).body) > 8 * 2**20


def test_success_without_a_shape_has_no_error():
    assert "error" not in json.loads(reply_to(Status(200)).body)


def test_other_replacements():
    assert reply_to(Redirect("//evil", 302)).headers == {"Location": "//evil"}
    assert reply_to(Redirect("/x")).status == 307
    body = reply_to(Body(b"x", "image/png", {"Content-Encoding": "gzip"}))
    assert (body.status, body.body, body.content_type) == (200, b"x", "image/png")
    assert reply_to(Expire()).status == 410
    assert reply_to(Latency(1)) is None


def test_own_headers_win_over_added_ones():
    reply = Reply(200, headers={"X-Request-Id": "mine"}).plus({"x-request-id": "theirs", "a": "b"})
    assert reply.headers == {"a": "b", "X-Request-Id": "mine"}


def test_head_is_http():
    head = Reply(200, b"abc", "image/png").head().decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Length: 3\r\n" in head
    assert head.endswith("\r\n\r\n")


def test_wrong_content_length_of_a_fault_is_kept():
    """Whoever wants a lie in the head gets it."""
    head = Reply(200, b"abc", headers={"Content-Length": "9"}).head()
    assert b"Content-Length: 9\r\n" in head
    assert head.count(b"Content-Length") == 1


def test_phrase_of_an_unregistered_status():
    assert phrase(599) == "Unknown"


def test_refusal_keeps_headers_and_lists_complaints_beside_the_error():
    reply = refusal(Problem(429, headers={"Retry-After": "1"}))
    assert reply.headers == {"Retry-After": "1"}
    assert set(error_json(404)) == {"error"}


async def test_whole_answer_has_all_chunks_in_its_body():
    reply = Reply(200, content_type="text/event-stream", headers={"X-Own": "1"}, chunks=chunks())
    assert await reply.whole() == Reply(200, b"abc", "text/event-stream", {"X-Own": "1"})


async def test_answer_without_chunks_is_whole():
    reply = Reply(200, b"abc")
    assert await reply.whole() is reply
