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

_ANY_SHAPE = _fields(size=plain_size, aspect_ratio=ratio, resolution=one_of("1k", "2k", "4k"))
_COMPRESSION = integer(0, 100)

FAMILIES: tuple[Family, ...] = (
    Family(
        name="DALL-E 3",
        provider="openai",
        ids=("dall-e-3",),
        price_usd=0.04,
        median_s=9.0,
        operations=("generate",),
        fields=_fields(
            size=one_of("1024x1024", "1792x1024", "1024x1792"),
            quality=one_of("standard", "hd"),
            style=one_of("vivid", "natural"),
        ),
    ),
    Family(
        name="DALL-E 2",
        provider="openai",
        ids=("dall-e-2",),
        price_usd=0.018,
        median_s=5.0,
        operations=("generate", "edit", "variation"),
        source_formats=("png",),
        needs_transparency=True,
        fields=_fields(
            size=one_of("256x256", "512x512", "1024x1024"),
            quality=one_of("standard", "hd"),
        ),
    ),
    Family(
        name="GPT Image 2",
        provider="openai",
        ids=("gpt-image-2",),
        price_usd=0.0,
        median_s=25.0,
        is_async_allowed=True,
        is_token_priced=True,
        fields=_fields(
            size=gpt_image_size,
            quality=one_of("auto", "low", "medium", "high"),
            background=one_of("auto", "transparent", "opaque"),
            output_format=one_of("png", "jpeg", "webp"),
            output_compression=_COMPRESSION,
            compression=_COMPRESSION,
            moderation=one_of("auto", "low"),
            partial_images=integer(0, 3),
            input_fidelity=anything,
        ),
    ),
    Family(
        name="Gemini with resolution",
        provider="google",
        ids=("gemini-3-pro-image-preview", "nano-banana-pro", "nano-banana-2"),
        price_usd=0.12,
        median_s=15.0,
        fields=_ANY_SHAPE,
    ),
    Family(
        name="Gemini Flash",
        provider="google",
        ids=(
            "gemini-2.5-flash-image",
            "gemini-3.1-flash-image-preview",
            "nano-banana",
            "nano-banana-edit",
        ),
        price_usd=0.035,
        median_s=6.0,
        fields=_fields(size=plain_size, aspect_ratio=ratio),
    ),
    Family(
        name="Gemini 2.0 Flash",
        provider="google",
        ids=("gemini-2.0-flash-preview-image-generation",),
        price_usd=0.03,
        median_s=5.0,
        operations=("generate",),
    ),
    Family(
        name="FLUX Schnell",
        provider="bfl",
        ids=("flux-schnell",),
        price_usd=0.003,
        median_s=2.5,
        is_async_allowed=True,
        fields=_ANY_SHAPE,
    ),
    Family(
        name="FLUX",
        provider="bfl",
        ids=("flux-pro", "flux-dev"),
        patterns=("flux-*",),
        price_usd=0.05,
        median_s=40.0,
        is_task_based=True,
        is_async_allowed=True,
        fields=_ANY_SHAPE,
    ),
    Family(
        name="Midjourney",
        provider="midjourney",
        ids=("midjourney",),
        patterns=("mj-*",),
        price_usd=0.08,
        median_s=60.0,
        is_task_based=True,
        poll_path=IMAGES_PATH,
        fields=_ANY_SHAPE,
    ),
    Family(
        name="Ideogram",
        provider="ideogram",
        ids=("ideogram-v3",),
        patterns=("ideogram-*",),
        price_usd=0.06,
        median_s=45.0,
        is_task_based=True,
        fields=_ANY_SHAPE,
    ),
    Family(
        name="Stable Diffusion",
        provider="stability",
        ids=("stable-diffusion-3",),
        price_usd=0.035,
        median_s=6.0,
        fields=_ANY_SHAPE,
    ),
    Family(
        name="Grok Imagine",
        provider="xai",
        ids=("grok-imagine-image", "grok-imagine-image-quality", "grok-imagine-image-pro"),
        price_usd=0.07,
        median_s=8.0,
        max_sources=3,
        fields=_fields(aspect_ratio=ratio, resolution=one_of("1k", "2k")),
    ),
)

MODEL_IDS: tuple[str, ...] = tuple(id_ for family in FAMILIES for id_ in family.ids)
_BY_ID = {id_: family for family in FAMILIES for id_ in family.ids}

# A field that only other families document is refused; one that no family documents is ignored, as by
# OpenAI-compatible services.
DOCUMENTED_FIELDS: frozenset[str] = frozenset(name for family in FAMILIES for name in family.fields)


def family_of(model: str) -> Family | None:
    """Return the family of `model`; None if the service does not know it."""
    return _BY_ID.get(model) or next((family for family in FAMILIES if family.matches(model)), None)
