"""The class of a request, the fields that are removed, and the body."""

import hashlib
from contextlib import ExitStack

import pytest

from lemon_async import ContractError, EditRequest, GenerateRequest, LemonSession, VariationRequest
from lemon_async._uploads.preparation import build_request, prepare, request_from
from lemon_async.types import StoredFile

MODEL = "gpt-image-2"


# Which request


@pytest.mark.parametrize(
    ("prompt", "fields", "expected"),
    [
        ("a cat", {}, GenerateRequest("a cat")),
        ("a cat", {"n": 2, "model": "flux-pro"}, GenerateRequest("a cat", n=2, model="flux-pro")),
        (GenerateRequest("a cat", n=2), {"n": 3}, GenerateRequest("a cat", n=3)),
        ("a hat", {"image": "a.png"}, EditRequest("a hat", image="a.png")),
        ("a hat", {"image": ["a.png", b"x"], "mask": b"m"}, EditRequest("a hat", image=("a.png", b"x"), mask=b"m")),
        ("a hat", {"mask": b"m"}, EditRequest("a hat", image=(), mask=b"m")),
        (EditRequest("a hat", image="a.png"), {"size": "auto"}, EditRequest("a hat", image="a.png", size="auto")),
        (VariationRequest(image="a.png"), {"n": 2}, VariationRequest(image="a.png", n=2)),
    ],
)
def test_prompt_or_request_and_fields_make_a_request(prompt, fields, expected):
    assert request_from(prompt, fields) == expected


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (EditRequest, GenerateRequest("a cat"), "request: is a GenerateRequest, and a EditRequest goes here"),
        (GenerateRequest, VariationRequest(image="a.png"), "request: is a VariationRequest, and a GenerateRequest"),
        (VariationRequest, EditRequest("a hat", image="a.png"), "request: is a EditRequest, and a VariationRequest"),
    ],
)
def test_request_of_another_kind_is_refused(kind, given, words):
    with pytest.raises(ContractError, match=words):
        build_request(kind, {}, given)


def test_unknown_fields_are_refused():
    with pytest.raises(ContractError) as caught:
        request_from("a hat", {"image": b"x", "style": "vivid", "async": True})
    assert [str(problem) for problem in caught.value.problems] == [
        "style: is not a field of this version; pass unknown fields in extra={...}",
        "async: is not a field of this version (did you mean async_=?); pass unknown fields in extra={...}",
    ]


async def test_equal_requests_have_equal_fingerprints_and_others_do_not(picture, tmp_path):
    """It covers the fields and every uploaded byte."""
    path = tmp_path / "a.png"
    path.write_bytes(picture())

    async def fingerprint(request):
        with ExitStack() as held:
            return (await prepare(request, held, is_checked=False)).fingerprint

    wish = await fingerprint(EditRequest("a hat", image=picture()))
    assert len(wish) == hashlib.sha256().digest_size * 2
    assert await fingerprint(EditRequest("a hat", image=path)) == wish
    others = [
        EditRequest("a cap", image=picture()),
        EditRequest("a hat", image=[picture()] * 2),
        EditRequest("a hat", image=picture(), mask=picture()),
        EditRequest("a hat", image=picture((17, 17))),
        EditRequest("a hat", image="file-1"),
        VariationRequest(image=picture()),
        GenerateRequest("a hat"),
    ]
    seen = [await fingerprint(request) for request in others]
    assert len({wish, *seen}) == len(others) + 1


@pytest.mark.parametrize("prompt", ["a hat", "a hat " * 20_000], ids=["short", "long"])
async def test_fingerprint_can_be_found_before_a_body_is_opened(picture, prompt):
    """That of a long body in a thread; a journal needs it before the first byte is sent."""
    for request in (GenerateRequest(prompt), EditRequest(prompt, image=picture())):
        with ExitStack() as held:
            payload = await prepare(request, held, is_checked=False)
            assert await payload.find_fingerprint() == payload.fingerprint


# The field that the service removes ("Compatibility note" of "Create image")


async def test_input_fidelity_is_refused_with_a_reason_and_passes_in_extra(serve, http_ok):
    server = await serve(http_ok(b'{"data": [{"url": "https://cdn.test/1.png"}]}'))
    async with LemonSession("sk-x", base_url=server.origin) as session:
        with pytest.raises(ContractError, match="input_fidelity: is removed by the service for gpt-image-2"):
            await session.submit("a cat", model=MODEL, input_fidelity="high")
        assert not server.bodies
        await session.submit("a cat", model="model-of-tomorrow", extra={"input_fidelity": "high"})
    assert b'"input_fidelity":"high"' in server.bodies[0]


@pytest.mark.parametrize("extra", [{"when": object()}, {"x": {1, 2}}], ids=["object", "set"])
@pytest.mark.parametrize("image", [None, b"x"], ids=["json", "form"])
async def test_value_that_json_cannot_hold_is_refused_before_it_is_sent(connect, emulator, extra, image):
    request = GenerateRequest("a cat", extra=extra) if image is None else EditRequest("a hat", image=image, extra=extra)
    async with connect(check_contracts=False) as session:
        with pytest.raises(ContractError, match=r"extra: '(when|x)' cannot be sent as JSON"):
            await session.submit(request)
    assert emulator.requests == []


EXTRAS = [
    {"seed": 2**70},
    {"picture": b"x"},
    {"words": "\ud800"},
    {"a\r\nb": 1},
    {"": 1},
    {"image[]": "x"},
    {"Image": "x"},
]


@pytest.mark.parametrize("extra", EXTRAS, ids=str)
@pytest.mark.parametrize("is_checked", [True, False])
async def test_validate_reports_the_same_as_sending_an_edit(connect, emulator, picture, extra, is_checked):
    """Also with the checks switched off, because the response could not be read."""
    async with connect(check_contracts=is_checked) as session:
        (problem,) = session.validate("a hat", image=picture(), model="flux-pro", extra=extra)
        with pytest.raises(ContractError) as caught:
            await session.edit("a hat", image=picture(), model="flux-pro", extra=extra)
        assert caught.value.problems == (problem,)
    assert problem.field == "extra"
    assert emulator.requests == []


@pytest.mark.parametrize("is_checked", [True, False])
async def test_invalid_label_is_refused_before_it_is_sent(connect, emulator, is_checked):
    """Also with the checks switched off, because this is a rule of the library."""
    async with connect(check_contracts=is_checked) as session:
        (problem,) = session.validate("a cat", label="x" * 201)
        with pytest.raises(ContractError) as caught:
            await session.submit("a cat", label="x" * 201)
        assert caught.value.problems == (problem,)
    assert problem.field == "label"
    assert emulator.requests == []


@pytest.mark.parametrize("image", [{"file_id": "file-\ud800"}, {"file_id": ""}, StoredFile("file-1\r\nx")], ids=repr)
async def test_bad_id_is_refused_by_validate_and_by_sending(connect, emulator, image):
    words = "has an id that is not one line of text and not empty"
    async with connect(check_contracts=False) as session:
        (problem,) = session.validate("a hat", image=image, model="flux-pro")
        with pytest.raises(ContractError, match=rf"image\[0\]: {words}"):
            await session.edit("a hat", image=image, model="flux-pro")
    assert str(problem) == f"image[0]: {words}"
    assert emulator.requests == []
