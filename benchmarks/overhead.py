"""Measure the client's CPU time per job, compared with handwritten aiohttp and orjson code and the OpenAI SDK.

Client and server run in separate processes, every measurement in a new one, so that `time.process_time` counts the
client only. All clients have the same number of workers, and run some jobs before the measurement. Every round runs
each client once, and ratios are taken within a round, because the machine's speed varies; medians are reported.

`..._at_10000` are clients at 10,000 requests a minute, which wait between requests: polls of pending tasks, and jobs of
one submit and one poll each (a real run has about 1.2 polls for each submit).
"""

import asyncio
import json
import math
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from benchmarks.charts import panels
from benchmarks.overhead_clients import CLIENTS, PACED, PACED_RPM, WORKERS, Batch
from benchmarks.processes import measured, served
from benchmarks.progress import progress
from benchmarks.stub import requests_so_far

_OTHERS = ("by hand", "by hand, kept", "OpenAI SDK", "polls by hand", "jobs by hand")

Rounds = list[dict[str, dict[str, float]]]


@attrs.frozen
class Scale:
    """How much is measured: of each client some batches of jobs, or as many windows of time."""

    rounds: int
    warm_up_jobs: int
    jobs: int
    batches: int
    window_s: float


WHOLE = Scale(rounds=5, warm_up_jobs=200, jobs=300, batches=3, window_s=0.4)
QUICK = Scale(rounds=1, warm_up_jobs=60, jobs=100, batches=3, window_s=0.2)


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
    "generate_to_hand_written": Ratio("generate", "hand_written", most=1.6),
    "generate_to_hand_written_kept": Ratio("generate", "hand_written_kept"),
    "map_to_hand_written": Ratio("map", "hand_written"),
    "task_to_hand_written": Ratio("generate_task", "hand_written_task", "us_per_request", most=2.0),
    "task_to_hand_written_kept": Ratio("generate_task", "hand_written_task_kept", "us_per_request"),
    "openai_sdk_to_generate": Ratio("openai_sdk", "generate", least=6.5),
    "openai_sdk_to_hand_written": Ratio("openai_sdk", "hand_written"),  # what is attainable with new connections
}
MOST_OF_A_CORE = 0.03
SHARES = ("polls_at_10000", "jobs_at_10000")


async def measure(name: str, base_url: str, scale: Scale) -> None:
    """Measure one client in this process, and print its figures."""
    if name in PACED:
        async with PACED[name](base_url):
            await asyncio.sleep(scale.window_s)
            windows = [await _window(base_url, scale.window_s) for _ in range(scale.batches)]
        us_per_request = statistics.median(windows)
        share = us_per_request * PACED_RPM / 60 / 1e6
        print(json.dumps({"us_per_request": us_per_request, "share_of_a_core": share}))
        return
    async with CLIENTS[name](base_url) as batch:
        await batch(scale.warm_up_jobs)
        before = requests_so_far(base_url)
        us_per_job = statistics.median([await _cpu_us(batch, scale.jobs) for _ in range(scale.batches)])
        requests_per_job = (requests_so_far(base_url) - before) / (scale.batches * scale.jobs)
    figures = {"us_per_job": us_per_job, "us_per_request": us_per_job / requests_per_job}
    print(json.dumps({**figures, "requests_per_job": requests_per_job}))


async def _window(base_url: str, seconds: float) -> float:
    """Return the CPU time per request in a stretch of time, in microseconds."""
    requests, started = requests_so_far(base_url), time.process_time()
    await asyncio.sleep(seconds)
    cpu_s = time.process_time() - started
    return cpu_s / (requests_so_far(base_url) - requests) * 1e6


async def _cpu_us(batch: Batch, jobs: int) -> float:
    """Return the CPU time per job in microseconds."""
    started = time.process_time()
    await batch(jobs)
    return (time.process_time() - started) / jobs * 1e6


async def play_round(number: int, scale: Scale) -> dict[str, dict[str, float]]:
    """Return the figures of every client; their order changes from round to round."""
    names = [*CLIENTS, *PACED]
    names = names[number % len(names) :] + names[: number % len(names)]
    amount = json.dumps(attrs.asdict(scale))
    async with served() as base_url:
        return {name: await measured("benchmarks.overhead", name, base_url, amount) for name in names}


def run(quick: bool = False) -> dict[str, Any]:
    """Return the medians per client, and the medians of the ratios within each round."""
    scale = QUICK if quick else WHOLE
    rounds = [asyncio.run(play_round(number, scale)) for number in progress("overhead", range(scale.rounds))]
    medians = {
        name: {key: _median(each[name][key] for each in rounds) for key in rounds[0][name]} for name in rounds[0]
    }
    ratios = {name: ratio.of(rounds) for name, ratio in RATIOS.items()}
    shares = [name for name in SHARES if medians[name]["share_of_a_core"] > MOST_OF_A_CORE]
    return {
        **attrs.asdict(scale),
        "workers": WORKERS,
        **{name: medians[name] for name in (*CLIENTS, *PACED)},
        "most_of_a_core": MOST_OF_A_CORE,
        "ratios": ratios,
        "missed": [*(name for name, ratio in ratios.items() if not ratio.get("is_met", True)), *shares],
    }


def _median(values: Iterable[float]) -> float:
    return float(f"{statistics.median(values):.4g}")


def chart(figures: dict[str, Any], path: Path) -> None:
    """Draw the CPU time per job and per request, and the share of a core at 10,000 requests a minute, as a PNG."""
    inline = {
        "by hand, kept": "hand_written_kept",
        "by hand": "hand_written",
        "generate": "generate",
        "map": "map",
        "OpenAI SDK": "openai_sdk",
    }
    polled = {"by hand, kept": "hand_written_task_kept", "by hand": "hand_written_task", "generate": "generate_task"}
    shares = {
        "polls by hand": "polls_by_hand_at_10000",
        "polls": "polls_at_10000",
        "jobs by hand": "jobs_by_hand_at_10000",
        "jobs": "jobs_at_10000",
    }
    with panels(path, 3) as (upper, middle, lower):
        upper.bars(
            "CPU of the client per inline job, µs (by hand: a new connection for each POST, or kept ones)",
            {label: figures[name]["us_per_job"] for label, name in inline.items()},
            grey=_OTHERS,
        )
        middle.bars(
            "CPU of the client per request of a job that is submitted and polled, µs",
            {label: figures[name]["us_per_request"] for label, name in polled.items()},
            grey=_OTHERS,
        )
        lower.bars(
            "CPU of the client at 10,000 requests a minute, per cent of a core",
            {label: figures[name]["share_of_a_core"] * 100 for label, name in shares.items()},
            grey=_OTHERS,
            bar=MOST_OF_A_CORE * 100,
        )


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], sys.argv[2], Scale(**json.loads(sys.argv[3]))))
