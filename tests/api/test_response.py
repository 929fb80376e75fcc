"""An answer's bytes to JSON, or to one line that is safe to print; and what `Retry-After` may say."""

import gzip
import html
import math
import os
import time
import tracemalloc
import zlib

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lemon_async._api.response import (
    MAX_BODY_BYTES,
    BodyReader,
    Response,
    Unpacker,
    Unreadable,
    retry_after_s,
)

steady = settings(derandomize=True, deadline=None)

PAYLOAD = b'{"created": 1706000000, "data": []}'
PARSED = {"created": 1706000000, "data": []}
NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def answer(body, coding=None):
    return Response(200, {} if coding is None else {"content-encoding": coding}, body)


def complaint(response):
    with pytest.raises(Unreadable) as caught:
        response.json()
    return str(caught.value)


@pytest.mark.parametrize(
    ("status", "is_success"),
    [(200, True), (201, True), (204, True), (299, True), (199, False), (300, False), (302, False), (404, False)],
)
def test_response_is_a_success_with_a_2xx(status, is_success):
    assert Response(status, {}, b"").is_success is is_success


def test_response_keeps_its_body_out_of_its_repr():
    assert repr(Response(200, {"x-a": "b"}, b"A" * 99)) == "Response(status=200, headers={'x-a': 'b'}, received_at=0.0)"


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (PAYLOAD, None),
        (PAYLOAD, ""),
        (PAYLOAD, "identity"),
        (PAYLOAD, " Identity "),
        (gzip.compress(PAYLOAD, mtime=0), "gzip"),
        (gzip.compress(PAYLOAD, mtime=0), "GZIP "),
        (gzip.compress(PAYLOAD, mtime=0), "x-gzip"),
        (gzip.compress(PAYLOAD, mtime=0) + b"\0\0", "gzip"),
        (zlib.compress(PAYLOAD), "deflate"),
    ],
)
def test_json_undoes_the_content_coding(body, coding):
    assert answer(body, coding).json() == PARSED


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "x" * 1000, "\x1b[2J\r\n"])
def test_json_of_an_unknown_coding_says_which(coding):
    words = complaint(answer(PAYLOAD, coding))
    assert words == f"a body in the content coding {coding.strip().lower()[:20]!r}, which was not asked for"
    assert words.isprintable()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_json_of_a_damaged_coding_says_so(coding):
    assert complaint(answer(PAYLOAD, coding)) == "a compressed body that is damaged"
    damaged = bytearray(gzip.compress(PAYLOAD, mtime=0))
    damaged[-6] ^= 0xFF  # the checksum
    assert complaint(answer(bytes(damaged), coding)) == "a compressed body that is damaged"


@pytest.mark.parametrize(
    ("coding", "packed"), [("gzip", gzip.compress(PAYLOAD, mtime=0)), ("deflate", zlib.compress(PAYLOAD))]
)
def test_json_of_a_compressed_body_cut_at_any_byte_says_so(coding, packed):
    """Even when all of the JSON came through and only the checksum is missing."""
    for at in range(len(packed)):
        assert complaint(answer(packed[:at], coding)) == "a compressed body that is cut off"


MIB = 1024 * 1024


def test_json_of_a_bomb_stops_at_a_bound():
    """Half a megabyte unpacks to half a gigabyte; nobody who was asked for no compression needs that."""
    bomb = answer(gzip.compress(bytes(100 * MIB), 1), "gzip")
    tracemalloc.start()
    try:
        assert complaint(bomb) == "a compressed body that is far too large"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * MIB


def test_json_of_a_large_compressed_body_is_read():
    assert answer(gzip.compress(b" " * 900_000 + PAYLOAD, 1), "gzip").json() == PARSED


@pytest.mark.parametrize(
    ("body", "is_whole"),
    [
        (b'{"a": 1}', True),
        (b" [1] ", True),
        (b'{"a": 1', False),
        (b"[1", False),
        (b"12", False),
        (b'"a"', False),
        (b"", False),
    ],
)
def test_only_an_object_or_a_list_shows_that_it_is_complete(body, is_whole):
    """A cut number is another number; an object without its end cannot be parsed."""
    assert Response(200, {}, body).is_whole_json is is_whole


def test_json_is_read_once():
    response = answer(gzip.compress(PAYLOAD, mtime=0), "gzip")
    assert response.json() is response.json()


def test_bound_of_a_body_leaves_room_for_ten_large_pictures():
    a_4k_picture_as_base64 = 33_000_000
    assert 10 * a_4k_picture_as_base64 < MAX_BODY_BYTES <= 2**29


@pytest.mark.parametrize(
    ("body", "words"),
    [
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
    ],
)
def test_unreadable_body_is_told_in_one_line(body, words):
    assert answer(body).summary() == words
    assert complaint(answer(body)) == words


def test_summary_of_readable_json_is_its_text():
    assert answer(b'{"detail": "Not Found"}').summary() == 'the text \'{"detail": "Not Found"}\''


@pytest.mark.parametrize(
    ("body", "coding", "words"),
    [
        (b"x", "br", "a body in the content coding 'br', which was not asked for"),
        (b"not packed", "gzip", "a compressed body that is damaged"),
        (gzip.compress(b"<title>busy</title>", mtime=0), "gzip", "an HTML page 'busy'"),
    ],
)
def test_summary_of_a_coded_body_tells_what_is_in_it(body, coding, words):
    assert answer(body, coding).summary() == words


def mask(text):
    return text.replace("s3cr3t", "***")


@pytest.mark.parametrize(
    ("body", "coding", "words"),
    [
        (b"no s3cr3t", None, "the text 'no ***'"),
        (b"<title>no s3cr3t</title>", None, "an HTML page 'no ***'"),
        (b"<html>no &#115;3cr3t", None, "an HTML page 'no ***'"),
        (rb'{"error": "\u00733cr3t', None, 'the text \'{"error": "***\''),
        (gzip.compress(b"no s3cr3t", mtime=0), "gzip", "the text 'no ***'"),
        (b"x" * 157 + b"s3cr3t", None, f"the text '{'x' * 157}***'"),
    ],
)
def test_secret_in_an_unreadable_body_is_masked(body, coding, words):
    """After everything that can spell it has been undone, and before anything is cut."""
    response = Response(200, {"content-encoding": coding or "identity"}, body, mask=mask)
    assert complaint(response) == response.summary() == words


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_secret_in_json_is_masked_after_parsing(coding):
    """In any escape and any coding; the body stays as it came."""
    body = rb'{"s3cr3t": ["\u00733cr3t"]}'
    body = gzip.compress(body, mtime=0) if coding == "gzip" else body
    response = Response(200, {"content-encoding": coding}, body, mask=mask)
    assert response.json() == {"***": ["***"]}
    assert response.body is body
    assert "mask" not in repr(response)


@pytest.mark.parametrize("body", [b"no s3cr3t", gzip.compress(b"no s3cr3t" * 9, mtime=0)[:-9]])
def test_unreadable_body_is_told_without_the_bytes(body):
    """Neither causes nor frames of the error lead to them."""
    response = Response(200, {"content-encoding": "gzip" if body[0] == 0x1F else "identity"}, body)
    with pytest.raises(Unreadable) as caught:
        response.json()
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


@pytest.mark.parametrize("unit", ["<title>", "<title ", "<script>", "<script></style>", "<style", "<", "&lt;", "<!--"])
def test_summary_walks_through_the_text_once(unit):
    """Whatever is not closed goes on to the end; counted in steps of the pattern it would be millions."""
    body = (unit * 4096)[:4096].encode()
    started = time.process_time()
    for _ in range(10):
        answer(body).summary()
    assert time.process_time() - started < 0.1


@steady
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_summary_of_escaped_text_shows_words_not_markup(text):
    assert answer(f"<html>{html.escape(text)}".encode()).summary().startswith("an HTML page")


@steady
@given(st.binary(max_size=200), st.sampled_from([None, "gzip", "deflate", "br"]))
def test_json_of_anything_is_parsed_or_unreadable(body, coding):
    response = answer(body, coding)
    try:
        value = response.json()
    except Unreadable as fault:
        words = str(fault)
    else:
        assert orjson.loads(orjson.dumps(value)) == value
        return
    assert words == response.summary()
    assert words.isprintable()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
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
    ],
)
def test_retry_after_is_seconds_from_now(value, seconds):
    assert retry_after_s(value, received_at=NOW) == seconds


def test_retry_after_date_without_a_zone_is_utc_wherever_we_are():
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


@pytest.mark.parametrize("coding", [None, "identity", "gzip", "deflate"])
@pytest.mark.parametrize("piece_bytes", [1, 1000])
def test_pieces_of_a_packed_body_are_unpacked_as_they_come(coding, piece_bytes):
    body = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding, bytes)(b"data: {}\n\n" * 20)
    unpacker = Unpacker({"content-encoding": coding} if coding else {})
    pieces = [body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes)]
    assert b"".join(part for piece in pieces for part in unpacker.feed(piece)) == b"data: {}\n\n" * 20


def test_piece_that_is_damaged_or_a_bomb_is_unreadable():
    for body, words in ((b"no gzip", "damaged"), (gzip.compress(bytes(2**20)), "far too large")):
        with pytest.raises(Unreadable, match=words):
            list(Unpacker({"content-encoding": "gzip"}, 2**19).feed(body))


def unpacked(*pieces, coding="gzip"):
    unpacker = Unpacker({"content-encoding": coding})
    content = b"".join(part for piece in pieces for part in unpacker.feed(piece))
    unpacker.end()
    return content


@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
def test_body_of_several_members_is_read_whole(piece_bytes):
    """Gzip may have them (RFC 1952, 2.2)."""
    body = b"".join(gzip.compress(PAYLOAD[at : at + 9]) for at in range(0, len(PAYLOAD), 9))
    assert unpacked(*(body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes))) == PAYLOAD


@pytest.mark.parametrize(
    "junk",
    [b"\0" * 512, b"\x1f", b"\x1f\x8bjunk", b"junk", b"\x1f\x8b"],
)
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_whatever_follows_the_end_of_a_packed_body_is_ignored(junk, coding):
    packed = gzip.compress(PAYLOAD) if coding == "gzip" else zlib.compress(PAYLOAD)
    for pieces in ((packed + junk,), (packed, junk, junk), (packed[:20], packed[20:] + junk[:1], junk[1:])):
        assert unpacked(*pieces, coding=coding) == PAYLOAD


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (gzip.compress(b"x", mtime=0)[:-1], "is cut off"),
        (gzip.compress(b"x", mtime=0)[:3], "is cut off"),
        (b"\x1f\x8b\x08\xff", "damaged"),
    ],
)
def test_body_whose_last_member_is_cut_or_damaged_is_unreadable(member, words):
    for pieces in ((gzip.compress(PAYLOAD) + member,), (gzip.compress(PAYLOAD), member[:1], member[1:])):
        with pytest.raises(Unreadable, match=words):
            unpacked(*pieces)


def test_members_of_a_packed_body_are_bounded():
    """Each costs a decompressor, and a copy of what follows it."""
    assert unpacked(gzip.compress(b"x") * 1000) == b"x" * 100


def test_junk_after_a_packed_body_is_not_fed_to_a_decompressor():
    """It would copy all that it has been fed after its end, with every piece: hours for a gigabyte."""
    unpacker = Unpacker({"content-encoding": "gzip"})
    assert b"".join(unpacker.feed(gzip.compress(PAYLOAD) + b"junk")) == PAYLOAD
    inflater = unpacker._inflater
    for _ in range(100):
        assert list(unpacker.feed(b"j" * 10_000)) == []
    assert inflater is unpacker._inflater
    assert len(inflater.unused_data) + len(inflater.unconsumed_tail) <= len(b"junk")


def test_coding_that_nobody_asked_for_cannot_be_unpacked():
    with pytest.raises(Unreadable, match="the content coding 'br'"):
        Unpacker({"content-encoding": "br"})


# Bodies that are read as they come


def taken_in(body, coding=None, piece_bytes=1000):
    headers = {} if coding is None else {"content-encoding": coding}
    intake = BodyReader(headers)
    for at in range(0, len(body), piece_bytes):
        list(intake.feed(body[at : at + piece_bytes]))
    return Response(200, headers, **intake.end())


@pytest.mark.parametrize("coding", [None, "identity", "gzip", "deflate"])
@pytest.mark.parametrize("piece_bytes", [1, 1000, 10**6])
def test_body_in_pieces_reads_as_it_does_whole(coding, piece_bytes):
    pack = {"gzip": gzip.compress, "deflate": zlib.compress}.get(coding, bytes)
    assert taken_in(pack(PAYLOAD), coding, piece_bytes).json() == PARSED
    assert taken_in(pack(b"<title>busy</title>"), coding, piece_bytes).summary() == "an HTML page 'busy'"


@pytest.mark.parametrize(
    ("body", "coding", "words"),
    [
        (PAYLOAD, "br", "a body in the content coding 'br', which was not asked for"),
        (PAYLOAD, "gzip", "a compressed body that is damaged"),
        (gzip.compress(PAYLOAD, mtime=0)[:-1], "gzip", "a compressed body that is cut off"),
        (b"[" * (5 * MIB), None, "more than 1,048,576 bytes of text beside its pictures"),
    ],
)
def test_body_in_pieces_that_cannot_be_read_says_why(body, coding, words):
    response = taken_in(body, coding, 200_000)
    assert complaint(response) == response.summary() == words
    assert response.body == b""


def test_long_text_that_came_as_a_file_is_not_parsed():
    response = Response(500, {}, b"[" + b"1," * (2 * MIB) + b"1]")
    assert complaint(response) == "more than 1,048,576 bytes of text"


def test_picture_in_a_packed_body_is_lifted():
    text = "QUJD" * 30_000
    response = taken_in(gzip.compress(b'{"data": [{"b64_json": "%b"}]}' % text.encode()), "gzip")
    (inline,) = response.lifted.values()
    assert inline.content == b"ABC" * 30_000
    assert response.json()["data"][0]["b64_json"] in response.lifted
    assert len(response.body) < 200
