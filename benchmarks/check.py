"""Measure the validation of a request, compared with copying its fields into a dict.

The request has every field that its family accepts, so that every rule runs. Figures are medians over rounds of calls.
"""

import statistics
import timeit
from collections.abc import Callable
from typing import Any

from benchmarks.progress import progress
from lemon_async import GenerateRequest
from lemon_async._api.validation import check

ROUNDS, QUICK_ROUNDS = 15, 3
CALLS = 5_000
BAR_US = 15.0

FIELDS: dict[str, Any] = {
    "prompt": "A cinematic portrait of a white cat sitting on a rainy windowsill",
    "model": "gpt-image-2",
    "n": 2,
    "size": "1536x1024",
    "quality": "high",
    "response_format": "url",
    "background": "opaque",
    "output_format": "webp",
    "output_compression": 80,
    "moderation": "auto",
    "user": "user-1",
}


def us(call: Callable[[], object]) -> float:
    """Return the microseconds per call."""
    return timeit.timeit(call, number=CALLS) / CALLS * 1e6


def run(quick: bool = False) -> dict[str, Any]:
    """Return microseconds per call and their ratio, the medians of the rounds."""
    request = GenerateRequest(**FIELDS)
    if check(request):
        raise AssertionError("the request should be valid")
    checks_us, copies_us = [], []
    for _ in progress("check", range(QUICK_ROUNDS if quick else ROUNDS)):
        checks_us.append(us(lambda: check(request)))
        copies_us.append(us(lambda: dict(FIELDS)))
    check_us, copy_us = statistics.median(checks_us), statistics.median(copies_us)
    return {
        "rounds": len(checks_us),
        "check_us": round(check_us, 2),
        "dict_copy_us": round(copy_us, 3),
        "ratio": round(check_us / copy_us, 1),
        "bar_us": BAR_US,
    }
