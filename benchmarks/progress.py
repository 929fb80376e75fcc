"""Say on stderr how far a benchmark is; stdout is for its figures."""

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def progress(name: str, parts: Sequence[T]) -> Iterator[T]:
    """Yield the parts of a benchmark; after each of them, print for example "pace: 3 of 12, 14 s"."""
    started = time.monotonic()
    for done, part in enumerate(parts, 1):
        yield part
        print(f"{name}: {done} of {len(parts)}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
