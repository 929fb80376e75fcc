"""The nouns: what a request is made of, and what a snapshot tells by itself."""

import pickle
from collections.abc import Mapping
from typing import Any, get_type_hints

import attrs
import pytest

from lemon_async.api.models import Billing, GenerateFields, GenerateRequest, ImageData, TaskFault, TaskSnapshot


def test_generate_fields_are_those_of_the_request_without_the_prompt():
    names = [field.name for field in attrs.fields(GenerateRequest)]
    assert names[0] == "prompt"
    assert list(GenerateFields.__annotations__) == names[1:]


def test_generate_fields_have_the_types_of_the_request():
    """What editors complete is what a request takes; a request says `None` for what is not sent."""
    hints = get_type_hints(GenerateRequest)
    typed = get_type_hints(GenerateFields)
    assert typed.pop("extra") == hints["extra"] == Mapping[str, Any]
    assert {name: hint | None for name, hint in typed.items()} == {name: hints[name] for name in typed}


def test_request_sends_nothing_that_was_not_set():
    values = attrs.asdict(GenerateRequest("a cat"))
    assert values.pop("prompt") == "a cat"
    assert values.pop("extra") == {}
    assert set(values.values()) == {None}


def test_request_takes_its_prompt_alone_by_position():
    with pytest.raises(TypeError):
        GenerateRequest("a cat", "flux-pro")


def test_request_is_frozen():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        GenerateRequest("a cat").prompt = "a dog"


def test_requests_share_no_extra():
    assert GenerateRequest("a").extra is not GenerateRequest("b").extra


def test_request_survives_pickle():
    request = GenerateRequest("a cat", model="flux-pro", async_=True, extra={"seed": 7})
    assert pickle.loads(pickle.dumps(request)) == request


@pytest.mark.parametrize(
    ("image", "is_usable"),
    [
        (ImageData(), False),
        (ImageData(url=""), False),
        (ImageData(url="", b64_json=""), False),
        (ImageData(revised_prompt="a cat"), False),
        (ImageData(url="https://cdn.example/1.png"), True),
        (ImageData(b64_json="iVBORw0KGgo="), True),
        (ImageData(url="", b64_json="iVBORw0KGgo="), True),
    ],
)
def test_image_data_is_usable_with_a_link_or_with_bytes(image, is_usable):
    assert image.is_usable is is_usable


def test_image_data_keeps_megabytes_out_of_its_repr():
    assert repr(ImageData(url="u", b64_json="A" * 99)) == "ImageData(url='u', revised_prompt=None)"


@pytest.mark.parametrize(
    ("status", "is_done"),
    [("pending", False), ("processing", False), ("completed", True), ("failed", True), ("", False), ("queued", False)],
)
def test_snapshot_is_done_with_a_documented_last_word(status, is_done):
    """The page "Get image status" knows `pending`, `processing`, `completed` and `failed`."""
    assert TaskSnapshot(status=status).is_done is is_done


def test_snapshot_is_written_with_names():
    with pytest.raises(TypeError):
        TaskSnapshot("pending")


def test_snapshot_says_nothing_it_was_not_told():
    assert TaskSnapshot() == TaskSnapshot(
        status="",
        task_id=None,
        poll_url=None,
        images=(),
        created=None,
        model=None,
        progress=None,
        fault=None,
        is_cancelled=False,
        usage=None,
        billing=Billing(transaction_id=None, headers={}),
    )


def test_fault_has_no_code_unless_told():
    assert TaskFault("out of paint") == TaskFault("out of paint", code=None)
