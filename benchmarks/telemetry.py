"""Measure the CPU time that `Telemetry` adds to a job: without an SDK, and with one that exports to nowhere.

Sessions take turns in one process with the same jobs, against a server in another one; which comes first changes from
round to round. Ratios are taken within a round, because the machine's speed varies, and their median is reported.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider

from benchmarks.overhead_clients import WORKERS
from benchmarks.processes import served
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
    yield Telemetry(NoOpTracerProvider(), NoOpMeterProvider()), lambda: None


VARIANTS = {"no_op": _no_op, "sdk": _sdk}


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


async def measure(variant: str, base_url: str, rounds: int, jobs: int) -> dict[str, list[tuple[float, float]]]:
    """Return the CPU times of each kind of job, without a handler and with one."""
    options: dict[str, Any] = {"base_url": base_url, "requests_per_minute": _RPM, "polling": _POLLS_AT_ONCE}
    async with VARIANTS[variant]() as (telemetry, flush):
        without = LemonSession("sk-benchmark", **options)
        observed = LemonSession("sk-benchmark", on_event=telemetry, **options)
        async with without, observed:
            times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in _MODELS}
            for number in range(-1, rounds):
                for kind, model in _MODELS.items():
                    turns = (without, observed) if number % 2 else (observed, without)
                    figures = {session: await _cpu_us(session, model, jobs, flush) for session in turns}
                    if number >= 0:  # else to warm up
                        times[kind].append((figures[without], figures[observed]))
    return times


def run(quick: bool = False) -> dict[str, Any]:
    """Return medians of CPU times per job, and of the ratios to a session without handlers."""
    scale = {"rounds": 9 if quick else 90, "jobs": 100}
    measured = asyncio.run(_measure(**scale))
    figures: dict[str, Any] = {**scale, "most_without_sdk": MOST_WITHOUT_SDK, "missed": []}
    for kind, times in measured.items():
        figures[kind] = {f"{name}_us": round(statistics.median(each), 1) for name, each in times.items()}
        for name in ("no_op", "sdk"):
            ratios = [one / other for one, other in zip(times[name], times["without"], strict=True)]
            figures[kind][f"{name}_ratio"] = round(statistics.median(ratios), 3)
        if figures[kind]["no_op_ratio"] > MOST_WITHOUT_SDK:
            figures["missed"].append(kind)
    return figures
