"""Measure the memory of an edit with 16 pictures of 50 MB, which are streamed from the disk.

Client and emulator run in separate processes. The figure is the growth of the client's peak resident size during the
edit, after an edit of the same kind with small pictures. Reads `/proc`, so Linux only.
"""

import asyncio
import json
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

from benchmarks.progress import progress
from lemon_async import LemonSession
from lemon_async.emulator import Emulator

RUNS = 3
PICTURES = 16
PICTURE_BYTES = 50 * 1024 * 1024
BAR_MB = 64.0


def padded_png(size_bytes: int) -> bytes:
    """Return a valid PNG of this many bytes: sixteen grey pixels, and a private chunk that readers skip."""
    end = _chunk(b"IDAT", zlib.compress(b"\0\0\0\0\0" * 4)) + _chunk(b"IEND", b"")
    start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    return start + _chunk(b"paDd", bytes(size_bytes - len(start) - len(end) - 12)) + end


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def resident_mb(field: str) -> float:
    """Return the resident size of this process: `VmRSS` is the current one, `VmHWM` the peak."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("this needs Linux")
    return int(found[1]) / 1024


async def edit(folder: Path, base_url: str, key: str) -> None:
    """Edit small pictures, then large ones, and print the two sizes."""
    small, large = sorted(folder.glob("small-*.png")), sorted(folder.glob("large-*.png"))
    async with LemonSession(key, base_url=base_url) as lemon:
        await lemon.edit("put them on one table", image=small, model="gpt-image-2")
        idle_mb = resident_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        await lemon.edit("put them on one table", image=large, model="gpt-image-2")
        print(json.dumps({"idle_mb": idle_mb, "peak_mb": resident_mb("VmHWM")}))


async def measure() -> dict[str, Any]:
    """Run the emulator here, and the client in a separate process."""
    with tempfile.TemporaryDirectory() as name:
        for size, picture in (("small", padded_png(1000)), ("large", padded_png(PICTURE_BYTES))):
            for number in range(PICTURES):
                (Path(name) / f"{size}-{number:02}.png").write_bytes(picture)
        async with Emulator(speed=600) as service:
            command = [sys.executable, "-m", "benchmarks.edit_memory", name, service.base_url, service.api_key]
            client = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            output, _ = await client.communicate()
    figures: dict[str, Any] = json.loads(output)
    return figures


def run(quick: bool = False) -> dict[str, Any]:
    """Return the medians in megabytes."""
    figures = [asyncio.run(measure()) for _ in progress("edit_memory", range(1 if quick else RUNS))]
    above = [run["peak_mb"] - run["idle_mb"] for run in figures]
    return {
        "runs": len(figures),
        "uploaded_mb": PICTURES * PICTURE_BYTES // 2**20,
        "idle_mb": round(statistics.median(run["idle_mb"] for run in figures), 1),
        "above_idle_mb": {"median": round(statistics.median(above), 1), "max": round(max(above), 1)},
        "bar_mb": BAR_MB,
    }


if __name__ == "__main__":
    asyncio.run(edit(Path(sys.argv[1]), *sys.argv[2:]))
