"""The public API as type checkers see it; checked, never run."""

import asyncio
import io
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_type

from aiohttp import TraceConfig

from lemon_async import (
    ApiError,
    EditRequest,
    GenerateRequest,
    Image,
    Images,
    ImageTask,
    LemonError,
    LemonSession,
    Outcome,
    Outcomes,
    PartialImage,
    PollPolicy,
    RetryPolicy,
    SubmissionUnknown,
    TaskError,
    Timeouts,
    VariationRequest,
    __version__,
)
from lemon_async.batch import (
    Batch,
    BatchOutcome,
    BatchView,
    Change,
    Export,
    Journal,
    JournalRow,
    JournalSummary,
    Plan,
    Spending,
    State,
    Transition,
    expand,
    export,
    open_journal,
    watch_journal,
)
from lemon_async.distributed import BatchSummary, LemonGenerator, run_batch
from lemon_async.emulator import Emulator, Fault, Status, parse_faults
from lemon_async.errors import AuthenticationError
from lemon_async.events import Completed, Event, Failed, OutcomeUnknown
from lemon_async.sheet import Sheet, batch_sheet
from lemon_async.telemetry import Telemetry
from lemon_async.types import (
    Billing,
    ImageData,
    Model,
    Problem,
    Progress,
    ResumableTask,
    StoredFile,
    SubmissionCounts,
    TaskSnapshot,
)


def version() -> str:
    return __version__


def handle(event: Event) -> None:
    match event:
        case Completed(job=job, images=images, seconds=seconds):
            assert_type((job, images, seconds), tuple[int, int, float | None])
        case Failed(error=error):
            assert_type(error, LemonError)
        case OutcomeUnknown(error=error):
            assert_type(error, SubmissionUnknown)


async def sessions() -> None:
    async with LemonSession(
        "sk-x",
        base_url="https://api.lemondata.cc",
        polling=PollPolicy(min_gap_s=1.0, max_gap_s=5),
        retry=RetryPolicy(resubmit_unknown=False),
        timeouts=Timeouts(submit_s=120),
        allow_http={"emulator", "minio:9000"},
        headers={"X-Team": "pictures"},
    ) as lemon:
        assert_type(lemon, LemonSession)
        LemonSession(allow_http="emulator")  # type: ignore[arg-type]
        LemonSession(on_event=handle, trace_configs=[TraceConfig()])
        LemonSession(on_event=[handle, print], trace_configs=())
        LemonSession(on_event=Telemetry(record_prompts=True))
        LemonSession(on_event="print")  # type: ignore[arg-type]
        LemonSession(trace_configs=[print])  # type: ignore[list-item]
        LemonSession(headers=[("X-Team", "pictures")])  # type: ignore[arg-type]
        assert_type(await lemon.generate("a cat", model="flux-pro", n=2, async_=True, extra={"seed": 7}), Images)
        assert_type(await lemon.generate(prompt="a cat"), Images)
        assert_type(await lemon.edit(prompt="a hat", image="cat.png"), Images)
        assert_type(await lemon.create_variation(image="cat.png"), Images)
        assert_type(await lemon.submit(prompt="a cat"), ImageTask)
        assert_type(lemon.validate(prompt="a cat"), tuple[Problem, ...])
        await lemon.generate()  # type: ignore[call-arg]
        task = await lemon.submit(GenerateRequest("a cat", size="1024x1024"), quality="hd", check_contracts=False)
        assert_type(task, ImageTask)
        assert_type(lemon.task(task.resume_token(with_prompt=True)), ImageTask)
        assert_type((await lemon.submit("a cat", label="sku-17")).label, str | None)
        assert_type(lemon.as_completed([task]), AsyncGenerator[ImageTask, None])
        assert_type(lemon.pending, tuple[ImageTask, ...])
        assert_type(lemon.unknown_submissions, tuple[SubmissionUnknown, ...])
        await lemon.generate("a cat", sizes="big")  # type: ignore[call-arg]
        await lemon.generate("a cat", n="2")  # type: ignore[arg-type]


async def pieces() -> AsyncGenerator[bytes, None]:
    yield b""


async def pictures_from_pictures(lemon: LemonSession, image: Image, images: Images) -> None:
    with open("cat.png", "rb") as file, io.BytesIO(b"") as memory:  # noqa: PTH123 - as users write it
        for source in ("cat.png", Path("cat.png"), b"", bytearray(), memoryview(b""), file, memory, pieces(), image):
            assert_type(await lemon.edit("a hat", image=source, model="gpt-image-2", n=2), Images)
    assert_type(await lemon.edit("a hat", image=["cat.png", b"", image], mask="mask.png", quality="high"), Images)
    assert_type(await lemon.edit("a hat", image=images), Images)
    assert_type(await lemon.edit("a hat", image={"image_url": "https://example.com/a.png"}), Images)
    assert_type(await lemon.edit(EditRequest("a hat", image=StoredFile("file-1")), n=2), Images)
    assert_type(await lemon.submit("a hat", image="cat.png", mask="mask.png"), ImageTask)
    assert_type(await lemon.submit(EditRequest("a hat", image="cat.png")), ImageTask)
    assert_type(await lemon.create_variation("cat.png", n=2), Images)
    assert_type(await lemon.create_variation(VariationRequest(image=b"")), Images)
    assert_type(lemon.validate("a cat", n=11), tuple[Problem, ...])
    assert_type(LemonSession.validate("a cat", check_contracts=False), tuple[Problem, ...])
    await lemon.edit("a hat", image=7)  # type: ignore[arg-type]
    await lemon.edit("a hat", image="cat.png", style="vivid")  # type: ignore[call-arg]
    await lemon.create_variation("cat.png", quality="hd")  # type: ignore[call-arg]


class Hooks:
    async def intend(self, index: int, fingerprint: str) -> bool:
        assert_type((index, fingerprint), tuple[int, str])
        return True

    async def withdraw(self, index: int, reason: Exception) -> None:
        assert_type((index, reason), tuple[int, Exception])

    async def accept(self, index: int, task: ResumableTask) -> None:
        assert_type((index, task.resume_token()), tuple[int, str])


async def maps(lemon: LemonSession, image: Image) -> None:
    async with lemon.map(["a cat", GenerateRequest("a dog")], model="flux-pro", in_flight=9, ordered=True) as outcomes:
        assert_type(outcomes, Outcomes)
        async for outcome in outcomes:
            assert_type(outcome, Outcome)
            assert_type(outcome.index, int)
            assert_type(outcome.request, GenerateRequest | EditRequest | VariationRequest | None)
            assert_type(outcome.task, ImageTask | None)
            assert_type(outcome.images, Images | None)
            assert_type(outcome.error, Exception | None)
            assert_type(outcome.key, Any)
    assert_type(outcomes.pending, tuple[ImageTask, ...])
    assert_type(lemon.map((prompt for prompt in "ab"), image=image, fail_fast=True, check_contracts=False), Outcomes)
    lemon.map([VariationRequest(image=b""), EditRequest("a hat", image=image)])
    lemon.map(["a cat"], on_submitted=lambda place, task: (place + 1, task.resume_token()))
    lemon.map([("a", "a cat"), (1, GenerateRequest("a dog"))], stop_on=None)
    lemon.map({"a": "a cat"}.items(), stop_on=(TaskError, AuthenticationError))
    lemon.map(["a cat"], key=len, stop_on=lambda error: isinstance(error, TaskError), journal=Hooks())
    lemon.map(["a cat"], stop_on="account", journal=None)
    lemon.map(["a cat"], stop_on="never")  # type: ignore[arg-type]
    lemon.map(["a cat"], journal=[])  # type: ignore[arg-type]
    lemon.map([7])  # type: ignore[list-item]
    lemon.map(["a cat"], sizes="big")  # type: ignore[call-arg]
    assert_type(lemon.requests_per_minute, int | None)
    assert_type(lemon.learned_durations, Mapping[str, Any])


def watch(progress: Progress) -> None:
    assert_type(progress.total, int | None)
    assert_type(progress.done, int)
    assert_type(progress.failed, int)
    assert_type(progress.in_flight, int)
    assert_type(progress.submitting, int)
    assert_type(progress.seconds, float)
    assert_type(progress.status, str | None)


async def progress(lemon: LemonSession, tasks: list[ImageTask]) -> None:
    assert_type(await lemon.generate("a cat", progress=True), Images)
    assert_type(await lemon.generate("a cat", progress=watch, model="flux-pro"), Images)
    assert_type(await lemon.edit("a hat", image="cat.png", progress=print), Images)
    assert_type(await lemon.create_variation("cat.png", progress=lambda progress: progress.done), Images)
    assert_type(lemon.as_completed(tasks, progress=watch), AsyncGenerator[ImageTask, None])
    async with lemon.map(["a cat"], progress=watch) as outcomes:
        assert_type(outcomes.progress, Progress)
    assert_type(tasks[0].seconds, float | None)
    await lemon.generate("a cat", progress="yes")  # type: ignore[arg-type]
    await lemon.submit("a cat", progress=True)  # type: ignore[call-arg]


async def streams(lemon: LemonSession) -> None:
    async with lemon.stream("a cat", model="gpt-image-2", partial_images=2) as stream:
        async for picture in stream:
            assert_type(picture, Image)
            if isinstance(picture, PartialImage):
                assert_type(picture.index, int)
    assert_type(stream.images, Images)


async def files_and_models(lemon: LemonSession) -> None:
    stored = await lemon.files.upload("cat.png", model="gpt-image-2")
    assert_type(stored, StoredFile)
    assert_type(await lemon.files.upload(b"", purpose="vision", filename="cat.png"), StoredFile)
    assert_type(await lemon.files.list(), tuple[StoredFile, ...])
    assert_type(await lemon.files.get("file-1"), StoredFile)
    assert_type(await lemon.files.content(stored), bytes)
    assert_type(await lemon.files.save(stored, "cat", replace=False), Path)
    assert_type(lemon.files.validate("cat.png", model="gpt-image-2"), tuple[Problem, ...])
    await lemon.files.delete(stored)
    assert_type(await lemon.models(recommended_for="image"), tuple[Model, ...])
    assert_type(await lemon.model("flux-pro"), Model)
    assert_type(lemon.submission_counts, SubmissionCounts)


async def tasks(task: ImageTask) -> None:
    assert_type(await task, Images)
    assert_type(await task.wait(timeout=3), Images)
    async for snapshot in task.updates():
        assert_type(snapshot, TaskSnapshot)
    assert_type(task.id, str | None)
    assert_type(task.done(), bool)
    assert_type(task.cancelled(), bool)
    assert_type(task.result(), Images)
    assert_type(task.exception(), LemonError | None)
    assert_type(task.remove_done_callback(print), int)
    task.add_done_callback(lambda ended: assert_type(ended, ImageTask))
    assert_type(await asyncio.wait_for(task, 1), Images)
    assert_type(await asyncio.gather(task, task), tuple[Images, Images])
    assert_type(await asyncio.shield(task), Images)
    assert_type(asyncio.ensure_future(task).result(), Images)
    assert_type(task.progress, float | None)
    assert_type(task.request, GenerateRequest | EditRequest | VariationRequest | None)
    assert_type(task.billing, Billing)


async def images(result: Images) -> None:
    assert_type(result[0], Image)
    assert_type([image for image in result], list[Image])
    assert_type(await result[0].read(), bytes)
    assert_type(await result[0].save("cat.png"), Path)
    assert_type(await result.save("out", "{index}", values={"index": 3}), tuple[Path, ...])
    assert_type(Images.validate("out", "{index}"), tuple[Problem, ...])
    assert_type(result.usage, Mapping[str, Any] | None)


def errors(error: LemonError, refused: ApiError, lost: TaskError, unknown: SubmissionUnknown) -> None:
    assert_type(error.request_id, str | None)
    assert_type(unknown.partial_images, tuple[ImageData, ...])
    assert_type(error.task, ResumableTask | None)
    assert_type(error.resume_token, str | None)
    assert_type(refused.retry_after, float | None)
    assert_type(lost.task_id, str | None)


async def emulated() -> None:
    async with Emulator(speed=60) as emu:
        assert_type(emu.base_url, str)
        assert_type(emu.fault("poll", Status(502), times=3), Fault)
    Emulator(studio=True, ledger_file=Path("ledger.jsonl")).faults.extend(parse_faults("[]"))


async def rows_of_a_batch(lemon: LemonSession) -> None:
    matrix = expand("a {colour} cat", colour=["red", "blue"], size=["512x512"])
    assert_type(matrix[0], Mapping[str, Any])
    assert_type(len(matrix), int)
    batch = lemon.batch("run.db", matrix, key=lambda row: row["colour"], price_usd={"flux-pro": 0.05})
    plan = await batch.plan()
    assert_type(plan, Plan)
    assert_type(plan.problems, tuple[Problem, ...])
    assert_type(plan.known, Mapping[State, int])
    assert_type(plan.price_usd, float)
    assert_type(plan.as_json(), dict[str, Any])
    lemon.batch("run.db", ["a cat", GenerateRequest("a dog"), {"prompt": "a hat"}], price_usd=lambda request: 0.04)
    lemon.batch("run.db", Path("rows.csv"), key="sku", price_usd="0.04")  # type: ignore[arg-type]
    lemon.batch("run.db", b"rows.csv")  # type: ignore[arg-type]
    expand("a cat", size=7)  # type: ignore[arg-type]


async def journal_of_a_batch() -> None:
    async with open_journal("run.db") as journal:
        assert_type(await journal.counts(), Mapping[State, int])
        assert_type(await journal.record(Change(key="A1", transition=Transition.NOT_SOLD)), State | None)
        done = await export(journal, Path("dataset"), format="webdataset")
        assert_type(done, Export)
        assert_type(Path(done), Path)
        await export(journal, "rows.xlsx", format="xlsx")  # type: ignore[arg-type]
        assert_type(await batch_sheet(journal, "sheet.html", title="Run"), Sheet)


async def watched_batch() -> None:
    async with watch_journal("run.db") as view:
        assert_type(view, BatchView)
        assert_type(await view.summary(), JournalSummary)
        assert_type(await view.rows(State.DONE, before=9, limit=60), Sequence[JournalRow])


async def outcomes_of_a_batch(lemon: LemonSession, journal: Journal) -> None:
    async with lemon.batch(journal, save="out/{key}", budget_usd=5, model=["flux-pro", "dall-e-3"]) as batch:
        assert_type(batch, Batch)
        async for outcome in batch:
            assert_type(outcome, BatchOutcome)
            assert_type(outcome.status, State)
            assert_type(outcome.paths, tuple[Path, ...])
            assert_type(outcome.columns, Mapping[str, Any])
            assert_type(outcome.error, Exception | None)
        assert_type(batch.counts, Mapping[State, int])
        assert_type(batch.spending, Spending)
        assert_type(await batch.doubtful(), Sequence[JournalRow])
    given = lemon.batch("postgresql://db/app", ["a cat"], only_given=True)
    assert_type(await given.add(), int)
    assert_type(await journal.runs(), int)


async def batches_on_ray() -> None:
    url = "postgresql://db/shop"
    summary = await run_batch(
        [{"sku": "A1", "prompt": "a cat"}],
        key="sku",
        journal=url,
        save="/shared/{key}",
        workers=8,
        requests_per_minute=1000,
        shared_limit="redis://cache",
        actor_options={"num_cpus": 0.5},
        model="flux-pro",
    )
    assert_type(summary, BatchSummary)
    assert_type(summary.counts, Mapping[State, int])
    assert_type(summary.failures, Mapping[str, int])
    await run_batch("rows.csv")  # type: ignore[call-arg]
    LemonGenerator(journal=url, key="sku", columns=["prompt"], model="flux-pro", price_usd=0.04)
    LemonGenerator(journal=url)  # type: ignore[call-arg]
