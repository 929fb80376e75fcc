from typing import get_args

import pytest

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
from lemon_async.emulator.http.raw_response import Ending, RawResponse, plan_raw_response
from lemon_async.emulator.http.replies import raw_head
from lemon_async.emulator.service.messages import Reply

REPLY = Reply(200, b"0123456789")
HEAD = raw_head(REPLY)


@pytest.mark.parametrize(
    ("do", "delivery"),
    [
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
    ],
)
def test_fault_decides_how_an_answer_travels(do, delivery):
    assert plan_raw_response(REPLY, Fault("submit", do)) == delivery


def test_own_length_is_not_left_to_aiohttp():
    reply = Reply(200, b"abc", headers={"content-length": "9"})
    delivery = plan_raw_response(reply, Fault("submit", Latency(0)))
    assert (delivery.ending, delivery.body) == ("close", b"abc")


def test_garbage_does_not_look_like_http():
    delivery = plan_raw_response(REPLY, Fault("submit", Garbage()))
    assert delivery.ending == "end"
    assert not delivery.head.startswith(b"HTTP")


def test_endings_are_these_four():
    assert set(get_args(Ending)) == {"close", "end", "abort", "hold"}
