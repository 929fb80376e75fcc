"""Law 6, at every step. Each public coroutine is cancelled, and its session closed, wherever an asyncio task can be.

A step is what an asyncio task does between two awaits, be it the caller's, one of the library or one of the emulator,
which runs in the same event loop. A first run counts them; then one run after the other cancels at one of them: before
it, after it, or when what it waits for has come and it has not been resumed. `LEMON_EVERY_STEP=1` leaves none out.
"""

import asyncio
import gc
import inspect
import os
import sys
from collections import Counter
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest

from lemon_async import (
    EditRequest,
    Image,
    Images,
    ImageTask,
    LemonError,
    LemonSession,
    Outcomes,
    PollPolicy,
    RetryPolicy,
    Timeouts,
)
from lemon_async._tasks.stream import ImageStream
from lemon_async._uploads.stored_files import Files
from lemon_async.batch import Batch, State, open_journal
from lemon_async.emulator import Emulator, Expire, Stuck
from lemon_async.sheet import contact_sheet
from open_files import open_files

MOMENTS = ("before", "after", "arrived")
BOUND_S = 30  # also on a busy machine


@attrs.define(eq=False)
class Steps:
    """Counts the steps of all asyncio tasks of a loop, and acts once, at one of them."""

    taken: int = 0
    has_acted: bool = False
    _act: Any = None
    _moment: str = ""
    _at: int = -1
    _is_on: bool = False

    def watch(self, act=None, moment="", at=-1):
        """Start counting."""
        self.taken, self.has_acted, self._is_on = 0, False, True
        self._act, self._moment, self._at = act, moment, at

    def stop(self):
        """Stop counting and acting; return the number of steps."""
        self._is_on = False
        return self.taken

    def take(self, step, *args):
        """Run one step of a task."""
        if not self._is_on:
            return step(*args)
        number, self.taken = self.taken, self.taken + 1
        if number != self._at:
            return step(*args)
        if self._moment == "before":
            self._do()
        try:
            awaited = step(*args)
        finally:
            if self._moment == "after":
                self._do()
        if self._moment == "arrived" and awaited is not None:
            awaited.add_done_callback(self._do)  # it comes before the task's own, which resumes it
        return awaited

    def _do(self, _=None):
        if self._is_on:
            self.has_acted = True
            self._act()

    def factory(self, make):
        """Return a task factory whose tasks are counted."""

        def task(loop, coroutine, **options):
            # uvloop passes `eager_start=None`, which the factories of early releases of Python 3.13 do not accept
            options = {name: option for name, option in options.items() if option is not None}
            return make(loop, Stepped(coroutine, self), **options)

        return task


class Stepped(Coroutine):
    """A coroutine whose steps are counted."""

    def __init__(self, coroutine, steps):
        self._coroutine = coroutine
        self._steps = steps

    def send(self, value):
        return self._steps.take(self._coroutine.send, value)

    def throw(self, *failure):
        return self._steps.take(self._coroutine.throw, *failure)

    def close(self):
        self._coroutine.close()

    def __await__(self):
        return self

    def __getattr__(self, name):
        return getattr(self._coroutine, name)


FACTORIES = {"lazy": lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options)}
if sys.version_info >= (3, 12):
    FACTORIES["eager"] = asyncio.eager_task_factory
MOST_RUNS = 10_000 if os.environ.get("LEMON_EVERY_STEP") else 10 // len(FACTORIES)


@attrs.define(eq=False)
class Case:
    """One run: a session, the words of its requests, and what was prepared for it."""

    emulator: Emulator
    session: LemonSession
    prompt: str
    folder: Path
    picture: bytes
    large: bytes
    images: Images | None = None
    task: ImageTask | None = None
    stored: Any = None

    @property
    def small(self):
        """Return the arguments of an edit that is drawn quickly."""
        return {"image": self.picture, "model": "flux-pro"}


SUBJECTS = {}


def subject(*names, prepare=None, **options):
    """Register a way to use public coroutines, by their names."""

    def note(run):
        SUBJECTS[run.__name__] = (run, prepare, names, options)
        return run

    return note


async def with_images(case):
    """Serve links to pictures that are drawn once for all cases, and are larger than the first packet of a response."""
    case.images = await case.session.generate("prepared", model="flux-pro", n=2)


async def with_expired_images(case):
    await with_images(case)
    case.emulator.fault("cdn", Expire(), times=1)


async def with_bytes(case):
    case.images = await case.session.edit("prepared", image=case.picture, model="gpt-image-2", n=2)


async def with_task(case):
    case.task = await case.session.submit(case.prompt, **case.small)


async def with_stuck_task(case):
    case.emulator.fault("edit", Stuck(), prompt="^prepared stuck$")
    case.task = await case.session.submit("prepared stuck", **case.small)


async def with_file(case):
    case.stored = await case.session.files.upload(case.picture)


@subject("LemonSession.generate")
async def generate(case):
    await case.session.generate(case.prompt, model="flux-pro")


@subject("LemonSession.generate")
async def generate_inline_told_to_a_function(case):
    await case.session.generate(case.prompt, model="dall-e-2", size="256x256", progress=lambda progress: None)


@subject("LemonSession.edit")
async def edit(case):
    await case.session.edit(case.prompt, **case.small)


@subject("LemonSession.create_variation")
async def vary(case):
    await case.session.create_variation(case.picture, user=case.prompt)


@subject("LemonSession.submit")
async def submit(case):
    await case.session.submit(case.prompt, model="flux-pro")


@subject("LemonSession.submit")
async def submit_of_a_stream(case):
    """The stream is spooled in a temporary file."""

    async def pieces():
        for start in range(0, len(case.large), 500_000):
            yield case.large[start : start + 500_000]
            await asyncio.sleep(0)

    await case.session.submit(case.prompt, image=pieces(), model="flux-pro")


@subject("LemonSession.stream", "ImageStream.__anext__")
async def stream(case):
    wish = {"image": case.picture, "model": "gpt-image-2", "partial_images": 1}
    async with case.session.stream(case.prompt, **wish) as pictures:
        async for _ in pictures:
            pass


@subject("LemonSession.map", "Outcomes.__anext__")
async def map_(case):
    requests = [EditRequest(f"{case.prompt} {number}", **case.small) for number in range(3)]
    async with case.session.map(requests, in_flight=2) as outcomes:
        async for _ in outcomes:
            pass


@subject("Outcomes.aclose")
async def leave_a_map(case):
    requests = (EditRequest(f"{case.prompt} {number}", **case.small) for number in count())
    async with case.session.map(requests, in_flight=2) as outcomes:
        await anext(outcomes)
        await outcomes.aclose()


def small_rows(case):
    """Return rows of which two end in tasks and one is answered inline; all are drawn quickly."""
    models = ("flux-pro", "flux-pro", "dall-e-2")
    return [{"prompt": f"{case.prompt} {number}", "model": model} for number, model in enumerate(models)]


def small_batch(case):
    save = str(case.folder / "out" / "{key}")
    return case.session.batch(case.folder / "run.db", small_rows(case), save=save, size="256x256", in_flight=2)


@subject("LemonSession.batch", "Batch.__anext__")
async def batch(case):
    async with small_batch(case) as batch:
        async for _ in batch:
            pass


@subject("Batch.aclose", "Batch.add", "Batch.doubtful", "Batch.dead", "Batch.plan")
async def leave_a_batch(case):
    batch = small_batch(case)
    await batch.plan()
    await batch.add()
    async with batch:
        await anext(batch)
        await batch.doubtful()
        await batch.dead()
        await batch.aclose()


@subject("LemonSession.as_completed", prepare=with_task)
async def as_completed(case):
    async for _ in case.session.as_completed([case.task]):
        pass


@subject("ImageTask.wait", prepare=with_task)
async def await_a_task(case):
    await case.task


@subject("ImageTask.wait", prepare=with_task)
async def wait(case):
    await case.task.wait(timeout=5)


@subject("ImageTask.updates", prepare=with_task)
async def updates(case):
    async for _ in case.task.updates():
        pass


@subject("ImageTask.request_cancel", prepare=with_stuck_task)
async def cancel(case):
    await case.task.request_cancel()


@subject("Files.upload")
async def upload(case):
    await case.session.files.upload(case.picture)


@subject("Files.list", "Files.get", "Files.content", prepare=with_file)
async def files(case):
    await case.session.files.list()
    await case.session.files.get(case.stored)
    await case.session.files.content(case.stored)


@subject("Files.save", prepare=with_file)
async def save_a_stored_file(case):
    await case.session.files.save(case.stored, case.folder / "stored.png")


@subject("Files.delete", prepare=with_file)
async def delete(case):
    await case.session.files.delete(case.stored)


@subject("LemonSession.models", "LemonSession.model")
async def models(case):
    await case.session.models()
    await case.session.model("flux-pro")


@subject("Image.read", "Images.read", prepare=with_images)
async def read(case):
    await case.images.read()


@subject("Image.read", prepare=with_expired_images)
async def read_of_an_expired_link(case):
    await case.images[0].read()


@subject("Image.save", prepare=with_images)
async def save(case):
    await case.images[0].save(case.folder / "cat.png")


@subject("Image.save", prepare=with_expired_images)
async def save_of_an_expired_link(case):
    await case.images[0].save(case.folder / "cat.png")


@subject("Images.save", prepare=with_bytes)
async def save_of_bytes(case):
    await case.images.save(case.folder, "{model}/{index}")


@subject("Image.stream", prepare=with_images)
async def stream_an_image(case):
    async for _ in case.images[0].stream():
        pass


@subject("Image.stream", prepare=with_expired_images)
async def stream_of_an_expired_link(case):
    async for _ in case.images[0].stream():
        pass


@subject("contact_sheet", prepare=with_images)
async def sheet(case):
    await contact_sheet(case.images, case.folder / "sheet.html")


@subject("LemonSession.aclose", prepare=with_stuck_task)
async def aclose(case):
    await case.session.aclose()


def test_no_public_coroutine_is_left_out():
    """Every coroutine function and async generator that users can call is among the subjects."""
    public = {contact_sheet.__qualname__}
    for cls in (LemonSession, ImageTask, Image, Images, Files, Outcomes, ImageStream, Batch):
        for name, member in inspect.getmembers(cls):
            if inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member):
                public |= {f"{cls.__name__}.{name}"} if not name.startswith("_") or name == "__anext__" else set()
    public |= {f"LemonSession.{name}" for name in ("stream", "map", "batch", "as_completed")}
    assert public == {name for _, _, names, _ in SUBJECTS.values() for name in names}


class Laboratory:
    """Runs a subject again and again in one event loop, and looks at what each run leaves behind."""

    def __init__(self, emulator, steps, pictures, folder):
        self.emulator = emulator
        self.steps = steps
        self._pictures = pictures
        self._folder = folder
        self._numbers = count()

    @asynccontextmanager
    async def case(self, prepare):
        """Open and prepare a session, and check afterwards what it leaves behind."""
        number, before = next(self._numbers), asyncio.all_tasks()
        folder = self._folder / f"{number}"
        folder.mkdir()
        session = LemonSession(
            self.emulator.api_key,
            base_url=self.emulator.base_url,
            polling=PollPolicy(min_gap_s=0.002, max_gap_s=0.01, deadline_s=2 * BOUND_S),
            retry=RetryPolicy(max_elapsed_s=0),
            timeouts=Timeouts(**dict.fromkeys(("submit_s", "request_s", "download_s", "close_s"), 2 * BOUND_S)),
            requests_per_minute=600_000,
        )
        case = Case(self.emulator, session, f"case {number}", folder, *self._pictures)
        if prepare is not None:
            await prepare(case)
        try:
            yield case
        finally:
            self.emulator.clear_faults()
            await session.aclose()
        await self._nothing_is_left(case, before)

    async def _nothing_is_left(self, case, before):
        ends_at = asyncio.get_running_loop().time() + BOUND_S
        while (left := (self.emulator.connections, asyncio.all_tasks() - before)) != (0, set()):
            assert asyncio.get_running_loop().time() < ends_at, f"left behind: {left}"
            await asyncio.sleep(0)
        sold = Counter({job: sales for job, sales in self.emulator.ledger.sold.items() if job.startswith(case.prompt)})
        assert set(sold.values()) <= {1}, "sold twice"
        assert [path for path in case.folder.rglob("*") if path.name.startswith(".")] == []
        assert sold.total() <= case.session.submission_counts.sold + case.session.submission_counts.unknown
        if (case.folder / "run.db").exists():
            await self._journal_knows(case, sold)

    async def _journal_knows(self, case, sold):
        """What was sold is in the journal, and no row is doubtful whose request was not cut off."""
        async with open_journal(case.folder / "run.db") as journal:
            states = {orjson.loads(row.request)["prompt"]: row for row in await journal.rows()}
        counts = Counter(row.state for row in states.values())
        assert all(states[job].state in {State.SOLD, State.DONE, State.DOUBTFUL, State.DEAD} for job in sold), states
        assert counts[State.DOUBTFUL] <= case.session.submission_counts.unknown, states
        assert all(row.task for row in states.values() if row.state is State.SOLD), states


def moments_of(steps):
    """Return the moments of all steps of a run; of many, some that are spread evenly."""
    moments = [(moment, at) for at in range(steps) for moment in MOMENTS]
    if len(moments) <= MOST_RUNS:
        return moments
    return [moments[round(number * (len(moments) - 1) / (MOST_RUNS - 1))] for number in range(MOST_RUNS)]


def kinds_of_open_files():
    """Count the open files of this process by name, and sockets and pipes together.

    uvloop exchanges its own sockets between two runs, and opens /dev/null when it listens.
    """
    kinds = Counter()
    for name, number in open_files().items():
        kinds[name.partition("[")[0]] += number * (name != os.devnull)
    return kinds


@pytest.fixture(params=FACTORIES)
async def laboratory(request, picture, tmp_path):
    """A loop whose steps are counted, with lazy tasks and, from Python 3.12 on, with eager ones."""
    loop, steps, mishaps, before = asyncio.get_running_loop(), Steps(), [], kinds_of_open_files()
    async with Emulator(speed=6000, durations=12.0, cancellable=True) as emulator:
        loop.set_task_factory(steps.factory(FACTORIES[request.param]))
        loop.set_exception_handler(lambda _, context: mishaps.append(context))
        try:
            yield Laboratory(emulator, steps, (picture(mode="RGB"), picture(mode="RGB", pad_to=1_200_000)), tmp_path)
        finally:
            loop.set_task_factory(None)
            gc.collect()  # reports what was never retrieved, awaited or closed
            loop.set_exception_handler(None)
    assert mishaps == []
    async with asyncio.timeout(60):  # for a thread of the emulator that still draws
        while not kinds_of_open_files() <= before:
            await asyncio.sleep(0.001)


async def outcomes_of(laboratory, name, act):
    """Yield each run of a subject in which the act took place: the case, the task and the moment."""
    run, prepare, *_ = SUBJECTS[name]
    async with laboratory.case(prepare) as case:
        laboratory.steps.watch()
        await run(case)
        steps = laboratory.steps.stop()
    for moment, at in moments_of(steps):
        async with laboratory.case(prepare) as case:
            laboratory.steps.watch(partial(act, case), moment, at)
            task = asyncio.get_running_loop().create_task(run(case), name=case.prompt)
            await asyncio.wait([task], timeout=BOUND_S)
            laboratory.steps.stop()
            assert task.done(), f"hangs: {moment} {at}"
            if laboratory.steps.has_acted:
                yield case, task, f"{moment} {at} of {steps}"


@pytest.mark.parametrize("name", SUBJECTS)
async def test_cancelled_at_any_step_it_raises_and_forgets_no_accepted_job(laboratory, name):
    """`CancelledError` is raised, each accepted job is pending or unknown, and the session continues."""
    answers = []

    def cancel(case):
        running = [task for task in asyncio.all_tasks() if task.get_name() == case.prompt]
        answers.append(bool(running) and running[0].cancel())

    async for case, task, moment in outcomes_of(laboratory, name, cancel):
        if answers.pop():
            assert task.cancelled(), f"{moment}: {task}"
        engine = case.session._engine
        if engine.lifetime.is_closed:
            continue
        requests = [known.request for known in (*case.session.unknown_submissions, *case.session.pending)]
        known = {getattr(request, "prompt", request.user) for request in requests}
        assert {job for job in laboratory.emulator.ledger.open if job.startswith(case.prompt)} <= known, moment
        assert await case.session.files.list() is not None
        assert (engine.submissions.under_way, engine.downloads.under_way) == (0, 0), moment


@pytest.mark.parametrize("name", SUBJECTS)
async def test_session_that_is_closed_at_any_step_raises_an_error_of_the_library(laboratory, name):
    """Every call ends soon, and raises only `LemonError`s."""
    closing = []

    def close(case):
        closing.append(asyncio.get_running_loop().create_task(case.session.aclose()))

    async for _case, task, moment in outcomes_of(laboratory, name, close):
        failure = task.exception()
        assert failure is None or isinstance(failure, LemonError), f"{moment}: {failure!r}"
        await closing.pop()
