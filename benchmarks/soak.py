"""Run five rounds of 4,000 jobs through `LemonSession.map` while a third of all submits and polls fail.

They fail in every way that the emulator can simulate: cut, stalled, garbled, refused, redirected, replaced by nonsense,
accepted and then lost. Expected: every job ends in one outcome; none is accepted twice; every accepted job is known or
reported as unknown; no asyncio task or additional socket is left after a round; memory does not grow.

The emulator runs in a separate process, so that only the client's memory is measured. A warm-up round opens whatever is
opened once. 429s pause the client without lowering its rate, because they are injected at random. Reads `/proc`, so
Linux only.
"""

import asyncio
import ctypes
import gc
import json
import logging
import math
import os
import sys
import time
from collections import Counter
from typing import Any

from benchmarks.edit_memory import resident_mb
from benchmarks.processes import measured
from benchmarks.progress import progress
from lemon_async import LemonSession, PollPolicy, RetryPolicy, Timeouts
from lemon_async._api.response import RateReport
from lemon_async._http import transport
from lemon_async._pace.budget import RequestBudget
from lemon_async.emulator import (
    Answer,
    Blackhole,
    Body,
    Cut,
    Drip,
    Emulator,
    Fail,
    Garbage,
    HalfClose,
    Latency,
    LateVisible,
    Redirect,
    Reset,
    Result,
    Script,
    Status,
    Stuck,
    Vanish,
)
from lemon_async.emulator.actions import Action, Point

JOBS, QUICK_JOBS = 4_000, 500
ROUNDS, QUICK_ROUNDS = 5, 2
SHARE = 0.3
IN_FLIGHT = 500
BAR_MB = 2.0
BOUND_S = 900.0

POINTS: tuple[Point, ...] = ("request_head", "request_body", "request_end", "response_head", "response_body")
TRANSPORT: list[Action] = [
    Latency(20, 20),
    *map(Reset, POINTS),
    *map(HalfClose, POINTS),
    Drip(200),
    Blackhole(),
    Garbage(),
    Cut(7),
]
HTTP: list[Action] = [
    *(Status(500, body) for body in ("json", "html", "empty", "truncated", "huge")),
    *(Status(429, headers={"Retry-After": after}) for after in ("0", "0.01", "-1", "NaN", "inf", "soon")),
    *map(Status, (401, 403, 404, 408, 502, 503, 504)),
    Status(503, error={"retryable": True, "retry_after": 0.01}),
    Redirect("/v1/models"),
    Redirect("http://127.0.0.1:9/", 308),
    Body(b"<html>", "text/html"),
    Body(b"", "application/json"),
    Body(b'{"ok": true}', "application/json"),
    Body(b'{"status": "dreaming"', "application/json"),
]
REFUSALS: list[Action] = list(map(Status, (400, 402, 413)))
FATES: list[Action] = [
    Script(("pending", "weird", "completed")),
    Script(("completed", "pending")),
    Stuck(),
    Vanish(),
    Vanish(1),
    LateVisible(2),
    Fail(),
    Fail(None),
    Fail({"code": "moderation", "message": "no"}),
    Fail(cancelled=True),
    Result(()),
    Result([{"url": ""}]),
    Answer(poll_url="//evil.test/x"),
    Answer(task_id="a b", poll_url="http://evil.test"),
    Answer(task_id=None),
]


class PausingBudget(RequestBudget):
    """A budget that pauses after a 429 but does not learn a limit from it."""

    def observe_429(self, now: float, retry_after_s: float | None = None, *, report: RateReport | None = None) -> None:  # noqa: ARG002
        """Pause."""
        wait_s = retry_after_s or 0.0
        self.paused_until = max(self.paused_until, now + (min(wait_s, 0.02) if math.isfinite(wait_s) else 0.0))


async def serve() -> None:
    """Run an emulator that breaks requests; respond to each line on stdin with figures from its ledger."""
    async with Emulator(speed=3000, durations=30.0) as service:
        for number, action in enumerate(actions := [*TRANSPORT, *HTTP, *REFUSALS, *FATES]):
            service.fault("submit", action, probability=1 - (1 - SHARE) ** (1 / len(actions)), seed=number)
        for number, action in enumerate(actions := [*TRANSPORT, *HTTP]):
            service.fault("poll", action, probability=1 - (1 - SHARE) ** (1 / len(actions)), seed=number)
        print(json.dumps([service.base_url, service.api_key]), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            sold = service.ledger.sold
            hits = sum(fault.hits for fault in service.faults)
            unmet = sum(fault.hits == 0 for fault in service.faults)
            figures = {"sold": sold.total(), "most_sales_of_a_job": max(sold.values())}
            print(json.dumps({**figures, "faults": hits, "faults_not_met": unmet}), flush=True)


async def soak(base_url: str, key: str, jobs: int, number_of_rounds: int) -> dict[str, Any]:
    """Run all rounds in one session, and return the outcomes of the jobs and the state of this process."""
    rounds = []
    transport._IDLE_S = 1.0  # idle connections have buffers: they count as memory until they are closed
    session = LemonSession(
        key,
        base_url=base_url,
        polling=PollPolicy(min_gap_s=0.01, max_gap_s=0.2, deadline_s=3.0, lost_after_s=0.1),
        retry=RetryPolicy(max_elapsed_s=3.0, first_backoff_s=0.001, max_backoff_s=0.05),
        timeouts=Timeouts(connect_s=2, submit_s=1, request_s=0.5, close_s=2),
        requests_per_minute=60_000,
        max_polls=100,
    )
    async with session:
        session._engine.rate_limiter.budget = PausingBudget(requests_per_minute=60_000)
        for number in progress("soak", range(number_of_rounds + 1)):
            async with asyncio.timeout(BOUND_S):
                rounds.append(await play(session, number, jobs))
    return {"rounds": rounds[1:], "warm_up": rounds[0]}


async def play(session: LemonSession, number: int, jobs: int) -> dict[str, Any]:
    """Return the figures of one round, taken after all activity has ended."""
    ends: Counter[str] = Counter()
    seen: set[int] = set()
    most_tasks = 0
    started = time.monotonic()
    prompts = (f"round {number} job {job}" for job in range(jobs))
    async with session.map(prompts, model="flux-pro", in_flight=IN_FLIGHT) as outcomes:
        async for outcome in outcomes:
            seen.add(outcome.index)
            ends[type(outcome.error).__name__ if outcome.error else "images"] += 1
            most_tasks = max(most_tasks, len(asyncio.all_tasks()))
    seconds = time.monotonic() - started
    left = len(outcomes.pending) + len(session.pending)
    del outcomes, outcome
    await asyncio.sleep(3 * transport._IDLE_S)
    return {
        "seconds": round(seconds, 1),
        "one_outcome_each": len(seen) == ends.total() == jobs,
        "ends": dict(ends.most_common()),
        "pending": left,
        "most_asyncio_tasks": most_tasks,
        "asyncio_tasks": len(asyncio.all_tasks()),
        "open_files": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "resident_mb": round(settled_mb(), 2),
        "allocated_blocks": sys.getallocatedblocks(),
    }


def settled_mb() -> float:
    """Return the resident size after garbage collection and after the allocator has released free memory."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident_mb("VmRSS")


async def measure(jobs: int, rounds: int) -> dict[str, Any]:
    """Run the emulator and the client in separate processes."""
    command = [sys.executable, "-m", "benchmarks.soak", "serve"]
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert server.stdin is not None and server.stdout is not None  # noqa: S101, PT018 - they are pipes
    try:
        figures = await measured("benchmarks.soak", *json.loads(await server.stdout.readline()), str(jobs), str(rounds))
        server.stdin.write(b"\n")
        return {**figures, "ledger": json.loads(await server.stdout.readline())}
    finally:
        server.kill()
        await server.wait()


def run(quick: bool = False) -> dict[str, Any]:
    """Return the figures, and how much the resident size has grown from the first round to the last."""
    jobs, rounds = (QUICK_JOBS, QUICK_ROUNDS) if quick else (JOBS, ROUNDS)
    figures = asyncio.run(measure(jobs, rounds))
    sizes = [each["resident_mb"] for each in figures["rounds"]]
    return {"jobs": jobs, **figures, "growth_mb": round(sizes[-1] - sizes[0], 2), "bar_mb": BAR_MB}


if __name__ == "__main__":
    logging.disable()  # a warning for every third request
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        print(json.dumps(asyncio.run(soak(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))))
