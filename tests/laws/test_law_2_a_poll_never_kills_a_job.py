"""Law 2. Whatever happens to a poll, the job lives until the service or the deadline ends it."""

import asyncio

import attrs
import orjson
import pytest

from lemon_async import LemonError, PollPolicy, TaskError, TaskTimeout, Timeouts
from lemon_async.emulator import (
    Answer,
    Blackhole,
    Body,
    Cut,
    Drip,
    Fail,
    Garbage,
    HalfClose,
    LateVisible,
    Redirect,
    Reset,
    Result,
    Script,
    Status,
    Stuck,
    Vanish,
)
from lemon_async.errors import AccessDenied, AuthenticationError, SessionError, TaskCancelled, TaskFailed, TaskLost

IN_A_ROW = 20
SOON = {"Retry-After": "0.001"}
FAULTS = [
    *(Status(status) for status in (500, 502, 503, 504, 408)),
    Status(429, headers=SOON),
    Status(429, "html", headers=SOON),
    Status(502, "html"),
    Status(404, "html"),
    Status(404, "empty"),
    Status(404, code="route_not_found"),
    Status(401, "empty"),
    Status(403, "html"),
    Status(400),
    Status(200, "html"),
    Status(200, "empty"),
    Status(200, "truncated"),
    Body(b"[]", "application/json"),
    Body(b'{"status": 7}', "application/json"),
    Redirect("/elsewhere"),
    Cut(10),
    Garbage(),
    Blackhole(),
    Drip(bytes_per_s=1),
    *(Reset(at) for at in ("request_head", "request_end", "response_head", "response_body")),
    HalfClose("response_body"),
]


@pytest.mark.parametrize("action", FAULTS, ids=str)
async def test_poll_fault_twenty_times_in_a_row_is_survived(connect, emulator, action):
    """After twenty faults in a row the job is still polled, and its images arrive."""
    fault = emulator.fault("poll", action, times=IN_A_ROW)
    polling = PollPolicy(min_gap_s=0.001, max_gap_s=0.002, deadline_s=120, lost_after_s=0.02)
    async with connect(timeouts=Timeouts(request_s=0.1), polling=polling) as session:
        images = await session.generate("tough", model="flux-pro")
    assert fault.hits == IN_A_ROW
    assert len(images) == 1
    assert emulator.ledger.sold == {"tough": 1}


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e400", "86400", "Wed, 21 Oct 2015 07:28:00 GMT", "x"])
async def test_poll_with_a_senseless_retry_after_is_repeated_within_bounds(connect, emulator, value):
    """An implausible `Retry-After` of a 5xx neither stops the polling nor causes a busy loop."""
    fault = emulator.fault("poll", Status(503, headers={"Retry-After": value}), times=3)
    async with connect() as session:
        await session.generate("patient", model="flux-pro")
    assert fault.hits == 3


async def test_unknown_status_counts_as_pending_and_is_warned_of_once(connect, emulator, caplog):
    """A status that this version does not know does not end the job."""
    emulator.fault("submit", Script(("pending", "dreaming", "dreaming", "dreaming", "completed")))
    async with connect() as session:
        await session.generate("novel", model="flux-pro")
    assert sum("dreaming" in record.getMessage() for record in caplog.records) == 1


async def test_task_that_is_visible_late_is_not_lost(connect, emulator):
    """A 404 right after creation may be replication lag."""
    emulator.fault("submit", LateVisible(polls=2))
    async with connect() as session:
        assert len(await session.generate("shy", model="flux-pro")) == 1


async def test_task_that_stays_unknown_is_lost_and_never_submitted_again(connect, emulator):
    """A 404 that repeats, often and long enough, ends the wait with `TaskLost`."""
    emulator.fault("submit", Vanish())
    async with connect() as session:
        with pytest.raises(TaskLost, match="is lost") as caught:
            await session.generate("gone", model="flux-pro")
    assert caught.value.task.id == caught.value.task_id
    assert sum(request.route == "poll" for request in emulator.requests) >= 3
    assert emulator.ledger.sold == {"gone": 1}


@pytest.mark.parametrize(
    "data", [[], [{"url": ""}], [{"revised_prompt": "only words"}], [{"url": None}, {}], ["http://x"]], ids=str
)
async def test_completed_without_a_usable_image_is_an_error(connect, emulator, data):
    """A success without an image is never returned as a result."""
    emulator.fault("submit", Result(data))
    async with connect() as session:
        with pytest.raises(TaskFailed, match="completed without a usable image"):
            await session.generate("empty", model="flux-pro")


async def test_completed_with_fewer_images_than_requested_returns_those(connect, emulator):
    """The images that arrived are paid for, and returned."""
    emulator.fault("submit", Result([{"url": "http://127.0.0.1:1/a.png"}, {"url": ""}]))
    async with connect() as session:
        assert len(await session.generate("some", model="flux-pro", n=2)) == 1


@pytest.mark.parametrize(
    ("action", "error", "words"),
    [
        (Fail("out of paint"), TaskFailed, "out of paint"),
        (Fail({"code": "no_paint", "message": "out of paint"}), TaskFailed, r"out of paint \(no_paint\)"),
        (Fail(None), TaskFailed, "gave no reason"),
        (Fail("stopped", cancelled=True), TaskCancelled, "was cancelled: stopped"),
    ],
    ids=str,
)
async def test_failed_task_has_its_reason_in_every_documented_form(connect, emulator, action, error, words):
    """The error may be a string, an object or missing."""
    emulator.fault("submit", action)
    async with connect() as session:
        with pytest.raises(error, match=words):
            await session.generate("fail", model="flux-pro")


async def test_first_terminal_answer_wins(connect, emulator):
    """A task that was completed does not become pending again."""
    emulator.fault("submit", Script(("completed", "pending")))
    async with connect() as session:
        task = await session.submit("fickle", model="flux-pro")
        images = await task
        task._update(task.snapshot.__class__(status="pending", task_id=task.id))
        assert task.status == "completed"
        assert await task is images


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (403, AccessDenied)])
async def test_poll_that_is_denied_raises_immediately_and_carries_the_task(connect, emulator, status, error):
    """A key without access does not gain it by repeating the poll."""
    fault = emulator.fault("poll", Status(status))
    async with connect() as session:
        with pytest.raises(error) as caught:
            await session.generate("denied", model="flux-pro")
    assert fault.hits == 1
    assert caught.value.task.id.startswith("ldtask_")


SHORT = PollPolicy(min_gap_s=0.005, max_gap_s=0.01, deadline_s=0.04, lost_after_s=0.0)


@pytest.mark.parametrize("action", [Stuck(), Fail("x"), Fail("x", cancelled=True), Vanish(), Result([])], ids=str)
async def test_every_error_after_acceptance_carries_the_task_and_resumes(connect, emulator, action):
    """No accepted job is lost: the error's token resumes the task."""
    emulator.fault("submit", action)
    async with connect(polling=SHORT) as session:
        with pytest.raises(LemonError) as caught:
            await session.generate("sold", model="flux-pro")
        error = caught.value
        assert error.task.id
        assert session.task(error.resume_token).id == error.task.id


async def test_deadline_ends_the_wait_and_reports_the_last_status(connect, emulator):
    """`TaskTimeout` says that the job may continue, and which failure came last."""
    emulator.fault("poll", Status(502, "html"))
    async with connect(polling=attrs.evolve(SHORT, deadline_s=2.0)) as session:
        with pytest.raises(TaskTimeout, match="may still finish and be billed") as caught:
            await session.generate("slow", model="flux-pro")
    assert "HTTP 502 with an HTML page" in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "succeeded", "data": [{"url": "http://127.0.0.1:1/a.png"}]},
        {"status": "processing", "data": [{"b64_json": "aGk="}]},
        {"status": "", "id": "chatcmpl-1", "data": [{"url": "http://127.0.0.1:1/a.png"}]},
    ],
    ids=str,
)
async def test_images_in_the_response_are_the_result_whatever_the_status(connect, emulator, answer):
    """Images that have arrived are returned; nothing is polled."""
    emulator.fault("submit", Body(orjson.dumps(answer), "application/json"))
    async with connect() as session:
        assert len(await session.generate("here", model="dall-e-3")) == 1
    assert not any(request.route == "poll" for request in emulator.requests)


async def test_task_with_an_unknown_status_is_polled_by_its_id(connect, emulator):
    """`queued` counts as pending: the task is polled."""
    emulator.fault("submit", Answer(status="queued", task_id=None, poll_url=None))
    async with connect() as session:
        assert len(await session.generate("queue", model="flux-pro")) == 1


async def test_task_keeps_the_address_of_its_creation(connect, emulator):
    """A poll response without `poll_url` and `model` does not change the token."""
    emulator.fault("poll", Body(b'{"status": "processing"}', "application/json"), times=1)
    async with connect() as session:
        task = await session.submit("address", model="midjourney")
        token, poll_url = task.resume_token(), task.poll_url
        async for snapshot in task.updates():
            if snapshot.status == "processing":
                break
        assert (task.resume_token(), task.poll_url) == (token, poll_url)
        assert (await task).task_id == task.id


async def test_task_whose_id_is_not_one_word_is_resumed_by_its_address(connect, emulator):
    """The library accepts every token that it creates."""
    emulator.fault("submit", Stuck(), Answer(task_id="job 1/é", id=None))
    async with connect() as session:
        task = await session.submit("odd id", model="flux-pro")
        assert session.task(task.resume_token()) is task
        with pytest.raises(SessionError, match="cannot be cancelled") as caught:
            await task.request_cancel()
        assert caught.value.task is task
    async with connect() as session:
        assert session.task(task.resume_token())._path == task._path


async def test_every_call_that_the_end_of_the_session_interrupts_carries_the_task(connect, emulator):
    """Waiting, cancelling and reading after the session has closed all raise with the token."""
    async with connect() as session:
        images = await session.generate("done", model="flux-pro")
        emulator.fault("submit", Stuck())
        task = await session.submit("open", model="flux-pro")
    for awaitable in (task.wait(), images[0].read()):
        with pytest.raises(SessionError) as caught:
            await awaitable
        assert caught.value.resume_token


async def test_poller_that_the_program_cancels_leaves_no_waiter(connect, emulator):
    """The usual shutdown idiom cancels every asyncio task: waiters raise, and later tasks are polled."""
    emulator.fault("submit", Stuck(), prompt="stuck")
    async with connect() as session:
        task = await session.submit("stuck", model="flux-pro")
        waiting = asyncio.create_task(task.wait())
        await asyncio.sleep(0)
        (runner,) = (one for one in asyncio.all_tasks() if one.get_name() == "lemon_async poller")
        runner.cancel()
        with pytest.raises(TaskError, match="was cancelled by the program") as caught:
            await asyncio.wait_for(waiting, 60)
        assert caught.value.resume_token == task.resume_token()
        assert len(await session.generate("later", model="flux-pro")) == 1


async def test_submit_response_with_odd_fields_loses_nothing(connect, emulator):
    """A paid task is polled by whichever field identifies it."""
    emulator.fault("submit", Answer(status=None, poll_url=None, created="soon", data="none"))
    async with connect() as session:
        assert len(await session.generate("odd", model="flux-pro")) == 1
