"""Compute what a job costs: a price per image, or by tokens for gpt-image-2."""

from typing import Any

from lemon_async.emulator.pictures.picture import SourceImage
from lemon_async.emulator.service.job_spec import JobSpec

_USD_PER_TEXT_TOKEN = 5e-6
_USD_PER_SOURCE_TOKEN = 10e-6
_USD_PER_IMAGE_TOKEN = 40e-6
_CHARS_PER_TOKEN = 4
_TOKENS_PER_MEGAPIXEL = {"low": 272, "medium": 1056, "high": 4160, "auto": 1056}

# More pixels of a source than these cost nothing.
_MAX_PRICED_PIXELS = 2 * 2**20

# The reservation must not fall short of the bill.
_ESTIMATE_MARGIN = 1.25
_USD_DIGITS = 6


def usage(spec: JobSpec) -> dict[str, Any] | None:
    """Return the token counts of a token-priced job as in OpenAI's API; None for all other models."""
    if not spec.family.is_token_priced:
        return None
    picture = spec.picture
    text = 1 + len(picture.prompt) // _CHARS_PER_TOKEN
    source = sum(_source_tokens(image) for image in (*picture.sources, picture.mask) if image is not None)
    output = spec.n * round(_TOKENS_PER_MEGAPIXEL[spec.quality] * picture.width * picture.height / 2**20)
    return {
        "total_tokens": text + source + output,
        "input_tokens": text + source,
        "output_tokens": output,
        "input_tokens_details": {"text_tokens": text, "image_tokens": source, "cached_tokens": 0},
        "output_tokens_details": {"image_tokens": output, "text_tokens": 0},
    }


def _source_tokens(source: SourceImage) -> int:
    pixels = min(source.width * source.height, _MAX_PRICED_PIXELS)
    return 1 + round(_TOKENS_PER_MEGAPIXEL["medium"] * pixels / 2**20)


def actual_usd(spec: JobSpec) -> float:
    """Return what a finished job is billed."""
    tokens = usage(spec)
    if tokens is None:
        return round(spec.family.price_usd * spec.n, _USD_DIGITS)
    details = tokens["input_tokens_details"]
    input_usd: float = details["text_tokens"] * _USD_PER_TEXT_TOKEN + details["image_tokens"] * _USD_PER_SOURCE_TOKEN
    output_usd: float = tokens["output_tokens"] * _USD_PER_IMAGE_TOKEN
    return round(input_usd + output_usd, _USD_DIGITS)


def estimate_usd(spec: JobSpec) -> float:
    """Return what is reserved when a job is accepted."""
    margin = _ESTIMATE_MARGIN if spec.family.is_token_priced else 1.0
    return round(actual_usd(spec) * margin, _USD_DIGITS)
