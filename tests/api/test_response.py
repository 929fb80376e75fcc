"""A body is JSON or one printable line; `Retry-After` is seconds or nothing."""

import html
import math
import os
import time

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lemon_async._api.response import MAX_BODY_BYTES, Response, Unreadable, retry_after_s

steady = settings(derandomize=True, deadline=None)

PAYLOAD = b'{"created": 1706000000, "data": []}'
PARSED = {"created": 1706000000, "data": []}
NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def answer(body, **fields):
    return Response(200, {}, body, **fields)


def complaint(response):
    with pytest.raises(Unreadable) as caught:
        response.json()
    return str(caught.value)


def test_success_is_a_2xx():
    assert all(Response(status, {}, b"").is_success for status in (200, 201, 204, 299))
    assert not any(Response(status, {}, b"").is_success for status in (199, 300, 302, 404))


def test_bound_of_a_body_leaves_room_for_ten_large_pictures():
    a_4k_picture_as_base64 = 33_000_000
    assert 10 * a_4k_picture_as_base64 < MAX_BODY_BYTES <= 2**29


def test_body_that_could_not_be_read_says_why():
    response = answer(b"", fault="a compressed body that is cut off")
    assert complaint(response) == response.summary() == "a compressed body that is cut off"


def test_response_keeps_its_body_out_of_its_repr():
    assert repr(Response(200, {"x-a": "b"}, b"A" * 99)) == "Response(status=200, headers={'x-a': 'b'}, received_at=0.0)"


def test_only_an_object_or_a_list_shows_that_it_is_complete():
    """A truncated number is a valid number; a truncated object cannot be parsed."""
    for body in (b'{"a": 1}', b" [1] "):
        assert answer(body).is_whole_json, body
    for body in (b'{"a": 1', b"[1", b"12", b'"a"', b""):
        assert not answer(body).is_whole_json, body


def test_json_is_read_once():
    response = answer(PAYLOAD)
    assert response.json() == PARSED
    assert response.json() is response.json()


SUMMARIES = [
    (b"", "an empty body"),
    (b" \r\n\t", "an empty body"),
    (b'{"task_id": "ldtask_1", "sta', 'the text \'{"task_id": "ldtask_1", "sta\''),
    (b"upstream connect error", "the text 'upstream connect error'"),
    (b"it's down", 'the text "it\'s down"'),
    (b"a\x1b[31mb\r\nc\0d", "the text 'a [31mb c d'"),
    ("\u202egnp.exe\u200b".encode(), "the text 'gnp.exe'"),
    (b"\xff\xfe\xfd", "the text '\ufffd\ufffd\ufffd'"),
    (b"\x01\x02", "the text"),
    (b"x" * 161, f"the text '{'x' * 160}…'"),
    (b"x" * 160, f"the text '{'x' * 160}'"),
    (b"<html><head><title>502 Bad Gateway</title></head><body><h1>oops</h1>", "an HTML page '502 Bad Gateway'"),
    (b"<TITLE lang=en>\n 504\n Time-out </TITLE>", "an HTML page '504 Time-out'"),
    (b"<title></title><p>words</p>", "an HTML page"),
    (b"<!DOCTYPE html><p>Just a moment...", "an HTML page 'Just a moment...'"),
    (b"<!-- edge --><p>no &amp; no", "an HTML page 'no & no'"),
    (b"<html><script>alert('<b>')</script><style>p{}</style>Busy</html>", "an HTML page 'Busy'"),
    (b"<html><SCRIPT>\nlet x = 1\n</SCRIPT\n>Busy", "an HTML page 'Busy'"),
    (b"<html><body>cut <a href='https://evil.exam", "an HTML page 'cut'"),
    (b"  <body>indented", "an HTML page 'indented'"),
    (b"<html></html>", "an HTML page"),
    (b"<Error><Code>AccessDenied</Code></Error>", "the text 'AccessDenied'"),
    (b"<title>&lt;img src=x onerror=alert(1)&gt;</title>", "an HTML page 'img src=x onerror=alert(1)'"),
    (b"<html>&#x3c;script&#62;x&#27;", "an HTML page 'script x'"),
    (b"1 > 0", "the text '1 0'"),
    (b" " * 1999 + b"xy", "the text 'x'"),
    (b" " * 5000 + b"x", "the text"),
    (b"<p " + b"a" * 4094 + b">words", "the text"),
]


def test_unreadable_body_is_summarized_in_one_line():
    for body, words in SUMMARIES:
        assert answer(body).summary() == words, body[:60]
        assert complaint(answer(body)) == words


def test_summary_of_readable_json_is_its_text():
    assert answer(b'{"detail": "Not Found"}').summary() == 'the text \'{"detail": "Not Found"}\''


def mask(text):
    return text.replace("s3cr3t", "***")


def test_secret_in_an_unreadable_body_is_masked():
    """After escapes are undone, and before the text is cut."""
    for body, words in (
        (b"no s3cr3t", "the text 'no ***'"),
        (b"<title>no s3cr3t</title>", "an HTML page 'no ***'"),
        (b"<html>no &#115;3cr3t", "an HTML page 'no ***'"),
        (rb'{"error": "\u00733cr3t', 'the text \'{"error": "***\''),
        (b"x" * 157 + b"s3cr3t", f"the text '{'x' * 157}***'"),
    ):
        response = answer(body, mask=mask)
        assert complaint(response) == response.summary() == words


def test_secret_in_json_is_masked_after_parsing():
    """With any escapes; the body stays unchanged."""
    body = rb'{"s3cr3t": ["\u00733cr3t"]}'
    response = answer(body, mask=mask)
    assert response.json() == {"***": ["***"]}
    assert response.body is body
    assert "mask" not in repr(response)


def test_error_of_an_unreadable_body_does_not_lead_to_its_bytes():
    """Neither by causes nor by frames."""
    with pytest.raises(Unreadable) as caught:
        answer(b"no s3cr3t").json()
    assert caught.value.__context__ is None
    assert not any(isinstance(value, bytes) for value in caught.traceback[-1].frame.f_locals.values())


MARKUP = (
    "<title> </title> <script> </script> <html <!-- < > &lt; &gt; &#60; &amp;lt; <img/src=x/onerror=alert(1)> words"
)
CONTROLS = ["\x1b[2J", "\r\n", "\0", "\u202e", "'", '"', "\\", " "]
markup = st.lists(st.sampled_from(MARKUP.split() + CONTROLS) | st.text(max_size=5), max_size=30).map("".join)


@steady
@given(st.binary(max_size=400) | markup.map(lambda text: text.encode("utf-8", "replace")))
@example(b"<script" * 1000)
@example(b"<title" * 1000)
@example(b"&lt;" * 1000)
@example(b"\\" * 1000)
def test_summary_of_anything_is_one_bounded_printable_line_without_brackets(body):
    words = answer(body).summary()
    assert words.isprintable()
    assert not set("<>") & set(words)
    assert len(words) <= 2 * 161 + len("an HTML page ''")


def test_summary_walks_through_the_text_once():
    """An unclosed element extends to the end; a search from each start would take millions of steps."""
    for unit in ("<title>", "<title ", "<script>", "<script></style>", "<style", "<", "&lt;", "<!--"):
        body = (unit * 4096)[:4096].encode()
        started = time.process_time()
        for _ in range(10):
            answer(body).summary()
        assert time.process_time() - started < 1, unit


@steady
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_summary_of_escaped_text_shows_words_not_markup(text):
    assert answer(f"<html>{html.escape(text)}".encode()).summary().startswith("an HTML page")


@steady
@given(st.binary(max_size=200))
def test_json_of_anything_is_parsed_or_unreadable(body):
    response = answer(body)
    try:
        value = response.json()
    except Unreadable as fault:
        words = str(fault)
    else:
        assert orjson.loads(orjson.dumps(value)) == value
        return
    assert words == response.summary()
    assert words.isprintable()


RETRY_AFTER = [
    (0, 0.0),
    (7, 7.0),
    (1.5, 1.5),
    (-1, 0.0),
    (-0.5, 0.0),
    (86400, 86400.0),
    (10**400, 1e9),
    (-(10**400), 0.0),
    (math.nan, None),
    ("7", 7.0),
    (" 7 ", 7.0),
    ("1.5", 1.5),
    ("-1", 0.0),
    ("1e3", 1000.0),
    ("1e400", None),
    ("nan", None),
    ("inf", None),
    ("-inf", None),
    ("", None),
    ("soon", None),
    ("7 s", None),
    ("Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
    ("Sunday, 06-Nov-94 08:50:37 GMT", 60.0),
    ("Sun Nov  6 08:50:37 1994", 60.0),
    ("Sun, 06 Nov 1994 08:50:37 -0000", 60.0),
    ("Sun, 06 Nov 1994 09:50:37 +0100", 60.0),
    ("Sun, 06 Nov 1994 08:48:37 GMT", 0.0),
    ("Sun, 32 Nov 1994 08:49:37 GMT", None),
    ("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", None),
    (True, None),
    (False, None),
    (None, None),
    (b"7", None),
    ([7], None),
    ({}, None),
]


def test_retry_after_is_seconds_from_now():
    for value, seconds in RETRY_AFTER:
        assert retry_after_s(value, received_at=NOW) == seconds, value


def test_retry_after_date_without_a_zone_is_utc_in_any_time_zone():
    """HTTP dates are in UTC, and the oldest of their three forms does not say so (RFC 9110, 5.6.7)."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    try:
        assert retry_after_s("Sun Nov  6 08:50:37 1994", received_at=NOW) == 60.0
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
        time.tzset()


DATES = "Sun, Sun 06 Nov 1994 94 08:49:37 25:61:61 08.49 GMT -0000 +9999 99999 0 : - , ( ) \0 Z AM"
date_like = st.lists(st.sampled_from(DATES.split()), max_size=8).map(" ".join)


@steady
@given(
    st.text() | date_like | st.floats() | st.integers() | st.floats().map(str) | st.integers().map(str) | st.none(),
    st.floats(0, 4e9),
)
@example(10**400, 0.0)
@example(-(10**400), 0.0)
@example("9" * 5000, 0.0)
def test_retry_after_of_anything_is_finite_and_not_negative(value, received_at):
    seconds = retry_after_s(value, received_at=received_at)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


def test_long_text_is_not_parsed():
    response = answer(b"[" + b"1," * 2**21 + b"1]")
    assert complaint(response) == "more than 1,048,576 bytes of text"
