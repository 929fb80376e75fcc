"""Laws 5 and 6. A task that is resumed has a handle of its own: late responses for older handles never end it."""

import asyncio

import orjson
import pytest

from lemon_async import LemonError, LemonSession, PollPolicy, RetryPolicy, TaskTimeout, Timeouts
from lemon_async.errors import AccessDenied, TaskCancelled
from servers import read_request

PATIENT = PollPolicy(min_gap_s=0.002, max_gap_s=0.005, deadline_s=120)
SHORT = PollPolicy(min_gap_s=0.002, max_gap_s=0.005, deadline_s=0.2)
CANCELLED = {"status": "failed", "error": "Task was cancelled", "cancelled": True, "cancellation_status": "cancelled"}
COMPLETED = {"status": "completed", "data": [{"url": "https://cdn.test/1.png"}]}
DENIED = 403, {"error": {"message": "Not now.", "type": "access_denied"}}
TOO_LATE = 409, {"error": {"message": "Too late.", "code": "task_not_cancellable"}}


class Service:
    """A raw server with one task; DELETEs, and polls while they are held, are answered when the test allows it."""

    def __init__(self):
        self.state = 200, {"status": "pending", "data": []}
        self.deletion = 200, CANCELLED
        self.deletes, self.polls = 0, 0
        self.may_delete, self.may_poll = asyncio.Event(), asyncio.Event()
        self.may_poll.set()

    async def serve(self, reader, writer):
        head, _ = await read_request(reader)
        status, body = await getattr(self, head.partition(" ")[0].lower())()
        content = orjson.dumps({"task_id": "job", "created": 1, **body})
        writer.write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
            % (status, len(content), content)
        )
        await writer.drain()

    async def post(self):
        return 200, {"status": "pending"}

    async def delete(self):
        self.deletes += 1
        await self.may_delete.wait()
        return self.deletion

    async def get(self):
        self.polls += 1
        state = self.state  # as it is when the question comes
        await self.may_poll.wait()
        return state


@pytest.fixture
async def service(listen):
    running = Service()
    running.origin = await listen(running.serve)
    return running


@pytest.fixture
def connect(service):
    """Open sessions on the service."""

    def open_session(polling):
        options = {"retry": RetryPolicy(max_elapsed_s=0), "timeouts": Timeouts(close_s=120)}
        return LemonSession("sk-x", base_url=service.origin, polling=polling, requests_per_minute=60_000, **options)

    return open_session


@pytest.fixture
async def session(connect):
    async with connect(PATIENT) as lemon:
        yield lemon


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def outcome_of(task):
    """Return how a task ends; one that is awaited forever fails the test."""
    async with asyncio.timeout(30):
        return (await asyncio.gather(task.wait(), return_exceptions=True))[0]


async def timed_out_while_it_is_polled(session, service):
    """Return a handle whose deadline passed during a poll; on a busy machine, it may pass before the first poll."""
    polls = service.polls
    async with asyncio.timeout(60):
        while service.polls == polls:
            task = session.task("job")
            assert isinstance(await outcome_of(task), TaskTimeout)
    return task


async def resumed_while_it_is_cancelled(session, service):
    """Return the ended handle, its `request_cancel()` in progress, and the handle that its token was resumed as.

    The handle ends without the task: by a poll that is refused, or by its deadline.
    """
    old = session.task("job")
    cancelling = asyncio.create_task(old.request_cancel())
    await until(lambda: service.deletes == 1)
    pending, service.state = service.state, DENIED
    error = await outcome_of(old)
    service.state = pending
    return old, cancelling, session.task(error.resume_token)


async def test_cancel_confirmed_after_a_resume_ends_the_new_handle_as_cancelled(service, session):
    """Both handles refer to one task, which the service has cancelled."""
    old, cancelling, new = await resumed_while_it_is_cancelled(session, service)
    assert new is not old
    service.may_delete.set()
    await cancelling
    assert isinstance(await outcome_of(new), TaskCancelled)
    assert isinstance(await outcome_of(old), AccessDenied)
    assert session.pending == ()


@pytest.mark.parametrize(
    "deletion",
    [(200, {"status": "processing"}), TOO_LATE, (502, {})],
    ids=["not over", "refused", "noise"],
)
async def test_cancel_refused_after_a_resume_leaves_the_new_handle_polled(service, session, deletion):
    """A response that does not end the task changes nothing: the new handle is polled to its end."""
    service.deletion = deletion
    _, cancelling, new = await resumed_while_it_is_cancelled(session, service)
    service.may_delete.set()
    await asyncio.gather(cancelling, return_exceptions=True)
    assert session.pending == (new,)
    assert new.status == "pending"
    service.state = 200, COMPLETED
    assert len(await outcome_of(new)) == 1


async def test_cancel_that_is_only_acknowledged_leaves_the_task_polled(service, session):
    """The service has accepted it; polls show how it ends."""
    service.deletion = 200, {"status": "processing"}
    service.may_delete.set()
    task = session.task("job")
    await task.request_cancel()
    assert (session.pending, task.done()) == ((task,), False)
    service.state = 200, CANCELLED
    assert isinstance(await outcome_of(task), TaskCancelled)


@pytest.mark.parametrize("deletion", [(200, CANCELLED), TOO_LATE], ids=["granted", "refused"])
async def test_task_that_was_resumed_after_its_deadline_ends_although_a_cancel_was_under_way(
    service, connect, deletion
):
    """The error's token gives a handle with a new deadline."""
    service.deletion = deletion
    async with connect(SHORT) as session:
        old = session.task("job")
        cancelling = asyncio.create_task(old.request_cancel())
        await until(lambda: service.deletes == 1)
        with pytest.raises(TaskTimeout) as caught:
            await old
        new = session.task(caught.value.resume_token)
        service.may_delete.set()
        await asyncio.gather(cancelling, return_exceptions=True)
        assert isinstance(await outcome_of(new), TaskTimeout | TaskCancelled)


@pytest.mark.parametrize("late", [COMPLETED, {"status": "failed"}, {"status": "processing"}], ids=str)
async def test_late_poll_of_the_old_handle_leaves_the_new_handle_polled(service, connect, late):
    """A late response to the old handle does not affect the new one, which is polled separately."""
    service.may_poll.clear()
    service.state = 200, late
    async with connect(SHORT) as session:
        old = await timed_out_while_it_is_polled(session, service)
        polls = service.polls
        new = session.task(old.resume_token())
        await until(lambda: service.polls > polls or new.done())
        service.may_poll.set()
        assert await outcome_of(new) is not None
        assert isinstance(await outcome_of(old), TaskTimeout)
        assert session.pending == ()


async def test_two_concurrent_resumes_share_a_handle(service, session):
    """However the task is named, it is polled once."""
    first = session.task("job")
    await until(lambda: service.polls)
    assert session.task("job") is session.task(first.resume_token()) is first
    service.state = 200, COMPLETED
    one, other = await asyncio.gather(outcome_of(first), outcome_of(session.task("job")))
    assert one is other


async def test_two_accepted_jobs_with_one_id_have_handles_that_both_end(service, session):
    """If the service responds to two paid requests with one task, each handle has its own request."""
    tasks = [await session.submit(prompt, model="flux-pro") for prompt in ("a cat", "a dog")]
    assert [task.request.prompt for task in session.pending] == ["a cat", "a dog"]
    service.state = 200, COMPLETED
    assert [(await outcome_of(task)).prompt for task in tasks] == ["a cat", "a dog"]
    assert session.pending == ()
    assert (session.submission_counts.sold, session.submission_counts.settled, session.submission_counts.open) == (
        2,
        2,
        0,
    )


async def test_cancels_of_both_handles_reach_the_service_and_end_the_task(service, session):
    """A handle that has timed out can still cancel its task, which continues at the service."""
    old, cancelling, new = await resumed_while_it_is_cancelled(session, service)
    second = asyncio.create_task(new.request_cancel())
    third = asyncio.create_task(old.request_cancel())
    await until(lambda: service.deletes == 3)
    service.may_delete.set()
    await asyncio.gather(cancelling, second, third)
    assert isinstance(await outcome_of(new), TaskCancelled)


async def test_closing_while_a_resumed_task_is_cancelled_ends_every_wait(service, session):
    """The cancel, the old handle and the new one all raise an error."""
    old, cancelling, new = await resumed_while_it_is_cancelled(session, service)
    waiting = asyncio.create_task(new.wait())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await session.aclose()
        ends = await asyncio.gather(cancelling, waiting, old.wait(), return_exceptions=True)
    assert all(isinstance(end, LemonError) for end in ends)


async def test_late_poll_that_outlives_its_handle_ends_with_the_session(service, connect):
    """The library leaves no asyncio task behind."""
    service.may_poll.clear()
    async with asyncio.timeout(60), connect(SHORT) as session:
        await timed_out_while_it_is_polled(session, service)
        polls = service.polls
        new = session.task("job")
        await until(lambda: service.polls > polls or new.done())
    assert new.done()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("lemon_async")]
