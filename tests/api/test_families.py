"""The table of model families, row by row: ids, fields, values, sizes, operations, sources."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._api.families import FAMILIES, family_of

steady = settings(derandomize=True, deadline=None)

COMMON = {"prompt", "model", "n", "response_format", "user"}
SELECTORS = {"size", "aspect_ratio", "resolution"}
GPT_ONLY = {"background", "output_format", "output_compression", "compression", "moderation", "partial_images"}
BOTH = {"generate", "edit"}
ANY_FORMAT = ("png", "jpeg", "webp")


def row(*ids, fields, operations=BOTH, max_sources=16, formats=ANY_FORMAT, **values):
    return {
        "ids": ids,
        "fields": COMMON | fields,
        "values": values,
        "operations": operations,
        "max_sources": max_sources,
        "formats": formats,
    }


ROWS = {
    "DALL-E 3": row(
        "dall-e-3",
        fields={"size", "quality", "style"},
        operations={"generate"},
        size=("1024x1024", "1792x1024", "1024x1792"),
        quality=("standard", "hd"),
        style=("vivid", "natural"),
    ),
    "DALL-E 2": row(
        "dall-e-2",
        fields={"size", "quality"},
        operations=BOTH | {"variation"},
        formats=("png",),
        size=("256x256", "512x512", "1024x1024"),
        quality=("standard", "hd"),
    ),
    "GPT Image 2": row(
        "gpt-image-2",
        fields={"size", "quality", "async_"} | GPT_ONLY,
        quality=("auto", "low", "medium", "high"),
        background=("auto", "transparent", "opaque"),
        output_format=("png", "jpeg", "webp"),
        moderation=("auto", "low"),
    ),
    "Gemini with resolution": row(
        "gemini-3-pro-image-preview",
        "nano-banana-pro",
        "nano-banana-2",
        fields=SELECTORS,
        resolution=("1k", "2k", "4k"),
    ),
    "Gemini Flash": row(
        "gemini-2.5-flash-image",
        "gemini-3.1-flash-image-preview",
        "nano-banana",
        "nano-banana-edit",
        fields={"size", "aspect_ratio"},
    ),
    "Gemini 2.0 Flash": row("gemini-2.0-flash-preview-image-generation", fields=set(), operations={"generate"}),
    "FLUX": row("flux-pro", "flux-schnell", "flux-2-max", fields=SELECTORS | {"async_"}),
    "Midjourney": row("midjourney", "mj-imagine", fields=SELECTORS),
    "Ideogram": row("ideogram-v3", "ideogram-turbo", fields=SELECTORS),
    "Stable Diffusion 3": row("stable-diffusion-3", fields=SELECTORS),
    "xAI Grok Imagine": row(
        "grok-imagine-image",
        "grok-imagine-image-quality",
        "grok-imagine-image-pro",
        fields={"aspect_ratio", "resolution"},
        max_sources=3,
        resolution=("1k", "2k"),
    ),
}


def test_families_are_the_documented_ones():
    assert [family.name for family in FAMILIES] == list(ROWS)


def test_row_of_a_family_claims_its_ids():
    for name in ROWS:
        assert {family_of(model).name for model in ROWS[name]["ids"]} == {name}


def test_row_of_a_family_has_exactly_its_fields():
    for name in ROWS:
        assert family_of(ROWS[name]["ids"][0]).fields == ROWS[name]["fields"]


def test_row_of_a_family_has_exactly_its_closed_lists():
    """They are of fields that it has."""
    for name in ROWS:
        values = family_of(ROWS[name]["ids"][0]).values
        assert values == ROWS[name]["values"]
        assert values.keys() <= ROWS[name]["fields"]


def test_row_of_a_family_has_exactly_its_operations():
    for name in ROWS:
        assert family_of(ROWS[name]["ids"][0]).operations == ROWS[name]["operations"]


def test_row_of_a_family_bounds_its_sources():
    for name in ROWS:
        family = family_of(ROWS[name]["ids"][0])
        assert (family.max_sources, family.source_formats) == (ROWS[name]["max_sources"], ROWS[name]["formats"])


def test_family_that_alone_decides_sizes_by_a_rule_is_gpt_image():
    assert [family.name for family in FAMILIES if family.size_fault] == ["GPT Image 2"]


def test_family_whose_sources_are_masks_of_themselves_is_dall_e_2():
    assert [family.name for family in FAMILIES if family.has_masked_sources] == ["DALL-E 2"]


def test_family_of_an_unknown_model_is_none():
    """Any other id is legal: the catalogue changes."""
    for model in (
        *("acme-paint-9", "", "dall-e-4", "GPT-Image-2", "gpt-image-2 ", "flux", "mj", "midjourney-v9", "xflux-pro"),
        *("ideogram", "stable-diffusion-3.5", "grok-imagine-image-max", "nano-banana-3", None, 5, [], {}, b"flux-pro"),
    ):
        assert family_of(model) is None


MULTIPLE = "both sides must be multiples of 16"
EDGE = "the longest edge must be at most 3840"
RATIO = "the ratio of the sides must be at most 3:1"
PIXELS = "the pixels must number 655,360 to 8,294,400"


@pytest.mark.parametrize(
    ("width", "height", "fault"),
    [
        pytest.param(1024, 640, None, id="655,360 pixels"),
        pytest.param(1280, 512, None, id="655,360 pixels, long"),
        pytest.param(1024, 624, PIXELS, id="638,976 pixels"),
        pytest.param(1008, 640, PIXELS, id="645,120 pixels"),
        pytest.param(656, 992, PIXELS, id="650,752 pixels"),
        pytest.param(3840, 2160, None, id="8,294,400 pixels and edge 3840"),
        pytest.param(2880, 2880, None, id="8,294,400 pixels, square"),
        pytest.param(3840, 2176, PIXELS, id="8,355,840 pixels"),
        pytest.param(2880, 2896, PIXELS, id="8,340,480 pixels"),
        pytest.param(3840, 1280, None, id="edge 3840 and 3:1"),
        pytest.param(3856, 2144, EDGE, id="edge 3856"),
        pytest.param(3841, 2144, f"{MULTIPLE}; {EDGE}", id="edge 3841"),
        pytest.param(2304, 768, None, id="3:1"),
        pytest.param(2320, 768, RATIO, id="a step over 3:1"),
        pytest.param(1040, 1024, None, id="multiples of 16"),
        pytest.param(1032, 1024, MULTIPLE, id="a multiple of 8"),
        pytest.param(1025, 1024, MULTIPLE, id="odd"),
        pytest.param(2879, 2881, MULTIPLE, id="8,294,399 pixels, odd"),
        pytest.param(4001, 17, f"{MULTIPLE}; {EDGE}; {RATIO}; {PIXELS}", id="everything"),
    ],
)
def test_row_of_gpt_image_sizes(width, height, fault):
    """The pages "Create image" and "Edit image", `size`: for both orientations."""
    size_fault = family_of("gpt-image-2").size_fault
    assert size_fault(width, height) == size_fault(height, width) == fault


@steady
@given(st.integers(1, 4096), st.integers(1, 4096), st.booleans())
def test_row_of_gpt_image_sizes_agrees_with_the_page(a, b, is_rounded):
    width, height = (16 * -(-a // 16), 16 * -(-b // 16)) if is_rounded else (a, b)
    is_legal = (
        width % 16 == height % 16 == 0
        and max(width, height) <= 3840
        and max(width, height) / min(width, height) <= 3
        and 655_360 <= width * height <= 8_294_400
    )
    assert (family_of("gpt-image-2").size_fault(width, height) is None) is is_legal
