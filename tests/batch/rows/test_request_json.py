"""Requests survive their journal: equal requests give equal bytes, and the bytes give the request again."""

import io
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.batch.rows.request_json import dump_request, load_request
from lemon_async.errors import ContractError, JournalError
from lemon_async.requests import EditRequest, GenerateRequest, VariationRequest
from lemon_async.types import StoredFile

steady = settings(derandomize=True, deadline=None, max_examples=60)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
common = {
    "model": st.none() | words,
    "n": st.none() | st.integers(1, 10),
    "size": st.none() | words,
    "label": st.none() | words,
    "extra": st.dictionaries(words, json_values, max_size=3),
}
selectors = common | {"async_": st.none() | st.booleans(), "output_compression": st.none() | st.integers(0, 100)}
sources = st.one_of(
    words,
    words.map(Path),
    st.builds(StoredFile, words, model=st.none() | words),
    words.map(lambda text: {"image_url": text}),
    words.map(lambda text: {"file_id": text}),
)
requests = st.one_of(
    st.builds(GenerateRequest, words, style=st.none() | words, **selectors),
    st.builds(EditRequest, words, image=st.lists(sources, max_size=3), mask=st.none() | sources, **selectors),
    st.builds(VariationRequest, image=sources, **common),
)


@steady
@given(requests)
def test_requests_round_trip_exactly(request):
    """Whatever can be written is read again as an equal request of the same class."""
    content = dump_request(request)
    again = load_request(content)
    assert again == request
    assert type(again) is type(request)
    assert dump_request(again) == content


def test_json_is_sorted_and_has_only_fields_that_are_set():
    """The form of a request is part of every journal: it must not change."""
    request = GenerateRequest("a cat", size="512x512", model="flux-pro", async_=False, extra={"b": 1, "a": 2})
    assert dump_request(request) == (
        b'{"async":false,"extra":{"a":2,"b":1},"model":"flux-pro","operation":"generate",'
        b'"prompt":"a cat","size":"512x512"}'
    )


def test_json_holds_references_to_pictures():
    """Texts stay texts, paths are marked as such, and of a stored file only what an edit needs is kept."""
    image = ["https://a.example/b.png", Path("cat.png"), StoredFile("file-1", model="m", status="processed")]
    fields = orjson.loads(dump_request(EditRequest("a hat", image=image, mask={"file_id": "file-2"})))
    assert fields["image"] == [image[0], {"path": "cat.png"}, {"stored_file": "file-1", "model": "m"}]
    assert fields["mask"] == {"file_id": "file-2"}


async def pieces():
    yield b""


@pytest.mark.parametrize(
    "source", [b"PNG", bytearray(b"PNG"), memoryview(b"PNG"), io.BytesIO(b"PNG"), pieces(), {"path": "x"}, 7]
)
def test_what_is_no_reference_is_refused(source):
    """Bytes and streams are gone when a journal is read again; the advice is to write them to a file."""
    with pytest.raises(ContractError, match=r"image\[0\].*write it to a file, and give its path"):
        dump_request(EditRequest("a hat", image=source))


@pytest.mark.parametrize(
    "fields", [{"extra": {"seed": object()}}, {"extra": {"seed": 2**64}}, {"user": "\ud800"}, {"extra": 7}]
)
def test_what_is_not_json_is_refused_by_name(fields):
    """The problem names the field."""
    with pytest.raises(ContractError) as caught:
        dump_request(GenerateRequest("a cat", **fields))
    assert [problem.field for problem in caught.value.problems] == list(fields)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"operation":"paint"}', b'{"operation":"generate","prompt":"x","depth":3}']
)
def test_requests_of_another_version_are_journal_errors(content):
    """A journal that a newer version has written is not read by guessing."""
    with pytest.raises(JournalError, match="cannot read a request"):
        load_request(content)
