"""One poller looks after all pending tasks, whatever the polls meet, and is gone when there are none."""

import asyncio
import gc
import logging
import time
import weakref
from contextvars import ContextVar

import attrs
import orjson
import pytest

from lemon_async import PollPolicy, TaskError, TaskTimeout, TransportError
from lemon_async._api.response import Response
from lemon_async._http.rate_limiter import RateLimiter
from lemon_async._pace.budget import RequestBudget
from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._pace.priority import Priority
from lemon_async._tasks.poller import Poller
from lemon_async._tasks.task import ImageTask
from lemon_async.errors import AccessDenied, AuthenticationError, SessionError, TaskLost
from lemon_async.types import TaskSnapshot
from maps import until

QUICK = PollPolicy(min_gap_s=0.001, max_gap_s=0.005, deadline_s=120, lost_after_s=0.01)
PATIENT = PollPolicy(min_gap_s=60, max_gap_s=60)


def answer(status=200, *, body=None, text=None, **headers):
    content = orjson.dumps(body) if text is None else text
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


def status(status, **fields):
    return answer(body={"status": status, "data": [], **fields})


PENDING = status("pending")
COMPLETED = status("completed", data=[{"url": "https://cdn.test/1.png"}])
GONE = answer(
    404, body={"error": {"message": "Task not found or no longer available.", "code": "async_task_not_found"}}
)
NO_ANSWER = TransportError(message="GET /v1/tasks/a: no answer within 1 s")


class ScriptedTransport:
    """A transport with scripted responses to polls, by path; the last one is repeated."""

    server_speed = 1.0

    def __init__(self, **scripts):
        self.scripts = scripts
        self.asked = []
        self.news = asyncio.Event()

    async def call(self, method, path, *, priority, timeout_s=None):
        assert priority is None  # the poller has waited for the rate limit
        name = path.rpartition("/")[2]
        script = self.scripts[name]
        outcome = script[min(self.polls_of(name), len(script) - 1)]
        self.asked.append((method, path, timeout_s))
        self.news.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, Response) else await outcome()

    def polls_of(self, name):
        return sum(path.endswith(f"/{name}") for _, path, _ in self.asked)

    async def asked_for(self, name, times=1):
        while self.polls_of(name) < times:
            self.news.clear()
            await self.news.wait()


class Owner:
    """A session that can always be used."""

    access = None

    def check_usable(self, task):
        pass


def make(name):
    snapshot = TaskSnapshot(status="pending", task_id=name)
    return ImageTask(Owner(), snapshot, path=f"/v1/tasks/{name}")


def unpaced():
    return RateLimiter(RequestBudget(requests_per_minute=60_000))


@pytest.fixture
async def poll():
    """Create pollers on a script; they are closed after the test."""
    pollers = []

    def start(policy=QUICK, limiter=None, limit=10, **scripts):
        transport = ScriptedTransport(**scripts)
        pollers.append(Poller(transport, policy, limiter or unpaced(), durations=LearnedDurations(), limit=limit))
        return transport, pollers[-1]

    yield start
    for poller in pollers:
        await poller.aclose()


def expire(poller, task):
    """Let the deadline of a task pass."""
    poller._schedule._entries[task].deadline = 0.0
    poller._news.set()


def ours():
    """Return the asyncio tasks of pollers that are running."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "lemon_async poller"]


# From pending to over


async def test_task_is_polled_until_it_is_over(poll):
    transport, poller = poll(a=[PENDING, status("processing", progress=50), COMPLETED])
    task = make("a")
    poller.add(task, is_fresh=True)
    assert poller.pending == (task,)
    assert len(await task) == 1
    assert poller.pending == ()
    assert [(method, path) for method, path, _ in transport.asked] == [("GET", "/v1/tasks/a")] * 3


async def test_fresh_task_waits_its_gap_and_a_resumed_one_is_asked_for_at_once(poll):
    policy = PollPolicy(min_gap_s=200, max_gap_s=200)
    transport, poller = poll(policy, fresh=[COMPLETED], resumed=[COMPLETED])
    poller.add(make("fresh"), is_fresh=True)
    resumed = make("resumed")
    poller.add(resumed, is_fresh=False)
    await resumed
    assert transport.polls_of("fresh") == 0


@pytest.mark.parametrize(("ago_s", "is_taught"), [(60, True), (-60, False), (10**9, False), (None, False)])
async def test_resumed_task_is_learned_from_if_its_age_is_known(poll, ago_s, is_taught):
    """The token has the service's date; an implausible one is ignored."""
    _, poller = poll(a=[PENDING, COMPLETED])
    created = None if ago_s is None else int(time.time()) - ago_s
    snapshot = TaskSnapshot(status="pending", task_id="a", model="m", created=created)
    task = ImageTask(Owner(), snapshot, path="/v1/tasks/a")
    before = poller._schedule.durations.median_s("m")
    poller.add(task, is_fresh=False)
    await task
    assert (poller._schedule.durations.median_s("m") != before) == is_taught


async def test_pending_task_is_left_alone_as_long_as_the_service_asks(poll):
    asking = Response(200, {"retry-after": "90"}, PENDING.body)
    transport, poller = poll(
        PollPolicy(poll_cost_s=1e-9, min_gap_s=0.001, max_gap_s=200), a=[asking], b=[PENDING, COMPLETED]
    )
    poller.add(make("a"), is_fresh=False)
    other = make("b")
    poller.add(other, is_fresh=False)
    await other
    assert transport.polls_of("a") == 1


async def test_each_poll_has_at_most_the_time_that_its_task_has_left(poll):
    policy = attrs.evolve(QUICK, deadline_s=60)
    transport, poller = poll(policy, a=[PENDING, PENDING, COMPLETED])
    task = make("a")
    poller.add(task, is_fresh=True)
    await task
    times = [timeout_s for _, _, timeout_s in transport.asked]
    assert 60 >= times[0] > times[1] > times[2] > 0


async def test_tasks_are_polled_concurrently(poll):
    """A poll without a response delays no other."""
    never = asyncio.Event()
    transport, poller = poll(slow=[never.wait], quick=[COMPLETED])
    slow, quick = make("slow"), make("quick")
    poller.add(slow, is_fresh=False)
    await transport.asked_for("slow")
    poller.add(quick, is_fresh=False)
    assert len(await quick) == 1
    await asyncio.sleep(0)
    assert poller.under_way == 1
    assert poller.pending == (slow,)


async def test_no_more_polls_than_allowed_are_under_way(poll):
    gate = asyncio.Event()

    async def wait():
        await gate.wait()
        return COMPLETED

    names = [f"t{number}" for number in range(5)]
    transport, poller = poll(limit=2, **{name: [wait] for name in names})
    tasks = [make(name) for name in names]
    for task in tasks:
        poller.add(task, is_fresh=False)
    await transport.asked_for("t1")
    for _ in range(5):
        await asyncio.sleep(0)
    assert (len(transport.asked), poller.under_way) == (2, 2)
    gate.set()
    await asyncio.gather(*tasks)
    assert (len(transport.asked), poller.under_way) == (5, 0)


async def test_nothing_is_asked_while_the_budget_is_paused(poll):
    budget = RequestBudget(paused_until=asyncio.get_running_loop().time() + 0.03)
    _, poller = poll(limiter=RateLimiter(budget), a=[COMPLETED])
    task = make("a")
    poller.add(task, is_fresh=False)
    await task
    assert asyncio.get_running_loop().time() >= budget.paused_until


# What polls meet


@pytest.mark.parametrize(
    "noise",
    [
        NO_ANSWER,
        answer(502, text=b"<html>"),
        answer(500, body={"error": {"message": "Sorry."}}),
        answer(429, body={"error": {"message": "Slow down."}}, retry_after="0.001"),
        answer(200, text=b""),
        answer(200, text=b"{"),
        answer(404, text=b"<html>"),
        answer(307, text=b"", location="/elsewhere"),
    ],
    ids=repr,
)
async def test_noise_ends_no_task(poll, noise):
    transport, poller = poll(a=[noise] * 12 + [COMPLETED])
    task = make("a")
    poller.add(task, is_fresh=True)
    assert len(await task) == 1
    assert transport.polls_of("a") == 13


async def test_polls_that_keep_failing_are_warned_of_once(poll, library_log):
    """After the third in a row, and not again, even if a poll succeeds in between."""
    failures = [NO_ANSWER] * 2
    script = [*failures, PENDING, *failures, NO_ANSWER, *failures, PENDING, *failures, NO_ANSWER, COMPLETED]
    _, poller = poll(a=script)
    task = make("a")
    poller.add(task, is_fresh=False)
    await task.wait(timeout=60)
    (record,) = [record for record in library_log.records if record.levelno >= logging.WARNING]
    assert record.name == "lemon_async"
    assert record.getMessage() == (
        f"3 polls of task a in a row have failed, the last with: {NO_ANSWER}; polling continues"
    )


async def test_wait_that_times_out_says_why_the_polls_failed(poll):
    transport, poller = poll(a=[NO_ANSWER])
    task = make("a")
    poller.add(task, is_fresh=False)
    await transport.asked_for("a", times=2)
    with pytest.raises(TaskTimeout, match=f"0 s have passed; last failure: {NO_ANSWER}") as caught:
        await task.wait(timeout=0)
    cause = caught.value.__cause__
    assert (type(cause), str(cause), cause.__traceback__) == (TransportError, str(NO_ANSWER), None)


async def test_poll_that_the_deadline_cuts_off_does_not_replace_the_last_failure(poll):
    """It says nothing of the service; here it ends before the deadline is noticed, as in a busy loop."""

    async def cut_off():
        expire(poller, task)
        raise NO_ANSWER

    transport, poller = poll(a=[answer(502, text=b"<html>"), cut_off])
    poller.add(task := make("a"), is_fresh=True)
    with pytest.raises(TaskTimeout, match="last failure: HTTP 502"):
        await task
    assert transport.polls_of("a") == 2


async def test_unknown_status_counts_as_pending_and_is_logged_once(poll, library_log):
    """Once for each status, not for each poll or task."""
    library_log.set_level(logging.WARNING, logger="lemon_async")
    words = [status("dreaming"), status("dreaming"), status("wak\x1b[31mking" * 20), COMPLETED]
    _, poller = poll(a=words, b=words)
    tasks = make("a"), make("b")
    for task in tasks:
        poller.add(task, is_fresh=True)
    await asyncio.gather(*tasks)
    messages = [record.getMessage() for record in library_log.records]
    assert len(messages) == 2
    assert messages[0] == "the service sent the unknown task status 'dreaming'; it counts as pending"
    assert messages[1].isprintable()
    assert len(messages[1]) < 120


async def test_task_that_is_visible_late_is_not_lost(poll):
    _, poller = poll(a=[GONE, GONE, PENDING, GONE, GONE, COMPLETED])
    task = make("a")
    poller.add(task, is_fresh=True)
    assert len(await task) == 1


async def test_task_that_stays_unknown_is_lost(poll):
    _, poller = poll(a=[GONE])
    task = make("a")
    poller.add(task, is_fresh=True)
    with pytest.raises(TaskLost, match="the service said repeatedly: Task not found or no longer available") as caught:
        await task
    assert caught.value.task is task
    assert poller.pending == ()


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (403, AccessDenied)])
async def test_key_that_may_not_ask_ends_the_waiting_with_the_task(poll, status, error):
    _, poller = poll(a=[answer(status, body={"error": {"message": "No."}})])
    task = make("a")
    poller.add(task, is_fresh=True)
    with pytest.raises(error, match="No") as caught:
        await task
    assert caught.value.task is task
    assert caught.value.resume_token == task.resume_token()
    assert poller.pending == ()


async def test_task_that_somebody_else_has_ended_is_not_asked_for_again(poll):
    transport, poller = poll(a=[PENDING], b=[PENDING] * 9 + [COMPLETED])
    over, other = make("a"), make("b")
    poller.add(over, is_fresh=True)
    poller.add(other, is_fresh=True)
    await transport.asked_for("a")
    poller.end(over)
    polls = transport.polls_of("a")
    await other
    assert transport.polls_of("a") == polls
    assert poller.pending == ()


# The deadline


@pytest.mark.parametrize(
    ("outcome", "heard"),
    [
        (status("processing"), "last status: processing"),
        (NO_ANSWER, "last failure: GET /v1/tasks/a: no answer within 1 s"),
        (
            answer(502, text=b"<html><title>Bad Gateway</title>"),
            "last failure: HTTP 502 with an HTML page 'Bad Gateway'",
        ),
    ],
    ids=["a status", "no answer", "a proxy"],
)
async def test_deadline_ends_the_wait_with_the_last_report(poll, outcome, heard):
    transport, poller = poll(a=[outcome])
    task = make("a")
    poller.add(task, is_fresh=True)
    await transport.asked_for("a", times=2)
    expire(poller, task)
    with pytest.raises(TaskTimeout, match=f"120 s have passed; {heard}") as caught:
        await task
    assert caught.value.task is task
    assert poller.pending == ()


async def test_noise_before_a_sign_of_life_is_forgotten(poll):
    transport, poller = poll(a=[NO_ANSWER, status("processing")])
    task = make("a")
    poller.add(task, is_fresh=True)
    await transport.asked_for("a", times=3)
    expire(poller, task)
    with pytest.raises(TaskTimeout, match="last status: processing"):
        await task


@pytest.mark.parametrize(
    "late",
    [COMPLETED, PENDING, GONE, answer(401, body={"error": {"message": "No."}}), answer(502, text=b"")],
    ids=["completed", "pending", "gone", "denied", "noise"],
)
async def test_response_after_the_deadline_changes_nothing_and_keeps_nothing(poll, late):
    """The wait is over; the late response and the task are released."""
    gate = asyncio.Event()

    async def wait():
        await gate.wait()
        return late

    transport, poller = poll(a=[wait])
    task = make("a")
    poller.add(task, is_fresh=False)
    await transport.asked_for("a")
    expire(poller, task)
    with pytest.raises(TaskTimeout):
        await task
    assert (poller.pending, poller.under_way) == ((), 1)
    gate.set()
    while ours():
        await asyncio.sleep(0)
    with pytest.raises(TaskTimeout):
        await task
    assert task._poll_failure is None
    watcher = weakref.ref(task)
    del task
    gc.collect()
    assert watcher() is None


# The runner


async def test_runner_is_there_while_there_is_work_and_comes_back_with_it(poll):
    _, poller = poll(a=[PENDING, COMPLETED], b=[COMPLETED])
    assert ours() == []
    for name in "ab":
        task = make(name)
        poller.add(task, is_fresh=True)
        assert len(ours()) == 1
        await task
        while ours():
            await asyncio.sleep(0)


async def test_runner_serves_tasks_that_come_while_it_sleeps(poll):
    """A new task does not wait for the next poll of an old one."""
    _, poller = poll(PollPolicy(min_gap_s=200, max_gap_s=200), old=[COMPLETED], new=[COMPLETED])
    poller.add(make("old"), is_fresh=True)
    await asyncio.sleep(0)
    new = make("new")
    poller.add(new, is_fresh=False)
    await new
    assert len(ours()) == 1


async def test_poller_runs_in_an_empty_context(poll):
    """Polls do not run in the context of the first submit, which may hold a request id."""
    request_id = ContextVar("request_id", default="default")
    seen = []

    async def look():
        seen.append(request_id.get())
        return COMPLETED

    _, poller = poll(a=[look])
    request_id.set("the first one's")
    task = make("a")
    poller.add(task, is_fresh=True)
    await task
    assert seen == ["default"]


async def test_crash_ends_every_task_and_the_next_one_is_served_again(poll, library_log):
    """No wait is endless; the errors carry the crash and the tasks."""
    library_log.set_level(logging.ERROR, logger="lemon_async")
    bug = RuntimeError("a bug")
    transport, poller = poll(PollPolicy(min_gap_s=0.001, max_gap_s=200), a=[bug], b=[PENDING], c=[COMPLETED])
    tasks = [make("a"), make("b")]
    poller.add(tasks[1], is_fresh=False)
    await transport.asked_for("b")
    poller.add(tasks[0], is_fresh=False)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TaskError, TaskError]
    for outcome, task in zip(outcomes, tasks, strict=True):
        assert str(outcome) == f"task {task.id} failed: the session's poller crashed, which is a bug of this library"
        assert outcome.__cause__.exceptions == (bug,)
        assert outcome.resume_token == task.resume_token()
    assert [record.getMessage() for record in library_log.records] == [
        "the session's poller crashed, which is a bug of this library; its tasks are resumable"
    ]
    assert (poller.pending, poller.under_way) == ((), 0)
    task = make("c")
    poller.add(task, is_fresh=False)
    assert len(await task) == 1


async def test_program_that_cancels_the_poller_ends_every_task(poll):
    """Some programs cancel all asyncio tasks; waiters that remain get an error."""
    _, poller = poll(PollPolicy(min_gap_s=200, max_gap_s=200), a=[PENDING])
    task = make("a")
    poller.add(task, is_fresh=True)
    await asyncio.sleep(0)
    (runner,) = ours()
    runner.cancel()
    with pytest.raises(TaskError, match="task a failed: the session's poller was cancelled by the program") as caught:
        await asyncio.wait_for(task.wait(), 60)
    assert caught.value.resume_token == task.resume_token()
    assert poller.pending == ()


async def test_interrupt_that_hits_the_poller_is_no_bug(poll, library_log):
    """A second Ctrl-C is raised wherever the loop happens to be."""

    class Interrupted:
        def cancelled(self):
            return False

        def exception(self):
            return KeyboardInterrupt()

    _, poller = poll(PollPolicy(min_gap_s=200, max_gap_s=200), a=[PENDING])
    task = make("a")
    poller.add(task, is_fresh=True)
    poller._runner_ended(Interrupted())
    with pytest.raises(TaskError, match="the session's poller was cancelled by the program"):
        await task
    assert not library_log.records


async def test_runner_cancelled_at_the_moment_of_a_poll_leaks_no_slot(poll):
    """A poll that never began releases its slot."""
    transport, poller = poll(limit=1, a=[PENDING], b=[COMPLETED])
    before = asyncio.all_tasks()
    poller.add(make("a"), is_fresh=False)
    await asyncio.sleep(0)  # the runner has started the poll, which has not begun
    doomed = asyncio.all_tasks() - {asyncio.current_task()} - before
    for running in doomed:
        running.cancel()
    await asyncio.wait(doomed)
    assert transport.asked == []
    task = make("b")
    poller.add(task, is_fresh=False)
    assert len(await asyncio.wait_for(task.wait(), 60)) == 1


# Handles


async def test_two_handles_on_one_task_are_polled_and_end_separately(poll):
    """Ending one of them does not stop the polls of the other."""
    transport, poller = poll(a=[PENDING, PENDING, PENDING, COMPLETED])
    one, other = make("a"), make("a")
    poller.add(one, is_fresh=False)
    poller.add(other, is_fresh=False)
    assert poller.pending == (one, other)
    assert poller.find("a") is other
    await transport.asked_for("a", 2)
    poller.end(one)
    assert (poller.pending, poller.find("a")) == ((other,), other)
    assert len(await asyncio.wait_for(other.wait(), 60)) == 1
    assert (poller.pending, poller.find("a")) == ((), None)


@pytest.mark.parametrize(
    "late", [COMPLETED, PENDING, GONE, answer(502, text=b"")], ids=["over", "alive", "gone", "noise"]
)
async def test_late_response_for_an_ended_handle_does_not_affect_a_newer_one(poll, late):
    """Neither its status nor its schedule changes; it is polled to its own end."""
    gate = asyncio.Event()

    async def wait():
        await gate.wait()
        return late

    transport, poller = poll(a=[wait, PENDING, PENDING, COMPLETED])
    old, new = make("a"), make("a")
    poller.add(old, is_fresh=False)
    await transport.asked_for("a")
    poller.end(old, TaskLost(task=old, reason="gone"))
    poller.add(new, is_fresh=False)
    await transport.asked_for("a", 2)
    gate.set()
    assert len(await asyncio.wait_for(new.wait(), 60)) == 1
    assert old.status == "pending"


async def test_poll_of_an_ended_task_and_a_new_task_have_one_runner(poll):
    """Closing ends them both."""
    never = asyncio.Event()
    transport, poller = poll(a=[never.wait], b=[PENDING])
    old = make("a")
    poller.add(old, is_fresh=False)
    await transport.asked_for("a")
    poller.end(old)
    await settle()
    poller.add(make("b"), is_fresh=False)
    await transport.asked_for("b")
    assert len(ours()) == 1
    await poller.aclose()
    assert (ours(), poller.under_way) == ([], 0)


# Closing


async def test_closing_ends_what_is_pending_and_what_is_under_way(poll):
    never = asyncio.Event()
    transport, poller = poll(a=[never.wait], b=[PENDING])
    tasks = [make("a"), make("b")]
    for task in tasks:
        poller.add(task, is_fresh=False)
    await transport.asked_for("a")
    await poller.aclose()
    assert (poller.pending, poller.under_way, ours()) == (tuple(tasks), 0, [])
    for task in tasks:
        with pytest.raises(
            SessionError, match=f"closed while the task was pending; task {task.id} can be resumed by its resume_token"
        ) as caught:
            await task
        assert caught.value.resume_token == task.resume_token()


async def test_closing_before_the_first_poll_ends_what_is_pending(poll):
    _, poller = poll()
    task = make("a")
    poller.add(task, is_fresh=True)
    await poller.aclose()
    assert task.done()
    assert ours() == []


async def test_closed_poller_lists_what_comes_too_late_and_runs_no_more(poll):
    """The response to a submit can arrive while the session closes."""
    transport, poller = poll(a=[PENDING])
    await poller.aclose()
    task = make("a")
    poller.add(task, is_fresh=True)
    with pytest.raises(SessionError, match="closed while the task was submitted; task a can be resumed"):
        await task
    assert (poller.pending, poller.find("a"), transport.asked, ours()) == ((task,), None, [], [])


async def test_closing_an_idle_poller_takes_nothing(poll):
    _, poller = poll()
    await poller.aclose()
    await poller.aclose()


async def test_unknown_statuses_are_remembered_up_to_a_hundred(poll):
    """A service that sends a new status with every poll does not fill memory."""
    words = [status(f"word {number}") for number in range(120)]
    _, poller = poll(policy=PollPolicy(min_gap_s=0.0001, max_gap_s=0.0001), a=[*words, COMPLETED])
    task = make("a")
    poller.add(task, is_fresh=False)
    await task
    assert len(poller._known_statuses) == 100


# The rate limit


class Allowance:
    """A budget of a fixed number of requests."""

    requests_per_minute = None

    def __init__(self, left=0):
        self.left = left

    def room_rpm(self, _now):
        return 60.0

    def available(self, _now):
        return self.left

    def next_at(self, now):
        return now if self.left else now + 0.001

    def consume(self, _now):
        self.left -= 1
        assert self.left >= 0, "a request started that the budget had no room for"


async def settle(seconds=0.01):
    await asyncio.sleep(seconds)


async def test_no_poll_starts_without_room_and_each_is_counted(poll):
    budget = Allowance(2)
    transport, poller = poll(limiter=RateLimiter(budget), **{name: [COMPLETED] for name in "abcde"})
    tasks = [make(name) for name in "abcde"]
    for task in tasks:
        poller.add(task, is_fresh=False)
    await until(lambda: len(transport.asked) == 2)
    await settle()
    assert (len(transport.asked), budget.left) == (2, 0)
    budget.left = 1
    await until(lambda: len(transport.asked) == 3)
    await settle()
    assert (len(transport.asked), budget.left) == (3, 0)
    budget.left = 100
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert len(transport.asked) == 5
    assert budget.left == 98


async def test_polls_let_paid_requests_go_first(poll):
    """Submits are admitted before polls that have waited longer."""
    budget = Allowance()
    limiter = RateLimiter(budget)
    transport, poller = poll(limiter=limiter, a=[COMPLETED], b=[COMPLETED])
    tasks = [make("a"), make("b")]
    for task in tasks:
        poller.add(task, is_fresh=False)
    await settle()
    submits = [asyncio.create_task(limiter.acquire(Priority.SUBMIT, 60)) for _ in range(3)]
    await settle()
    budget.left = 3
    await asyncio.gather(*submits)
    assert transport.asked == []
    budget.left = 2
    await asyncio.wait_for(asyncio.gather(*tasks), 60)


async def test_poller_has_one_place_in_the_queue_however_many_polls_are_due(poll):
    """When a slot is granted, the schedule decides which task is polled."""
    limiter = RateLimiter(Allowance())
    _, poller = poll(limiter=limiter, **{f"t{number}": [COMPLETED] for number in range(50)})
    for number in range(50):
        poller.add(make(f"t{number}"), is_fresh=False)
    await settle()
    assert [len(queue) for queue in limiter._queues.values()] == [0, 1, 0]


async def test_runner_sleeps_until_the_rate_limit_has_room_although_a_poll_ends(poll, monkeypatch):
    """Until then it could start none: it decides once for each poll, not twice."""
    ending, decisions = asyncio.Event(), []

    async def late():
        await ending.wait()
        return PENDING

    budget = Allowance(1)
    transport, poller = poll(PATIENT, limiter=RateLimiter(budget), a=[late], b=[COMPLETED])
    decide = poller._schedule.decide
    monkeypatch.setattr(
        poller._schedule, "decide", lambda now, slots: decisions.append(now) or decide(now, slots=slots)
    )
    for task in (make("a"), make("b")):
        poller.add(task, is_fresh=False)
    await transport.asked_for("a")
    before = len(decisions)
    ending.set()
    await until(lambda: poller.under_way == 0)
    await settle()
    assert len(decisions) == before
    budget.left = 1
    await transport.asked_for("b")
    assert len(decisions) == before + 1


async def test_slot_granted_when_nothing_is_due_is_used_by_the_next_poll(poll):
    """The slot that it took from the budget is not lost."""
    budget = Allowance()
    limiter = RateLimiter(budget)
    transport, poller = poll(limiter=limiter, a=[COMPLETED], b=[COMPLETED])
    over, other = make("a"), make("b")
    poller.add(over, is_fresh=False)
    await settle()
    poller.end(over)
    poller.add(other, is_fresh=False)
    budget.left = 1
    await asyncio.wait_for(other.wait(), 60)
    assert [path for _, path, _ in transport.asked] == ["/v1/tasks/b"]
    assert budget.left == 0


async def test_ticket_of_a_poller_that_has_ended_takes_nothing(poll):
    budget = Allowance()
    limiter = RateLimiter(budget)
    _, poller = poll(limiter=limiter, a=[COMPLETED])
    task = make("a")
    poller.add(task, is_fresh=False)
    await settle()
    poller.end(task)
    while ours():
        await asyncio.sleep(0)
    budget.left = 1
    await settle()
    assert budget.left == 1


async def test_closed_rate_limiter_starts_no_poll(poll):
    """The session closes it first, and then the poller."""
    limiter = RateLimiter(Allowance())
    transport, poller = poll(limiter=limiter, a=[COMPLETED])
    task = make("a")
    poller.add(task, is_fresh=False)
    await settle()
    limiter.close()
    await asyncio.sleep(0)
    await asyncio.wait_for(poller.aclose(), 60)
    assert transport.asked == []
    assert task.done()


async def test_deadline_holds_although_no_turn_comes(poll):
    _, poller = poll(attrs.evolve(QUICK, deadline_s=0.03), limiter=RateLimiter(Allowance()), a=[COMPLETED])
    task = make("a")
    poller.add(task, is_fresh=False)
    with pytest.raises(TaskTimeout, match="last status: pending"):
        await asyncio.wait_for(task.wait(), 60)
