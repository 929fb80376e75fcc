"""Bodies in and out."""

import json

import pytest

from lemon_async._web.replies import MAX_JSON_BYTES, json_bytes
from pages import make_pages, own_headers, serving


def test_text_that_utf8_cannot_hold_is_json():
    """A lone surrogate in a prompt breaks no page."""
    assert json.loads(json_bytes({"prompt": "a \ud800 b", "cost": float("nan")}))["prompt"] == "a \ud800 b"
    assert json_bytes("é") == '"é"'.encode()


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"[", "application/json", 400),
        (b"[]", "text/plain", 415),
        (b"[]", "application/x-www-form-urlencoded", 415),
        (b" " * MAX_JSON_BYTES + b"[]", "application/json", 413),
    ],
    ids=["no JSON", "text", "form", "large"],
)
async def test_bodies_that_are_no_small_json_are_refused(body, content_type, status):
    pages, things = make_pages()

    async def pieces():
        for start in range(0, len(body), 4096):
            yield body[start : start + 4096]

    async with serving(pages) as ask:
        headers = {**own_headers(pages, ask.url), "Content-Type": content_type}
        for data in (body, pieces()):  # with and without a Content-Length
            got, _, answer = await ask("POST", "/_page/things", data=data, headers=headers)
            assert (got, list(json.loads(answer))) == (status, ["error"])
    assert not things
