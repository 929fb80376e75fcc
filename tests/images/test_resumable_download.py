"""What is asked for next, given what arrived and what the servers said."""

import pytest

from lemon_async._images.resumable_download import MAX_BYTES, PrefixSkipper, RangeMismatch, ResumableDownload, TooMuch

TAGGED = {"ETag": '"v1"'}


def arrived(piece, headers, length=None):
    arrival = ResumableDownload()
    assert not arrival.begin(headers, length)
    assert arrival.take(piece) is None
    return arrival


@pytest.mark.parametrize(
    ("headers", "length", "condition"),
    [
        (TAGGED, None, '"v1"'),
        ({"ETag": 'W/"v1"', "Last-Modified": "a date"}, None, "a date"),
    ],
)
def test_rest_is_asked_for(png, headers, length, condition):
    wanted = {"Range": "bytes=20-"} | ({"If-Range": condition} if condition else {})
    assert arrived(png[:20], headers, length).question() == wanted


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({}, 99),
        ({"Accept-Ranges": "bytes"}, None),
        ({"Accept-Ranges": "bytes"}, 99),
        ({"ETag": 'W/"v1"'}, 99),
        ({"ETag": '"v1"', "Accept-Ranges": "none"}, 99),
    ],
)
def test_all_is_asked_for_where_the_rest_could_be_that_of_another_picture(png, headers, length):
    arrival = arrived(png[:20], headers, length)
    assert (arrival.kept_bytes, arrival.question()) == (0, {})


def test_all_is_asked_for_when_nothing_is_here():
    assert ResumableDownload().question() == {}


def test_server_that_was_caught_lying_is_asked_for_all(png):
    arrival = arrived(png[:40], TAGGED)
    assert arrival.hand_on() == png[:40]
    arrival.distrust()
    assert arrival.begin(TAGGED, None)
    arrival.take(png[:40])
    assert arrival.question() == {}


def test_nothing_is_handed_on_before_it_is_a_picture(png):
    """Who takes the pieces never sees an error page; what is begun anew before that needs no mention."""
    arrival = arrived(png[:20], TAGGED)
    assert arrival.hand_on() == b""
    assert not arrival.begin(TAGGED, None)
    for begin, end in ((0, 20), (20, 31), (31, 40)):
        assert arrival.hand_on() == b""
        arrival.take(png[begin:end])
    assert arrival.hand_on() == png[:40]
    assert arrival.hand_on(is_end=True) == b""


def test_part_that_would_make_the_picture_too_large_is_refused(png):
    """Even if nobody has told its length before."""
    arrival = arrived(png[:20], TAGGED)
    with pytest.raises(TooMuch, match="the answer is larger than 134,217,728 bytes"):
        arrival.go_on(206, {"Content-Range": f"bytes 20-{MAX_BYTES}/*"} | TAGGED, None)


def test_part_without_the_tag_of_the_whole_is_no_part_of_it(png):
    """A server that overlooks the condition sends the rest of whatever is there now."""
    with pytest.raises(RangeMismatch):
        arrived(png[:20], TAGGED).go_on(206, {"Content-Range": "bytes 20-29/*"}, 10)


def test_range_of_unknown_total_says_how_far_the_part_goes(png):
    arrival = arrived(png[:20], TAGGED)
    arrival.go_on(206, {"Content-Range": "bytes 20-29/*"} | TAGGED, 10)
    assert arrival.take(png[20:30]) is None
    assert not arrival.is_short
    with pytest.raises(RangeMismatch, match="more was sent than was announced"):
        arrival.take(b"1")


def test_picture_that_is_too_large_is_refused_while_it_comes(png):
    arrival = arrived(png[:33] + b"\xff\xff\xff\xffIDAT", {})
    with pytest.raises(TooMuch):
        arrival.take(bytes(MAX_BYTES))


def test_traceback_with_local_variables_shows_no_bytes(png):
    assert "PNG" not in repr(arrived(png, TAGGED))


def test_repeat_leaves_out_what_was_handed_over():
    """Piece by piece, however they are cut."""
    repeat = PrefixSkipper()
    repeat.begin()
    assert [repeat.fresh(piece) for piece in (b"ab", b"cd")] == [b"ab", b"cd"]
    repeat.begin()
    assert repeat.is_short
    assert [repeat.fresh(piece) for piece in (b"a", b"bc", b"def", b"g")] == [b"", b"", b"ef", b"g"]
    assert (repeat.is_short, repeat.is_other) == (False, False)


def test_repeat_of_something_else_is_noticed():
    repeat = PrefixSkipper()
    repeat.fresh(b"abcd")
    repeat.begin()
    assert repeat.fresh(b"abxdef") == b""
    assert repeat.is_other
