"""Calls and replies are plain data."""

import json

import pytest

from lemon_async.emulator.service.messages import Call, Reply, json_reply


@pytest.mark.parametrize(("route", "is_paid"), [("submit", True), ("edit", True), ("poll", False), ("files", False)])
def test_requests_for_images_cost_money(route, is_paid):
    """Generations, edits and variations are paid; everything else is free."""
    assert Call(route, route).is_paid is is_paid


def test_own_headers_win_over_added_ones():
    """Header names are compared without regard to case."""
    reply = Reply(200, headers={"X-Request-Id": "mine"}).with_headers({"x-request-id": "theirs", "a": "b"})
    assert reply.headers == {"a": "b", "X-Request-Id": "mine"}


def test_json_reply_encodes_its_value():
    """The content type is that of JSON."""
    reply = json_reply({"a": [1]}, 201, {"b": "c"})
    assert (reply.status, json.loads(reply.body), reply.content_type) == (201, {"a": [1]}, "application/json")
    assert reply.headers == {"b": "c"}
