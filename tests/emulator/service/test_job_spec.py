"""Paid requests are validated field by field, and every error is reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemon_async.emulator.pictures.picture import Picture
from lemon_async.emulator.service.job_spec import parse_job, pixels
from lemon_async.emulator.service.model_families import COMMON_FIELDS, DOCUMENTED_FIELDS, MODEL_IDS
from lemon_async.emulator.service_errors import ServiceError


def error_of(**body):
    """Return the error of a request."""
    with pytest.raises(ServiceError) as caught:
        parse_job({"prompt": "a cat", **body})
    return caught.value


def test_default_model_is_dall_e_3():
    """One PNG of 1024x1024, inline, as a link."""
    spec = parse_job({"prompt": "a cat"})
    assert (spec.model, spec.n, spec.picture) == ("dall-e-3", 1, Picture("a cat", 1024, 1024))
    assert not spec.is_task
    assert not spec.is_base64


def test_prompt_is_required_text_of_at_most_4000_characters():
    """The code says what is wrong."""
    codes = {None: "missing", 7: "invalid_type", "": "invalid_value", "  ": "invalid_value", "x" * 4001: "too_long"}
    for prompt, code in codes.items():
        error = error_of(prompt=prompt)
        assert (error.status, error.param) == (400, "prompt")
        assert [field_error.code for field_error in error.field_errors] == [code]
    assert parse_job({"prompt": "x" * 4000}).picture.prompt == "x" * 4000


REFUSED = [
    ("dall-e-2", "n", 11),
    ("dall-e-2", "n", 0),
    ("dall-e-2", "n", True),
    ("dall-e-3", "size", "512x512"),
    ("dall-e-2", "style", "vivid"),
    ("flux-pro", "style", "vivid"),
    ("flux-pro", "quality", "hd"),
    ("gpt-image-2", "aspect_ratio", "1:1"),
    ("gpt-image-2", "resolution", "1k"),
    ("gpt-image-2", "quality", "hd"),
    ("gpt-image-2", "output_compression", 101),
    ("nano-banana", "resolution", "2k"),
    ("nano-banana-pro", "resolution", "8k"),
    ("gemini-2.0-flash-preview-image-generation", "size", "1024x1024"),
    ("grok-imagine-image", "resolution", "4k"),
    ("dall-e-3", "response_format", "png"),
    ("dall-e-3", "user", 7),
    ("flux-pro", "async", "yes"),
    ("dall-e-3", "async", True),
    ("midjourney", "async", True),
    ("midjourney", "stream", True),
]


def test_documented_field_is_refused_where_the_family_does_not_accept_it():
    """A wrong value, or a field of another family."""
    for model, field, value in REFUSED:
        error = error_of(model=model, **{field: value})
        assert (error.status, error.param) == (400, field), (model, field, value)
        assert error.as_json()["error"]["code"] == "invalid_request_error"


def test_every_error_is_listed_and_the_first_one_named():
    """In the order of the fields."""
    error = error_of(prompt=None, model="gpt-image-2", size="10x10", n=0, resolution="1k")
    body = error.as_json()
    assert [row["field"] for row in body["validation_errors"]] == ["prompt", "size", "n", "resolution"]
    assert (error.param, body["error"]["message"]) == ("prompt", "prompt: is required")


def test_async_makes_a_task_where_it_is_allowed():
    """`false` is accepted by every model and changes nothing."""
    for model in ("flux-schnell", "flux-pro", "gpt-image-2"):
        assert parse_job({"prompt": "p", "model": model, "async": True}).is_task
    assert not parse_job({"prompt": "p", "async": False}).is_task
    assert parse_job({"prompt": "p", "model": "midjourney", "async": False}).is_task


def test_stream_false_is_accepted_by_every_model():
    """It changes nothing."""
    for model in ("dall-e-3", "flux-pro", "gpt-image-2"):
        assert not parse_job({"model": model, "prompt": "p", "stream": False}).is_stream


def test_unknown_and_null_fields_are_ignored():
    """So does `input_fidelity` of gpt-image-2, which the gateway removes, whatever its value."""
    body = {"prompt": "p", "watermark": 1, "size": None, "n": None, "style": None}
    assert parse_job(body).picture == Picture("p", 1024, 1024)
    assert parse_job({"prompt": "p", "model": "gpt-image-2", "input_fidelity": ["?"]})


def test_misspelt_model_gets_suggestions():
    """Only if there are similar ids."""
    error = error_of(model="dall-e-4")
    body = error.as_json()["error"]
    assert (error.status, body["code"], body["param"]) == (400, "model_not_found", "model")
    assert body["did_you_mean"] == "dall-e-3"
    assert {"id": "dall-e-2"} in body["suggestions"]
    assert "did_you_mean" not in error_of(model="zzzzzz").as_json()["error"]


def test_model_must_be_a_string():
    """Lists and numbers are not ids."""
    assert error_of(model=3).field_errors[0].code == "invalid_type"


def test_compression_is_an_alias():
    """`output_compression` takes precedence."""
    body = {"prompt": "p", "model": "gpt-image-2", "output_format": "webp"}
    assert parse_job(body | {"compression": 30}).picture.compression == 30
    assert parse_job(body | {"compression": 30, "output_compression": 9}).picture.compression == 9


def test_job_is_named_after_the_user_or_the_prompt():
    """The ledger counts by this name."""
    assert parse_job({"prompt": "p", "user": "row-7"}).job == "row-7"
    assert parse_job({"prompt": "p"}).job == "p"


def test_pixels_follow_from_ratio_and_resolution_or_size():
    """The ratio is exact."""
    for given_, size in [
        ({}, (1024, 1024)),
        ({"size": "auto"}, (1024, 1024)),
        ({"size": "1792x1024"}, (1792, 1024)),
        ({"resolution": "2k"}, (2048, 2048)),
        ({"aspect_ratio": "16:9"}, (1360, 765)),
        ({"aspect_ratio": "9:16"}, (765, 1360)),
        ({"aspect_ratio": "16:9", "resolution": "2k"}, (2736, 1539)),
        ({"aspect_ratio": "1:1", "size": "512x512"}, (1024, 1024)),
    ]:
        assert pixels(given_) == size, given_


@given(st.sampled_from(MODEL_IDS), st.dictionaries(st.text(), st.none() | st.integers()))
def test_every_model_accepts_a_bare_prompt(model, unknown):
    """Undocumented fields never matter."""
    known = {*DOCUMENTED_FIELDS, *COMMON_FIELDS, "n"}
    fields = {name: value for name, value in unknown.items() if name not in known}
    assert parse_job({**fields, "model": model, "prompt": "p"}).model == model
