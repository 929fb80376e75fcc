"""The documented contract of each field and each model family, as data.

Sources: "Create image" (fields, "Model behavior notes"), "Edit image", and the per-family tables of the same
documentation. A model of no family is legal, because the catalogue changes.
"""

import re
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["FAMILIES", "LABEL", "LINE", "RULES", "Family", "Rule", "family_of"]

_PIXELS = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_LONGEST_LABEL = 200
_RATIO = re.compile(r"[1-9][0-9]{0,2}:[1-9][0-9]{0,2}")


class Rule(NamedTuple):
    """A rule for values; `words` follow "must be" in messages."""

    words: str
    accepts: Callable[[object], bool]


def _one_of(*values: str) -> Rule:
    return Rule(f"one of {', '.join(values)}", lambda value: value in values)


def _whole(low: int, high: int) -> Rule:
    return Rule(f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


_TEXT = Rule("text and not empty", lambda value: isinstance(value, str) and bool(value.strip()))
# Names end up in logs and headers: no CR, LF, NUL or other control character.
LINE: Rule = Rule(
    "one line of text and not empty", lambda value: isinstance(value, str) and value != "" and value.isprintable()
)
# Not sent to the service; goes into resume tokens, reprs and logs.
LABEL: Rule = Rule(
    f"one line of text, not empty, of at most {_LONGEST_LABEL} characters",
    lambda value: LINE.accepts(value) and len(str(value)) <= _LONGEST_LABEL,
)
_FLAG = Rule("True or False", lambda value: isinstance(value, bool))
_SIZE = Rule(
    "'auto' or WIDTHxHEIGHT, like 1024x1024",
    lambda value: isinstance(value, str) and (value == "auto" or _PIXELS.fullmatch(value) is not None),
)
_ASPECT = Rule("WIDTH:HEIGHT, like 16:9", lambda value: isinstance(value, str) and _RATIO.fullmatch(value) is not None)

RULES: Mapping[str, Rule] = {
    "prompt": _TEXT,
    "model": LINE,
    "n": _whole(1, 10),
    "size": _SIZE,
    "aspect_ratio": _ASPECT,
    "resolution": _one_of("1k", "2k", "4k"),
    "quality": LINE,
    "style": LINE,
    "response_format": _one_of("url", "b64_json"),
    "async_": _FLAG,
    "background": LINE,
    "output_format": LINE,
    "output_compression": _whole(0, 100),
    "compression": _whole(0, 100),
    "moderation": LINE,
    "partial_images": _whole(0, 3),
    "user": LINE,
}


_COMMON = frozenset({"prompt", "model", "n", "response_format", "user"})
_GPT_ONLY = frozenset(
    {"background", "output_format", "output_compression", "compression", "moderation", "partial_images"},
)
# For families without documented selectors: every field except those of a single other family.
_UNSPECIFIED = _COMMON | {"size", "aspect_ratio", "resolution"}
_GENERATE = frozenset({"generate"})
_GENERATE_AND_EDIT = _GENERATE | {"edit"}


def _gpt_image_size(width: int, height: int) -> str | None:
    """Return the faults of a size for gpt-image-2 ("Create image", `size`)."""
    long, short = max(width, height), min(width, height)
    faults = [
        fault
        for is_bad, fault in (
            (width % 16 or height % 16, "both sides must be multiples of 16"),
            (long > 3840, "the longest edge must be at most 3840"),
            (long > 3 * short, "the ratio of the sides must be at most 3:1"),
            (not 655_360 <= width * height <= 8_294_400, "the pixels must number 655,360 to 8,294,400"),
        )
        if is_bad
    ]
    return "; ".join(faults) or None


class Family(NamedTuple):
    """Models that share a contract.

    Attributes:
        ids: Model ids; one that ends in `*` matches every id with that prefix.
        fields: Names of the request fields that the family has.
        values: Accepted values of fields with a closed list.
        size_fault: Returns the fault of a `WIDTHxHEIGHT`, for a family with a rule instead of a list.
        operations: The operations it supports: `generate`, `edit`, `variation`.
        max_sources: Maximum number of pictures that an edit starts from.
        source_formats: Accepted formats of those pictures.
        has_masked_sources: Whether the picture of an edit without a mask must have transparent areas.
    """

    name: str
    ids: tuple[str, ...]
    fields: Collection[str]
    values: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    size_fault: Callable[[int, int], str | None] | None = None
    operations: Collection[str] = _GENERATE_AND_EDIT
    max_sources: int = 16
    source_formats: tuple[str, ...] = ("png", "jpeg", "webp")
    has_masked_sources: bool = False


FAMILIES: tuple[Family, ...] = (
    Family(
        name="DALL-E 3",
        ids=("dall-e-3",),
        fields=_COMMON | {"size", "quality", "style"},
        values={
            "size": ("1024x1024", "1792x1024", "1024x1792"),
            "quality": ("standard", "hd"),
            "style": ("vivid", "natural"),
        },
        operations=_GENERATE,
    ),
    Family(
        name="DALL-E 2",
        ids=("dall-e-2",),
        fields=_COMMON | {"size", "quality"},
        values={"size": ("256x256", "512x512", "1024x1024"), "quality": ("standard", "hd")},
        operations=_GENERATE_AND_EDIT | {"variation"},
        source_formats=("png",),
        has_masked_sources=True,
    ),
    Family(
        name="GPT Image 2",
        ids=("gpt-image-2",),
        fields=_COMMON | _GPT_ONLY | {"size", "quality", "async_"},
        values={
            "quality": ("auto", "low", "medium", "high"),
            "background": ("auto", "transparent", "opaque"),
            "output_format": ("png", "jpeg", "webp"),
            "moderation": ("auto", "low"),
        },
        size_fault=_gpt_image_size,
    ),
    Family(
        name="Gemini with resolution",
        ids=("gemini-3-pro-image-preview", "nano-banana-pro", "nano-banana-2"),
        fields=_COMMON | {"size", "aspect_ratio", "resolution"},
        values={"resolution": ("1k", "2k", "4k")},
    ),
    Family(
        name="Gemini Flash",
        ids=("gemini-2.5-flash-image", "gemini-3.1-flash-image-preview", "nano-banana", "nano-banana-edit"),
        fields=_COMMON | {"size", "aspect_ratio"},
    ),
    Family(
        name="Gemini 2.0 Flash",
        ids=("gemini-2.0-flash-preview-image-generation",),
        fields=_COMMON,
        operations=_GENERATE,
    ),
    Family(name="FLUX", ids=("flux-*",), fields=_UNSPECIFIED | {"async_"}),
    Family(name="Midjourney", ids=("midjourney", "mj-*"), fields=_UNSPECIFIED),
    Family(name="Ideogram", ids=("ideogram-*",), fields=_UNSPECIFIED),
    Family(name="Stable Diffusion 3", ids=("stable-diffusion-3",), fields=_UNSPECIFIED),
    Family(
        name="xAI Grok Imagine",
        ids=("grok-imagine-image", "grok-imagine-image-quality", "grok-imagine-image-pro"),
        fields=_COMMON | {"aspect_ratio", "resolution"},
        values={"resolution": ("1k", "2k")},
        max_sources=3,
    ),
)

_BY_ID = {id_: family for family in FAMILIES for id_ in family.ids if not id_.endswith("*")}
_BY_PREFIX = tuple((id_[:-1], family) for family in FAMILIES for id_ in family.ids if id_.endswith("*"))


def family_of(model: object) -> Family | None:
    """Return the family of a model id, or `None` if it has none."""
    if not isinstance(model, str):
        return None
    return _BY_ID.get(model) or next((family for start, family in _BY_PREFIX if model.startswith(start)), None)
