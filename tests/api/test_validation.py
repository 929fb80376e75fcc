"""Requests are checked by the generic rules and those of their family, and all problems are reported."""

from collections import UserDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._api.families import FAMILIES, RULES, family_of
from lemon_async._api.source_rules import SourceFacts
from lemon_async._api.validation import check
from lemon_async.requests import EditRequest, GenerateRequest, VariationRequest
from lemon_async.types import Problem

steady = settings(derandomize=True, deadline=None)

SAMPLE = {
    "n": 2,
    "size": "1024x1024",
    "aspect_ratio": "16:9",
    "resolution": "2k",
    "quality": "hd",
    "style": "vivid",
    "response_format": "b64_json",
    "async_": True,
    "background": "opaque",
    "output_format": "webp",
    "output_compression": 80,
    "moderation": "low",
    "partial_images": 2,
    "user": "user-17",
}
IDS = [id_.replace("*", "pro") for family in FAMILIES for id_ in family.ids]
PICTURE = b"\x89PNG"


def ask(prompt="a cat", **fields):
    return check(GenerateRequest(prompt, **fields))


def wire(field):
    return field.rstrip("_")


def only_message(problems):
    (problem,) = problems
    return problem.message


def shadowing(name, keyword):
    return Problem("extra", f"{name!r} is a separate field; {keyword}")


def test_check_of_a_bare_prompt_is_content():
    for model in IDS:
        assert ask(model=model) == ()


def test_check_refuses_exactly_the_fields_a_family_does_not_have():
    for model in IDS:
        for field in (*SAMPLE, "compression"):
            family = family_of(model)
            value = "high" if (model, field) == ("gpt-image-2", "quality") else SAMPLE.get(field, 50)
            problems = ask(model=model, **{field: value})
            if field in family.fields:
                assert problems == ()
            else:
                assert problems == (Problem(wire(field), f"{family.name} does not have this field; leave it out"),)


def test_check_lets_async_off_pass_everywhere():
    """`async=False` is what every family does; programs can always pass their flag."""
    for model in IDS:
        assert ask(model=model, async_=False) == ()


def test_check_takes_only_the_values_of_a_closed_list():
    for model, field, accepted, refused in (
        ("dall-e-3", "size", ["1024x1024", "1792x1024", "1024x1792"], ["auto", "512x512", "1024x1023", "1792x1792"]),
        ("dall-e-3", "quality", ["standard", "hd"], ["auto", "high", "HD"]),
        ("dall-e-3", "style", ["vivid", "natural"], ["dull", "Vivid"]),
        ("dall-e-2", "size", ["256x256", "512x512", "1024x1024"], ["auto", "1792x1024", "257x256"]),
        ("dall-e-2", "quality", ["standard", "hd"], ["low"]),
        ("gpt-image-2", "quality", ["auto", "low", "medium", "high"], ["standard", "hd"]),
        ("gpt-image-2", "background", ["auto", "transparent", "opaque"], ["clear"]),
        ("gpt-image-2", "output_format", ["png", "jpeg", "webp"], ["jpg", "gif", "PNG"]),
        ("gpt-image-2", "moderation", ["auto", "low"], ["off"]),
        ("nano-banana-pro", "resolution", ["1k", "2k", "4k"], []),
        ("grok-imagine-image", "resolution", ["1k", "2k"], ["4k"]),
    ):
        name = family_of(model).name
        for value in accepted:
            assert ask(model=model, **{field: value}) == ()
        for value in refused:
            advice = f"{name} takes {', '.join(accepted)}, not {value!r}"
            assert ask(model=model, **{field: value}) == (Problem(field, advice),)


@pytest.mark.parametrize(
    "kind", [GenerateRequest, lambda prompt, **fields: EditRequest(prompt, image="a.png", **fields)]
)
def test_check_of_a_gpt_image_size_asks_the_rule(kind):
    assert check(kind("a cat", model="gpt-image-2", size="auto")) == ()
    assert check(kind("a cat", model="gpt-image-2", size="2304x768")) == ()
    advice = "both sides must be multiples of 16; the longest edge must be at most 3840"
    assert check(kind("a cat", model="gpt-image-2", size="3841x2144")) == (Problem("size", advice),)


def test_check_of_an_unknown_model_applies_no_family():
    """All fields together, with values that no single family takes, pass for an unknown model."""
    fields = {**SAMPLE, "model": "acme-paint-9"}
    assert ask(**fields) == ()
    del fields["style"]
    assert check(EditRequest("a cat", image=PICTURE, **fields)) == ()
    assert check(VariationRequest(image=PICTURE, model="acme-paint-9", size="64x1")) == ()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (GenerateRequest("a cat", quality="high"), "DALL-E 3 takes standard, hd, not 'high'"),
        (GenerateRequest("a cat", aspect_ratio="1:1"), "DALL-E 3 does not have this field; leave it out"),
        (EditRequest("a cat", image=PICTURE, quality="high"), "DALL-E 2 takes standard, hd, not 'high'"),
        (VariationRequest(image=PICTURE, size="auto"), "DALL-E 2 takes 256x256, 512x512, 1024x1024, not 'auto'"),
    ],
)
def test_check_of_no_model_applies_the_servers_default(request_, message):
    """The page "Create image" defaults to `dall-e-3`, "Edit image" and "Create image variation" to `dall-e-2`."""
    assert only_message(check(request_)) == message


def test_check_refuses_exactly_the_operations_a_family_does_not_do():
    for operation, plural, make in (
        ("generate", "generations", lambda model: GenerateRequest("a cat", model=model)),
        ("edit", "edits", lambda model: EditRequest("a cat", image=PICTURE, model=model)),
        ("variation", "variations", lambda model: VariationRequest(image=PICTURE, model=model)),
    ):
        for model in IDS:
            family = family_of(model)
            problem = Problem("model", f"{family.name} does not do {plural}")
            assert check(make(model)) == (() if operation in family.operations else (problem,))


def test_check_of_a_value_with_two_faults_reports_the_generic_one():
    assert only_message(ask(model="midjourney", quality="\n")) == "must be one line of text and not empty"


@pytest.mark.parametrize(
    "make", [GenerateRequest, lambda prompt, **fields: EditRequest(prompt, image="a.png", **fields)]
)
def test_check_takes_one_of_the_two_names_of_compression(make):
    """`compression` is an alias, and it is undocumented which of the two wins."""
    assert check(make("a cat", model="gpt-image-2", compression=0)) == ()
    assert check(make("a cat", model="gpt-image-2", output_compression=0)) == ()
    assert check(make("a cat", model="gpt-image-2", compression=5, output_compression=5)) == (
        Problem("compression", "is another name of output_compression; give one of them"),
    )


def test_check_reports_every_problem_in_the_order_of_the_fields():
    values = {name: "yes" if name == "async_" else -1 for name in RULES if name != "prompt"}
    request = EditRequest(
        "",
        image=(),
        **{name: value for name, value in values.items() if name != "style"},
        extra={"model": "b", "seed": 1, "image_urls": []},
    )
    assert check(request) == (
        *(Problem(wire(name), f"must be {rule.words}") for name, rule in RULES.items() if name != "style"),
        Problem("compression", "is another name of output_compression; give one of them"),
        Problem("image", "give at least one picture to start from"),
        shadowing("model", "pass it as model="),
        shadowing("image_urls", "pass it as image="),
    )


def test_extra_cannot_shadow_a_field():
    """The message names the keyword to use, which for `async` is not the name on the wire."""
    for field in ("prompt", "model", *SAMPLE, "compression", "image", "mask"):
        name = wire(field)
        assert ask(extra={name: SAMPLE.get(field)}) == (shadowing(name, f"pass it as {field}="),)


def test_extra_of_an_edit_cannot_shadow_its_pictures():
    """Each field of "Edit image" for pictures would conflict with the one that is chosen for `image`."""
    for name in ("image", "image_url", "image_urls", "images", "mask"):
        keyword = "mask" if name == "mask" else "image"
        request = EditRequest("a cat", image="a.png", extra={name: "b.png"})
        assert check(request) == (shadowing(name, f"pass it as {keyword}="),)


def test_extra_of_a_variation_cannot_shadow_its_picture():
    request = VariationRequest(image="a.png", extra={"image": "b.png", "mask": "c.png"})
    assert check(request) == (shadowing("image", "pass it as image="),)


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest("a cat", extra={"stream": True}),
        EditRequest("a cat", image=PICTURE, extra={"stream": False}),
        VariationRequest(image=PICTURE, extra={"stream": None}),
    ],
)
def test_extra_cannot_request_a_stream(request_):
    """The response, which is paid for, could not be read."""
    assert check(request_) == (shadowing("stream", "use session.stream(...)"),)


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest("a cat", extra={"seed": 7, "negative_prompt": None, "nested": {"model": "x"}}),
        GenerateRequest("a cat", extra={"image_url": "https://cdn.example/1.png"}),
        EditRequest("a cat", image=PICTURE, extra={"style": "vivid", "seed": 7}),
        VariationRequest(image=PICTURE, extra={"prompt": "a cat", "quality": "hd", "async": True, "mask": "x"}),
    ],
)
def test_extra_takes_fields_that_this_kind_of_request_does_not_have(request_):
    """There is no keyword for them."""
    assert check(request_) == ()


def test_extra_must_be_a_mapping_with_names():
    for extra in (None, [], "seed", 5, {1: "one"}, {"seed": 1, None: 2}, [("seed", 1)]):
        assert ask(extra=extra) == (Problem("extra", "must be a mapping from field names to values"),)


class Hostile(UserDict):
    """A mapping that raises when it is read."""

    def __iter__(self):
        raise RuntimeError("boom")


def test_extra_that_raises_is_reported():
    assert ask(extra=Hostile(seed=1)) == (Problem("extra", "must be a mapping from field names to values"),)


UPLOADED = SourceFacts(place="image[0]", kind="upload")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": "a \ud800 cat"}, "prompt: cannot be sent as JSON: str is not valid UTF-8"),
        ({"extra": {"picture": b"x"}}, "extra: 'picture' cannot be sent as JSON: "),
        ({"extra": {"seed": 2**70}}, "extra: 'seed' cannot be sent as JSON: "),
        ({"extra": {"words": "\ud800"}}, "extra: 'words' cannot be sent as JSON: "),
    ],
)
def test_check_reports_values_that_encoding_would_refuse(fields, words):
    for request in (
        GenerateRequest(**{"prompt": "a cat", **fields}, model="flux-pro"),
        EditRequest(**{"prompt": "a cat", **fields}, model="flux-pro", image="cat.png"),
    ):
        (problem,) = check(request)
        assert str(problem).startswith(words)


@pytest.mark.parametrize("name", ["a\r\nb", "", "image[]", "Image"])
def test_check_of_an_upload_reports_names_that_no_form_has(name):
    """JSON can hold them."""
    request = EditRequest("a hat", image="cat.png", model="flux-pro", extra={name: 1})
    (problem,) = check(request, [UPLOADED])
    assert (problem.field, repr(name) in problem.message) == ("extra", True)
    assert check(request, [SourceFacts(place="image[0]", kind="file_id")]) == ()


def test_check_reports_a_field_once():
    """A value of the wrong type is not reported again as not being JSON."""
    assert ask(prompt=object(), n=2**70) == (
        Problem("prompt", "must be text and not empty"),
        Problem("n", "must be a whole number from 1 to 10"),
    )


def test_long_value_is_quoted_in_part():
    message = only_message(ask(quality="a" * 100_000))
    assert message.startswith("DALL-E 3 takes standard, hd, not 'aaa")
    assert len(message) < 150


def test_stream_is_what_gpt_image_alone_does():
    for model in (*IDS, None):
        name = family_of(model or "dall-e-3").name
        problem = Problem("model", f"{name} does not stream; gpt-image-2 does")
        assert check(GenerateRequest("a cat", model=model), is_stream=True) == (
            () if model == "gpt-image-2" else (problem,)
        )


def test_stream_of_an_unknown_model_is_left_to_the_service():
    assert check(GenerateRequest("a cat", model="acme-paint-9", async_=False), is_stream=True) == ()


def test_stream_and_task_exclude_each_other():
    problem = Problem("async", "is the opposite of a stream; leave it out")
    assert check(EditRequest("a cat", image=PICTURE, model="gpt-image-2", async_=True), is_stream=True) == (problem,)


def test_stream_of_a_variation_is_refused():
    assert (
        only_message(check(VariationRequest(image=PICTURE), is_stream=True))
        == "DALL-E 2 does not stream; gpt-image-2 does"
    )


anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.integers() | st.text(max_size=3), st.none(), max_size=2),
    st.sampled_from(["gpt-image-2", "flux-pro", "nano-banana", "1024x1024", "auto", "16:9", "4k"]),
)
IN_ORDER = ["prompt", "model", *SAMPLE, "extra"]


@steady
@given(st.fixed_dictionaries({"prompt": anything}, optional=dict.fromkeys(("model", *SAMPLE, "extra"), anything)))
def test_check_of_wrong_types_never_raises(fields):
    """Each field is named once at most, `extra` apart, and in the order of the request."""
    named = [problem.field for problem in check(GenerateRequest(**fields)) if problem.field != "extra"]
    assert named == [name for name in map(wire, IN_ORDER) if name in named]


@steady
@given(
    st.fixed_dictionaries(
        {"prompt": anything, "image": anything},
        optional=dict.fromkeys(("mask", "model", "n", "size", "extra"), anything),
    )
)
def test_check_of_an_edit_of_wrong_types_never_raises(fields):
    assert all(problem.message for problem in check(EditRequest(**fields)))


def test_request_that_is_written_already_meets_the_rules_alone():
    """The encoding was checked when it was written; it is not encoded again."""
    assert check(GenerateRequest("a cat", extra={"seed": 2**70})) != ()
    assert check(GenerateRequest("a cat", extra={"seed": 2**70}), is_written=True) == ()
    assert check(GenerateRequest("a cat", n=99), is_written=True) != ()
