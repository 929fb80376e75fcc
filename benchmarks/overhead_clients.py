"""The clients that `overhead` measures: ours, code by hand with aiohttp and orjson, and the OpenAI SDK.

Ours sends each POST on a connection of its own (`connections` says why), and polls on kept ones. Code by hand does the
same, or sends everything on kept connections.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import count, repeat
from typing import Any

import aiohttp
import orjson

from benchmarks.stub import HELD_MODEL, TASK_MODEL, release
from lemon_async import LemonSession, PollPolicy

__all__ = ["CLIENTS", "PACED", "PACED_RPM", "WORKERS", "Batch"]

WORKERS = 20
PACED_RPM = 10_000
_INLINE_MODEL = "dall-e-3"
_PROMPT = "A white cat on a windowsill"
_KEY = "sk-benchmark-0123456789"
_RPM = 1_000_000  # no limit in practice: this does not measure pacing
_POLLS_AT_ONCE = PollPolicy(poll_cost_s=1e-3, min_gap_s=1e-4, max_gap_s=1e-3)
_HELD_TASKS = 200
_EACH_SECOND = PollPolicy(poll_cost_s=1e-3, min_gap_s=0.1, max_gap_s=1.0)  # more than the rate limit allows

Batch = Callable[[int], Awaitable[None]]
Client = Callable[[str], AbstractAsyncContextManager[Batch]]
PacedClient = Callable[[str], AbstractAsyncContextManager[None]]


def _shared_out(job: Callable[[], Awaitable[object]]) -> Batch:
    """Return a function that runs a number of jobs, divided among the workers."""

    async def work(jobs: int) -> None:
        for _ in range(jobs):
            await job()

    async def batch(jobs: int) -> None:
        await asyncio.gather(*(work(jobs // WORKERS) for _ in range(WORKERS)))

    return batch


def _lemon(base_url: str, *, rpm: int = _RPM, polling: PollPolicy = _POLLS_AT_ONCE) -> LemonSession:
    """Return a session with the same concurrency as the other clients."""
    return LemonSession(
        _KEY, base_url=base_url, requests_per_minute=rpm, polling=polling, max_submits=WORKERS, max_polls=WORKERS
    )


@asynccontextmanager
async def _generate(base_url: str, *, model: str = _INLINE_MODEL) -> AsyncGenerator[Batch, None]:
    """`LemonSession.generate`."""
    async with _lemon(base_url) as session:
        yield _shared_out(lambda: session.generate(_PROMPT, model=model))


@asynccontextmanager
async def _map(base_url: str) -> AsyncGenerator[Batch, None]:
    """`LemonSession.map` over jobs with inline responses."""
    async with _lemon(base_url) as session:

        async def batch(jobs: int) -> None:
            await _read(session, repeat(_PROMPT, jobs), _INLINE_MODEL)

        yield batch


async def _read(session: LemonSession, prompts: Iterator[str], model: str) -> None:
    async with session.map(prompts, model=model, in_flight=WORKERS) as outcomes:
        async for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error


def _by_hand(base_url: str, *, is_kept: bool = True) -> aiohttp.ClientSession:
    """Return an aiohttp session as in handwritten code."""
    headers = {"Authorization": f"Bearer {_KEY}", "Content-Type": "application/json"}
    return aiohttp.ClientSession(base_url, headers=headers, connector=aiohttp.TCPConnector(force_close=not is_kept))


async def _link(posting: aiohttp.ClientSession, polling: aiohttp.ClientSession, model: str) -> str:
    """POST, then GET until the task is over if it is one, and take the link from the response."""
    body = orjson.dumps({"prompt": _PROMPT, "model": model})
    async with posting.post("/v1/images/generations", data=body) as response:
        job = await _parsed(response)
    while job.get("status", "completed") not in {"completed", "failed"}:
        job = await _poll(polling, job["task_id"])
    url: str = job["data"][0]["url"]
    return url


async def _poll(polling: aiohttp.ClientSession, task_id: str) -> dict[str, Any]:
    async with polling.get(f"/v1/tasks/{task_id}") as response:
        return await _parsed(response)


async def _parsed(response: aiohttp.ClientResponse) -> dict[str, Any]:
    response.raise_for_status()
    parsed: dict[str, Any] = orjson.loads(await response.read())
    return parsed


@asynccontextmanager
async def _hand_written(
    base_url: str, *, model: str = _INLINE_MODEL, is_kept: bool = False
) -> AsyncGenerator[Batch, None]:
    """Code by hand, whose POSTs have new connections or kept ones."""
    async with _by_hand(base_url, is_kept=is_kept) as posting, _by_hand(base_url) as polling:
        yield _shared_out(lambda: _link(posting, polling, model))


@asynccontextmanager
async def _openai_sdk(base_url: str) -> AsyncGenerator[Batch, None]:
    """`images.generate` of the OpenAI SDK, on kept connections."""
    from openai import AsyncOpenAI  # noqa: PLC0415 - a large import that other clients must not pay for

    async with AsyncOpenAI(api_key=_KEY, base_url=f"{base_url}/v1", max_retries=0) as client:
        yield _shared_out(lambda: client.images.generate(prompt=_PROMPT, model=_INLINE_MODEL))


CLIENTS: dict[str, Client] = {
    "generate": _generate,
    "hand_written": _hand_written,
    "hand_written_kept": partial(_hand_written, is_kept=True),
    "map": _map,
    "generate_task": partial(_generate, model=TASK_MODEL),
    "hand_written_task": partial(_hand_written, model=TASK_MODEL),
    "hand_written_task_kept": partial(_hand_written, model=TASK_MODEL, is_kept=True),
    "openai_sdk": _openai_sdk,
}


@asynccontextmanager
async def _paced_polls(base_url: str) -> AsyncGenerator[None, None]:
    """Polls of tasks that stay pending."""
    async with _lemon(base_url, rpm=PACED_RPM, polling=_EACH_SECOND) as session:
        tasks = await asyncio.gather(*(session.submit(_PROMPT, model=HELD_MODEL) for _ in range(_HELD_TASKS)))
        yield
        release(base_url)
        await asyncio.gather(*tasks)


@asynccontextmanager
async def _paced_jobs(base_url: str) -> AsyncGenerator[None, None]:
    """`LemonSession.map` over tasks that are completed at the first poll."""
    is_over = asyncio.Event()
    prompts = iter(lambda: None if is_over.is_set() else _PROMPT, None)
    async with _lemon(base_url, rpm=PACED_RPM) as session, asyncio.TaskGroup() as background:
        background.create_task(_read(session, prompts, TASK_MODEL))
        yield
        is_over.set()


@asynccontextmanager
async def _paced_by_hand(base_url: str, *, is_polls: bool) -> AsyncGenerator[None, None]:
    """The polls of `_paced_polls` or the jobs of `_paced_jobs`, each a POST and a GET, by hand."""
    loop = asyncio.get_running_loop()
    is_over = asyncio.Event()
    starts = count(loop.time(), (1 if is_polls else 2) * 60 / PACED_RPM)

    async def work() -> None:
        while not is_over.is_set():
            await asyncio.sleep(next(starts) - loop.time())
            await (_poll(polling, f"task-{HELD_MODEL}-0") if is_polls else _link(posting, polling, TASK_MODEL))

    async with (
        _by_hand(base_url, is_kept=False) as posting,
        _by_hand(base_url) as polling,
        asyncio.TaskGroup() as background,
    ):
        for _ in range(WORKERS):
            background.create_task(work())
        yield
        is_over.set()


PACED: dict[str, PacedClient] = {
    "polls_at_10000": _paced_polls,
    "polls_by_hand_at_10000": partial(_paced_by_hand, is_polls=True),
    "jobs_at_10000": _paced_jobs,
    "jobs_by_hand_at_10000": partial(_paced_by_hand, is_polls=False),
}
