"""Requests to JSON and to forms: what was set, under its documented name, and nothing else."""

import hashlib
from types import MappingProxyType

import attrs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.api.encoding import PATHS, encode, encode_form, fingerprint
from lemon_async.api.errors import ContractError, Problem
from lemon_async.api.requests import EditRequest, GenerateRequest, VariationRequest

steady = settings(derandomize=True, deadline=None)

FIELDS = {
    "model": "gpt-image-2",
    "n": 2,
    "size": "1024x1024",
    "aspect_ratio": "1:1",
    "resolution": "1k",
    "quality": "high",
    "style": "vivid",
    "response_format": "url",
    "async_": True,
    "background": "opaque",
    "output_format": "webp",
    "output_compression": 80,
    "compression": 70,
    "input_fidelity": "low",
    "moderation": "low",
    "partial_images": 2,
    "user": "user-17",
}
NAMED = {name.rstrip("_"): value for name, value in FIELDS.items()}
LINK = {"image_url": "https://cdn.example/1.png"}
ANOTHER = {"image_url": "https://cdn.example/2.png"}
STORED = {"file_id": "file-abc123"}


def sent(request):
    return orjson.loads(encode(request))


def test_paths_are_the_documented_ones():
    assert PATHS[GenerateRequest.operation] == "/v1/images/generations"
    assert PATHS[EditRequest.operation] == "/v1/images/edits"
    assert PATHS[VariationRequest.operation] == "/v1/images/variations"


def test_encode_sends_what_was_set_and_nothing_else():
    assert encode(GenerateRequest("a cat")) == b'{"prompt":"a cat"}'
    assert (
        encode(GenerateRequest("a cat", n=0, user="", async_=False))
        == b'{"async":false,"n":0,"prompt":"a cat","user":""}'
    )


def test_encode_gives_every_field_its_documented_name():
    assert sent(GenerateRequest("a cat", **FIELDS)) == {"prompt": "a cat", **NAMED}


def test_encode_of_an_edit_says_the_same_names_and_no_picture():
    """Where the pictures are is told apart; their bytes never get into JSON."""
    fields = {name: value for name, value in FIELDS.items() if name != "style"}
    named = {name: value for name, value in NAMED.items() if name != "style"}
    assert sent(EditRequest("a hat", image=b"\x89PNG", mask=b"\x89PNG", **fields)) == {"prompt": "a hat", **named}


def test_encode_of_a_variation_has_no_prompt():
    fields = {name: FIELDS[name] for name in ("model", "n", "size", "response_format", "user")}
    assert sent(VariationRequest(image="cat.png", **fields)) == fields
    assert encode(VariationRequest(image="cat.png")) == b"{}"


@pytest.mark.parametrize(
    ("references", "fields"),
    [
        ([], {}),
        ([LINK], LINK),
        ([LINK, ANOTHER], {"image_urls": [LINK["image_url"], ANOTHER["image_url"]]}),
        ([STORED], {"images": [STORED]}),
        ([STORED, LINK], {"images": [STORED, LINK]}),
        ([LINK, ANOTHER, MappingProxyType(STORED)], {"images": [LINK, ANOTHER, STORED]}),
    ],
)
def test_encode_refers_to_pictures_in_the_simplest_of_three_spellings(references, fields):
    """The page "Edit image": `image_url`, `image_urls`, or `images`, which alone can hold a `file_id`."""
    request = EditRequest("a hat", image=references)
    assert orjson.loads(encode(request, references)) == {"prompt": "a hat", **fields}


def test_encode_asks_for_a_stream_when_told_to():
    assert encode(GenerateRequest("a cat"), is_stream=True) == b'{"prompt":"a cat","stream":true}'
    assert encode_form(EditRequest("a hat", image="cat.png"), is_stream=True) == {"prompt": "a hat", "stream": "true"}


def test_form_holds_text_as_it_is_and_everything_else_as_json():
    fields = {name: value for name, value in FIELDS.items() if name != "style"}
    extra = {"seed": 7, "lora": {"b": 1.5, "a": None}, "words": "猫\r\n"}
    assert encode_form(EditRequest("a\nhat", image=b"\x89PNG", **fields, extra=extra)) == {
        "prompt": "a\nhat",
        "model": "gpt-image-2",
        "n": "2",
        "size": "1024x1024",
        "aspect_ratio": "1:1",
        "resolution": "1k",
        "quality": "high",
        "response_format": "url",
        "async": "true",
        "background": "opaque",
        "output_format": "webp",
        "output_compression": "80",
        "compression": "70",
        "input_fidelity": "low",
        "moderation": "low",
        "partial_images": "2",
        "user": "user-17",
        "seed": "7",
        "lora": '{"a":null,"b":1.5}',
        "words": "猫\r\n",
    }


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1", "a\nb", "a\0", "\x7f", "\u2028"])
def test_form_has_no_field_whose_name_would_end_its_header(name):
    """JSON can hold it; in a form, names are headers."""
    request = EditRequest("a hat", image="cat.png", extra={"seed": 7, name: 1})
    with pytest.raises(ContractError) as caught:
        encode_form(request)
    assert caught.value.problems == (Problem("extra", f"no form has a field named {name!r}"),)
    assert orjson.loads(encode(request))[name] == 1


def test_form_holds_nothing_that_was_not_set():
    assert encode_form(VariationRequest(image="cat.png")) == {}
    assert encode_form(EditRequest("a hat", image="cat.png", async_=False, n=0)) == {
        "prompt": "a hat",
        "async": "false",
        "n": "0",
    }


def test_encode_sends_extra_fields_beside_the_others():
    request = GenerateRequest(
        "a cat", model="flux-pro", extra=MappingProxyType({"seed": 7, "lora": {"b": 1, "a": None}})
    )
    assert encode(request) == b'{"lora":{"a":null,"b":1},"model":"flux-pro","prompt":"a cat","seed":7}'


def test_encode_lets_an_unchecked_extra_have_the_last_word():
    """Checks refuse it; who has switched them off means it."""
    assert sent(GenerateRequest("a cat", n=1, extra={"n": 20})) == {"prompt": "a cat", "n": 20}
    edit = EditRequest("a hat", image="cat.png", extra=ANOTHER)
    assert orjson.loads(encode(edit, [LINK])) == {"prompt": "a hat", **ANOTHER}


def test_encode_keeps_text_as_it_is():
    assert sent(GenerateRequest('猫 "\r\n\0\U0001f431')) == {"prompt": '猫 "\r\n\0\U0001f431'}


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "\ud800"},
        {"prompt": b"a cat"},
        {"prompt": object()},
        {"user": {1, 2}},
        {"n": 2**64},
        {"extra": {"seed": 10**30}},
        {"extra": {"image": b"\x89PNG"}},
        {"extra": {1: "one"}},
        {"extra": {"nested": {None: 1, "a": 2}}},
        {"extra": {"z": 1j}},
        {"extra": None},
        {"extra": [("seed", 1)]},
    ],
)
def test_request_that_json_cannot_say_is_a_contract_error(fields):
    """In a form as well, although some of it would pass for text there."""
    with pytest.raises(ContractError, match="request: cannot be sent as JSON: ") as caught:
        encode(GenerateRequest(**{"prompt": "a cat", **fields}))
    assert caught.value.__suppress_context__
    with pytest.raises(ContractError, match="request: cannot be sent as JSON: "):
        encode_form(EditRequest(**{"prompt": "a cat", "image": "cat.png", **fields}))


def test_fingerprint_is_the_sha256_of_the_body():
    assert fingerprint(b"{}") == hashlib.sha256(b"{}").hexdigest()


def test_fingerprint_of_uploads_holds_their_digests_in_order():
    body = b'{"prompt":"a hat"}'
    assert fingerprint(body, ["image[0] aa", "mask bb"]) == hashlib.sha256(body + b"\nimage[0] aa\nmask bb").hexdigest()
    assert len({fingerprint(body, digests) for digests in ([], ["a", "b"], ["b", "a"], iter(["ab"]))}) == 4


def test_fingerprint_of_a_request_with_changes_is_another():
    request = EditRequest("a hat", image="cat.png")
    bodies = {encode(attrs.evolve(request, **change)) for change in ({}, {"n": 1}, {"prompt": "a cap"})}
    assert len({fingerprint(body) for body in bodies}) == 3


def test_fingerprints_of_equal_requests_are_equal():
    one = GenerateRequest("a cat", model="flux-pro", extra={"a": 1, "b": {"c": 2, "d": 3}})
    two = GenerateRequest("a cat", extra={"b": {"d": 3, "c": 2}, "a": 1}, model="flux-pro")
    assert fingerprint(encode(one)) == fingerprint(encode(two))
    assert fingerprint(encode(one)) != fingerprint(encode(GenerateRequest("a cat", model="flux-pro")))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
python_values = (
    json_values
    | st.binary(max_size=4)
    | st.sets(st.integers(), max_size=2)
    | st.text(st.characters(exclude_categories=[]), max_size=9)
    | st.just(1j)
)
fields_of_anything = st.fixed_dictionaries(
    {"prompt": python_values},
    optional={**dict.fromkeys(["model", "n", "async_", "user"], python_values), "extra": python_values},
)


@steady
@given(fields_of_anything)
def test_encode_of_anything_is_json_or_a_contract_error(fields):
    try:
        body = encode(GenerateRequest(**fields))
    except ContractError:
        return
    assert orjson.loads(body).keys() >= {"prompt"}


@steady
@given(fields_of_anything)
def test_form_of_anything_is_utf_8_or_a_contract_error(fields):
    """What cannot be sent must not be found out while it is being sent."""
    try:
        form = encode_form(EditRequest(image="cat.png", **fields))
    except ContractError:
        return
    assert form.keys() >= {"prompt"}
    assert all(name.encode() is not None and text.encode() is not None for name, text in form.items())
