"""What each model family accepts, as data, and the check of a request against it.

Sources: "Create image" (fields, "Model behavior notes") and the per-family tables of the same documentation.
A model that no family claims is legal: the generic rules alone apply. The catalogue moves, so every check can
be switched off by the caller, and the service has the last word.
"""

import re
from collections.abc import Callable, Collection, Mapping

import attrs

from lemon_async.api.errors import Problem
from lemon_async.api.models import GenerateRequest

__all__ = ["Family", "check", "family_of"]

_PIXELS = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_RATIO = re.compile(r"[1-9][0-9]{0,2}:[1-9][0-9]{0,2}")

_COMMON = frozenset({"prompt", "model", "n", "response_format", "user"})
_GPT_ONLY = frozenset(
    {"background", "output_format", "output_compression", "moderation", "partial_images"},
)
# Families whose pages name no selector contract: everything that no other family owns.
_UNSPECIFIED = _COMMON | {"size", "aspect_ratio", "resolution"}


def _gpt_image_size(width: int, height: int) -> str | None:
    """Return what is wrong with a size for gpt-image-2 ("Create image", `size`)."""
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


@attrs.frozen(kw_only=True)
class Family:
    """Models that share a contract.

    Attributes:
        ids: Model ids; one that ends in `*` claims every id with that beginning.
        fields: Names of the request fields the family has.
        values: Accepted values per field, where they are a closed list.
        size_fault: Tells what is wrong with a `WIDTHxHEIGHT`, where a rule decides.
    """

    name: str
    ids: tuple[str, ...]
    fields: Collection[str]
    values: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict[str, tuple[str, ...]])
    size_fault: Callable[[int, int], str | None] | None = None


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
    ),
    Family(
        name="DALL-E 2",
        ids=("dall-e-2",),
        fields=_COMMON | {"size", "quality"},
        values={"size": ("256x256", "512x512", "1024x1024"), "quality": ("standard", "hd")},
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
    ),
)

_BY_ID = {id_: family for family in FAMILIES for id_ in family.ids if not id_.endswith("*")}
_BY_PREFIX = tuple((id_[:-1], family) for family in FAMILIES for id_ in family.ids if id_.endswith("*"))
_DEFAULT_MODEL = "dall-e-3"


def family_of(model: str | None) -> Family | None:
    """Return the family of a model id (`None`: the server's default model), or `None` for an unknown id."""
    name = _DEFAULT_MODEL if model is None else model
    if not isinstance(name, str):
        return None
    return _BY_ID.get(name) or next((family for start, family in _BY_PREFIX if name.startswith(start)), None)


_Rule = Callable[[object], str | None]


def _one_of(*values: str) -> _Rule:
    advice = f"must be one of {', '.join(values)}"
    return lambda value: None if value in values else advice


def _whole(low: int, high: int) -> _Rule:
    advice = f"must be a whole number from {low} to {high}"
    return lambda value: None if type(value) is int and low <= value <= high else advice


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return "must be text and not empty"
    return None


def _token(value: object) -> str | None:
    """Names end up in logs and headers of others: no CR, LF, NUL or other control character."""
    if not isinstance(value, str) or not value or not value.isprintable():
        return "must be one line of text and not empty"
    return None


def _flag(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be True or False"


def _size(value: object) -> str | None:
    if isinstance(value, str) and (value == "auto" or _PIXELS.fullmatch(value)):
        return None
    return "must be 'auto' or WIDTHxHEIGHT, like 1024x1024"


def _ratio(value: object) -> str | None:
    if isinstance(value, str) and _RATIO.fullmatch(value):
        return None
    return "must be WIDTH:HEIGHT, like 16:9"


_GENERIC: Mapping[str, _Rule] = {
    "prompt": _text,
    "model": _token,
    "n": _whole(1, 10),
    "size": _size,
    "aspect_ratio": _ratio,
    "resolution": _one_of("1k", "2k", "4k"),
    "quality": _token,
    "style": _token,
    "response_format": _one_of("url", "b64_json"),
    "async_": _flag,
    "background": _token,
    "output_format": _token,
    "output_compression": _whole(0, 100),
    "moderation": _token,
    "partial_images": _whole(0, 3),
    "user": _token,
}
_FIELD_OF_WIRE = {name.rstrip("_"): name for name in _GENERIC}


def check(request: GenerateRequest) -> tuple[Problem, ...]:
    """Return every problem of a request, in the order of its fields; nothing is sent."""
    problems: list[Problem] = []
    family = family_of(request.model)
    for name, rule in _GENERIC.items():
        value = getattr(request, name)
        if value is None and name != "prompt":
            continue
        fault = rule(value) or (family and _family_fault(family, name, value))
        if fault:
            problems.append(Problem(_wire_name(name), fault))
    problems += _extra_problems(request.extra)
    return tuple(problems)


def _family_fault(family: Family, name: str, value: str | int) -> str | None:
    if name not in family.fields and value is not False:  # `async` off is what every family does
        return f"{family.name} does not have this field; leave it out"
    accepted = family.values.get(name)
    if accepted is not None and value not in accepted:
        return f"{family.name} takes {', '.join(accepted)}, not {value!r}"
    if name == "size" and family.size_fault is not None and value != "auto":
        width, height = str(value).split("x")
        return family.size_fault(int(width), int(height))
    return None


def _extra_problems(extra: object) -> list[Problem]:
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        return [Problem("extra", "must be a mapping from field names to values")]
    return [
        Problem("extra", f"{name!r} is a field of its own; pass it as {_FIELD_OF_WIRE[name]}=")
        for name in extra
        if name in _FIELD_OF_WIRE
    ]


def _wire_name(field: str) -> str:
    return field.rstrip("_")
