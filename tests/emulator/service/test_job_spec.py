import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemon_async.emulator.service.job_spec import parse_job, pixels
from lemon_async.emulator.service.model_families import COMMON_FIELDS, DOCUMENTED_FIELDS, MODEL_IDS
from lemon_async.emulator.service_errors import ServiceError


def refusal(**body):
    with pytest.raises(ServiceError) as caught:
        parse_job({"prompt": "a cat", **body})
    return caught.value


def test_default_model_is_dall_e_3():
    spec = parse_job({"prompt": "a cat"})
    assert (spec.model, spec.n, spec.size, spec.format) == ("dall-e-3", 1, (1024, 1024), "png")
    assert not spec.is_task
    assert not spec.is_base64


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        (None, "missing"),
        (7, "invalid_type"),
        ("", "invalid_value"),
        ("  ", "invalid_value"),
        ("x" * 4001, "too_long"),
    ],
)
def test_prompt_is_required_text_of_4000_characters(prompt, code):
    problem = refusal(prompt=prompt)
    assert (problem.status, problem.param) == (400, "prompt")
    assert [complaint.code for complaint in problem.field_errors] == [code]


def test_prompt_of_4000_characters_is_fine():
    assert parse_job({"prompt": "x" * 4000}).prompt == "x" * 4000


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
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
    ],
)
def test_documented_field_is_refused_where_the_family_does_not_take_it(model, field, value):
    problem = refusal(model=model, **{field: value})
    assert (problem.status, problem.param) == (400, field)
    assert problem.as_json()["error"]["code"] == "invalid_request_error"


def test_every_problem_is_listed_and_the_first_one_named():
    problem = refusal(prompt=None, model="gpt-image-2", size="10x10", n=0, resolution="1k")
    fields = [row["field"] for row in problem.as_json()["validation_errors"]]
    assert fields == ["prompt", "size", "n", "resolution"]
    assert problem.param == "prompt"
    assert problem.as_json()["error"]["message"] == "prompt: is required"


@pytest.mark.parametrize("model", ["flux-schnell", "flux-pro", "gpt-image-2"])
def test_async_makes_a_task_where_it_is_allowed(model):
    assert parse_job({"prompt": "p", "model": model, "async": True}).is_task


def test_async_false_is_legal_everywhere_and_changes_nothing():
    assert not parse_job({"prompt": "p", "async": False}).is_task
    assert parse_job({"prompt": "p", "model": "midjourney", "async": False}).is_task


def test_unknown_and_null_fields_are_ignored():
    body = {"prompt": "p", "watermark": 1, "size": None, "n": None, "style": None}
    assert parse_job(body).size == (1024, 1024)


def test_input_fidelity_is_dropped_for_gpt_image_2():
    """The gateway removes it before forwarding, whatever it holds."""
    assert parse_job({"prompt": "p", "model": "gpt-image-2", "input_fidelity": ["?"]})


def test_misspelt_model_is_answered_with_look_alikes():
    problem = refusal(model="dall-e-4")
    error = problem.as_json()["error"]
    assert (problem.status, error["code"], error["param"]) == (400, "model_not_found", "model")
    assert error["did_you_mean"] == "dall-e-3"
    assert {"id": "dall-e-2"} in error["suggestions"]


def test_model_nothing_like_it_gets_no_suggestion():
    assert "did_you_mean" not in refusal(model="zzzzzz").as_json()["error"]


def test_model_must_be_a_string():
    assert refusal(model=3).field_errors[0].code == "invalid_type"


def test_compression_is_an_alias():
    body = {"prompt": "p", "model": "gpt-image-2", "output_format": "webp"}
    assert parse_job(body | {"compression": 30}).compression == 30
    assert parse_job(body | {"compression": 30, "output_compression": 9}).compression == 9


def test_job_is_the_user_else_the_prompt():
    assert parse_job({"prompt": "p", "user": "row-7"}).job == "row-7"
    assert parse_job({"prompt": "p"}).job == "p"


@pytest.mark.parametrize(
    ("given_", "size"),
    [
        ({}, (1024, 1024)),
        ({"size": "auto"}, (1024, 1024)),
        ({"size": "1792x1024"}, (1792, 1024)),
        ({"resolution": "2k"}, (2048, 2048)),
        ({"aspect_ratio": "16:9"}, (1360, 765)),
        ({"aspect_ratio": "9:16"}, (765, 1360)),
        ({"aspect_ratio": "16:9", "resolution": "2k"}, (2736, 1539)),
        ({"aspect_ratio": "1:1", "size": "512x512"}, (1024, 1024)),
    ],
)
def test_pixels_follow_size_or_ratio_and_resolution(given_, size):
    assert pixels(given_) == size


@given(st.sampled_from(MODEL_IDS), st.dictionaries(st.text(), st.none() | st.integers()))
def test_any_known_model_takes_a_bare_prompt(model, strange):
    """Fields nobody documents never matter."""
    known = {*DOCUMENTED_FIELDS, *COMMON_FIELDS, "n"}
    fields = {name: value for name, value in strange.items() if name not in known}
    assert parse_job({**fields, "model": model, "prompt": "p"}).model == model
