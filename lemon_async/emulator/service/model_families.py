"""The model families: which fields each accepts, how it responds, how long it takes and what it costs.

Validation, the store, the model list and the OpenAPI document read this one table. A family is found by exact id
first, then by pattern, in the order of the table. The fields are those of the page "Create image".
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

from attrs import field, frozen

from lemon_async.emulator.service.field_checks import (
    Check,
    anything,
    boolean,
    gpt_image_size,
    integer,
    one_of,
    plain_size,
    ratio,
    text,
)

TASKS_PATH = "/v1/tasks/{id}"
IMAGES_PATH = "/v1/images/generations/{id}"


def _fields(**checks: Check) -> Mapping[str, Check]:
    return MappingProxyType(checks)


@frozen
class Family:
    """Models that share one contract. Prices are invented, but of a realistic magnitude."""

    name: str
    provider: str
    ids: tuple[str, ...]
    price_usd: float
    median_s: float
    fields: Mapping[str, Check] = field(factory=dict)
    patterns: tuple[str, ...] = ()
    is_task_based: bool = False
    is_async_allowed: bool = False
    is_token_priced: bool = False
    poll_path: str = TASKS_PATH
    operations: tuple[str, ...] = ("generate", "edit")
    max_sources: int = 16
    source_formats: tuple[str, ...] = ("png", "jpeg", "webp")
    needs_transparency: bool = False

    @property
    def is_stream_allowed(self) -> bool:
        """Whether the models can stream previews."""
        return "partial_images" in self.fields

    def matches(self, model: str) -> bool:
        """Whether `model` matches a pattern of the family."""
        return any(fnmatchcase(model, pattern) for pattern in self.patterns)


COMMON_FIELDS = _fields(
    **{"response_format": one_of("url", "b64_json"), "async": boolean, "stream": boolean, "user": text},
)

_SHAPE = _fields(size=plain_size, aspect_ratio=ratio)
_ANY_SHAPE = _fields(**_SHAPE, resolution=one_of("1k", "2k", "4k"))
_GROK = _fields(aspect_ratio=ratio, resolution=one_of("1k", "2k"))
_DALL_E_2 = _fields(size=one_of("256x256", "512x512", "1024x1024"), quality=one_of("standard", "hd"))
_DALL_E_3 = _fields(
    size=one_of("1024x1024", "1792x1024", "1024x1792"),
    quality=one_of("standard", "hd"),
    style=one_of("vivid", "natural"),
)
_GPT_IMAGE_2 = _fields(
    size=gpt_image_size,
    quality=one_of("auto", "low", "medium", "high"),
    background=one_of("auto", "transparent", "opaque"),
    output_format=one_of("png", "jpeg", "webp"),
    output_compression=integer(0, 100),
    compression=integer(0, 100),
    moderation=one_of("auto", "low"),
    partial_images=integer(0, 3),
    input_fidelity=anything,
)

# The columns: name, provider, ids, price in US dollars, median seconds, fields.
FAMILIES: tuple[Family, ...] = (
    Family("DALL-E 3", "openai", ("dall-e-3",), 0.04, 9.0, _DALL_E_3, operations=("generate",)),
    Family("DALL-E 2", "openai", ("dall-e-2",), 0.018, 5.0, _DALL_E_2,
           operations=("generate", "edit", "variation"), source_formats=("png",), needs_transparency=True),
    Family("GPT Image 2", "openai", ("gpt-image-2",), 0.0, 25.0, _GPT_IMAGE_2,
           is_async_allowed=True, is_token_priced=True),
    Family("Gemini with resolution", "google", ("gemini-3-pro-image-preview", "nano-banana-pro", "nano-banana-2"),
           0.12, 15.0, _ANY_SHAPE),
    Family("Gemini Flash", "google",
           ("gemini-2.5-flash-image", "gemini-3.1-flash-image-preview", "nano-banana", "nano-banana-edit"),
           0.035, 6.0, _SHAPE),
    Family("Gemini 2.0 Flash", "google", ("gemini-2.0-flash-preview-image-generation",), 0.03, 5.0,
           operations=("generate",)),
    Family("FLUX Schnell", "bfl", ("flux-schnell",), 0.003, 2.5, _ANY_SHAPE, is_async_allowed=True),
    Family("FLUX", "bfl", ("flux-pro", "flux-dev"), 0.05, 40.0, _ANY_SHAPE,
           patterns=("flux-*",), is_task_based=True, is_async_allowed=True),
    Family("Midjourney", "midjourney", ("midjourney",), 0.08, 60.0, _ANY_SHAPE,
           patterns=("mj-*",), is_task_based=True, poll_path=IMAGES_PATH),
    Family("Ideogram", "ideogram", ("ideogram-v3",), 0.06, 45.0, _ANY_SHAPE,
           patterns=("ideogram-*",), is_task_based=True),
    Family("Stable Diffusion", "stability", ("stable-diffusion-3",), 0.035, 6.0, _ANY_SHAPE),
    Family("Grok Imagine", "xai", ("grok-imagine-image", "grok-imagine-image-quality", "grok-imagine-image-pro"),
           0.07, 8.0, _GROK, max_sources=3),
)  # fmt: skip

MODEL_IDS: tuple[str, ...] = tuple(id_ for family in FAMILIES for id_ in family.ids)
_BY_ID = {id_: family for family in FAMILIES for id_ in family.ids}

# A field that only other families document is refused; one that no family documents is ignored, as by
# OpenAI-compatible services.
DOCUMENTED_FIELDS: frozenset[str] = frozenset(name for family in FAMILIES for name in family.fields)


def family_of(model: str) -> Family | None:
    """Return the family of `model`; None if the service does not know it."""
    return _BY_ID.get(model) or next((family for family in FAMILIES if family.matches(model)), None)
