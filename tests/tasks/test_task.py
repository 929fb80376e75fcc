"""A task has many waiters, and one outcome: that of the first terminal response."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import pickle
import re
import time
import weakref

import anyio
import attrs
import pytest

from lemon_async import ContractError, GenerateRequest, TaskTimeout, VariationRequest
from lemon_async._api.resume_token import TaskReference, parse_reference
from lemon_async._tasks.task import ImageTask
from lemon_async.errors import SessionError, TaskCancelled, TaskFailed, TaskLost
from lemon_async.types import ImageData, Inline, TaskFault, TaskSnapshot

PENDING = TaskSnapshot(status="pending", task_id="ldtask_1", poll_url="/v1/tasks/ldtask_1", model="flux-pro")
WORKING = attrs.evolve(PENDING, status="processing", progress=40.0)
COMPLETED = attrs.evolve(PENDING, status="completed", images=(ImageData(url="https://cdn.test/1.png"),), created=5)
FAILED = attrs.evolve(PENDING, status="failed", fault=TaskFault("Blocked.", "content_policy"))
INLINE = TaskSnapshot(status="completed", images=(ImageData(inline=Inline(b"hi")),))


@attrs.define
class Owner:
    """A session that records the calls of its handles."""

    cancelled: list = attrs.field(factory=list)
    misuse: SessionError | None = None
    access = None

    def check_usable(self, task):
        if self.misuse is not None:
            raise self.misuse

    async def request_cancel(self, task):
        self.cancelled.append(task)
        task._update(attrs.evolve(FAILED, is_cancelled=True))


OWNER = Owner()


def make(snapshot=PENDING, owner=None, **options):
    return ImageTask(owner or Owner(), snapshot, **options)


async def start(*coroutines):
    """Run coroutines until they wait."""
    running = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    await asyncio.sleep(0)
    return running


# Attributes


def test_handle_tells_what_was_last_heard():
    request = GenerateRequest("a cat")
    task = make(WORKING, path="/v1/tasks/ldtask_1", request=request)
    assert (task.id, task.poll_url, task.status, task.progress) == (
        "ldtask_1",
        "/v1/tasks/ldtask_1",
        "processing",
        40.0,
    )
    assert (task._path, task.request, task.snapshot, task.done()) == ("/v1/tasks/ldtask_1", request, WORKING, False)


@pytest.mark.parametrize(
    ("snapshot", "shown"),
    [
        (PENDING, "<ImageTask ldtask_1 pending>"),
        (WORKING, "<ImageTask ldtask_1 processing>"),
        (COMPLETED, "<ImageTask ldtask_1 completed>"),
        (FAILED, "<ImageTask ldtask_1 TaskFailed>"),
        (INLINE, "<ImageTask answered inline completed>"),
    ],
    ids=str,
)
def test_repr_is_its_state(snapshot, shown):
    assert repr(make(snapshot)) == shown


def test_repr_names_the_failure_that_ended_it():
    task = make(WORKING)
    task._fail(TaskTimeout(task=task, reason="5 s have passed"))
    assert repr(task) == "<ImageTask ldtask_1 TaskTimeout>"


def test_handle_can_be_watched_without_being_kept():
    """Nothing else holds a task without waiters."""
    task = make(FAILED)
    watcher = weakref.ref(task)
    del task
    gc.collect()
    assert watcher() is None


# Outcomes


async def test_images_are_the_outcome_of_a_completed_task():
    task = make()
    task._update(COMPLETED)
    images = await task
    assert (len(images), images.task_id, images.created) == (1, "ldtask_1", 5)
    assert await task is images


async def test_inline_job_is_done_when_its_handle_is_created():
    """Awaiting it takes no iteration of the event loop."""
    task = make(INLINE)
    assert task.done()
    coroutine = task.wait()
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value.task_id is None


@pytest.mark.parametrize(
    ("snapshot", "error", "words"),
    [
        (FAILED, TaskFailed, r"task ldtask_1 failed: Blocked\. \(content_policy\)"),
        (attrs.evolve(FAILED, fault=None), TaskFailed, "task ldtask_1 failed: the service gave no reason"),
        (attrs.evolve(COMPLETED, images=()), TaskFailed, "failed: it completed without a usable image"),
        (attrs.evolve(FAILED, is_cancelled=True), TaskCancelled, r"task ldtask_1 was cancelled: Blocked\."),
        (attrs.evolve(FAILED, is_cancelled=True, fault=None), TaskCancelled, "the service gave no reason"),
        (attrs.evolve(FAILED, task_id=None), TaskFailed, r"task \(answered inline\) failed"),
    ],
    ids=lambda value: value.status if isinstance(value, TaskSnapshot) else None,
)
async def test_task_that_ends_without_images_says_why(snapshot, error, words):
    task = make(snapshot)
    with pytest.raises(error, match=words) as caught:
        await task
    assert caught.value.task is task
    assert caught.value.task_id == snapshot.task_id


async def test_code_of_the_failure_is_kept_apart():
    with pytest.raises(TaskFailed) as caught:
        await make(FAILED)
    assert (caught.value.reason, caught.value.code) == ("Blocked.", "content_policy")


async def test_error_survives_pickling_with_the_token_and_without_the_task():
    with pytest.raises(TaskFailed) as caught:
        await make(FAILED)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert (type(twin), str(twin), twin.task) == (TaskFailed, str(caught.value), None)
    assert parse_reference(twin.resume_token).task_id == "ldtask_1"


async def test_every_waiter_gets_an_exception_of_its_own():
    """A shared exception would collect the tracebacks of all waiters; the cause is shared."""
    task = make()
    cause = ValueError("underneath")
    failure = TaskLost(task=task, reason="gone")
    failure.__cause__ = cause
    waiters = await start(task.wait(), task.wait())
    task._fail(failure)
    one, two = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(one, TaskLost)
    assert one is not two
    assert one.__cause__ is two.__cause__ is cause


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda task: task._update(COMPLETED), lambda task: task._update(FAILED)),
        (lambda task: task._update(COMPLETED), lambda task: task._update(PENDING)),
        (lambda task: task._update(COMPLETED), lambda task: task._fail(TaskLost(task=task, reason="late"))),
        (lambda task: task._update(FAILED), lambda task: task._update(COMPLETED)),
        (lambda task: task._update(FAILED), lambda task: task._fail(TaskLost(task=task, reason="late"))),
        (lambda task: task._fail(TaskLost(task=task, reason="early")), lambda task: task._update(COMPLETED)),
        (
            lambda task: task._fail(TaskLost(task=task, reason="early")),
            lambda task: task._fail(TaskTimeout(task=task, reason="late")),
        ),
    ],
)
async def test_first_outcome_stays(first, second):
    task = make()

    async def outcome():
        try:
            return await task
        except (TaskFailed, TaskLost) as error:
            return str(error)

    first(task)
    before, snapshot = await outcome(), task.snapshot
    second(task)
    assert await outcome() == before
    assert task.snapshot == snapshot


# Waiting


async def test_many_waiters_are_served_by_one_answer():
    task = make()
    waiters = await start(*(task.wait() for _ in range(100)))
    task._update(COMPLETED)
    images = await asyncio.gather(*waiters)
    assert len({id(each) for each in images}) == 1


async def test_news_that_end_nothing_leave_waiters_waiting():
    task = make()
    (waiter,) = await start(task.wait())
    task._update(WORKING)
    await asyncio.sleep(0)
    assert not waiter.done()
    task._update(COMPLETED)
    assert len(await waiter) == 1


async def test_cancelled_waiter_leaves_nothing_behind_and_the_task_can_be_awaited_again():
    task = make()
    quitter, stayer = await start(task.wait(), task.wait())
    quitter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await quitter
    assert len(task._waiters) == 1
    task._update(COMPLETED)
    assert await stayer is await task
    assert not task._waiters


async def test_waiter_cancelled_at_the_moment_of_the_outcome_is_cancelled():
    """Cancellation is not swallowed by a simultaneous outcome."""
    task = make()
    (waiter,) = await start(task.wait())
    waiter.cancel()
    task._update(COMPLETED)
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert task.done()


async def test_second_change_before_a_waiter_runs_is_harmless():
    """Two responses within one iteration of the loop wake a waiter once."""
    task = make()
    (waiter,) = await start(task.wait())
    task._update(WORKING)
    task._update(COMPLETED)
    assert len(await waiter) == 1


@pytest.mark.parametrize("timeout", [0, 0.01])
async def test_wait_ends_after_its_time_and_the_task_does_not(timeout):
    task = make()
    with pytest.raises(TaskTimeout, match=f"{timeout:g} s have passed.*may still finish and be billed") as caught:
        await task.wait(timeout)
    assert caught.value.task is task
    assert caught.value.resume_token == task.resume_token()
    assert not task.done()
    assert not task._waiters
    task._update(COMPLETED)
    assert len(await task.wait(timeout)) == 1


async def test_wait_for_a_finished_task_takes_no_time():
    """Even a timeout of 0 suffices."""
    assert len(await make(COMPLETED).wait(timeout=0)) == 1


async def test_task_that_ends_in_the_iteration_of_the_timeout_is_a_result():
    """If both happen in one iteration of the loop, the images win: they are paid for."""
    task = make()
    waiting = asyncio.create_task(task.wait(0.01))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    loop.call_at(loop.time() + 0.02, task._update, COMPLETED)
    time.sleep(0.03)  # both timers are due in the next turn, first that of the wait
    assert len(await waiting) == 1


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), float("inf")])
@pytest.mark.parametrize("snapshot", [PENDING, COMPLETED], ids=["pending", "completed"])
async def test_time_that_is_none_is_refused(timeout, snapshot):
    with pytest.raises(ContractError, match="timeout: must be seconds, finite and not negative, not "):
        await make(snapshot).wait(timeout)


async def test_handle_of_a_session_that_cannot_be_used_says_so_instead_of_waiting():
    owner = Owner(misuse=SessionError(message="the session belongs to another event loop"))
    with pytest.raises(SessionError, match="another event loop"):
        await make(owner=owner)
    assert len(await make(COMPLETED, owner=owner)) == 1


# Updates


async def test_updates_yield_the_current_state_and_every_change_to_the_end():
    """A response without a change is not yielded."""
    task = make()
    seen = []

    async def watch():
        async for snapshot in task.updates():
            seen.append(snapshot)  # noqa: PERF401 - the test looks at what has come so far

    (watching,) = await start(watch())
    for snapshot in (PENDING, WORKING, attrs.evolve(WORKING, created=7), COMPLETED):
        task._update(snapshot)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await watching
    assert seen == [PENDING, WORKING, COMPLETED]


@pytest.mark.parametrize("snapshot", [COMPLETED, FAILED], ids=["completed", "failed"])
async def test_updates_of_what_is_over_are_its_last_word(snapshot):
    assert [seen async for seen in make(snapshot).updates()] == [snapshot]


async def test_updates_of_a_task_that_ends_without_a_word_raise():
    task = make(WORKING)
    seen = []
    task._fail(TaskLost(task=task, reason="gone"))

    async def watch():
        async for snapshot in task.updates():
            seen.append(snapshot)  # noqa: PERF401 - what was seen before the error matters

    with pytest.raises(TaskLost, match="is lost: gone"):
        await watch()
    assert seen == [WORKING]


async def test_updates_can_be_left_at_any_point():
    """A watcher that stops leaves nothing behind."""
    task = make()
    async with contextlib.aclosing(task.updates()) as updates:
        async for _ in updates:
            break
    (watching,) = await start(anext(watched := task.updates()))
    await watching
    (watching,) = await start(anext(watched))
    assert len(task._waiters) == 1
    watching.cancel()
    await asyncio.wait([watching])
    assert not task._waiters


async def test_garbage_collector_follows_one_object_per_handle_that_waits(no_drawing):
    """Thousands wait at a time, and a full collection visits everything that it follows."""
    gc.collect()
    before = len(gc.get_objects())
    tasks = [make(attrs.evolve(PENDING, task_id=f"ldtask_{number}"), OWNER) for number in range(100)]
    gc.collect()
    assert len(gc.get_objects()) - before <= len(tasks) + 10


async def test_garbage_collector_follows_two_objects_per_result_that_nobody_has_looked_at(no_drawing):
    """The images and the reference to their task."""
    tasks = [make(attrs.evolve(PENDING, task_id=f"ldtask_{number}"), OWNER) for number in range(100)]
    gc.collect()
    before = len(gc.get_objects())
    for task in tasks:
        task._update(attrs.evolve(COMPLETED, task_id=task.id))
    images = [await task for task in tasks]
    for _ in range(3):  # one level of nesting each
        gc.collect()
    assert len(gc.get_objects()) - before <= 2 * len(images) + 10


# As asyncio's future


async def test_outcome_of_a_completed_task_is_its_images():
    task = make(COMPLETED)
    assert task.result() is await task
    assert (task.exception(), task.done(), task.cancelled()) == (None, True, False)


def test_outcome_of_a_failed_task_is_raised_anew_for_each_caller():
    task = make(FAILED)
    with pytest.raises(TaskFailed, match="Blocked") as first:
        task.result()
    assert type(task.exception()) is TaskFailed
    assert task.exception() is not first.value
    assert (task.done(), task.cancelled()) == (True, False)


def test_task_that_was_cancelled_at_the_service_is_cancelled():
    task = make(attrs.evolve(FAILED, is_cancelled=True))
    assert (task.done(), task.cancelled(), type(task.exception())) == (True, True, TaskCancelled)


@pytest.mark.parametrize("ask", [ImageTask.result, ImageTask.exception])
def test_pending_task_has_no_outcome_yet(ask):
    with pytest.raises(asyncio.InvalidStateError, match="not over yet"):
        ask(make())
    assert not make().cancelled()


async def test_callback_is_called_soon_and_once():
    task, called = make(), []
    task.add_done_callback(called.append)
    task._update(WORKING)
    task._update(COMPLETED)
    task._update(FAILED)
    assert called == []
    await asyncio.sleep(0)
    assert called == [task]


async def test_callback_of_a_task_that_is_over_is_called_soon():
    task, called = make(COMPLETED), []
    task.add_done_callback(called.append)
    assert called == []
    await asyncio.sleep(0)
    assert called == [task]


async def test_callback_has_run_when_a_waiter_resumes():
    task, called = make(), []
    (waiter,) = await start(task.wait())
    task.add_done_callback(called.append)
    waiter.add_done_callback(lambda _: called.append("waiter"))
    task._update(COMPLETED)
    await waiter
    await asyncio.sleep(0)
    assert called == [task, "waiter"]


async def test_removed_callback_is_not_called():
    task, called = make(), []
    for _ in range(2):
        task.add_done_callback(called.append)
    assert (task.remove_done_callback(called.append), task.remove_done_callback(called.append)) == (2, 0)
    task._update(COMPLETED)
    await asyncio.sleep(0)
    assert called == []


async def test_callback_that_raises_goes_to_the_handler_of_the_loop_and_harms_no_other():
    reports, called, task = [], [], make()
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report["exception"]))
    task.add_done_callback(lambda _: 1 / 0)
    task.add_done_callback(called.append)
    task._update(COMPLETED)
    await asyncio.sleep(0)
    assert called == [task]
    assert [type(error) for error in reports] == [ZeroDivisionError]


async def test_callback_that_cannot_be_called_is_refused_when_it_is_added():
    """A loop in debug mode would refuse it when the task ends, in the middle of the poller."""

    async def later(task):
        raise NotImplementedError

    task = make()
    for callback in (None, "callback", later, functools.partial(later)):
        with pytest.raises(ContractError, match="callback: must be a "):
            task.add_done_callback(callback)


async def test_context_that_is_none_is_refused_when_it_is_given():
    """It would end uvloop when the task ends."""
    for context in (5, {}, "context"):
        with pytest.raises(ContractError, match=r"context: must be a contextvars\.Context, not "):
            make().add_done_callback(print, context=context)


async def test_callback_that_only_the_loop_refuses_harms_no_waiter():
    """Debug mode refuses whatever asyncio takes for a coroutine function."""
    reports, task, loop = [], make(), asyncio.get_running_loop()
    (waiter,) = await start(task.wait())
    marked = lambda _: 1 / 0  # noqa: E731 - it gets an attribute
    marked._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)
    task.add_done_callback(marked)
    loop.set_exception_handler(lambda _, report: reports.append(type(report["exception"])))
    loop.set_debug(True)
    try:
        task._update(COMPLETED)
        assert await waiter is task.result()
    finally:
        loop.set_debug(False)
    assert reports == [ZeroDivisionError]


async def test_callback_runs_in_the_context_in_which_it_was_added():
    """The poller, which ends the task, has an empty one."""
    user, seen, task = contextvars.ContextVar("user"), [], make()
    user.set("caller")
    task.add_done_callback(lambda _: seen.append(user.get()))
    other = contextvars.copy_context()
    other.run(user.set, "other")
    task.add_done_callback(lambda _: seen.append(user.get()), context=other)
    contextvars.Context().run(task._update, COMPLETED)
    await asyncio.sleep(0)
    assert seen == ["caller", "other"]


@pytest.mark.parametrize(
    "wait",
    [
        pytest.param(lambda task: asyncio.wait_for(task, 0.01), id="wait_for"),
        pytest.param(lambda task: asyncio.wait_for(asyncio.gather(task, task), 0.01), id="gather"),
        pytest.param(lambda task: asyncio.wait_for(asyncio.shield(task), 0.01), id="shield"),
        pytest.param(lambda task: next(asyncio.as_completed([task], timeout=0.01)), id="as_completed"),
        pytest.param(lambda task: task.wait(0.01), id="wait"),
    ],
)
async def test_timeout_around_a_task_ends_the_waiting_only(wait):
    task = make()
    with pytest.raises((TimeoutError, TaskTimeout)):
        await wait(task)
    assert not task.done()
    task._update(COMPLETED)
    assert await task is task.result()


async def test_scope_of_anyio_cancels_the_waiting_only():
    task = make()
    with anyio.move_on_after(0.01) as scope:
        await task
    assert scope.cancelled_caught
    task._update(COMPLETED)
    assert await task is task.result()


async def test_cancelled_task_group_leaves_the_job_running():
    task = make()
    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012 - the block is what is left
        async with asyncio.TaskGroup() as group:
            group.create_task(task.wait())
            raise ZeroDivisionError
    assert type(caught.value.exceptions[0]) is ZeroDivisionError
    assert not task.done()


async def test_functions_of_asyncio_take_a_task_as_an_awaitable():
    """`asyncio.wait` takes `asyncio.ensure_future(task)`, a task group `task.wait()`."""
    task = make()
    asyncio.get_running_loop().call_soon(task._update, COMPLETED)
    done, pending = await asyncio.wait([asyncio.ensure_future(task)])
    images = task.result()
    assert ([future.result() for future in done], pending) == ([images], set())
    assert await asyncio.gather(task, task) == [images, images]
    assert await asyncio.shield(task) is images
    assert await asyncio.wait_for(task, 60) is images
    assert [await future for future in asyncio.as_completed([task])] == [images]
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(task.wait())
    assert waiting.result() is images


# Cancelling and resuming


async def test_cancel_asks_the_service():
    owner = Owner()
    task = make(owner=owner)
    (waiter,) = await start(task.wait())
    await task.request_cancel()
    assert owner.cancelled == [task]
    with pytest.raises(TaskCancelled):
        await waiter


async def test_cancel_of_what_is_over_asks_nobody():
    owner = Owner(misuse=SessionError(message="closed"))
    await make(COMPLETED, owner=owner).request_cancel()
    assert owner.cancelled == []


async def test_cancel_of_a_session_that_cannot_be_used_says_so():
    with pytest.raises(SessionError, match="closed"):
        await make(owner=Owner(misuse=SessionError(message="closed"))).request_cancel()


def test_token_is_the_reference_of_the_task():
    assert parse_reference(make().resume_token()) == TaskReference("ldtask_1", "/v1/tasks/ldtask_1", "flux-pro")


def test_label_is_part_of_the_token_and_a_prompt_when_it_is_asked_for():
    """The caller has chosen the label for this; a prompt may be confidential."""
    task = make(request=GenerateRequest("a cat\non a mat", label="sku-17"))
    assert (task.label, task.prompt) == ("sku-17", "a cat\non a mat")
    plain, full = parse_reference(task.resume_token()), parse_reference(task.resume_token(with_prompt=True))
    assert (plain.label, plain.prompt) == ("sku-17", None)
    assert (full.label, full.prompt) == ("sku-17", "a cat\non a mat")


def test_resumed_task_keeps_the_fields_of_its_token():
    """Also in the tokens of its errors."""
    task = make(label="sku-17", prompt="a cat")
    assert (task.label, task.prompt, task.request) == ("sku-17", "a cat", None)
    reference = TaskReference("ldtask_1", "/v1/tasks/ldtask_1", "flux-pro", label="sku-17", prompt="a cat")
    assert TaskLost(task=task, reason="gone").resume_token == reference.token()


def test_variation_has_no_prompt_to_put_into_a_token():
    task = make(request=VariationRequest(image="cat.png", label="v1"))
    assert parse_reference(task.resume_token(with_prompt=True)).prompt is None


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"request": GenerateRequest("a cat", label="sku-17")}, " label='sku-17' prompt='a cat'"),
        ({"request": GenerateRequest("a\x1b[31m\ncat")}, r" prompt='a\x1b[31m\ncat'"),
        ({"request": GenerateRequest("x" * 500)}, f" prompt='{'x' * 79}…"),
        ({"prompt": "a cat"}, " prompt='a cat'"),
    ],
    ids=["label", "control characters", "long", "resumed"],
)
def test_repr_tells_equal_tasks_apart(options, shown):
    assert repr(make(**options)) == f"<ImageTask ldtask_1 pending{shown}>"


async def test_images_of_a_resumed_task_know_the_prompt_of_its_token():
    """File names contain it."""
    task = make(prompt="a cat")
    task._update(COMPLETED)
    images = await task
    assert images.prompt == images[0].prompt == "a cat"


def test_inline_answer_has_nothing_to_resume():
    with pytest.raises(SessionError, match="the service answered inline: there is no task to resume"):
        make(INLINE).resume_token()


# How long it took


async def test_seconds_are_those_from_the_submit_to_the_end():
    task = make(request=GenerateRequest("a cat"), began_at=time.monotonic() - 100)
    assert task.seconds is None
    task._update(WORKING)
    assert task.seconds is None
    task._update(COMPLETED)
    assert 100 <= task.seconds < 110
    assert task.seconds == task.seconds


async def test_seconds_of_a_task_that_ended_without_a_word_count_too():
    task = make(request=GenerateRequest("a cat"), began_at=time.monotonic())
    task._fail(TaskTimeout(task=task, reason="over"))
    assert 0 <= task.seconds < 60


@pytest.mark.parametrize("snapshot", [PENDING, COMPLETED, FAILED], ids=lambda snapshot: snapshot.status)
def test_resumed_task_does_not_know_when_it_began(snapshot):
    assert make(snapshot).seconds is None


def test_inline_answer_takes_as_long_as_it_took():
    task = make(INLINE, request=GenerateRequest("a cat"), began_at=time.monotonic() - 7)
    assert 7 <= task.seconds < 17


# In a notebook


def test_notebook_shows_what_is_known_of_a_running_task():
    task = make(WORKING, request=GenerateRequest("a cat", model="flux"), began_at=time.monotonic() - 12.2)
    rows = shown(task)
    assert 12 <= int(rows["age"].removesuffix(" s")) < 60
    assert rows == {
        "id": "ldtask_1",
        "status": "processing",
        "progress": "40.0",
        "age": rows["age"],
        "model": "flux",
        "prompt": "a cat",
    }


def test_notebook_shows_what_a_resumed_task_is():
    task = make(label="<sku>", prompt="a cat")
    assert shown(task) == {
        "id": "ldtask_1",
        "label": "&lt;sku&gt;",
        "status": "pending",
        "model": "flux-pro",
        "prompt": "a cat",
    }


def test_notebook_shows_how_a_task_ended():
    request = GenerateRequest("a cat")
    done = shown(make(attrs.evolve(COMPLETED, progress=100.0), request=request, began_at=time.monotonic() - 2))
    seconds = done.pop("seconds")
    assert re.fullmatch(r"\d+\.\d", seconds)
    assert 2 <= float(seconds) < 60
    assert done == {"id": "ldtask_1", "status": "completed", "model": "flux-pro", "prompt": "a cat"}
    failed = shown(make(FAILED))
    assert failed["error"].startswith("TaskFailed: task ldtask_1 failed: Blocked.")
    assert failed.keys() == {"id", "status", "model", "error"}
    assert shown(make(INLINE))["id"] == "answered inline"


def test_notebook_shows_a_part_of_a_very_long_prompt():
    assert len(shown(make(request=GenerateRequest("x" * 10**6)))["prompt"]) < 2000


@pytest.mark.parametrize("attack", ["<img src=x onerror=alert(1)>", '"><script>alert(1)</script>', "a\u202eb\0"])
def test_untrusted_text_is_escaped_in_a_notebook(attack):
    snapshot = attrs.evolve(FAILED, task_id=attack, model=attack, fault=TaskFault(attack, attack))
    for task in (make(snapshot), make(attrs.evolve(WORKING, status=attack), request=GenerateRequest(attack))):
        page = task._repr_html_()
        assert "<img" not in page
        assert "<script" not in page
        assert not set("\u202e\0") & set(page)


def shown(task):
    """Return the rows of what a notebook shows."""
    rows = re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", task._repr_html_(), re.DOTALL)
    return dict(rows)
