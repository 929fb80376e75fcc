"""Bodies are unpacked within bounds and lose their base64, wherever their pieces begin."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._api.response import MAX_BODY_BYTES, Response, Unreadable
from lemon_async._http.attempt import BodyReader, Unpacker

steady = settings(derandomize=True, deadline=None)

PAYLOAD = b'{"created": 1706000000, "data": []}'
PARSED = {"created": 1706000000, "data": []}
MIB = 1024 * 1024
PACKERS = {None: bytes, "identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}


def read(body, coding=None, piece_bytes=200_000, **options):
    headers = {} if coding is None else {"content-encoding": coding}
    reader = BodyReader(headers, MAX_BODY_BYTES, **options)
    for at in range(0, len(body), piece_bytes):
        list(reader.feed(body[at : at + piece_bytes]))
    return Response(200, headers, **reader.end())


def unpacked(*pieces, coding="gzip", **options):
    unpacker = Unpacker({"content-encoding": coding}, **options)
    content = b"".join(part for piece in pieces for part in unpacker.feed(piece))
    unpacker.end()
    return content


def complaint(response):
    """Return why a response cannot be read; its summary says the same, and nothing of the body is kept."""
    with pytest.raises(Unreadable) as caught:
        response.json()
    assert response.summary() == str(caught.value)
    assert response.summary().isprintable()
    assert response.body == b""
    return str(caught.value)


def test_reader_undoes_the_content_coding():
    for coding in ("", " Identity "):
        assert read(PAYLOAD, coding).json() == PARSED
    for coding in ("GZIP ", "x-gzip"):
        assert read(gzip.compress(PAYLOAD), coding).json() == PARSED


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("coding", PACKERS)
def test_reader_does_not_care_where_pieces_begin(coding, is_kept):
    for piece_bytes in (1, 7, 10**6):
        assert read(PACKERS[coding](PAYLOAD), coding, piece_bytes, is_kept=is_kept).json() == PARSED
        page = PACKERS[coding](b"<title>busy</title>")
        assert read(page, coding, piece_bytes, is_kept=is_kept).summary() == "an HTML page 'busy'"


def test_reader_names_a_coding_that_was_not_asked_for():
    for coding in ("br", "zstd", "gzip, br", "x" * 1000, "\x1b[2J\r\n"):
        shown = coding.strip().lower()[:20]
        assert complaint(read(PAYLOAD, coding)) == f"a body in the content coding {shown!r}, which was not requested"
        with pytest.raises(Unreadable, match="which was not requested"):
            Unpacker({"content-encoding": coding})


def test_reader_reports_damaged_data():
    wrong_checksum = bytearray(gzip.compress(PAYLOAD))
    wrong_checksum[-6] ^= 0xFF
    for body in (PAYLOAD, bytes(wrong_checksum)):
        for coding in ("gzip", "deflate"):
            assert complaint(read(body, coding)) == "a compressed body that is damaged"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_reader_reports_a_body_cut_at_any_byte(coding):
    """Even when all of the JSON came through and only the checksum is missing."""
    packed = PACKERS[coding](PAYLOAD)
    for at in range(len(packed)):
        assert complaint(read(packed[:at], coding)) == "a compressed body that is cut off"


def test_reader_stops_at_a_bound_of_text():
    assert complaint(read(b"[" * (5 * MIB))) == "more than 1,048,576 bytes of text beside its pictures"


@pytest.mark.parametrize("is_kept", [False, True])
def test_bomb_stops_at_a_bound(is_kept):
    """Half a megabyte unpacks to half a gigabyte."""
    bomb = gzip.compress(b"[" * (100 * MIB), 1)
    tracemalloc.start()
    try:
        reader = BodyReader({"content-encoding": "gzip"}, 2 * MIB, is_kept=is_kept)
        list(reader.feed(bomb))
        assert "fault" in reader.end()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * MIB
    with pytest.raises(Unreadable, match=r"^a compressed body that holds too many bytes$"):
        unpacked(bomb, max_bytes=2**19)


@pytest.mark.parametrize("coding", [None, "gzip"])
def test_pictures_are_taken_out_of_json_and_left_in_files(coding):
    body = PACKERS[coding](b'{"data": [{"b64_json": "%b"}]}' % (b"QUJD" * 30_000))
    response = read(body, coding)
    (inline,) = response.pictures.values()
    assert inline.content == b"ABC" * 30_000
    assert response.json()["data"][0]["b64_json"] in response.pictures
    assert len(response.body) < 200
    kept = read(body, coding, is_kept=True)
    assert kept.json()["data"][0]["b64_json"] == "QUJD" * 30_000
    assert not kept.pictures


@steady
@given(st.binary(max_size=200), st.sampled_from([None, "gzip", "deflate", "br"]), st.booleans())
def test_any_body_is_read_or_unreadable(body, coding, is_kept):
    response = read(body, coding, is_kept=is_kept)
    assert response.summary().isprintable()
    if response.fault:
        assert complaint(response) == response.fault


# Members of gzip (RFC 1952, 2.2)


@pytest.mark.parametrize("piece_bytes", [1, 7, 10_000])
def test_body_of_several_members_is_read_whole(piece_bytes):
    body = b"".join(gzip.compress(PAYLOAD[at : at + 9]) for at in range(0, len(PAYLOAD), 9))
    assert unpacked(*(body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes))) == PAYLOAD


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_anything_after_the_end_of_a_packed_body_is_ignored(coding):
    packed = PACKERS[coding](PAYLOAD)
    for junk in (b"\0" * 512, b"\x1f", b"\x1f\x8bjunk", b"junk", b"\x1f\x8b"):
        for pieces in ((packed + junk,), (packed, junk, junk), (packed[:20], packed[20:] + junk[:1], junk[1:])):
            assert unpacked(*pieces, coding=coding) == PAYLOAD


def test_last_member_that_is_cut_or_damaged_is_reported():
    for member, words in (
        (gzip.compress(b"x")[:-1], "is cut off"),
        (gzip.compress(b"x")[:3], "is cut off"),
        (b"\x1f\x8b\x08\xff", "damaged"),
    ):
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
