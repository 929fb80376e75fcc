"""Responses written past aiohttp; `test_fault_protocol` sees it on the wire."""

from lemon_async.emulator import (
    Blackhole,
    Cut,
    Drip,
    Fault,
    Garbage,
    HalfClose,
    Latency,
    Reset,
    Status,
)
from lemon_async.emulator.http.raw_response import RawResponse, plan_raw_response
from lemon_async.emulator.http.replies import raw_head
from lemon_async.emulator.service.messages import Reply

REPLY = Reply(200, b"0123456789")
HEAD = raw_head(REPLY)


def test_plan_follows_from_the_actions():
    plans = [
        ((Latency(1),), None),
        ((Status(500),), None),
        ((Blackhole(), Drip(1)), RawResponse("hold")),
        ((Reset("request_end"),), RawResponse("abort")),
        ((HalfClose("request_end"),), RawResponse("end")),
        ((Reset("response_head"),), RawResponse("abort", HEAD[: len(HEAD) // 2])),
        ((HalfClose("response_body"),), RawResponse("end", HEAD, b"01234", status=200)),
        ((Cut(3),), RawResponse("abort", HEAD, b"012", status=200)),
        ((Cut(99),), RawResponse("abort", HEAD, b"0123456789", status=200)),
        ((Drip(5),), RawResponse("close", HEAD, b"0123456789", 5, 200)),
        ((Drip(5), Cut(0)), RawResponse("abort", HEAD, b"", 5, 200)),
    ]
    for actions, raw in plans:
        assert plan_raw_response(REPLY, Fault("submit", actions)) == raw


def test_reply_with_a_content_length_of_its_own_is_sent_past_aiohttp():
    reply = Reply(200, b"abc", headers={"content-length": "9"})
    raw = plan_raw_response(reply, Fault("submit", Latency(0)))
    assert (raw.ending, raw.body) == ("close", b"abc")


def test_garbage_does_not_look_like_http():
    raw = plan_raw_response(REPLY, Fault("submit", Garbage()))
    assert raw.ending == "end"
    assert not raw.head.startswith(b"HTTP")
