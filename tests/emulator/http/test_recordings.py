"""Bodies kept for replay."""

import io

import orjson
import pytest

from lemon_async.emulator.http.recordings import MAX_RECORDED_BYTES, Recordings
from lemon_async.emulator.service.messages import Call, Upload

URL = "data:image/png;base64," + "A" * 5000


def recorded(body, uploads=(), **options):
    recordings = Recordings()
    recordings.add(1, Call("submit", "submit", body=body, uploads=list(uploads), **options), "m", "p")
    return recordings.find(1)


def test_a_body_is_kept_as_it_was():
    body = {"prompt": "a \u2028 cat", "n": 2, "images": [{"image_url": "data:image/png;base64,AAAA"}]}
    kept = recorded(body)
    assert (kept.read_fields(), kept.is_whole, kept.model, kept.prompt) == (body, True, "m", "p")


def test_files_are_kept_by_name_only():
    file = io.BytesIO(b"secret")
    kept = recorded({"prompt": "x"}, [Upload("image[]", "a cat.png", file)], is_form=True)
    assert (kept.files, kept.is_form) == ((("image[]", "a cat.png"),), True)
    assert "secret" not in repr(kept)


@pytest.mark.parametrize("body", [{"image_url": URL}, {"image_urls": [URL]}, {"images": [{"image_url": URL}]}])
def test_long_base64_is_cut_and_the_request_is_not_whole(body):
    kept = recorded(body)
    assert not kept.is_whole
    assert len(kept.fields) < 200
    assert "(5022 characters)" in kept.fields.decode()


def test_large_bodies_are_not_kept():
    kept = recorded({"prompt": "x" * MAX_RECORDED_BYTES})
    assert (kept.fields, kept.read_fields(), kept.is_whole) == (None, None, False)


def test_deep_bodies_are_kept():
    """However deep: the search for pictures ends early."""
    deep = []
    for _ in range(200):
        deep = [deep]
    assert recorded({"x": deep}).read_fields() == {"x": deep}


@pytest.mark.parametrize("value", [orjson.loads("[" * 1000 + "]" * 1000), "\ud800"], ids=["deep", "no UTF-8"])
def test_what_can_be_read_and_not_written_is_not_kept(value):
    """The request itself is answered as without a studio."""
    kept = recorded({"prompt": "x", "x": value})
    assert (kept.fields, kept.read_fields(), kept.is_whole, kept.prompt) == (None, None, False, "p")


def test_the_newest_bodies_are_kept():
    recordings = Recordings(2)
    for number in range(1, 6):
        recordings.add(number, Call("submit", "submit", body={"n": number}), None, None)
    assert [recordings.find(number) is not None for number in range(1, 6)] == [False, False, False, True, True]
