"""Tasks that are unfinished when a session is closed or a map is left are listed once, in the log and in a note."""

import asyncio
import gc
import logging
import pickle
import weakref

import anyio
import attrs
import pytest

from lemon_async import GenerateRequest, TaskTimeout
from lemon_async._tasks.task import ImageTask
from lemon_async._tasks.unfinished import SESSION_CLOSED, UnreadOutcomes, log_unfinished, report_unfinished
from lemon_async.emulator import Fail, Status, Stuck
from lemon_async.errors import SessionError
from lemon_async.events import Completed
from lemon_async.types import TaskSnapshot

MODEL = "flux-pro"
INLINE = "dall-e-3"


@pytest.fixture(autouse=True)
def log(library_log):
    """What the library logs."""
    library_log.set_level(logging.INFO, logger="lemon_async")
    return library_log


def warnings(log):
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


def notes(error):
    return getattr(error, "__notes__", [])


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def make(task_id="ldtask_1", status="pending", label=None, **fields):
    snapshot = TaskSnapshot(status=status, task_id=task_id, **fields)
    return ImageTask(None, snapshot, label=label)


def left_by(error, *tasks):
    with report_unfinished(lambda: tasks, SESSION_CLOSED, error):
        pass
    return notes(error)


# Closing a session


async def test_closing_lists_what_is_not_over_and_keeps_it_readable(connect, emulator, log):
    """The pictures are paid for: the ids are in the log, the handles in `pending`, the tokens in the errors."""
    emulator.fault("submit", Stuck(), prompt="stuck")
    async with connect() as session:
        await session.generate("done", model=MODEL)
        tasks = [await session.submit(f"stuck {number}", model=MODEL, label=f"sku-{number}") for number in range(2)]
    assert session.pending == tuple(tasks)
    assert "2 tasks pending" in repr(session)
    (warning,) = warnings(log)
    assert warning == (
        "the session was closed before all accepted tasks had ended. They continue and are billed, are listed in "
        "session.pending, and can be resumed in another session with session.task(id). "
        f"2 tasks: {tasks[0].id} (sku-0), {tasks[1].id} (sku-1)"
    )
    await session.aclose()
    assert session.pending == tuple(tasks)
    assert len(warnings(log)) == 1
    with pytest.raises(SessionError, match=rf"task {tasks[0].id} \(sku-0\) can be resumed by its resume_token\(\)"):
        await tasks[0]


@pytest.mark.parametrize("prompt", ["done", "bad"])
async def test_closing_when_everything_is_over_says_nothing(connect, emulator, log, prompt):
    emulator.fault("submit", Fail("no luck"), prompt="bad")
    with pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012 - the block is what is left
        async with connect() as session:
            await asyncio.gather(session.generate(prompt, model=MODEL), return_exceptions=True)
            raise ZeroDivisionError
    assert (session.pending, notes(caught.value), warnings(log)) == ((), [], [])


@pytest.mark.parametrize(
    "error", [ValueError(), asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3)], ids=repr
)
async def test_exception_that_leaves_a_session_has_a_note(connect, emulator, error):
    emulator.fault("submit", Stuck())
    with pytest.raises(type(error)) as caught:  # noqa: PT012 - likewise
        async with connect() as session:
            task = await session.submit("stuck", model=MODEL)
            raise error
    (note,) = notes(caught.value)
    assert note.startswith("the session was closed before all accepted tasks had ended.")
    assert note.endswith(f" 1 task: {task.id}")


async def test_cancelled_session_has_its_note_where_cancelling_ends(connect, emulator):
    """`generate` was waiting: only the session knows its task."""
    emulator.fault("submit", Stuck())
    opened = []

    async def run():
        async with connect() as session:
            opened.append(session)
            await session.generate("stuck", model=MODEL)

    running = asyncio.create_task(run())
    await until(lambda: opened and opened[0].pending)
    running.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await running
    (task,) = opened[0].pending
    assert task.id in notes(caught.value)[0]


async def test_task_of_the_exception_itself_needs_no_note(connect, emulator):
    """Its message names the task and how to resume it."""
    emulator.fault("submit", Stuck())
    with pytest.raises(TaskTimeout) as caught:
        async with connect() as session:
            await (await session.submit("stuck", model=MODEL)).wait(timeout=0)
    assert notes(caught.value) == []


@pytest.mark.parametrize("turns", range(8))
async def test_task_that_is_sold_while_the_session_closes_is_listed(connect, emulator, log, turns):
    """Whenever the response comes, it becomes a `SubmissionUnknown`, or a task in `pending` and in the log."""
    async with connect() as session:
        submitting = asyncio.create_task(session.submit("a cat", model=MODEL))
        await until(lambda: emulator.ledger.sold)
        for _ in range(turns):
            await asyncio.sleep(0)
    (outcome,) = await asyncio.gather(submitting, return_exceptions=True)
    if isinstance(outcome, ImageTask):
        assert session.pending == (outcome,)
        assert [text.endswith(f"1 task: {outcome.id}") for text in warnings(log)] == [True]
    else:
        assert session.unknown_submissions


# Leaving a map


async def leave(session, error, *, count=3, model=MODEL, read=0, is_done=False):
    """Leave a map by an exception after all jobs were accepted."""
    async with session.map([f"p{index}" for index in range(count)], model=model) as outcomes:
        await until(lambda: len(outcomes.pending) == count)
        await until(lambda: not is_done or all(task.done() for task in outcomes.pending))
        for _ in range(read):
            await anext(outcomes)
        if error is not None:
            raise error
    return outcomes


@pytest.mark.parametrize("error", [ValueError(), asyncio.CancelledError(), KeyboardInterrupt()], ids=repr)
async def test_exception_that_leaves_a_map_has_a_note_and_the_log_a_warning(connect, emulator, log, error):
    """The session continues and does not warn a second time."""
    emulator.fault("submit", Stuck())
    async with connect() as session:
        with pytest.raises(type(error)) as caught:
            await leave(session, error)
        tasks = session.pending
    (note,) = notes(caught.value)
    assert note.startswith("the map was left before the outcomes of all accepted tasks had been read.")
    assert note.endswith(f" 3 tasks: {', '.join(task.id for task in tasks)}")
    assert warnings(log) == [note]


async def test_finished_outcomes_that_were_not_read_count(connect, log):
    """Their pictures are paid for; outcomes that were read are not listed."""
    async with connect() as session:
        with pytest.raises(ValueError, match="oops") as caught:
            await leave(session, ValueError("oops"), read=1, is_done=True)
    (note,) = notes(caught.value)
    assert " 2 tasks: ldtask_" in note
    assert warnings(log) == [note]


async def test_inline_outcomes_that_were_not_read_are_counted(connect):
    """They have no id to resume."""
    async with connect() as session:
        with pytest.raises(ValueError, match="oops") as caught:
            await leave(session, ValueError("oops"), model=INLINE, is_done=True)
    assert notes(caught.value)[0].endswith(" 3 tasks: 3 answered inline, without an id")


async def test_failed_jobs_are_not_listed(connect, emulator, log):
    """The service refunds them."""
    emulator.fault("submit", Fail("no luck"))
    async with connect() as session:
        with pytest.raises(ValueError, match="oops") as caught:
            await leave(session, ValueError("oops"), is_done=True)
    assert (notes(caught.value), warnings(log)) == ([], [])


async def test_map_that_was_read_to_its_end_says_nothing(connect, log):
    async with connect() as session:
        with pytest.raises(ValueError, match="oops") as caught:
            await leave(session, ValueError("oops"), read=3)
    assert (notes(caught.value), log.messages) == ([], [])


async def test_leaving_a_map_early_is_a_warning_and_closing_the_session_no_second_one(connect, emulator, log):
    """A web service may never close its session; what the map has listed is not listed again."""
    emulator.fault("submit", Stuck())
    async with connect() as session:
        outcomes = await leave(session, None)
        alone = await session.submit("alone", model=MODEL)
    assert "3 pending" in repr(outcomes)
    left, closed = warnings(log)
    assert left.endswith(f" 3 tasks: {', '.join(task.id for task in outcomes.pending)}")
    assert closed.endswith(f" 1 task: {alone.id}")


async def test_nested_blocks_name_each_task_once(connect, emulator, log):
    """The map's tasks are in its note, the session's note has the others."""
    emulator.fault("submit", Stuck())
    with pytest.raises(ValueError, match="oops") as caught:  # noqa: PT012 - likewise
        async with connect() as session:
            alone = await session.submit("alone", model=MODEL)
            await leave(session, ValueError("oops"))
    inner, outer = notes(caught.value)
    assert "3 tasks: " in inner
    assert outer.endswith(f" 1 task: {alone.id}")
    assert alone.id not in inner
    assert warnings(log) == [inner, outer]


async def test_tasks_noted_in_a_group_are_not_noted_again(connect, emulator):
    """A task group around the map wraps its exception."""
    emulator.fault("submit", Stuck())
    with pytest.raises(BaseExceptionGroup) as caught:
        async with connect() as session, asyncio.TaskGroup() as group:
            group.create_task(leave(session, ValueError("oops")))
    assert len(notes(caught.value.exceptions[0])) == 1
    assert notes(caught.value) == []


async def test_exception_that_was_caught_hides_nothing_from_the_next_one(connect, emulator):
    """Tasks in the note of an exception that was caught are named again in the note of the next one."""
    emulator.fault("submit", Stuck())
    with pytest.raises(KeyError) as caught:  # noqa: PT012 - likewise
        async with connect() as session:
            with pytest.raises(ValueError, match="oops"):
                await leave(session, ValueError("oops"))
            raise KeyError
    assert " 3 tasks: " in notes(caught.value)[0]


async def test_map_left_in_a_cancelled_scope_is_logged(connect, emulator, log):
    """The scope swallows the exception and its note."""
    emulator.fault("submit", Stuck())
    async with connect() as session:
        with anyio.CancelScope() as scope:
            async with session.map(["p"], model=MODEL) as outcomes:
                await until(lambda: outcomes.pending)
                scope.cancel()
                await anext(outcomes)
        assert len(warnings(log)) == 1


async def test_second_cancel_carries_the_note(connect, emulator):
    """It is the exception that propagates."""
    emulator.fault("submit", Stuck(), prompt="sold")
    gate = asyncio.Event()

    async def stubborn():
        yield "sold"
        try:
            await asyncio.Event().wait()
        finally:
            await gate.wait()

    async def run(session):
        async with session.map(stubborn(), model=MODEL) as outcomes:
            await anext(outcomes)

    async with connect() as session:
        running = asyncio.create_task(run(session))
        await until(lambda: session.pending)
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0.001)
        with pytest.raises(asyncio.CancelledError) as caught:
            await running
        gate.set()
    assert " 1 task: " in notes(caught.value)[0]


async def test_generator_that_is_closed_around_a_map_is_logged(connect, emulator, log):
    """Its consumer has stopped reading, and what was sold is nowhere else."""
    emulator.fault("submit", Stuck())

    async def pictures(session):
        async with session.map(["p"], model=MODEL) as outcomes:
            await until(lambda: outcomes.pending)
            yield outcomes

    async with connect() as session:
        reading = pictures(session)
        await anext(reading)
        await reading.aclose()
        assert len(warnings(log)) == 1


# Outcomes that were not read


async def ended(session, prompt="a cat", model=MODEL):
    """Return a task that has ended, without reading its outcome."""
    task = await session.submit(prompt, model=model)
    await until(task.done)
    return task


async def read_by_await(session):
    await asyncio.gather(await session.submit("a cat", model=MODEL))


async def read_by_waiting(session):
    await (await session.submit("a cat", model=MODEL)).wait(timeout=60)


async def read_by_result(session):
    (await ended(session)).result()


async def read_by_exception(session):
    (await ended(session, model=INLINE)).exception()


async def read_by_callback(session):
    called = []
    (await session.submit("a cat", model=MODEL)).add_done_callback(called.append)
    await until(lambda: called)


async def read_by_late_callback(session):
    called = []
    (await ended(session)).add_done_callback(called.append)
    await until(lambda: called)


async def read_by_updates(session):
    async for snapshot in (await session.submit("a cat", model=MODEL)).updates():
        if snapshot.is_done:
            break


async def read_as_completed(session):
    async for _ in session.as_completed([await session.submit("a cat", model=MODEL)]):
        pass


async def read_from_a_map(session):
    async with session.map(["a cat"], model=MODEL) as outcomes:
        await anext(outcomes)


async def read_by_another_handle(session):
    task = await ended(session)
    await session.task(task.id)


async def fail(session):
    await ended(session, "bad")


READERS = [
    read_by_await, read_by_waiting, read_by_result, read_by_exception, read_by_callback, read_by_late_callback,
    read_by_updates, read_as_completed, read_from_a_map, read_by_another_handle, fail,
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
async def test_outcome_that_was_read_is_not_listed(connect, emulator, log, read):
    """However it was read; nor are jobs that failed, which are refunded."""
    emulator.fault("submit", Fail("no luck"), prompt="bad")
    async with connect() as session:
        await read(session)
    assert warnings(log) == []


async def test_outcomes_that_were_not_read_are_listed_when_the_session_is_closed(connect, log):
    """They are paid for: one whose handle nobody kept, one whose waiter was cancelled, one that was only looked at."""
    async with connect() as session:
        ids = [(await ended(session)).id]
        asked = asyncio.create_task(session.generate("a cat", model=MODEL))
        await until(lambda: session.pending)
        (task,) = session.pending
        asked.cancel()
        await until(task.done)
        looked_at = await ended(session)
        assert looked_at.status == "completed"
        assert repr(looked_at)
        ids += [task.id, looked_at.id]
    (warning,) = warnings(log)
    assert warning == (
        "the session was closed before the outcomes of all tasks that had ended were read. They can be read in another "
        f"session with session.task(id). 3 tasks: {', '.join(ids)}"
    )
    assert log.records[-1].task_ids == ids


async def test_events_do_not_read_outcomes(connect, log):
    """A program that counts jobs by `on_event` may still lose their pictures."""
    seen = []
    async with connect(on_event=seen.append) as session:
        task = await ended(session)
    assert Completed in map(type, seen)
    assert [text.endswith(f"1 task: {task.id}") for text in warnings(log)] == [True]


async def test_inline_answers_that_were_not_read_are_counted_when_the_session_is_closed(connect, log):
    """Nothing can resume them: the count is all there is to say."""
    async with connect() as session:
        for _ in range(2):
            await session.submit("a cat", model=INLINE)
    assert [text.rpartition("2 tasks: ")[2] for text in warnings(log)] == ["2 answered inline, without an id"]


async def test_map_left_with_outcomes_that_had_ended_lists_them_once(connect, log):
    """The session does not list them again."""
    async with connect() as session:
        outcomes = await leave(session, None, read=1, is_done=True)
    (warning,) = warnings(log)
    assert warning.endswith(f" 2 tasks: {', '.join(task.id for task in outcomes.pending)}")


async def test_tasks_that_were_read_before_their_map_was_left_are_not_listed(connect, log):
    """`on_submitted` gave the program their handles."""
    handles = []
    async with (
        connect() as session,
        session.map(["a cat"], model=MODEL, on_submitted=lambda _, task: handles.append(task)),
    ):
        await until(lambda: handles)
        await handles[0]
    assert warnings(log) == []


async def test_unread_outcome_keeps_no_picture_alive(connect):
    """The session keeps names only."""
    async with connect() as session:
        handle = weakref.ref(await ended(session))
        gc.collect()
        assert handle() is None


async def test_task_that_was_resumed_is_listed_once(connect, emulator, log):
    """Its first handle has ended and is unread, the second is pending."""
    async with connect() as session:
        task = await ended(session)
        emulator.fault("poll", Status(502, "html"))
        session.task(task.id)
    (warning,) = warnings(log)
    assert warning.endswith(f" 1 task: {task.id}")


def test_last_thousand_unread_outcomes_are_listed_and_the_others_counted(log):
    """A program that never reads needs no memory for that."""
    unread = UnreadOutcomes()
    tasks = [make(f"t{number}", status="processing") for number in range(1500)]
    for task in tasks:
        unread.add(task)
    for task in (tasks[0], tasks[-1]):  # one of those that are counted, one of those that are listed
        task._see()
    unread.log()
    lines = warnings(log)
    assert " 1,498 tasks: t500, t501, " in lines[0]
    assert lines[-1].endswith(" t1497, t1498, and 499 that ended earlier")
    assert sum(len(record.task_ids) for record in log.records) == 999


# The words


def test_log_lists_every_task_and_the_note_is_short(log):
    """All of them must be resumable from the log, in lines of bounded length."""
    (note,) = left_by(ValueError(), *(make(f"t{number}") for number in range(1500)))
    assert note.endswith(" 1,500 tasks: t0, t1, t2, and 1,497 more, which are in the log (lemon_async.pending)")
    first, *others = warnings(log)
    assert first.startswith(f"{SESSION_CLOSED}. 1,500 tasks: t0, t1, ")
    listed = [line.partition("1,500 tasks: ")[2] for line in (first, *(o.replace(", continued", "") for o in others))]
    assert [name for line in listed for name in line.split(", ")] == [f"t{number}" for number in range(1500)]
    assert max(map(len, others)) < 300


def test_name_is_what_resumes_the_task():
    """An id that is not one word is replaced by the token."""
    task = make("job 1/é", label="sku-17")
    (note,) = left_by(ValueError(), task)
    assert note.endswith(f" 1 task: {task.resume_token()} (sku-17)")
    assert len(left_by(ValueError(), make("x" * 10_000))[0]) < 1500


def test_name_of_a_task_with_a_guessed_id_is_its_token():
    task = make("status", label="x" * 200, poll_url="/v1/tasks/t1/status", is_id_guessed=True)
    (note,) = left_by(ValueError(), task)
    assert task.resume_token() in note


def test_note_is_plain_text_elsewhere():
    """An exception that is pickled needs nothing of this library."""
    error = ValueError("oops")
    left_by(error, make())
    twin = pickle.loads(pickle.dumps(error))
    assert [type(note) for note in twin.__notes__] == [str]
    assert list(map(str, notes(error))) == twin.__notes__


def test_exception_that_takes_no_note_goes_on_as_it_is(log):
    class Sealed(Exception):
        def __setattr__(self, name, value):
            raise TypeError(name)

    assert left_by(Sealed(), make()) == []
    assert len(warnings(log)) == 1


def test_exception_of_the_caller_may_call_anything_its_task():
    error = ValueError("oops")
    error.task = {"id": 1}
    (note,) = left_by(error, make())
    assert note.endswith(" 1 task: ldtask_1")


def test_exception_whose_task_cannot_be_read_goes_on_as_it_is(log):
    class Odd(Exception):
        @property
        def task(self):
            raise RuntimeError("gone")

    assert left_by(Odd(), make()) == []
    assert len(warnings(log)) == 1


def test_task_is_warned_of_once(log):
    tasks = [make("a"), make("b")]
    log_unfinished(tasks[:1], "first")
    log_unfinished(tasks, "second")
    log_unfinished(tasks, "third")
    assert warnings(log) == ["first. 1 task: a", "second. 1 task: b"]


def test_other_notes_are_left_unchanged():
    error = ValueError()
    error.add_note("theirs")
    task = make()
    assert left_by(error, task)[0] == "theirs"
    assert len(left_by(error, task)) == 2
    assert len(left_by(error, task, make("ldtask_2"))) == 3


def test_request_may_have_no_label():
    task = ImageTask(
        None,
        attrs.evolve(TaskSnapshot(status="pending"), task_id="a"),
        request=GenerateRequest("a cat"),
    )
    assert left_by(ValueError(), task)[0].endswith("1 task: a")
