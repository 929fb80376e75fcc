"""A task is a function of the clock, unless a script says otherwise."""

import asyncio

import pytest

from lemon_async.emulator.actions import Answer, Fail, LateVisible, Result, Script, Stuck, Vanish
from lemon_async.emulator.clock import Clock
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.service_errors import ServiceError

GONE = "async_task_not_found"


def statuses(store, task, times):
    """Poll a task at these times; return the status, or the code of the error."""
    found = []
    for now in times:
        try:
            found.append(store.poll(task.id, key="k", now=now).status(now))
        except ServiceError as error:
            found.append(error.code)
    return found


# Time


def test_task_is_pending_then_processing_then_completed(accept):
    """The clock decides, whenever the task is polled."""
    store = Store(durations=100)
    task = accept(store)
    span = task.done_at
    seen = statuses(store, task, [0, span * 0.5, span * 0.999, span])
    assert seen == ["pending", "processing", "processing", "completed"]


def test_progress_is_reported_by_some_tasks_and_never_falls(accept):
    """API.md calls it optional."""
    store = Store(durations=100)
    tasks = [accept(store) for _ in range(40)]
    shown = [task for task in tasks if task.shows_progress]
    assert 0 < len(shown) < 40
    assert all("progress" not in task.poll_response(1, []) for task in tasks if task not in shown)
    progress = [shown[0].poll_response(now, [])["progress"] for now in range(0, int(shown[0].done_at), 10)]
    assert progress == sorted(progress)
    assert progress[0] == 0


async def test_inline_job_lasts_as_long_as_its_task(accept):
    """It fails with 502 when it is scripted to, and never ends when it is stuck."""
    store, clock = Store(durations=10), Clock(speed=1000)
    task = accept(store, model="dall-e-3", now=clock.now())
    await task.wait(clock)
    assert clock.now() >= task.done_at
    for error, code in (("boom", None), ({"code": "content_policy", "message": "boom"}, "content_policy")):
        with pytest.raises(ServiceError) as caught:
            await accept(store, Fail(error), model="dall-e-3").wait(clock)
        assert (caught.value.status, caught.value.code, caught.value.message) == (502, code, "boom")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await accept(Store(durations=0), Stuck()).wait(clock)


# Responses


def test_submit_response_is_the_documented_one(accept):
    """With a placeholder for the image; "Create image"."""
    task = accept(Store())
    assert task.submit_response() == {
        "created": 1,
        "id": task.id,
        "task_id": task.id,
        "status": "pending",
        "poll_url": f"/v1/tasks/{task.id}",
        "data": [{"url": "", "revised_prompt": "a cat"}],
    }


def test_midjourney_is_polled_at_the_image_path(accept):
    """Other families are polled at the task path."""
    for model in ("midjourney", "mj-relax"):
        task = accept(Store(), model=model)
        assert task.poll_url == f"/v1/images/generations/{task.id}"


def test_completed_response_has_links_and_a_transaction(accept):
    """A token-priced model adds its usage."""
    response = accept(Store(durations=0)).poll_response(0, ["http://x/1.png"])
    assert response["data"] == [{"url": "http://x/1.png", "revised_prompt": "a cat"}]
    assert response["billing_transaction_id"].startswith("txn_")
    assert not response.keys() & {"error", "usage"}
    priced = accept(Store(durations=0), model="gpt-image-2", **{"async": True})
    assert priced.poll_response(0, [])["usage"]["output_tokens"] == 1056


# Scripts


def test_script_shows_one_status_per_poll_and_then_the_last(accept):
    """Unknown statuses are sent unchanged."""
    store = Store(durations=0)
    task = accept(store, Script(("pending", "weird", "completed")))
    assert statuses(store, task, [0] * 4) == ["pending", "weird", "completed", "completed"]


def test_scripted_task_is_settled_when_a_poll_has_shown_its_end(accept):
    """Time alone does not end it."""
    store = Store(durations=0)
    task = accept(store, Script(("completed", "pending")))
    store.settle(10_000)
    assert store.ledger.open == {"a cat"}
    statuses(store, task, [0, 0])
    assert store.ledger.settled == {"a cat": 1}


def test_stuck_task_never_ends(accept):
    """Its reservation stays open."""
    store = Store(durations=1)
    task = accept(store, Stuck())
    assert statuses(store, task, [10_000]) == ["processing"]
    store.settle(10_000)
    assert store.ledger.open == {"a cat"}


def test_task_can_vanish_or_appear_late(accept):
    """The response is that of an unknown task."""
    store = Store(durations=0)
    assert statuses(store, accept(store, Vanish(after_polls=1)), [0] * 3) == ["completed", *[GONE] * 2]
    assert statuses(store, accept(store, LateVisible(polls=2)), [0] * 3) == [*[GONE] * 2, "completed"]


def test_failed_task_gives_its_error_and_is_released(accept):
    """The error is a string, an object or missing; a cancelled task says so."""
    for error in ("boom", {"code": "c", "message": "m"}):
        store = Store(durations=0)
        task = accept(store, Fail(error))
        response = store.poll(task.id, key="k", now=0).poll_response(0, [])
        assert (response["status"], response["error"], response["data"]) == ("failed", error, [])
        assert store.ledger.released == {"a cat": 1}
    response = accept(Store(durations=0), Fail(None, cancelled=True)).poll_response(0, [])
    assert "error" not in response
    assert (response["cancelled"], response["cancellation_status"]) == (True, "cancelled")


def test_scripted_result_and_fields_are_sent_unchanged(accept):
    """`Answer` replaces, adds and removes fields."""
    task = accept(Store(durations=0), Result([{"url": ""}]))
    assert task.poll_response(0, ["http://x"])["data"] == [{"url": ""}]
    response = accept(Store(), Answer(poll_url="//evil", task_id=None, extra=1)).submit_response()
    assert (response["poll_url"], response["extra"]) == ("//evil", 1)
    assert "task_id" not in response


def test_scripts_about_polling_do_not_apply_to_inline_jobs(accept):
    """Inline jobs are never polled."""
    store = Store(durations=0)
    accept(store, Script(("pending",)), Vanish(), model="dall-e-3")
    assert store.ledger.open == {"a cat"}
    store.settle(0)
    assert store.ledger.settled == {"a cat": 1}
