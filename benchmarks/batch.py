"""Measure memory while `LemonSession.map` and `Image.save` process 2,000 pictures of 2 MB.

One run uses links, the other base64 in the responses. Service and CDN run in a separate process. Each file is removed
after it was saved, to limit disk use; outcomes are kept, as by a program that makes a contact sheet at the end. Reads
`/proc`, so Linux only.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cdn import KINDS, linked
from benchmarks.edit_memory import resident_mb
from benchmarks.processes import measured
from benchmarks.progress import progress
from lemon_async import LemonSession, Outcome

PICTURES, QUICK_PICTURES = 2_000, 300
PICTURE_BYTES = 2_000_000
SETTLED_AFTER = 100
IN_FLIGHT = 16
SAMPLE_EVERY = 10
BAR_MB = 32.0
KEY = "sk-benchmark-0123456789"
RPM = 1_000_000  # no limit in practice: this does not measure pacing


async def save_all(base_url: str, pictures: int) -> dict[str, Any]:
    """Save every picture, and return the resident sizes during the run."""
    resident: list[float] = []
    kept: list[Outcome] = []
    prompts = (f"cat {number}" for number in range(pictures))
    started, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        session = LemonSession(KEY, base_url=base_url, requests_per_minute=RPM)
        async with session, session.map(prompts, model="dall-e-3", in_flight=IN_FLIGHT) as outcomes:
            async for outcome in outcomes:
                await save(outcome, Path(folder) / f"{outcome.index}.png")
                kept.append(outcome)
                if len(kept) % SAMPLE_EVERY == 0:
                    resident.append(resident_mb("VmRSS"))
    return {
        "seconds": round(time.monotonic() - started, 1),
        "cpu_ms_per_picture": round((time.process_time() - cpu) * 1e3 / pictures, 2),
        "saved": len(kept),
        "resident_mb": [round(size, 1) for size in resident],
    }


async def save(outcome: Outcome, path: Path) -> None:
    """Save a picture, check the file, and remove it.

    Raises:
        RuntimeError: It is not the picture that the service sent.
    """
    if outcome.images is None:
        raise RuntimeError(f"no picture: {outcome.error}")
    await outcome.images[0].save(path)
    size_bytes = path.stat().st_size
    path.unlink()
    if size_bytes != PICTURE_BYTES:
        raise RuntimeError(f"a file has {size_bytes} bytes")


async def measure(kind: str, pictures: int) -> dict[str, Any]:
    """Run the server and the client in separate processes."""
    async with linked(PICTURE_BYTES, kind) as base_url:
        return await measured("benchmarks.batch", base_url, str(pictures))


def run(quick: bool = False) -> dict[str, Any]:
    """Return the figures, and the growth of the resident size after the first pictures."""
    pictures = QUICK_PICTURES if quick else PICTURES
    kinds = {kind: _grown(asyncio.run(measure(kind, pictures))) for kind in progress("batch", [*KINDS])}
    growth_mb = max(figures["growth_mb"] for figures in kinds.values())
    return {
        "pictures": pictures,
        "picture_mb": PICTURE_BYTES / 1e6,
        **kinds,
        "bars": {"growth_mb": {"value": growth_mb, "most": BAR_MB, "is_met": growth_mb <= BAR_MB}},
        "missed": ["growth_mb"] if growth_mb > BAR_MB else [],
    }


def _grown(figures: dict[str, Any]) -> dict[str, Any]:
    sizes = figures.pop("resident_mb")[SETTLED_AFTER // SAMPLE_EVERY - 1 :]
    return {
        **figures,
        "resident_mb_after_100": sizes[0],
        "resident_mb_least_and_most": [min(sizes), max(sizes)],
        "growth_mb": round(max(sizes) - sizes[0], 1),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(save_all(sys.argv[1], int(sys.argv[2])))))
