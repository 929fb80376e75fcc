"""The table of families against the "Create image" page, both sides of every bound."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.api.contracts import FAMILIES, check, family_of
from lemon_async.api.errors import Problem
from lemon_async.api.models import GenerateRequest

steady = settings(derandomize=True, deadline=None)

FAMILY_IDS = {
    "DALL-E 3": ["dall-e-3"],
    "DALL-E 2": ["dall-e-2"],
    "GPT Image 2": ["gpt-image-2"],
    "Gemini with resolution": ["gemini-3-pro-image-preview", "nano-banana-pro", "nano-banana-2"],
    "Gemini Flash": [
        "gemini-2.5-flash-image",
        "gemini-3.1-flash-image-preview",
        "nano-banana",
        "nano-banana-edit",
    ],
    "Gemini 2.0 Flash": ["gemini-2.0-flash-preview-image-generation"],
    "FLUX": ["flux-pro", "flux-schnell", "flux-2-max"],
    "Midjourney": ["midjourney", "mj-imagine"],
    "Ideogram": ["ideogram-v3", "ideogram-turbo"],
    "Stable Diffusion 3": ["stable-diffusion-3"],
    "xAI Grok Imagine": ["grok-imagine-image", "grok-imagine-image-quality", "grok-imagine-image-pro"],
}
EVERYWHERE = {"n", "response_format", "user"}
SELECTORS = {"size", "aspect_ratio", "resolution"}
FIELDS = {
    "DALL-E 3": EVERYWHERE | {"size", "quality", "style"},
    "DALL-E 2": EVERYWHERE | {"size", "quality"},
    "GPT Image 2": EVERYWHERE
    | {"size", "quality", "async_", "background", "output_format", "output_compression", "moderation"}
    | {"partial_images"},
    "Gemini with resolution": EVERYWHERE | SELECTORS,
    "Gemini Flash": EVERYWHERE | {"size", "aspect_ratio"},
    "Gemini 2.0 Flash": EVERYWHERE,
    "FLUX": EVERYWHERE | SELECTORS | {"async_"},
    "Midjourney": EVERYWHERE | SELECTORS,
    "Ideogram": EVERYWHERE | SELECTORS,
    "Stable Diffusion 3": EVERYWHERE | SELECTORS,
    "xAI Grok Imagine": EVERYWHERE | {"aspect_ratio", "resolution"},
}
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
IDS = [(name, model) for name, models in FAMILY_IDS.items() for model in models]


def ask(prompt="a cat", **fields):
    return check(GenerateRequest(prompt, **fields))


def wire(field):
    return field.rstrip("_")


def only_message(problems):
    (problem,) = problems
    return problem.message


@pytest.mark.parametrize(("name", "model"), IDS)
def test_family_of_knows_every_documented_id(name, model):
    assert family_of(model).name == name


def test_families_are_the_documented_ones():
    assert {family.name for family in FAMILIES} == set(FAMILY_IDS)


def test_family_of_no_model_is_that_of_the_servers_default():
    assert family_of(None) is family_of("dall-e-3")


@pytest.mark.parametrize(
    "model",
    [
        "acme-paint-9",
        "",
        "dall-e-4",
        "GPT-Image-2",
        "gpt-image-2 ",
        "flux",
        "midjourney-v9",
        "xflux-pro",
        5,
        [],
        {},
        b"x",
    ],
)
def test_family_of_a_stranger_is_none(model):
    assert family_of(model) is None


@pytest.mark.parametrize(("name", "model"), IDS)
def test_check_of_a_bare_prompt_is_content(name, model):
    assert ask(model=model) == ()


@pytest.mark.parametrize("field", SAMPLE)
@pytest.mark.parametrize("name", FAMILY_IDS)
def test_check_refuses_exactly_the_fields_a_family_does_not_have(name, field):
    value = "high" if (name, field) == ("GPT Image 2", "quality") else SAMPLE[field]
    problems = ask(model=FAMILY_IDS[name][0], **{field: value})
    if field in FIELDS[name]:
        assert problems == ()
    else:
        assert problems == (Problem(wire(field), f"{name} does not have this field; leave it out"),)


@pytest.mark.parametrize("name", FIELDS)
def test_check_lets_async_off_pass_everywhere(name):
    """`async` off is what every family does; programs that pass their flag on need no exception."""
    assert ask(model=FAMILY_IDS[name][0], async_=False) == ()


@pytest.mark.parametrize(
    ("model", "field", "accepted", "refused"),
    [
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
    ],
)
def test_check_takes_only_the_values_of_a_closed_list(model, field, accepted, refused):
    name = family_of(model).name
    for value in accepted:
        assert ask(model=model, **{field: value}) == ()
    for value in refused:
        advice = f"{name} takes {', '.join(accepted)}, not {value!r}"
        assert ask(model=model, **{field: value}) == (Problem(field, advice),)


MULTIPLE = "both sides must be multiples of 16"
EDGE = "the longest edge must be at most 3840"
RATIO = "the ratio of the sides must be at most 3:1"
PIXELS = "the pixels must number 655,360 to 8,294,400"


@pytest.mark.parametrize(
    ("size", "fault"),
    [
        ("auto", None),
        ("1024x640", None),  # 655,360 pixels
        ("640x1024", None),
        ("1024x624", PIXELS),
        ("1008x640", PIXELS),
        ("3840x2160", None),  # 8,294,400 pixels, and the longest edge
        ("2160x3840", None),
        ("3840x2176", PIXELS),
        ("2880x2896", PIXELS),
        ("3841x2144", f"{MULTIPLE}; {EDGE}"),
        ("2879x2881", MULTIPLE),  # 8,294,399 pixels
        ("3856x2144", EDGE),
        ("2144x3856", EDGE),
        ("2304x768", None),  # 3:1
        ("768x2304", None),
        ("2320x768", RATIO),
        ("768x2320", RATIO),
        ("1032x1024", MULTIPLE),
        ("1024x1032", MULTIPLE),
        ("4001x17", f"{MULTIPLE}; {EDGE}; {RATIO}; {PIXELS}"),
    ],
)
def test_check_of_a_gpt_image_size_is_exact(size, fault):
    problems = ask(model="gpt-image-2", size=size)
    assert problems == (() if fault is None else (Problem("size", fault),))


@steady
@given(st.integers(1, 4096), st.integers(1, 4096), st.booleans())
def test_check_of_a_gpt_image_size_agrees_with_the_page(a, b, is_rounded):
    width, height = (16 * -(-a // 16), 16 * -(-b // 16)) if is_rounded else (a, b)
    is_legal = (
        width % 16 == height % 16 == 0
        and max(width, height) <= 3840
        and max(width, height) / min(width, height) <= 3
        and 655_360 <= width * height <= 8_294_400
    )
    assert (ask(model="gpt-image-2", size=f"{width}x{height}") == ()) is is_legal


ONE_LINE = "must be one line of text and not empty"
TEXT = "must be text and not empty"
SIZE = "must be 'auto' or WIDTHxHEIGHT, like 1024x1024"
ASPECT = "must be WIDTH:HEIGHT, like 16:9"
FLAG = "must be True or False"
RESOLUTION = "must be one of 1k, 2k, 4k"
FORMAT = "must be one of url, b64_json"


def whole(low, high):
    return f"must be a whole number from {low} to {high}"


@pytest.mark.parametrize(
    ("field", "fault", "accepted", "refused"),
    [
        ("n", whole(1, 10), [1, 10], [0, 11, -1, True, 1.0, "1", [1]]),
        ("output_compression", whole(0, 100), [0, 100], [-1, 101, False, 50.0, "50"]),
        ("partial_images", whole(0, 3), [0, 3], [-1, 4, True, "1"]),
        (
            "size",
            SIZE,
            ["auto", "1x1", "99999x99999", "256x1024"],
            [
                *("100000x1", "1x100000", "0x1", "1x0", "01x1", "-1x1", "1.5x1", "1\u0660x1\u0660", "1x1\n", " 1x1"),
                *(
                    "1024X1024",
                    "1024\u00d71024",
                    "1024",
                    "x",
                    "",
                    " auto",
                    "Auto",
                    "auto\n",
                    1024,
                    (1024, 1024),
                    ["auto"],
                ),
            ],
        ),
        (
            "aspect_ratio",
            ASPECT,
            ["1:1", "16:9", "9:16", "3:2", "2:3", "999:999"],
            [
                "1000:1",
                "1:1000",
                "0:1",
                "1:0",
                "16/9",
                "16:9:1",
                "16 : 9",
                "",
                ":",
                "1:1\n",
                "1\u0660:9",
                1.5,
                ("16", "9"),
            ],
        ),
        ("resolution", RESOLUTION, ["1k", "2k", "4k"], ["8k", "1K", "", "1024", 1, ["1k"]]),
        ("response_format", FORMAT, ["url", "b64_json"], ["b64", "URL", "", 1, {"url"}]),
        ("async_", FLAG, [True, False], [1, 0, "true", "", []]),
        *(
            (
                field,
                ONE_LINE,
                ["a", "Ünïcode 猫", "a" * 1000],
                ["", "a\nb", "a\rb", "a\0b", "a\tb", "\x1b[2J", "\ud800", 5],
            )
            for field in ("model", "quality", "style", "background", "output_format", "moderation", "user")
        ),
    ],
)
def test_check_applies_generic_rules_to_any_model(field, fault, accepted, refused):
    fields = {"model": "acme-paint-9"}
    for value in accepted:
        assert ask(**fields | {field: value}) == ()
    for value in refused:
        assert ask(**fields | {field: value}) == (Problem(wire(field), fault),)


@pytest.mark.parametrize("prompt", ["", " ", "\n\t", None, 5, b"a cat", ["a cat"]])
def test_check_refuses_a_prompt_without_words(prompt):
    assert ask(prompt) == (Problem("prompt", TEXT),)


@pytest.mark.parametrize("prompt", ["a", "a\ncat\twith\rlines", "猫" * 10_000])
def test_check_leaves_the_length_and_shape_of_a_prompt_to_the_service(prompt):
    assert ask(prompt) == ()


def test_check_of_an_unknown_model_applies_no_family():
    """Every field at once, with values that no single family takes, passes for a model of tomorrow."""
    assert ask(model="acme-paint-9", **SAMPLE) == ()


def test_check_of_no_model_applies_the_servers_default():
    assert only_message(ask(quality="high")) == "DALL-E 3 takes standard, hd, not 'high'"
    assert only_message(ask(aspect_ratio="1:1")) == "DALL-E 3 does not have this field; leave it out"


def test_check_of_a_value_with_two_faults_tells_the_generic_one():
    assert only_message(ask(model="midjourney", quality="\n")) == ONE_LINE


def test_check_reports_every_problem_in_the_order_of_the_fields():
    request = GenerateRequest(
        "",
        model="a\nb",
        n=0,
        size="big",
        aspect_ratio="wide",
        resolution="8k",
        quality="",
        style="",
        response_format="png",
        async_="yes",
        background="",
        output_format="",
        output_compression=101,
        moderation="",
        partial_images=4,
        user="",
        extra={"model": "b", "seed": 1, "n": 2},
    )
    assert check(request) == (
        Problem("prompt", TEXT),
        Problem("model", ONE_LINE),
        Problem("n", whole(1, 10)),
        Problem("size", SIZE),
        Problem("aspect_ratio", ASPECT),
        Problem("resolution", RESOLUTION),
        Problem("quality", ONE_LINE),
        Problem("style", ONE_LINE),
        Problem("response_format", FORMAT),
        Problem("async", FLAG),
        Problem("background", ONE_LINE),
        Problem("output_format", ONE_LINE),
        Problem("output_compression", whole(0, 100)),
        Problem("moderation", ONE_LINE),
        Problem("partial_images", whole(0, 3)),
        Problem("user", ONE_LINE),
        Problem("extra", "'model' is a field of its own; pass it as model="),
        Problem("extra", "'n' is a field of its own; pass it as n="),
    )


@pytest.mark.parametrize("field", ["prompt", "model", *SAMPLE])
def test_extra_cannot_shadow_a_field(field):
    """The message names the keyword to use, which for `async` is not the name on the wire."""
    name = wire(field)
    problems = ask(extra={name: SAMPLE.get(field)})
    assert problems == (Problem("extra", f"{name!r} is a field of its own; pass it as {field}="),)


def test_extra_takes_fields_this_version_has_never_heard_of():
    assert ask(extra={"seed": 7, "compression": 50, "negative_prompt": None, "nested": {"model": "x"}}) == ()


@pytest.mark.parametrize("extra", [None, [], "seed", 5, {1: "one"}, {"seed": 1, None: 2}, [("seed", 1)]])
def test_extra_must_be_a_mapping_with_names(extra):
    assert ask(extra=extra) == (Problem("extra", "must be a mapping from field names to values"),)


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


@steady
@given(st.fixed_dictionaries({"prompt": anything}, optional=dict.fromkeys(("model", *SAMPLE, "extra"), anything)))
def test_check_of_wrong_types_never_raises(fields):
    """Each field is named once at most, `extra` apart, and in the order of the request."""
    order = ["prompt", "model", *map(wire, SAMPLE), "extra"]
    named = [problem.field for problem in check(GenerateRequest(**fields)) if problem.field != "extra"]
    assert named == [name for name in order if name in named]
