"""Prices are per image, or by tokens for gpt-image-2."""

from attrs import evolve

from lemon_async.emulator.pictures.picture import Blob, SourceImage
from lemon_async.emulator.service.job_spec import parse_job
from lemon_async.emulator.service.pricing import actual_usd, estimate_usd, usage


def spec_of(**fields):
    """Return a job for gpt-image-2."""
    return parse_job({"prompt": "a cat", "model": "gpt-image-2", **fields})


def test_most_models_cost_a_price_per_image():
    """They report no usage, and the estimate is exact."""
    spec = parse_job({"prompt": "p", "model": "dall-e-3", "n": 3})
    assert usage(spec) is None
    assert actual_usd(spec) == estimate_usd(spec) == 0.12


def test_estimate_of_a_token_priced_job_is_above_its_bill():
    """Otherwise an account could be overdrawn."""
    for fields in ({}, {"quality": "high", "n": 10}, {"size": "1024x640", "quality": "low"}):
        assert 0 < actual_usd(spec_of(**fields)) < estimate_usd(spec_of(**fields))


def test_tokens_grow_with_quality_pixels_and_images():
    """Totals are the sums of their details."""
    base, *larger = (usage(spec_of(**fields)) for fields in ({}, {"quality": "high"}, {"size": "2048x2048"}, {"n": 2}))
    assert all(tokens["output_tokens"] > base["output_tokens"] for tokens in larger)
    for tokens in (base, *larger):
        details = tokens["input_tokens_details"]
        assert tokens["input_tokens"] == details["text_tokens"] + details["image_tokens"]
        assert tokens["total_tokens"] == tokens["input_tokens"] + tokens["output_tokens"]


def test_sources_and_mask_cost_input_tokens_up_to_a_limit():
    """More than two megapixels of a source cost nothing."""

    def tokens(*sources, mask=None):
        images = [SourceImage(Blob("", 1, ""), "png", *size, has_alpha=True) for size in sources]
        spec = spec_of()
        spec = evolve(spec, picture=evolve(spec.picture, sources=tuple(images), mask=mask and images[0]))
        return usage(spec)["input_tokens_details"]["image_tokens"]

    one = tokens((512, 512))
    assert tokens((512, 512), (512, 512)) == tokens((512, 512), mask=True) == 2 * one
    assert tokens((2048, 1024)) == tokens((4096, 4096)) > one > 0
