"""Tasks are resumed, found again and cancelled by the session that polls them."""

import asyncio

import pytest

from lemon_async import (
    ApiError,
    ContractError,
    LemonSession,
    PollPolicy,
    TransportError,
)
from lemon_async._api.resume_token import TaskReference
from lemon_async._http.emitter import IdlingHandler
from lemon_async._http.key import KEY_VARIABLE
from lemon_async._tasks.settings import BASE_URL_VARIABLE
from lemon_async.emulator import Answer, Emulator, Reset, Status, Stuck
from lemon_async.errors import AccessDenied, BadRequest, Conflict, NotFound, SessionError, TaskCancelled
from lemon_async.events import Accepted, Completed, JobEvent, Submitted

SLOW = PollPolicy(min_gap_s=1_200_000, max_gap_s=1_200_000)  # 200 s at the speed of the emulator
QUICK = PollPolicy(min_gap_s=0.005, max_gap_s=0.02)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No key and no address come from the machine that runs the tests."""
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(BASE_URL_VARIABLE, raising=False)


def routes(emulator):
    return [request.route for request in emulator.requests]


async def test_task_is_resumed_by_id_and_by_token(connect, emulator):
    """Another session, for instance in another process, starts to poll it."""
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="midjourney")
    while emulator.ledger.open:
        await asyncio.sleep(0)
    async with asyncio.timeout(60), connect(polling=SLOW) as session:
        by_token = session.task(task.resume_token())
        assert (by_token.id, by_token.poll_url, by_token.request) == (task.id, task.poll_url, None)
        assert len(await by_token) == 1
        assert len(await session.task(task.id)) == 1
    assert emulator.ledger.sold == {"a cat": 1}


async def test_task_that_is_waited_for_already_is_returned_as_it_is(connect, emulator):
    emulator.fault("submit", Stuck())
    async with connect(polling=SLOW) as session:
        other = await session.submit("a dog", model="flux-pro")
        task = await session.submit("a cat", model="flux-pro")
        assert session.task(task.id) is task
        assert session.task(task.resume_token()) is task
        assert session.pending == (other, task)


async def test_reference_that_is_none_is_refused(connect, emulator):
    async with connect() as session:
        with pytest.raises(ContractError, match="task: is neither a task id nor a resume token"):
            session.task("../models")
        assert session.pending == ()
    assert emulator.requests == []


async def test_token_with_neither_an_address_nor_an_id_to_poll_is_refused(connect, emulator):
    async with connect() as session:
        with pytest.raises(ContractError, match="task: cannot be polled: a task id is one word of printable ASCII"):
            session.task(TaskReference("two words", "//evil.test").token())
    assert emulator.requests == []


async def test_task_with_an_address_and_an_odd_id_is_polled_there_and_cannot_be_cancelled(serve, http_ok):
    """The service's address suffices for polling, but not for cancelling."""
    server = await serve(http_ok(b'{"status": "pending"}'))
    async with LemonSession("sk-x", base_url=server.origin, polling=QUICK) as session:
        task = session.task(TaskReference("two words", "/v1/jobs/7").token())
        await server.arrived.wait()
        with pytest.raises(SessionError, match="a task with such an id cannot be cancelled") as caught:
            await task.request_cancel()
        assert caught.value.task is task
    assert {head.split(" HTTP")[0] for head in server.heads} == {"GET /v1/jobs/7"}


async def test_token_with_a_hostile_address_polls_the_id(connect, emulator, serve, http_ok, caplog):
    """A token is untrusted: the key is not sent to the address in it."""
    other = await serve(http_ok(b"{}"))
    async with connect() as session:
        task = await session.submit("a cat", model="flux-pro")
        await task
        forged = TaskReference(task.id, f"{other.origin}/v1/tasks/{task.id}").token()
        with caplog.at_level("WARNING", logger="lemon_async"):
            assert len(await session.task(forged)) == 1
    assert other.heads == []
    assert "poll_url of the resume token refused (it leaves the API's origin)" in caplog.text


async def test_cancel_that_is_refused_raises_and_the_task_continues(connect, emulator):
    """Most image models cannot be cancelled."""
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        with pytest.raises(BadRequest, match="unsupported_task_cancel: flux-pro tasks cannot be cancelled") as caught:
            await task.request_cancel()
        assert caught.value.task is task
        assert caught.value.resume_token == task.resume_token()
        assert not task.done()
        assert session.pending == (task,)


async def test_cancel_that_is_granted_ends_the_task_and_gives_the_money_back():
    async with (
        Emulator(cancellable=True) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url, polling=SLOW) as session,
    ):
        task = await session.submit("a cat", model="flux-pro")
        waiting = asyncio.create_task(task.wait())
        await task.request_cancel()
        assert repr(task) == f"<ImageTask {task.id} TaskCancelled prompt='a cat'>"
        with pytest.raises(TaskCancelled, match="was cancelled: Task was cancelled"):
            await waiting
        assert session.pending == ()
        await task.request_cancel()
        assert routes(emulator) == ["submit", "cancel"]
        assert emulator.ledger.released == {"a cat": 1}


async def test_cancel_that_comes_too_late_is_a_conflict():
    async with (
        Emulator(cancellable=True, durations=0) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url, polling=SLOW) as session,
    ):
        task = await session.submit("a cat", model="flux-pro")
        with pytest.raises(Conflict, match="task_not_cancellable"):
            await task.request_cancel()
        assert not task.done()


async def test_cancel_of_what_is_not_ours_is_refused():
    async with (
        Emulator(cancellable=True) as emulator,
        LemonSession(emulator.api_key, base_url=emulator.base_url, polling=SLOW) as owner,
        LemonSession(emulator.add_key("sk-other"), base_url=emulator.base_url, polling=SLOW) as other,
    ):
        task = await owner.submit("a cat", model="flux-pro")
        with pytest.raises(AccessDenied, match="another account"):
            await other.task(task.id).request_cancel()
        with pytest.raises(NotFound, match="async_task_not_found"):
            await other.task("ldtask_unknown").request_cancel()


async def test_cancel_that_the_service_only_acknowledges_leaves_the_task_pending(connect, emulator, serve, http_ok):
    """A task that is still reported as pending is polled."""
    pending = http_ok(b'{"task_id": "ldtask_1", "status": "pending", "data": []}')
    server = await serve(pending)
    async with LemonSession("sk-x", base_url=server.origin, polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        await task.request_cancel()
        assert session.pending == (task,)
    assert server.heads[1].startswith("DELETE /v1/tasks/ldtask_1 ")


async def test_cancel_without_an_answer_can_be_asked_again_and_carries_the_task(connect, emulator):
    emulator.fault("cancel", Reset("request_end"))
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        with pytest.raises(TransportError, match="DELETE /v1/tasks/ldtask_") as caught:
            await task.request_cancel()
        assert caught.value.task is task
        assert caught.value.__cause__ is not None


async def test_cancel_with_an_answer_that_cannot_be_read_is_an_api_error(connect, emulator):
    emulator.fault("cancel", Status(200, "html"))
    async with connect(polling=SLOW) as session:
        task = await session.submit("a cat", model="flux-pro")
        with pytest.raises(ApiError, match="HTTP 200: the response is an HTML page"):
            await task.request_cancel()
        assert not task.done()


async def test_two_accepted_jobs_with_one_id_keep_their_own_requests(connect, emulator):
    """If the service responds to two submits with one id, each caller has a separate handle."""
    emulator.fault("submit", Answer(task_id="ldtask_same", id="ldtask_same", poll_url=None), Stuck())
    async with connect(polling=SLOW) as session:  # polls of that id are refused
        handles = [await session.submit(prompt, model="flux-pro") for prompt in ("one", "two")]
        assert [handle.request.prompt for handle in handles] == ["one", "two"]
        assert session.pending == tuple(handles)
        assert session.task("ldtask_same") is handles[1]


class Idling(IdlingHandler):
    """A handler that is idle until a test says otherwise."""

    def __init__(self):
        self.idle = True
        self.seen = []

    def is_idle(self):
        return self.idle

    def __call__(self, event):
        self.seen.append(event)


async def test_job_that_begins_while_nothing_wants_events_has_none(connect):
    """Not even when it ends; a job that begins later has all of its events."""
    handler = Idling()
    async with connect(polling=QUICK, on_event=handler) as session:
        task = await session.submit("a cat", model="midjourney")
        handler.idle = False
        await task
        assert [event for event in handler.seen if isinstance(event, JobEvent)] == []
        await session.generate("a dog", model="midjourney")
    kinds = [type(event) for event in handler.seen if isinstance(event, JobEvent)]
    assert (kinds[:2], kinds[-1]) == ([Submitted, Accepted], Completed)
    assert {event.job for event in handler.seen if isinstance(event, JobEvent)} == {1}
