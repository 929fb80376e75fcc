"""Measure responses with four pictures of 6 MiB as base64: stalls of the event loop, CPU and memory.

Client and server run in separate processes, and every measurement in a new one. The stall is the longest delay of a
coroutine that sleeps for a millisecond at a time while 40 such responses arrive together. CPU is given per picture: for
extracting pictures from a document while it arrives, compared with `orjson.loads` and `pybase64.b64decode` of the same
bytes, and for whole clients. Memory is the peak resident size while one response is received and decoded. The figure
for stalls is the median of the longest stalls of all rounds; the worst is reported too, but on a small shared machine
even an idle loop is sometimes delayed that long.
"""

import asyncio
import base64
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pybase64

from benchmarks.charts import panels
from benchmarks.processes import measured, served
from benchmarks.progress import progress
from lemon_async import LemonSession
from lemon_async._api.response import read_image
from lemon_async._formats.base64_json import PIECE_BYTES, Base64Extractor

ROUNDS = 3
RESPONSES, QUICK_RESPONSES = 40, 10
PICTURES = 4
PICTURE_BYTES = 6 * 1024 * 1024
REPEATS = 7
MOST_STALL_MS = 10.0
MOST_CPU = 1.2
MOST_MEMORY = 2.5
KEY = "sk-benchmark-0123456789"
PROMPT = "A white cat on a windowsill"
MODEL = "gpt-image-2"

Job = Callable[[], Any]
Client = Callable[[str], AbstractAsyncContextManager[Job]]


def document() -> bytes:
    """Return a response whose pictures begin with the signature of a PNG."""
    content = b"\x89PNG\r\n\x1a\n" + os.urandom(PICTURE_BYTES - 8)
    entry = b'{"b64_json":"%b"}' % base64.b64encode(content)
    return b'{"created":1706000000,"data":[%b]}' % b",".join([entry] * PICTURES)


async def serve() -> None:
    """Print the port, and respond to every request with the same pictures."""
    body = document()
    response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
                for at in range(0, len(response), PIECE_BYTES):
                    writer.write(response[at : at + PIECE_BYTES])
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@asynccontextmanager
async def lemon(base_url: str) -> AsyncGenerator[Job, None]:
    """`LemonSession.generate`, which returns with the bytes in memory."""
    async with LemonSession(KEY, base_url=base_url, requests_per_minute=1_000_000, max_submits=RESPONSES) as session:

        async def job() -> int:
            images = await session.generate(PROMPT, model=MODEL, n=PICTURES)
            return sum(len(image.data.content()) for image in images)

        yield job


@asynccontextmanager
async def by_hand(base_url: str) -> AsyncGenerator[Job, None]:
    """aiohttp, orjson and pybase64."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(base_url, headers=headers, connector=connector) as session:

        async def job() -> int:
            body = orjson.dumps({"prompt": PROMPT, "model": MODEL, "n": PICTURES})
            async with session.post("/v1/images/generations", data=body) as response:
                return sum(map(len, decoded(await response.read())))

        yield job


@asynccontextmanager
async def openai_sdk(base_url: str) -> AsyncGenerator[Job, None]:
    """`images.generate` of the OpenAI SDK, and `base64.b64decode`, as its documentation shows."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - a large import that other clients must not pay for

    async with AsyncOpenAI(api_key=KEY, base_url=f"{base_url}/v1", max_retries=0) as client:

        async def job() -> int:
            response = await client.images.generate(prompt=PROMPT, model=MODEL, n=PICTURES)
            return sum(len(base64.b64decode(image.b64_json or "")) for image in response.data or ())

        yield job


CLIENTS: dict[str, Client] = {"lemon_async": lemon, "hand_written": by_hand, "openai_sdk": openai_sdk}


def decoded(body: bytes) -> list[bytes]:
    """Return the pictures of a complete response, parsed and decoded in the cheapest way."""
    return [pybase64.b64decode(entry["b64_json"], validate=True) for entry in orjson.loads(body)["data"]]


def extracted(pieces: list[bytes]) -> list[bytes]:
    """Return the pictures of a response, extracted while it arrives."""
    extractor = Base64Extractor()
    for piece in pieces:
        extractor.feed(piece)
    whole = extractor.end()
    return [read_image(entry, whole.pictures).content() for entry in orjson.loads(whole.skeleton)["data"]]


async def longest_stall_ms(job: Job, responses: int) -> float:
    """Return the longest delay of a coroutine while that many responses arrive together."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - started - 0.001)

    beating = asyncio.create_task(beat())
    jobs = []
    for _ in range(responses):  # do not measure the start of forty requests in one iteration
        jobs.append(asyncio.ensure_future(job()))
        await asyncio.sleep(0)
    sizes = await asyncio.gather(*jobs)
    beating.cancel()
    assert sizes == [PICTURES * PICTURE_BYTES] * responses  # noqa: S101 - the clients must do the work
    return longest * 1e3


async def measure_client(name: str, base_url: str, responses: int) -> None:
    """Measure a client in this process, and print its figures."""
    async with CLIENTS[name](base_url) as job:
        before = _resident_bytes()
        await job()
        peak = (_resident_bytes() - before) / (PICTURES * PICTURE_BYTES)
        stall_ms = await longest_stall_ms(job, responses)
        cpu_ms = []
        for _ in range(REPEATS):
            started = time.process_time()
            await job()
            cpu_ms.append((time.process_time() - started) * 1e3 / PICTURES)
    print(json.dumps({"stall_ms": stall_ms, "cpu_ms_per_picture": statistics.median(cpu_ms), "peak_memory": peak}))


def _resident_bytes() -> int:
    """Return the most that was ever resident, as Linux counts it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_core() -> None:
    """Compare extraction during arrival with parsing and decoding, on the same bytes in memory."""
    body = document()
    pieces = [body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES)]
    assert extracted(pieces) == decoded(body)  # noqa: S101 - likewise
    ours, others = [], []
    for _ in range(REPEATS * 3):
        ours.append(_cpu_ms(lambda: extracted(pieces)))
        others.append(_cpu_ms(lambda: decoded(body)))
    print(json.dumps({"extracted_ms": statistics.median(ours), "orjson_and_pybase64_ms": statistics.median(others)}))


def _cpu_ms(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return (time.process_time() - started) * 1e3 / PICTURES


async def play_round(responses: int) -> dict[str, dict[str, float]]:
    """Return the figures of every client, and of the extraction alone."""
    async with served("benchmarks.b64", "serve") as base_url:
        figures = {name: await measured("benchmarks.b64", name, base_url, str(responses)) for name in CLIENTS}
    return {**figures, "core": await measured("benchmarks.b64", "core")}


def run(quick: bool = False) -> dict[str, Any]:
    """Return the medians of all rounds, and the worst stall."""
    responses = QUICK_RESPONSES if quick else RESPONSES
    rounds = [asyncio.run(play_round(responses)) for _ in progress("b64", range(1 if quick else ROUNDS))]
    figures: dict[str, Any] = {
        name: {key: round(statistics.median(each[name][key] for each in rounds), 2) for key in rounds[0][name]}
        for name in rounds[0]
    }
    for name in CLIENTS:
        figures[name]["worst_stall_ms"] = round(max(each[name]["stall_ms"] for each in rounds), 2)
    cores = [each["core"] for each in rounds]
    cpu = statistics.median(each["extracted_ms"] / each["orjson_and_pybase64_ms"] for each in cores)
    bars = {
        "stall_ms": (figures["lemon_async"]["stall_ms"], MOST_STALL_MS),
        "cpu_to_orjson_and_pybase64": (round(cpu, 3), MOST_CPU),
        "peak_memory_to_decoded_bytes": (figures["lemon_async"]["peak_memory"], MOST_MEMORY),
    }
    return {
        "rounds": len(rounds),
        "responses": responses,
        **figures,
        "bars": {name: {"value": value, "most": most, "is_met": value <= most} for name, (value, most) in bars.items()},
        "missed": [name for name, (value, most) in bars.items() if value > most],
    }


def chart(figures: dict[str, Any], path: Path) -> None:
    """Draw stall and CPU by client into a PNG."""
    labels = {"lemon_async": "lemon_async", "by hand, aiohttp": "hand_written", "OpenAI SDK": "openai_sdk"}
    grey = ("by hand, aiohttp", "OpenAI SDK")
    with panels(path, 2) as (upper, lower):
        upper.bars(
            "Longest stall of the event loop while 40 responses with 4 pictures arrive, ms",
            {label: figures[name]["stall_ms"] for label, name in labels.items()},
            grey=grey,
            bar=MOST_STALL_MS,
        )
        lower.bars(
            "CPU of the client per picture of 6 MiB, ms",
            {label: figures[name]["cpu_ms_per_picture"] for label, name in labels.items()},
            grey=grey,
        )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            os.nice(19)  # it stands for another machine, so the client has priority
            asyncio.run(serve())
        case ["core"]:
            measure_core()
        case [client, address, responses]:
            asyncio.run(measure_client(client, address, int(responses)))
