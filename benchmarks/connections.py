"""Compare new connections for each request with reused ones: CPU, time and failures.

CPU and time are per request, with and without TLS, one request after another on this machine; over a network, a new
connection adds two round trips. Failures are counted in 800 requests to a server that closes each connection 4 ms after
its response.
"""

import asyncio
import ssl
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from benchmarks.processes import served
from benchmarks.progress import progress
from benchmarks.stub import Connection, Service
from lemon_async._http.connections import CheckedConnector

ROUNDS = 5
REQUESTS = 200
WORKERS = 20
CLOSES_AFTER_S = 0.004
PATH = "/v1/images/generations"
BODY = b'{"prompt":"A white cat on a windowsill","model":"dall-e-3"}'
WAYS: dict[str, tuple[type[aiohttp.TCPConnector], dict[str, Any]]] = {
    "kept": (aiohttp.TCPConnector, {}),
    "kept, checked": (CheckedConnector, {}),
    "new": (CheckedConnector, {"force_close": True}),
}


class Closing(Connection):
    """A connection that the server closes soon after a response."""

    def data_received(self, data: bytes) -> None:
        """Respond, and close after a delay."""
        super().data_received(data)
        asyncio.get_running_loop().call_later(CLOSES_AFTER_S, self._transport.close)


async def serve(kind: str, folder: str) -> None:
    """Print the port, and serve until the end of the process."""
    context = None
    if kind == "tls":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(Path(folder) / "cert.pem", Path(folder) / "key.pem")
    service, make = Service(), Closing if kind == "closing" else Connection
    server = await asyncio.get_running_loop().create_server(lambda: make(service), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def cost(url: str, way: str, context: ssl.SSLContext | None) -> tuple[float, float]:
    """Return the CPU time and the duration of a request, in microseconds."""
    connector, options = WAYS[way]
    async with aiohttp.ClientSession(connector=connector(ssl=context or True, **options)) as session:
        for is_counted in (False, True):
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(REQUESTS if is_counted else REQUESTS // 10):
                async with session.post(url, data=BODY) as response:
                    await response.read()
    return tuple(
        (now - then) / REQUESTS * 1e6 for now, then in ((time.process_time(), cpu), (time.perf_counter(), wall))
    )


async def broken(url: str, way: str) -> int:
    """Return how many requests end without a response."""
    connector, options = WAYS[way]
    async with aiohttp.ClientSession(connector=connector(**options)) as session:

        async def work() -> int:
            failures = 0
            for _ in range(800 // WORKERS):
                try:
                    async with session.post(url, data=BODY) as response:
                        await response.read()
                except aiohttp.ClientError:
                    failures += 1
            return failures

        return sum(await asyncio.gather(*(work() for _ in range(WORKERS))))


async def play(folder: str, number: int) -> dict[str, Any]:
    """Return the medians of all rounds."""
    context = ssl.create_default_context(cafile=f"{folder}/cert.pem")
    figures: dict[str, Any] = {}
    for kind in ("plain", "tls"):
        async with served("benchmarks.connections", kind, folder) as origin:
            url = (origin if kind == "plain" else origin.replace("http:", "https:")) + PATH
            rounds = {way: [] for way in WAYS}  # type: dict[str, list[tuple[float, float]]]
            for _ in progress(f"connections, {kind}", range(number)):
                for way, seen in rounds.items():
                    seen.append(await cost(url, way, context))
        for way, seen in rounds.items():
            cpu_us, wall_us = (round(statistics.median(values)) for values in zip(*seen, strict=True))
            figures[f"{kind}, {way}"] = {"cpu_us": cpu_us, "wall_us": wall_us}
    async with served("benchmarks.connections", "closing", folder) as origin:
        figures["broken of 800"] = {way: await broken(origin + PATH, way) for way in WAYS}
    return figures


def run(quick: bool = False) -> dict[str, Any]:
    """Return the cost of a request by kind of connection; creates a certificate with `openssl`."""
    with TemporaryDirectory() as folder:
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem"
        command += " -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)  # noqa: S603 - a constant
        return asyncio.run(play(folder, 1 if quick else ROUNDS))


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
