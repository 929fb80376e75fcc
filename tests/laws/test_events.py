"""The events of a session agree with what it counts and with the ledger, and a handler changes neither."""

import asyncio
import itertools
import pickle
import random
from collections import Counter, defaultdict
from contextlib import suppress

import pytest

from lemon_async import (
    LemonError,
    LemonSession,
    PollPolicy,
    RetryPolicy,
    SubmissionUnknown,
    TaskError,
    Timeouts,
)
from lemon_async.emulator import Blackhole, Emulator, Fail, Reset, Result, Status, Stuck
from lemon_async.events import (
    Accepted,
    Called,
    Completed,
    Downloaded,
    Failed,
    NotSent,
    OutcomeUnknown,
    Polled,
    RateLimitWaited,
    Refused,
    Resumed,
    RetryScheduled,
    Saved,
    Submitted,
)
from lemon_async.types import SubmissionCounts

ENDS = (Completed, Failed)
MONEY = ("settled", "released")
ANSWERS = (Accepted, Refused, NotSent, OutcomeUnknown)
# What may follow an event of the same job.
NEXT = {
    None: (Submitted, NotSent, Resumed),
    Submitted: ANSWERS,
    Refused: (RetryScheduled, Failed),
    NotSent: (RetryScheduled, Failed),
    OutcomeUnknown: (RetryScheduled, Failed),
    RetryScheduled: (Submitted, NotSent, Failed),
    Accepted: (Polled, *ENDS),
    Resumed: (Polled, *ENDS),
    Polled: (Polled, *ENDS),
    Completed: (),
    Failed: (),
}
QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=120, lost_after_s=0.02)
EAGER = RetryPolicy(max_elapsed_s=30, first_backoff_s=0.001, max_backoff_s=0.002)
FATES = [
    ("submit", Status(503, error={"retryable": True, "retry_after": 0.001})),
    ("submit", Status(502, "html")),
    ("submit", Status(402)),
    ("submit", Reset("request_head")),
    ("submit", Reset("response_body")),
    ("submit", Blackhole()),
    ("submit", Fail()),
    ("submit", Fail(cancelled=True)),
    ("submit", Result(())),
    ("submit", Stuck()),
    ("poll", Status(500)),
    ("poll", Reset("response_head")),
]
MODELS = ("flux-pro", "dall-e-3", "gpt-image-2")


def of(seen, *kinds):
    return [event for event in seen if isinstance(event, kinds)]


def names(events):
    return [type(event).__name__ for event in events]


def counted(seen):
    """Return what a session counts, by its events alone."""
    ended = [event for event in of(seen, *ENDS) if not isinstance(event, Failed) or event.money in MONEY]
    settled = [event for event in ended if isinstance(event, Completed) or event.money == "settled"]
    return SubmissionCounts(
        sold=len(of(seen, Accepted)),
        settled=len(settled),
        released=len(ended) - len(settled),
        unknown=len(of(seen, OutcomeUnknown)),
    )


def check_jobs(seen, *, are_over=True):
    """Every job has one end, and before that what may happen to it, in the order in which it can happen."""
    jobs = defaultdict(list)
    for event in seen:
        if getattr(event, "job", None) is not None:
            jobs[event.job].append(event)
    for events in jobs.values():
        for before, after in itertools.pairwise([None, *events]):
            kind = None if before is None else type(before)
            assert isinstance(after, NEXT[kind]), names(events)
        assert not are_over or isinstance(events[-1], ENDS), names(events)
    assert [event.at for event in seen] == sorted(event.at for event in seen)


async def test_life_of_a_job(connect, emulator, tmp_path):
    """From the request to the file, in order; all its events have the number of the job."""
    seen = []
    emulator.fault("submit", Status(429, headers={"Retry-After": "0"}), times=1)
    async with connect(on_event=seen.append, retry=EAGER) as session:
        images = await session.generate("a cat", model="flux-pro")
        await images[0].save(tmp_path / "cat.png")
    polls = of(seen, Polled)
    assert polls
    refused = ["Submitted", "RateLimited", "Refused", "RetryScheduled"]
    ended = ["Accepted", *["Polled"] * len(polls), "Completed", "Downloaded", "Saved"]
    assert [name for name in names(seen) if name != "RateLimitWaited"] == [*refused, "Submitted", *ended]
    accepted, completed, saved = of(seen, Accepted)[0], of(seen, Completed)[0], of(seen, Saved)[0]
    assert accepted.task_id == completed.task_id == saved.task_id == images.task_id
    assert (completed.images, completed.model, completed.seconds) == (1, "flux-pro", images.seconds)
    assert saved.path == str(tmp_path / "cat.png")
    assert saved.size_bytes == of(seen, Downloaded)[0].size_bytes > 0


async def test_free_requests_and_their_retries_are_events(connect, emulator):
    """They belong to no job."""
    seen = []
    emulator.fault("models", Status(500), times=1)
    async with connect(on_event=seen.append, retry=EAGER) as session:
        await session.models(category="image")
        with pytest.raises(LemonError):
            await session.model("no-such-model")
    assert names(seen) == ["Called", "RetryScheduled", "Called", "Called"]
    assert [event.status for event in of(seen, Called)] == [500, 200, 404]
    assert [event.path for event in of(seen, Called)] == ["/v1/models", "/v1/models", "/v1/models/no-such-model"]
    assert [event.error is None for event in of(seen, Called)] == [False, True, False]
    assert (seen[1].what, seen[1].job) == ("GET /v1/models", None)


async def test_waits_for_the_rate_limit_are_events(connect):
    seen = []
    async with connect(on_event=seen.append, requests_per_minute=600) as session:
        await asyncio.gather(*(session.generate("a cat", model="flux-pro") for _ in range(6)))
    waits = of(seen, RateLimitWaited)
    assert {"submit"} <= {event.kind for event in waits} <= {"submit", "poll"}
    assert all(event.seconds > 0 for event in waits)
    check_jobs(seen)


async def test_resumed_task_is_a_job_of_its_own(connect, emulator):
    """Also in the session that has given it up: then the first job ends as open, and the other one with images."""
    seen = []
    emulator.fault("submit", Stuck(), times=1)
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.01, deadline_s=0.02)
    async with connect(on_event=seen.append, polling=polling) as session:
        with pytest.raises(TaskError) as caught:
            await session.generate("a cat", model="flux-pro")
        resumed = session.task(caught.value.resume_token)
        assert session.task(caught.value.resume_token) is resumed
    assert names(event for event in seen if getattr(event, "job", None) == 2)[0] == "Resumed"
    ends = of(seen, Failed)
    assert [(event.job, event.money) for event in ends] == [(1, "open"), (2, "open")]
    assert ends[1].seconds is None
    assert str(ends[0].error) == str(caught.value)
    check_jobs(seen)


async def test_task_that_is_cancelled_after_it_has_timed_out_ends_once():
    """The session learns then that it is over, and has said before that it gave up."""
    seen = []
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.01, deadline_s=0.02)
    async with Emulator(speed=100, durations=10_000.0, cancellable=True) as emulator:
        options = {"base_url": emulator.base_url, "polling": polling, "on_event": seen.append}
        async with LemonSession(emulator.api_key, **options) as session:
            task = await session.submit("a cat", model="flux-pro")
            with pytest.raises(TaskError):
                await task
            await task.request_cancel()
    assert [event.money for event in of(seen, *ENDS)] == ["open"]
    check_jobs(seen)


LEFT = ["OutcomeUnknown", "Failed"]


@pytest.mark.parametrize(
    ("pieces", "rest", "money"),
    [
        ("preview final", ["Accepted", "Completed"], None),
        ("preview", LEFT, "open"),
        ("preview reset", LEFT, "open"),
        ("preview failed", ["Accepted", "Failed"], "released"),
    ],
)
async def test_stream_is_a_job(streaming, preview, final, pieces, rest, money):
    """Accepted when it has ended: until then, its outcome is unknown."""
    seen = []
    failed = b'event: error\ndata: {"error": {"message": "no", "code": "moderation"}}\n\n'
    made = {"preview": preview(), "final": final(), "reset": None, "failed": failed}
    session = await streaming(*(made[word] for word in pieces.split()), on_event=seen.append)
    async with session, session.stream("a cat", model="gpt-image-2", partial_images=1) as stream:
        with suppress(LemonError):
            async for _ in stream:
                pass
    assert names(seen) == ["Submitted", *rest]
    assert getattr(seen[-1], "money", None) == money
    assert counted(seen) == session.submission_counts


async def test_stream_that_is_left_early_is_a_job_with_an_unknown_outcome(streaming, preview, final):
    seen = []
    session = await streaming(preview(), final(), on_event=seen.append)
    async with session, session.stream("a cat", model="gpt-image-2", partial_images=1) as stream:
        async for _ in stream:
            break
    assert names(seen) == ["Submitted", *LEFT]
    assert counted(seen) == session.submission_counts


def pieces_of_work(session, chance):
    """Return functions that spend money, some of which leave early."""

    async def stream():
        async with session.stream("a cat", model="gpt-image-2", partial_images=1) as pictures:
            async for _ in pictures:
                if chance.random() < 0.3:
                    break

    async def collect():
        async with session.map([f"m{n}" for n in range(4)], model=chance.choice(MODELS), stop_on=None) as outcomes:
            async for _ in outcomes:
                if chance.random() < 0.1:
                    break

    async def generate():
        await session.generate("a cat", model=chance.choice(MODELS))

    return [chance.choice([generate, generate, stream, collect]) for _ in range(16)]


async def jumble(session, chance):
    """Do many things at random, cancel some of them, and perhaps close the session under the others."""
    works = [asyncio.create_task(work()) for work in pieces_of_work(session, chance)]
    for work in works:
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() * 0.02)
            work.cancel()
    if chance.random() < 0.5:
        await asyncio.wait(works, timeout=chance.random() * 0.05)
        await session.aclose()
    await asyncio.gather(*works, return_exceptions=True)


@pytest.mark.parametrize("seed", range(6))
async def test_counts_of_events_agree_with_the_session_and_the_ledger(connect, emulator, seed):
    """Number for number, whatever fails, is cancelled, or is cut off by closing."""
    chance, seen = random.Random(seed), []
    for route, action in FATES:
        emulator.fault(route, action, probability=0.08, seed=chance.randrange(1000))
    timeouts = Timeouts(connect_s=30, submit_s=0.4, request_s=0.4, close_s=1)
    polling = PollPolicy(min_gap_s=0.005, max_gap_s=0.02, deadline_s=1.0, lost_after_s=0.02)
    async with asyncio.timeout(120):
        async with connect(on_event=seen.append, timeouts=timeouts, polling=polling, retry=EAGER) as session:
            await jumble(session, chance)
        check_jobs(seen)
        assert counted(seen) == session.submission_counts
        assert len(session.unknown_submissions) == len(of(seen, OutcomeUnknown))
    reserved = {entry.task_id for entry in emulator.ledger.entries if entry.kind == "reserve" and entry.task_id}
    settled = {entry.task_id for entry in emulator.ledger.entries if entry.kind == "settle"}
    released = {entry.task_id for entry in emulator.ledger.entries if entry.kind == "release"}
    accepted = of(seen, Accepted)
    ids = [event.task_id for event in accepted if event.task_id]
    assert len(ids) == len(set(ids))
    assert set(ids) <= reserved
    sold = emulator.ledger.sold.total()
    assert len(accepted) <= sold <= len(accepted) + len(of(seen, OutcomeUnknown))
    assert {event.task_id for event in of(seen, Completed) if event.task_id} <= settled
    assert {event.task_id for event in of(seen, Failed) if event.money == "released" and event.task_id} <= released


def wrong(event):
    raise RuntimeError(f"no {type(event).__name__}")


async def everything(session, folder):
    """Reach every site that emits, and return what a program sees of that."""
    images = await session.generate("a cat", model="flux-pro")
    await images.save(folder, replace=True)
    inline = await session.generate("a cat", model="dall-e-3")
    async with session.stream("a cat", model="gpt-image-2", partial_images=1) as stream:
        kinds = [type(image).__name__ async for image in stream]
    async with session.map(["m1", "m2"], model="flux-pro", ordered=True) as outcomes:
        mapped = [outcome.error async for outcome in outcomes]
    async with session.batch(folder / "run.db", ["b1", "b2"], model="flux-pro", save=str(folder / "{key}")) as batch:
        rows = Counter([outcome.status async for outcome in batch])
    models = await session.models()
    with pytest.raises(SubmissionUnknown):
        await session.generate("unknown", model="flux-pro")
    task = await session.submit("a cat", model="midjourney")
    return len(images), len(inline), kinds, mapped, rows, len(models), task.status


async def test_handler_that_raises_at_every_site_changes_nothing(emulator, tmp_path, caplog):
    """Neither what a program sees nor what it pays; the first failure is logged with its traceback."""
    seen = []
    found = []
    for number, handlers in enumerate([None, [wrong, seen.append]]):
        emulator.fault("submit", Status(503, error={"retryable": True, "retry_after": 0.001}), times=2)
        emulator.fault("submit", Status(429, headers={"Retry-After": "0"}), times=1)
        emulator.fault("submit", Status(502, "html"), prompt="unknown", times=1)
        emulator.fault("poll", Status(500), times=1)
        options = {"base_url": emulator.base_url, "polling": QUICK, "retry": EAGER, "requests_per_minute": 60_000}
        folder = tmp_path / str(number)
        async with LemonSession(emulator.api_key, on_event=handlers, **options) as session:
            found.append((await everything(session, folder), session.submission_counts))
    assert found[0] == found[1]
    assert counted(seen) == found[1][1]
    check_jobs(seen)
    errors = [record for record in caplog.records if (record.name, record.levelname) == ("lemon_async", "ERROR")]
    assert len(errors) == 1
    others = {"RateLimited", "OutcomeUnknown", "Failed", "Called", "Downloaded", "Saved", "RowChanged", "BatchClosed"}
    assert others <= set(names(seen))
    assert "harms nothing" in errors[0].message


async def test_handler_may_call_into_the_session(connect):
    """It sees the state after what happened, and what it causes follows."""
    seen, tasks, states = [], [], []

    def handle(event):
        seen.append(event)
        if isinstance(event, Accepted):
            states.append(event.task_id in {task.id for task in session.pending})
            states.append(session.task(event.task_id) in session.pending)
        elif isinstance(event, Completed):
            states.append(event.task_id not in {task.id for task in session.pending})
            states.append(session.submission_counts == counted(seen))
            states.append(all(task.result() for task in tasks if task.id == event.task_id))
            if len(of(seen, Completed)) == 1:
                again.append(asyncio.create_task(session.submit("another cat", model="flux-pro")))
                session.task("ldtask_other")

    again = []
    order = []
    async with connect(on_event=[handle, order.append]) as session:
        tasks.append(await session.submit("a cat", model="flux-pro"))
        await tasks[0]
        await (await again[0])
    assert len(states) == 10
    assert all(states)
    assert order == seen
    assert of(seen, Resumed)
    check_jobs(seen)


async def test_key_is_in_no_event(connect, emulator, tmp_path):
    """Neither in a `repr` nor in a pickle, even of a response that quotes it."""
    seen = []
    quoting = {"message": emulator.api_key, "x": emulator.api_key}
    emulator.fault("submit", Status(402, error=quoting), times=1)
    emulator.fault("submit", Status(502, "html", headers={"x-key": emulator.api_key}), times=1)
    async with connect(on_event=seen.append) as session:
        for _ in range(2):
            with pytest.raises(LemonError):
                await session.generate("a cat", model="flux-pro")
        emulator.fault("submit", Status(502, "html"), prompt="unknown")
        await everything(session, tmp_path)
    assert {"Refused", "OutcomeUnknown", "Completed", "Saved", "Called"} <= set(names(seen))
    for event in seen:
        assert emulator.api_key not in repr(event)
        assert emulator.api_key.encode() not in pickle.dumps(event)
