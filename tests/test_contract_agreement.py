"""Client and emulator read the same documentation twice, without sharing a line of code; here they are compared."""

import json

import pytest

from lemon_async import GenerateRequest
from lemon_async.api.contracts import FAMILIES, check
from lemon_async.api.wire import encode
from lemon_async.emulator.problems import Problem
from lemon_async.emulator.rules import read_order

MODELS = [
    *(id_.replace("*", "dev" if id_.startswith("flux") else "x") for family in FAMILIES for id_ in family.ids),
    "flux-schnell",
    None,
]
VALUES = {
    "n": [1, 10, 11, 0, True],
    "size": ["auto", "256x256", "1024x1024", "1792x1024", "1536x1024", "1000x1000", "3840x2160", "3856x2160", "big"],
    "aspect_ratio": ["1:1", "16:9", "2:3", "wide"],
    "resolution": ["1k", "2k", "4k", "8k"],
    "quality": ["standard", "hd", "auto", "low", "medium", "high"],
    "style": ["vivid", "natural"],
    "response_format": ["url", "b64_json", "png"],
    "async_": [True, False, "yes"],
    "background": ["transparent", "opaque", "auto", "x"],
    "output_format": ["png", "jpeg", "webp", "gif"],
    "output_compression": [0, 100, 101],
    "moderation": ["auto", "low", "none"],
    "partial_images": [0, 3, 4],
    "user": ["u-1", 7],
}


def emulator_accepts(request):
    """Tell whether the emulator would sell this request."""
    try:
        read_order(json.loads(encode(request)))
    except Problem:
        return False
    return True


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("field", VALUES)
def test_both_sides_agree_on_every_family_and_field(model, field):
    """What the client lets through, the emulator sells, and the other way round."""
    for value in VALUES[field]:
        request = GenerateRequest("a cat", model=model, **{field: value})
        assert emulator_accepts(request) == (check(request) == ()), (value, check(request))
