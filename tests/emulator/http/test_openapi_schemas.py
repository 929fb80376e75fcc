"""The schemas of requests, against the validation that they are derived from."""

import jsonschema_rs
import pytest

from lemon_async.emulator.http.openapi_schemas import job_in_form, job_in_json, new_file, response_schemas
from lemon_async.emulator.service.field_checks import gpt_image_size
from lemon_async.emulator.service.job_spec import MAX_IMAGES, MAX_PROMPT_CHARS, parse_job
from lemon_async.emulator.service.model_families import DOCUMENTED_FIELDS, FAMILIES, family_of
from lemon_async.emulator.service_errors import ServiceError

NUMBERS = [-1, 0, 1, 2, 3, 4, 10, 11, 100, 101, 2.5, 10**9]
WORDS = [
    "", "x", "auto", "low", "medium", "high", "standard", "hd", "vivid", "natural", "1024x1024", "256x256", "1:1",
    "16:9", "1k", "2K", "4K", "url", "b64_json", "png", "webp", "jpeg", "gif", "transparent", "opaque", "white",
]  # fmt: skip
VALUES = [None, True, False, *NUMBERS, *WORDS, [], ["x"], {}, {"a": 1}]
NAMES = sorted({*DOCUMENTED_FIELDS, "n", "async", "stream", "prompt", "model", "user", "response_format", "novelty"})


def accepts(body):
    try:
        parse_job(body)
    except ServiceError:
        return False
    return True


def test_schema_and_validation_agree_on_every_field_of_every_family():
    is_valid = jsonschema_rs.validator_for(job_in_json("generate")).is_valid
    models = [family.ids[0] for family in FAMILIES if "generate" in family.operations] + [
        "flux-new",
        "flux",
        "no-model",
    ]
    bodies = [{"model": model, "prompt": "p", name: value} for model in models for name in NAMES for value in VALUES]
    bodies += [
        {"prompt": "p"},
        {"model": "dall-e-3"},
        {"model": "gpt-image-2", "prompt": "p", "async": True, "stream": True},
    ]
    disagreements = [body for body in bodies if is_valid(body) != accepts(body)]
    # JSON Schema cannot express that this has too few pixels.
    assert disagreements == [{"model": "gpt-image-2", "prompt": "p", "size": "256x256"}]
    assert sum(map(accepts, bodies)) > 1000


def test_bounds_and_choices_are_those_of_validation():
    families = {schema["title"]: schema for schema in job_in_json("generate")["anyOf"]}
    assert list(families) == [family.name for family in FAMILIES]
    fields = families["GPT Image 2"]["properties"]
    assert fields["model"] == {"type": "string", "enum": ["gpt-image-2"]}
    assert fields["prompt"]["maxLength"] == MAX_PROMPT_CHARS
    assert (fields["n"]["minimum"], fields["n"]["maximum"]) == (1, MAX_IMAGES)
    assert fields["quality"]["enum"] == ["auto", "low", "medium", "high", None]
    assert fields["size"]["pattern"] == gpt_image_size.schema["pattern"]
    assert fields["style"] == {"type": "null"}
    assert families["DALL-E 3"]["required"] == ["prompt"]
    assert families["DALL-E 3"]["properties"]["stream"]["enum"] == [False, None]
    assert families["FLUX"]["properties"]["model"]["anyOf"][1] == {"type": "string", "pattern": "^flux-"}


@pytest.mark.parametrize(
    ("sources", "is_accepted"),
    [
        ({}, False),
        ({"image_url": "https://x.example/a.png"}, True),
        ({"image_urls": ["https://x.example/a.png"]}, True),
        ({"images": [{"file_id": "f"}, {"image_url": "https://x.example/a.png"}]}, True),
        ({"image_urls": []}, False),
        ({"images": [{"file_id": "f", "image_url": "https://x.example/a.png"}]}, False),
        ({"image_url": "https://x.example/a.png", "image_urls": ["https://x.example/a.png"]}, False),
        ({"image_url": "https://x.example/a.png", "mask": "m"}, False),
    ],
)
def test_json_edit_has_sources_in_one_field_and_no_mask(sources, is_accepted):
    is_valid = jsonschema_rs.validator_for(job_in_json("edit")).is_valid
    assert is_valid({"model": "gpt-image-2", "prompt": "p", **sources}) is is_accepted


def test_forms_have_files_and_the_fields_of_all_families():
    edit, variation, upload = job_in_form("edit"), job_in_form("variation"), new_file()
    assert edit["required"] == ["image", "prompt"]
    assert edit["properties"]["image"]["maxItems"] == max(family.max_sources for family in FAMILIES)
    assert variation["required"] == ["image"]
    assert "prompt" not in variation["properties"]
    assert variation["properties"]["model"] == {"type": "string", "enum": list(family_of("dall-e-2").ids)}
    assert upload["required"] == ["file", "purpose"]


def test_events_of_a_stream_are_part_of_the_schemas_that_responses_refer_to():
    assert {"Error", "Task", "Images", "NewTask", "Usage"} <= set(response_schemas())
