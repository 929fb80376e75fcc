"""What a job costs: a price per image, or by tokens for gpt-image-2."""

from typing import Any

from lemon_async.emulator.pictures.picture import SourceImage
from lemon_async.emulator.service.job_spec import JobSpec

_USD_PER_TEXT_TOKEN = 5e-6
_USD_PER_SOURCE_TOKEN = 10e-6
_USD_PER_IMAGE_TOKEN = 40e-6
_CHARS_PER_TOKEN = 4
_TOKENS_PER_MEGAPIXEL = {"low": 272, "medium": 1056, "high": 4160, "auto": 1056}

_MOST_PIXELS_SEEN = 2 * 2**20

# An estimate made before the work must not fall short of the bill.
_ESTIMATE_MARGIN = 1.25
_CENT_FRACTION_DIGITS = 6


def usage(spec: JobSpec) -> dict[str, Any] | None:
    """The token breakdown of a token-priced job, in OpenAI's words; None for all other models."""
    if not spec.family.is_token_priced:
        return None
    width, height = spec.size
    text = 1 + len(spec.prompt) // _CHARS_PER_TOKEN
    sent = sum(_input_tokens(source) for source in (*spec.sources, spec.mask) if source is not None)
    image = spec.n * round(_TOKENS_PER_MEGAPIXEL[spec.quality] * width * height / 2**20)
    return {
        "total_tokens": text + sent + image,
        "input_tokens": text + sent,
        "output_tokens": image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": sent, "cached_tokens": 0},
        "output_tokens_details": {"image_tokens": image, "text_tokens": 0},
    }


def actual_usd(spec: JobSpec) -> float:
    """What a finished job is billed."""
    tokens = usage(spec)
    if tokens is None:
        return round(spec.family.price_usd * spec.n, _CENT_FRACTION_DIGITS)
    given = tokens["input_tokens_details"]
    input_usd: float = given["text_tokens"] * _USD_PER_TEXT_TOKEN + given["image_tokens"] * _USD_PER_SOURCE_TOKEN
    output_usd: float = tokens["output_tokens"] * _USD_PER_IMAGE_TOKEN
    return round(input_usd + output_usd, _CENT_FRACTION_DIGITS)


def _input_tokens(source: SourceImage) -> int:
    """What it costs to look at a source: more pixels than a model looks at cost nothing more."""
    pixels = min(source.width * source.height, _MOST_PIXELS_SEEN)
    return 1 + round(_TOKENS_PER_MEGAPIXEL["medium"] * pixels / 2**20)


def estimate_usd(spec: JobSpec) -> float:
    """What is reserved before the work begins."""
    margin = _ESTIMATE_MARGIN if spec.family.is_token_priced else 1.0
    return round(actual_usd(spec) * margin, _CENT_FRACTION_DIGITS)
