"""Measure 64 concurrent downloads of 6 MiB from another process: stalls of the event loop, CPU and memory.

`Image.save` and `Image.read` are compared with handwritten code: aiohttp to a file in pieces, aiohttp to memory, and
httpx (which the OpenAI SDK uses; it has no download function of its own). None of these checks a picture, syncs a file
or resumes after a break. All 64 downloads run concurrently, with `max_downloads=64`, and the limits to meet apply to
that; separate rows show the default `max_downloads`. Every measurement runs in a new process. A stall is the delay of a
coroutine beyond the time it asked to sleep; the part in which the loop's own thread was computing is separated from the
part in which the system ran other threads. The figure for stalls is the median of the longest stalls of all rounds, and
the worst is reported too. Linux only.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.cdn import linked
from benchmarks.charts import panels
from benchmarks.edit_memory import resident_mb
from benchmarks.processes import measured
from benchmarks.progress import progress
from lemon_async import Image, LemonSession

ROUNDS = 5
PICTURES, QUICK_PICTURES = 64, 24
PICTURE_BYTES = 6 * 1024 * 1024
WARM_UP_PICTURES = 4
TICK_S = 0.001
BAR_STALL_MS = 10.0
KEY = "sk-benchmark-0123456789"
RPM = 1_000_000  # no limit in practice: this does not measure pacing

Fetch = Callable[[Path], Awaitable[object]]
Client = Callable[[str], AbstractAsyncContextManager[Fetch]]


@asynccontextmanager
async def images_of(base_url: str, **settings: Any) -> AsyncGenerator[Iterator[Image], None]:
    """Return pictures, each with a link."""
    async with LemonSession(KEY, base_url=base_url, requests_per_minute=RPM, **settings) as session:
        made = [await session.generate("a cat", model="dall-e-3") for _ in range(WARM_UP_PICTURES + PICTURES)]
        yield iter([images[0] for images in made])


@asynccontextmanager
async def save(base_url: str) -> AsyncGenerator[Fetch, None]:
    """`Image.save`, all concurrently."""
    async with images_of(base_url, max_downloads=PICTURES) as images:
        yield lambda path: next(images).save(path)


@asynccontextmanager
async def read(base_url: str) -> AsyncGenerator[Fetch, None]:
    """`Image.read`, all concurrently."""
    async with images_of(base_url, max_downloads=PICTURES) as images:
        yield lambda _path: next(images).read()


@asynccontextmanager
async def save_limited(base_url: str) -> AsyncGenerator[Fetch, None]:
    """`Image.save`, with the default limit of concurrent downloads."""
    async with images_of(base_url) as images:
        yield lambda path: next(images).save(path)


@asynccontextmanager
async def read_limited(base_url: str) -> AsyncGenerator[Fetch, None]:
    """`Image.read`, with the default limit of concurrent downloads."""
    async with images_of(base_url) as images:
        yield lambda _path: next(images).read()


@asynccontextmanager
async def aiohttp_file(base_url: str) -> AsyncGenerator[Fetch, None]:
    """Write to a file in pieces as they arrive, by hand."""
    async with aiohttp.ClientSession() as session:

        async def fetch(path: Path) -> None:
            async with session.get(f"{base_url}/1.png") as response:
                response.raise_for_status()
                with path.open("wb") as file:
                    async for piece in response.content.iter_chunked(65536):
                        file.write(piece)

        yield fetch


@asynccontextmanager
async def aiohttp_memory(base_url: str) -> AsyncGenerator[Fetch, None]:
    """Read the whole response by hand."""
    async with aiohttp.ClientSession() as session:

        async def fetch(_path: Path) -> bytes:
            async with session.get(f"{base_url}/1.png") as response:
                response.raise_for_status()
                return await response.read()

        yield fetch


@asynccontextmanager
async def httpx_file(base_url: str) -> AsyncGenerator[Fetch, None]:
    """Read the whole response and write it to a file, by hand."""
    import httpx2  # noqa: PLC0415 - it comes with the OpenAI SDK

    limits = httpx2.Limits(max_connections=PICTURES)
    async with httpx2.AsyncClient(limits=limits, timeout=60) as client:

        async def fetch(path: Path) -> None:
            response = await client.get(f"{base_url}/1.png")
            response.raise_for_status()
            path.write_bytes(response.content)

        yield fetch


CLIENTS: dict[str, Client] = {
    "save": save,
    "aiohttp_file": aiohttp_file,
    "read": read,
    "aiohttp_memory": aiohttp_memory,
    "httpx_file": httpx_file,
    "save_limited": save_limited,
    "read_limited": read_limited,
}

OURS = ("save", "read")


class Stalls:
    """Measures the delays of a coroutine."""

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self.computed_s: list[float] = []

    async def watch(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due, cpu_s = loop.time() + TICK_S, time.thread_time()
            await asyncio.sleep(TICK_S)
            late_s = max(loop.time() - due, 0.0)
            self.late_s.append(late_s)
            self.computed_s.append(min(late_s, time.thread_time() - cpu_s))


async def measure(name: str, base_url: str, pictures: int) -> None:
    """Measure one client in this process, and print its figures."""
    with tempfile.TemporaryDirectory() as folder:
        async with CLIENTS[name](base_url) as fetch:
            await asyncio.gather(*(fetch(Path(folder) / f"warm-{number}.png") for number in range(WARM_UP_PICTURES)))
            figures = await _measured(fetch, Path(folder), pictures)
    print(json.dumps(figures))


async def _measured(fetch: Fetch, folder: Path, pictures: int) -> dict[str, float]:
    idle_mb = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    stalls = Stalls()
    watching = asyncio.create_task(stalls.watch())
    await asyncio.sleep(0.05)
    cpu, started = time.process_time(), time.monotonic()
    kept = await asyncio.gather(*(fetch(folder / f"{number}.png") for number in range(pictures)))
    cpu_s, seconds = time.process_time() - cpu, time.monotonic() - started
    watching.cancel()
    del kept
    return {
        "stall_ms_max": max(stalls.late_s) * 1e3,
        "computing_ms_max": max(stalls.computed_s) * 1e3,
        "stall_ms_p99": statistics.quantiles(stalls.late_s, n=100)[-1] * 1e3,
        "cpu_ms_per_picture": cpu_s * 1e3 / pictures,
        "seconds": seconds,
        "above_idle_mb": resident_mb("VmHWM") - idle_mb,
    }


async def play_round(number: int, pictures: int) -> dict[str, dict[str, float]]:
    """Return the figures of every client; their order changes from round to round."""
    names = list(CLIENTS)
    names = names[number % len(names) :] + names[: number % len(names)]
    async with linked(PICTURE_BYTES) as base_url:
        return {name: await measured("benchmarks.download", name, base_url, str(pictures)) for name in names}


def run(quick: bool = False) -> dict[str, Any]:
    """Return the medians per client, and the longest stall of all rounds."""
    pictures, numbers = (QUICK_PICTURES, range(1)) if quick else (PICTURES, range(ROUNDS))
    rounds = [asyncio.run(play_round(number, pictures)) for number in progress("download", numbers)]
    clients = {
        name: {key: round(statistics.median(each[name][key] for each in rounds), 2) for key in rounds[0][name]}
        for name in CLIENTS
    }
    worst = {
        key: {name: round(max(each[name][key] for each in rounds), 2) for name in CLIENTS}
        for key in ("stall_ms_max", "computing_ms_max")
    }
    stall_ms = max(clients[name]["stall_ms_max"] for name in OURS)
    return {
        "rounds": len(rounds),
        "pictures": pictures,
        "picture_mib": PICTURE_BYTES // 2**20,
        **clients,
        "worst": worst,
        "bars": {"stall_ms": {"value": stall_ms, "most": BAR_STALL_MS, "is_met": stall_ms <= BAR_STALL_MS}},
        "missed": ["stall_ms"] if stall_ms > BAR_STALL_MS else [],
    }


def chart(figures: dict[str, Any], path: Path) -> None:
    """Draw stall, CPU and memory by client into a PNG."""
    labels = {
        "save": "save",
        "read": "read",
        "save, own limit": "save_limited",
        "read, own limit": "read_limited",
        "by hand, to a file": "aiohttp_file",
        "by hand, to memory": "aiohttp_memory",
        "httpx, to a file": "httpx_file",
    }
    rows = {
        "Longest stall of the event loop while 64 pictures of 6 MiB arrive, ms": ("stall_ms_max", BAR_STALL_MS),
        "CPU of the client per picture, ms": ("cpu_ms_per_picture", None),
        "Memory above that of the idle process, MB": ("above_idle_mb", None),
    }
    with panels(path, len(rows)) as parts:
        for part, (title, (key, bar)) in zip(parts, rows.items(), strict=True):
            values = {label: figures[name][key] for label, name in labels.items()}
            part.bars(title, values, grey=tuple(labels)[4:], bar=bar)


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
