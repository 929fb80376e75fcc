"""The public API as type checkers see it; checked, never run."""

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, assert_type

from lemon_async import (
    ApiError,
    GenerateRequest,
    Image,
    Images,
    ImageTask,
    LemonError,
    LemonSession,
    PollPolicy,
    RetryPolicy,
    SubmissionUnknown,
    TaskError,
    Timeouts,
)
from lemon_async.api.errors import ResumableTask
from lemon_async.api.models import TaskSnapshot
from lemon_async.emulator import Emulator, Fault, Status


async def sessions() -> None:
    async with LemonSession(
        "sk-x",
        base_url="https://api.lemondata.cc",
        polling=PollPolicy(min_gap_s=1.0, max_gap_s=5),
        retry=RetryPolicy(resubmit_unknown=False),
        timeouts=Timeouts(submit_s=120),
    ) as lemon:
        assert_type(lemon, LemonSession)
        assert_type(await lemon.generate("a cat", model="flux-pro", n=2, async_=True, extra={"seed": 7}), Images)
        task = await lemon.submit(GenerateRequest("a cat", size="1024x1024"), quality="hd", check_contracts=False)
        assert_type(task, ImageTask)
        assert_type(lemon.task(task.resume_token()), ImageTask)
        assert_type(lemon.as_completed([task]), AsyncGenerator[ImageTask, None])
        assert_type(lemon.pending, tuple[ImageTask, ...])
        assert_type(lemon.unknown_submissions, tuple[SubmissionUnknown, ...])
        await lemon.generate("a cat", sizes="big")  # type: ignore[call-arg]
        await lemon.generate("a cat", n="2")  # type: ignore[arg-type]


async def tasks(task: ImageTask) -> None:
    assert_type(await task, Images)
    assert_type(await task.wait(timeout_s=3), Images)
    async for snapshot in task.updates():
        assert_type(snapshot, TaskSnapshot)
    assert_type(task.id, str | None)
    assert_type(task.done, bool)
    assert_type(task.progress, float | None)
    assert_type(task.request, GenerateRequest | None)


async def images(result: Images) -> None:
    assert_type(result[0], Image)
    assert_type([image for image in result], list[Image])
    assert_type(await result[0].read(), bytes)
    assert_type(await result[0].save("cat.png"), Path)
    assert_type(result.usage, Mapping[str, Any] | None)


def errors(error: LemonError, refused: ApiError, lost: TaskError) -> None:
    assert_type(error.task, ResumableTask | None)
    assert_type(error.resume_token, str | None)
    assert_type(refused.retry_after, float | None)
    assert_type(lost.task_id, str | None)


async def emulated() -> None:
    async with Emulator(speed=60) as emu:
        assert_type(emu.base_url, str)
        assert_type(emu.fault("poll", Status(502), times=3), Fault)
