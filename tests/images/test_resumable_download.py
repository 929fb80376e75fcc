"""The next request of a download, given its bytes and headers so far."""

import pytest

from lemon_async._images.resumable_download import MAX_BYTES, PrefixSkipper, RangeMismatch, ResumableDownload, TooLarge

TAGGED = {"ETag": '"v1"'}


def arrived(piece, headers, length=None):
    download = ResumableDownload()
    assert not download.start(headers, length)
    assert download.feed(piece) is None
    return download


WITH_RANGES = [
    (TAGGED, None, '"v1"'),
    ({"ETag": 'W/"v1"', "Last-Modified": "a date"}, None, "a date"),
]


def test_rest_is_requested(png):
    for headers, length, condition in WITH_RANGES:
        wanted = {"Range": "bytes=20-"} | ({"If-Range": condition} if condition else {})
        assert arrived(png[:20], headers, length).range_headers() == wanted


WITHOUT_RANGES = [
    ({}, 99),
    ({"Accept-Ranges": "bytes"}, None),
    ({"Accept-Ranges": "bytes"}, 99),
    ({"ETag": 'W/"v1"'}, 99),
    ({"ETag": '"v1"', "Accept-Ranges": "none"}, 99),
]


def test_all_is_requested_if_the_rest_could_be_of_another_picture(png):
    for headers, length in WITHOUT_RANGES:
        download = arrived(png[:20], headers, length)
        assert (download.kept_bytes, download.range_headers()) == (0, {})


def test_all_is_requested_at_first():
    assert ResumableDownload().range_headers() == {}


def test_all_is_requested_after_a_mismatch(png):
    download = arrived(png[:40], TAGGED)
    assert download.pop_checked() == png[:40]
    download.disable_ranges()
    assert download.start(TAGGED, None)
    download.feed(png[:40])
    assert download.range_headers() == {}


def test_nothing_is_passed_on_before_it_is_a_picture(png):
    """The consumer never sees an error page, and need not know of a restart before that."""
    download = arrived(png[:20], TAGGED)
    assert download.pop_checked() == b""
    assert not download.start(TAGGED, None)
    for begin, end in ((0, 20), (20, 31), (31, 40)):
        assert download.pop_checked() == b""
        download.feed(png[begin:end])
    assert download.pop_checked() == png[:40]
    assert download.pop_checked(is_end=True) == b""


def test_part_that_would_make_the_picture_too_large_is_refused(png):
    """Even if its length was unknown before."""
    download = arrived(png[:20], TAGGED)
    with pytest.raises(TooLarge, match="the response is larger than 134,217,728 bytes"):
        download.resume(206, {"Content-Range": f"bytes 20-{MAX_BYTES}/*"} | TAGGED, None)


def test_part_without_the_tag_of_the_whole_is_no_part_of_it(png):
    """A server that ignores the condition sends the rest of another picture."""
    with pytest.raises(RangeMismatch):
        arrived(png[:20], TAGGED).resume(206, {"Content-Range": "bytes 20-29/*"}, 10)


def test_range_of_unknown_total_says_how_far_the_part_goes(png):
    download = arrived(png[:20], TAGGED)
    download.resume(206, {"Content-Range": "bytes 20-29/*"} | TAGGED, 10)
    assert download.feed(png[20:30]) is None
    assert not download.is_short
    with pytest.raises(RangeMismatch, match="more was sent than was announced"):
        download.feed(b"1")


def test_picture_that_is_too_large_is_refused_while_it_comes(png):
    download = arrived(png[:33] + b"\xff\xff\xff\xffIDAT", {})
    with pytest.raises(TooLarge):
        download.feed(bytes(MAX_BYTES))


def test_traceback_with_local_variables_shows_no_bytes(png):
    assert "PNG" not in repr(arrived(png, TAGGED))


def test_prefix_that_was_passed_on_is_skipped():
    """For pieces of any size."""
    repeat = PrefixSkipper()
    repeat.restart()
    assert [repeat.skip(piece) for piece in (b"ab", b"cd")] == [b"ab", b"cd"]
    repeat.restart()
    assert repeat.is_short
    assert [repeat.skip(piece) for piece in (b"a", b"bc", b"def", b"g")] == [b"", b"", b"ef", b"g"]
    assert (repeat.is_short, repeat.is_different) == (False, False)


def test_different_prefix_is_detected():
    repeat = PrefixSkipper()
    repeat.skip(b"abcd")
    repeat.restart()
    assert repeat.skip(b"abxdef") == b""
    assert repeat.is_different
