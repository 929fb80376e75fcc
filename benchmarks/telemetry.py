"""Measure the CPU time that `Telemetry` adds to a job: without an SDK, and with one that exports to nowhere.

A session with a handler and one without take turns in one process with the same jobs, against a server in another one;
which comes first changes from round to round. Ratios are taken within a round, because the machine's speed varies, and
their median is reported.
"""

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.overhead_clients import WORKERS
from benchmarks.processes import measured, served
from benchmarks.progress import progress
from benchmarks.stub import TASK_MODEL
from lemon_async import LemonSession, PollPolicy
from lemon_async.telemetry import Telemetry

MOST_WITHOUT_SDK = 1.03
_MODELS = {"inline": "dall-e-3", "task": TASK_MODEL}
_POLLS_AT_ONCE = PollPolicy(poll_cost_s=1e-3, min_gap_s=1e-4, max_gap_s=1e-3)
_RPM = 1_000_000  # no limit in practice


class _Nowhere(SpanExporter):
    def export(self, _: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


@asynccontextmanager
async def _sdk() -> AsyncGenerator[tuple[Telemetry, Callable[[], object]], None]:
    """Telemetry with an SDK, and a function that exports all spans: a thread would do so in another session's turn."""
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(_Nowhere(), schedule_delay_millis=3_600_000))
    meters = MeterProvider([InMemoryMetricReader()])
    yield Telemetry(tracers, meters), tracers.force_flush
    tracers.shutdown()
    meters.shutdown()


@asynccontextmanager
async def _no_op() -> AsyncGenerator[tuple[Telemetry, Callable[[], object]], None]:
    """Telemetry without an SDK: the API's own providers do nothing."""
    yield Telemetry(), lambda: None


HANDLERS = {"no_op": _no_op, "sdk": _sdk}


async def _cpu_us(session: LemonSession, model: str, jobs: int, flush: Callable[[], object]) -> float:
    """Return the CPU time per job in microseconds."""

    async def work() -> None:
        for _ in range(jobs // WORKERS):
            await session.generate("A white cat on a windowsill", model=model)

    gc.collect()
    started = time.process_time()
    await asyncio.gather(*(work() for _ in range(WORKERS)))
    flush()
    return (time.process_time() - started) / jobs * 1e6


async def measure(name: str, base_url: str, rounds: int, jobs: int) -> None:
    """Print the CPU times of each kind of job, without a handler and with one."""
    options: dict[str, Any] = {"base_url": base_url, "requests_per_minute": _RPM, "polling": _POLLS_AT_ONCE}
    async with HANDLERS[name]() as (telemetry, flush):
        sessions = LemonSession("sk-benchmark", **options), LemonSession("sk-benchmark", on_event=telemetry, **options)
        async with sessions[0], sessions[1]:
            times: dict[str, list[list[float]]] = {kind: [] for kind in _MODELS}
            for number in range(rounds + 1):
                for kind, model in _MODELS.items():
                    figures = [0.0, 0.0]
                    for turn in (0, 1) if number % 2 else (1, 0):
                        figures[turn] = await _cpu_us(sessions[turn], model, jobs, flush)
                    times[kind].append(figures)
    print(json.dumps({kind: figures[1:] for kind, figures in times.items()}))  # the first round was to warm up


async def _measure_all(scale: Mapping[str, int]) -> dict[str, Any]:
    amount = [str(scale["rounds"]), str(scale["jobs"])]
    async with served() as base_url:
        return {
            name: await measured("benchmarks.telemetry", name, base_url, *amount)
            for name in progress("telemetry", list(HANDLERS))
        }


def run(quick: bool = False) -> dict[str, Any]:
    """Return medians of CPU times per job, and of the ratios to a session without a handler."""
    scale = {"rounds": 4 if quick else 30, "jobs": 100}
    figures: dict[str, Any] = {**scale, "most_without_sdk": MOST_WITHOUT_SDK, "missed": []}
    for name, kinds in asyncio.run(_measure_all(scale)).items():
        for kind, times in kinds.items():
            ratio = statistics.median(observed / without for without, observed in times)
            figures[f"{kind}_{name}"] = {
                "without_us": round(statistics.median(without for without, _ in times), 1),
                "observed_us": round(statistics.median(observed for _, observed in times), 1),
                "ratio": round(ratio, 3),
            }
            if name == "no_op" and ratio > MOST_WITHOUT_SDK:
                figures["missed"].append(kind)
    return figures


if __name__ == "__main__":
    asyncio.run(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
