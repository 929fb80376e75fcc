"""Measure the client's CPU time per job, compared with handwritten aiohttp and orjson code and the OpenAI SDK.

Client and server run in separate processes, every measurement in a new one, so that `time.process_time` counts the
client only. All clients have the same number of workers and open their connections before the measurement. Every round
runs each client once, and ratios are taken within a round, because the machine's speed varies; medians are reported.
"""

import asyncio
import json
import math
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import orjson

from benchmarks.charts import panels
from benchmarks.processes import measured, served
from benchmarks.stub import TASK_MODEL, requests_so_far
from lemon_async import LemonSession, PollPolicy

ROUNDS = 7
WORKERS = 20
WARM_UP_JOBS = 400
JOBS = 1_500
BATCHES = 3
INLINE_MODEL = "dall-e-3"
PROMPT = "A white cat on a windowsill"
_OTHERS = ("by hand, aiohttp", "OpenAI SDK")
KEY = "sk-benchmark-0123456789"
RPM = 1_000_000  # no limit in practice: this does not measure pacing
POLLS_AT_ONCE = PollPolicy(poll_cost_s=1e-3, min_gap_s=1e-4, max_gap_s=1e-3)

Rounds = list[dict[str, dict[str, float]]]
Job = Callable[[], Awaitable[object]]
Batch = Callable[[int], Awaitable[None]]
Client = Callable[[str], AbstractAsyncContextManager[Batch]]


def shared_out(job: Job) -> Batch:
    """Return a function that runs a number of jobs, divided among the workers."""

    async def work(jobs: int) -> None:
        for _ in range(jobs):
            await job()

    async def batch(jobs: int) -> None:
        await asyncio.gather(*(work(jobs // WORKERS) for _ in range(WORKERS)))

    return batch


def lemon(base_url: str) -> LemonSession:
    """Return a session with the same concurrency as the other clients."""
    return LemonSession(
        KEY,
        base_url=base_url,
        requests_per_minute=RPM,
        polling=POLLS_AT_ONCE,
        max_submits=WORKERS,
        max_polls=WORKERS,
    )


@asynccontextmanager
async def generate(base_url: str) -> AsyncGenerator[Batch, None]:
    """`LemonSession.generate` of a job with an inline response."""
    async with lemon(base_url) as session:
        yield shared_out(lambda: session.generate(PROMPT, model=INLINE_MODEL))


@asynccontextmanager
async def generate_task(base_url: str) -> AsyncGenerator[Batch, None]:
    """`LemonSession.generate` of a job that becomes a task."""
    async with lemon(base_url) as session:
        yield shared_out(lambda: session.generate(PROMPT, model=TASK_MODEL))


@asynccontextmanager
async def map_(base_url: str) -> AsyncGenerator[Batch, None]:
    """`LemonSession.map` over jobs with inline responses."""
    async with lemon(base_url) as session:

        async def batch(jobs: int) -> None:
            prompts = (PROMPT for _ in range(jobs))
            async with session.map(prompts, model=INLINE_MODEL, in_flight=WORKERS) as outcomes:
                async for outcome in outcomes:
                    if outcome.error is not None:
                        raise outcome.error

        yield batch


def by_hand(base_url: str) -> aiohttp.ClientSession:
    """Return an aiohttp session as in handwritten code."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    return aiohttp.ClientSession(base_url, headers=headers)


async def post(session: aiohttp.ClientSession, model: str) -> dict[str, Any]:
    """Return the parsed response to a submit."""
    body = orjson.dumps({"prompt": PROMPT, "model": model})
    async with session.post("/v1/images/generations", data=body) as response:
        response.raise_for_status()
        parsed: dict[str, Any] = orjson.loads(await response.read())
    return parsed


@asynccontextmanager
async def hand_written(base_url: str) -> AsyncGenerator[Batch, None]:
    """POST, and take the link from the response."""
    async with by_hand(base_url) as session:

        async def job() -> str:
            url: str = (await post(session, INLINE_MODEL))["data"][0]["url"]
            return url

        yield shared_out(job)


@asynccontextmanager
async def hand_written_task(base_url: str) -> AsyncGenerator[Batch, None]:
    """POST, then GET until the task is over."""
    async with by_hand(base_url) as session:

        async def job() -> str:
            task = await post(session, TASK_MODEL)
            while task["status"] not in {"completed", "failed"}:
                async with session.get(f"/v1/tasks/{task['task_id']}") as response:
                    response.raise_for_status()
                    task = orjson.loads(await response.read())
            url: str = task["data"][0]["url"]
            return url

        yield shared_out(job)


@asynccontextmanager
async def openai_sdk(base_url: str) -> AsyncGenerator[Batch, None]:
    """`images.generate` of the OpenAI SDK."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - a large import that other clients must not pay for

    async with AsyncOpenAI(api_key=KEY, base_url=f"{base_url}/v1", max_retries=0) as client:
        yield shared_out(lambda: client.images.generate(prompt=PROMPT, model=INLINE_MODEL))


CLIENTS: dict[str, Client] = {
    "generate": generate,
    "hand_written": hand_written,
    "map": map_,
    "generate_task": generate_task,
    "hand_written_task": hand_written_task,
    "openai_sdk": openai_sdk,
}


@attrs.frozen
class Ratio:
    """Two clients to compare, and the highest or lowest acceptable median, if there is one."""

    dividend: str
    divisor: str
    unit: str = "us_per_job"
    most: float = math.inf
    least: float = 0.0

    def of(self, rounds: Rounds) -> dict[str, Any]:
        """Return the median of the ratios within each round, and their range."""
        ratios = [each[self.dividend][self.unit] / each[self.divisor][self.unit] for each in rounds]
        median = statistics.median(ratios)
        figures = {"median": round(median, 3), "min": round(min(ratios), 3), "max": round(max(ratios), 3)}
        bars = {"bar_most": self.most, "bar_least": self.least}
        real = {name: bar for name, bar in bars.items() if 0.0 < bar < math.inf}
        return {**figures, **real, **({"is_met": self.least <= median <= self.most} if real else {})}


RATIOS = {
    "generate_to_hand_written": Ratio("generate", "hand_written", most=1.25),
    "task_to_hand_written": Ratio("generate_task", "hand_written_task", "us_per_request", most=1.25),
    "openai_sdk_to_generate": Ratio("openai_sdk", "generate", least=8.0),
    "map_to_hand_written": Ratio("map", "hand_written"),
}


async def measure(name: str, base_url: str) -> None:
    """Measure one client in this process, and print its figures."""
    async with CLIENTS[name](base_url) as batch:
        await batch(WARM_UP_JOBS)
        before = requests_so_far(base_url)
        us_per_job = statistics.median([await _cpu_us(batch) for _ in range(BATCHES)]) / JOBS
        requests_per_job = (requests_so_far(base_url) - before) / (BATCHES * JOBS)
    figures = {"us_per_job": us_per_job, "us_per_request": us_per_job / requests_per_job}
    print(json.dumps({**figures, "requests_per_job": requests_per_job}))


async def _cpu_us(batch: Batch) -> float:
    started = time.process_time()
    await batch(JOBS)
    return (time.process_time() - started) * 1e6


async def play_round(number: int) -> dict[str, dict[str, float]]:
    """Return the figures of every client; their order changes from round to round."""
    names = list(CLIENTS)
    names = names[number % len(names) :] + names[: number % len(names)]
    async with served() as base_url:
        return {name: await measured("benchmarks.overhead", name, base_url) for name in names}


def run(quick: bool = False) -> dict[str, Any]:  # noqa: ARG001
    """Return the medians per client, and the medians of the ratios within each round."""
    rounds = [asyncio.run(play_round(number)) for number in range(ROUNDS)]
    clients = {name: {key: _median(each[name][key] for each in rounds) for key in rounds[0][name]} for name in CLIENTS}
    ratios = {name: ratio.of(rounds) for name, ratio in RATIOS.items()}
    return {
        "rounds": ROUNDS,
        "workers": WORKERS,
        "jobs": JOBS,
        "batches": BATCHES,
        **clients,
        "ratios": ratios,
        "missed": [name for name, ratio in ratios.items() if not ratio.get("is_met", True)],
    }


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 2)


def chart(figures: dict[str, Any], path: Path) -> None:
    """Draw the CPU time per inline job, and per request of a polled job, by client, as a PNG."""
    inline = {"by hand, aiohttp": "hand_written", "generate": "generate", "map": "map", "OpenAI SDK": "openai_sdk"}
    polled = {"by hand, aiohttp": "hand_written_task", "generate": "generate_task"}
    with panels(path, 2) as (upper, lower):
        upper.bars(
            "CPU of the client per inline job, µs",
            {label: figures[name]["us_per_job"] for label, name in inline.items()},
            grey=_OTHERS,
        )
        lower.bars(
            "CPU of the client per request of a job that is submitted and polled, µs",
            {label: figures[name]["us_per_request"] for label, name in polled.items()},
            grey=_OTHERS,
        )


if __name__ == "__main__":
    asyncio.run(measure(*sys.argv[1:]))
