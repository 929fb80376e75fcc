"""Requests are written as JSON and as forms, with the fields that were set, under their documented names."""

import hashlib
from collections import UserDict
from functools import reduce
from types import MappingProxyType

import attrs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._api.validation import PATHS, encode, encode_form, find_encoding_problems, fingerprint
from lemon_async.errors import ContractError
from lemon_async.requests import EditRequest, GenerateRequest, VariationRequest
from lemon_async.types import Problem

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


def test_label_of_the_caller_is_never_sent():
    """Neither as JSON nor in a form."""
    assert encode(GenerateRequest("a cat", label="sku-17")) == encode(GenerateRequest("a cat"))
    assert "label" not in encode_form(EditRequest("a hat", image=b"x", label="sku-17"))
    assert "label" not in encode_form(VariationRequest(image=b"x", label="sku-17"))
    assert sent(GenerateRequest("a cat", label="ours", extra={"label": "theirs"}))["label"] == "theirs"


def test_encode_gives_every_field_its_documented_name():
    assert sent(GenerateRequest("a cat", **FIELDS)) == {"prompt": "a cat", **NAMED}


def test_encode_of_an_edit_writes_the_same_names_and_no_picture():
    """References are a separate argument, and bytes never get into JSON."""
    fields = {name: value for name, value in FIELDS.items() if name != "style"}
    named = {name: value for name, value in NAMED.items() if name != "style"}
    assert sent(EditRequest("a hat", image=b"\x89PNG", mask=b"\x89PNG", **fields)) == {"prompt": "a hat", **named}


def test_encode_of_a_variation_has_no_prompt():
    fields = {name: FIELDS[name] for name in ("model", "n", "size", "response_format", "user")}
    assert sent(VariationRequest(image="cat.png", **fields)) == fields
    assert encode(VariationRequest(image="cat.png")) == b"{}"


def test_encode_refers_to_pictures_in_the_simplest_of_three_forms():
    """The page "Edit image": `image_url`, `image_urls`, or `images`, which alone can hold a `file_id`."""
    for references, fields in (
        ([], {}),
        ([LINK], LINK),
        ([LINK, ANOTHER], {"image_urls": [LINK["image_url"], ANOTHER["image_url"]]}),
        ([STORED], {"images": [STORED]}),
        ([STORED, LINK], {"images": [STORED, LINK]}),
        ([LINK, ANOTHER, MappingProxyType(STORED)], {"images": [LINK, ANOTHER, STORED]}),
    ):
        request = EditRequest("a hat", image=references)
        assert orjson.loads(encode(request, references)) == {"prompt": "a hat", **fields}


def test_encode_requests_a_stream():
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
        "moderation": "low",
        "partial_images": "2",
        "user": "user-17",
        "seed": "7",
        "lora": '{"a":null,"b":1.5}',
        "words": "猫\r\n",
    }


def test_form_has_no_field_whose_name_would_end_its_header():
    """JSON can hold it; in a form, names are headers."""
    for name in ("a\r\nX-Evil: 1", "a\nb", "a\0", "\x7f", "\u2028", "", " "):
        request = EditRequest("a hat", image="cat.png", extra={"seed": 7, name: 1})
        with pytest.raises(ContractError) as caught:
            encode_form(request)
        assert caught.value.problems == (Problem("extra", f"no form has a field named {name!r}"),)
        assert orjson.loads(encode(request))[name] == 1


def test_form_has_no_field_that_could_be_taken_for_a_file():
    """In JSON, an unchecked extra wins; next to a file it is undefined which one does."""
    for kind in ("edit", "variation"):
        for name in ("image", "image[]", "image[0]", "Image", "MASK", "mask", " image ", "image []"):
            extra = {"seed": 7, name: "x"}
            request = (
                EditRequest("a hat", image="cat.png", extra=extra)
                if kind == "edit"
                else VariationRequest(image="cat.png", extra=extra)
            )
            assert find_encoding_problems(request, is_form=True) == (
                Problem("extra", f"{name!r} could be taken for a file of the form"),
            )
            assert find_encoding_problems(request, is_form=False) == ()


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


def test_encode_lets_an_unchecked_extra_win():
    """Checks refuse it; without checks it is intended."""
    assert sent(GenerateRequest("a cat", n=1, extra={"n": 20})) == {"prompt": "a cat", "n": 20}
    edit = EditRequest("a hat", image="cat.png", extra=ANOTHER)
    assert orjson.loads(encode(edit, [LINK])) == {"prompt": "a hat", **ANOTHER}


def test_encode_keeps_text_as_it_is():
    assert sent(GenerateRequest('猫 "\r\n\0\U0001f431')) == {"prompt": '猫 "\r\n\0\U0001f431'}


class Hostile(UserDict):
    """A mapping that raises when it is read."""

    def __iter__(self):
        raise RuntimeError("boom")

    keys = __iter__


DEEP = reduce(lambda inner, _: [inner], range(1000), [])
UNWRITABLE = [
    ({"prompt": "\ud800"}, "prompt: cannot be sent as JSON: str is not valid UTF-8: surrogates not allowed"),
    ({"prompt": b"a cat"}, "prompt: cannot be sent as JSON: Type is not JSON serializable: bytes"),
    ({"prompt": object()}, "prompt: cannot be sent as JSON: Type is not JSON serializable: object"),
    ({"prompt": Hostile(a=1)}, "prompt: cannot be sent as JSON: Type is not JSON serializable: Hostile"),
    ({"user": {1, 2}}, "user: cannot be sent as JSON: Type is not JSON serializable: set"),
    ({"n": 2**64}, "n: cannot be sent as JSON: Integer exceeds 64-bit range"),
    ({"extra": {"seed": 2**70}}, "extra: 'seed' cannot be sent as JSON: Integer exceeds 64-bit range"),
    (
        {"extra": {"picture": b"\x89PNG"}},
        "extra: 'picture' cannot be sent as JSON: Type is not JSON serializable: bytes",
    ),
    ({"extra": {"a" * 10**5: 1j}}, f"extra: '{'a' * 79}… cannot be sent as JSON: "),
    ({"extra": {"words": "\udfff"}}, "extra: 'words' cannot be sent as JSON: str is not valid UTF-8"),
    ({"extra": {"\ud800": 1}}, "extra: '\\ud800' cannot be sent as JSON: "),
    ({"extra": {1: "one"}}, "extra: 1 cannot be sent as JSON: Dict key must be str"),
    ({"extra": {"nested": {None: 1, "a": 2}}}, "extra: 'nested' cannot be sent as JSON: Dict key must be str"),
    ({"extra": {"z": DEEP}}, "extra: 'z' cannot be sent as JSON: Recursion limit reached"),
    ({"extra": None}, "extra: cannot be sent as JSON: 'NoneType' object is not a mapping"),
    ({"extra": [("seed", 1)]}, "extra: cannot be sent as JSON: 'list' object is not a mapping"),
    ({"extra": Hostile(a=1)}, "extra: cannot be sent as JSON: boom"),
]


def test_request_that_json_cannot_hold_is_a_contract_error():
    """In a form, too; it is reported without sending."""
    for fields, words in UNWRITABLE:
        generate = GenerateRequest(**{"prompt": "a cat", **fields})
        edit = EditRequest(**{"prompt": "a cat", "image": "cat.png", **fields})
        for write, request, is_form in ((encode, generate, False), (encode_form, edit, True)):
            with pytest.raises(ContractError) as caught:
                write(request)
            (problem,) = caught.value.problems
            assert str(problem).startswith(words)
            assert caught.value.__suppress_context__
            assert find_encoding_problems(request, is_form=is_form) == (problem,)


def test_every_value_that_is_not_json_is_reported():
    request = GenerateRequest(b"a cat", n=2, extra={"seed": 2**70, "steps": 5, "when": object()})
    assert [problem.field for problem in find_encoding_problems(request, is_form=False)] == ["prompt", "extra", "extra"]


def test_body_that_is_too_deep_only_as_a_whole_is_reported():
    """Its fields alone can be written."""
    for depth in range(240, 260):
        request = GenerateRequest("a cat", extra={"z": reduce(lambda inner, _: [inner], range(depth), [])})
        assert all(problem.message for problem in find_encoding_problems(request, is_form=False))


def test_request_that_can_be_written_is_not_refused():
    request = EditRequest("a hat", image="cat.png", extra={"seed": 7, "a\nb": "a\nb", "images": 5})
    assert find_encoding_problems(request, is_form=False) == ()
    assert len(find_encoding_problems(request, is_form=True)) == 1
    assert find_encoding_problems(attrs.evolve(request, extra={"seed": 7, "words": "a\r\nb"}), is_form=True) == ()


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
    """Encoding problems must not surface during sending."""
    try:
        form = encode_form(EditRequest(image="cat.png", **fields))
    except ContractError:
        return
    assert form.keys() >= {"prompt"}
    assert all(name.encode() is not None and text.encode() is not None for name, text in form.items())
