import pytest

from lemon_async.emulator.actions import (
    Answer,
    Fail,
    LateVisible,
    Result,
    Script,
    Stuck,
    Vanish,
)
from lemon_async.emulator.service.job_spec import parse_job
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.service_errors import ServiceError

LATE = 10_000.0


def spec(prompt="a cat", model="flux-pro", **fields):
    return parse_job({"prompt": prompt, "model": model, **fields})


def accept(store, *script, now=0.0, key="k", **fields):
    return store.accept(spec(**fields), key=key, now=now, created=1, script=script)


def problem_of(call, *args, **kwargs):
    with pytest.raises(ServiceError) as caught:
        call(*args, **kwargs)
    return caught.value.status, caught.value.as_json()["error"]["code"]


def statuses(store, task, times):
    return [store.poll(task.id, key="k", now=now).status(now) for now in times]


# Life


def test_task_goes_from_pending_over_processing_to_completed():
    store = Store(durations=100)
    task = accept(store)
    span = task.done_at
    assert statuses(store, task, [0, span * 0.5, span * 0.999, span]) == [
        "pending",
        "processing",
        "processing",
        "completed",
    ]


def test_same_seed_makes_the_same_tasks():
    def make(seed):
        store = Store(seed=seed)
        return [(task.id, task.done_at) for task in (accept(store), accept(store))]

    assert make(1) == make(1)
    assert make(1) != make(2)


def test_task_ids_have_the_documented_shape():
    id_ = accept(Store()).id
    assert id_.startswith("ldtask_")
    assert len(id_) == 7 + 32


def test_durations_are_spread_around_the_median():
    store = Store(durations=100)
    times = sorted(accept(store).done_at for _ in range(400))
    assert 90 < times[200] < 110
    assert times[0] > 20
    assert times[-1] < 500


def test_durations_by_model_leave_the_others_realistic():
    store = Store(durations={"midjourney": 0})
    assert accept(store, model="midjourney").done_at == 0
    assert accept(store, model="flux-pro").done_at > 5


def test_progress_is_shown_by_some_tasks_only_and_never_falls():
    store = Store(durations=100)
    shown = [task for task in (accept(store) for _ in range(40)) if task.shows_progress]
    assert 0 < len(shown) < 40
    answers = [shown[0].poll_response(now, []) for now in range(0, int(shown[0].done_at), 10)]
    progress = [answer["progress"] for answer in answers]
    assert progress == sorted(progress)
    assert progress[0] == 0


# Answers


def test_submit_response_is_the_documented_one():
    task = accept(Store(), model="flux-pro")
    assert task.submit_response() == {
        "created": 1,
        "id": task.id,
        "task_id": task.id,
        "status": "pending",
        "poll_url": f"/v1/tasks/{task.id}",
        "data": [{"url": "", "revised_prompt": "a cat"}],
    }


@pytest.mark.parametrize("model", ["midjourney", "mj-relax"])
def test_midjourney_is_polled_at_the_image_path(model):
    task = accept(Store(), model=model)
    assert task.poll_url == f"/v1/images/generations/{task.id}"


def test_completed_answer_has_links_and_a_transaction():
    task = accept(Store(durations=0))
    answer = task.poll_response(0, ["http://x/1.png"])
    assert answer["data"] == [{"url": "http://x/1.png", "revised_prompt": "a cat"}]
    assert answer["billing_transaction_id"].startswith("txn_")
    assert "error" not in answer
    assert "usage" not in answer


def test_token_priced_task_has_usage():
    task = accept(Store(durations=0), model="gpt-image-2", **{"async": True})
    assert task.poll_response(0, [])["usage"]["output_tokens"] == 1056


# Scripts


def test_script_shows_one_status_per_poll_and_the_last_one_stays():
    store = Store(durations=0)
    task = accept(store, Script(("pending", "weird", "completed")))
    assert statuses(store, task, [0] * 4) == ["pending", "weird", "completed", "completed"]


def test_script_is_billed_when_its_end_was_shown():
    store = Store(durations=0)
    task = accept(store, Script(("completed", "pending")))
    store.settle(LATE)
    assert store.ledger.open == {"a cat"}
    statuses(store, task, [0, 0])
    assert store.ledger.settled == {"a cat": 1}


def test_stuck_task_never_ends():
    store = Store(durations=1)
    task = accept(store, Stuck())
    assert statuses(store, task, [LATE]) == ["processing"]
    store.settle(LATE)
    assert store.ledger.open == {"a cat"}


def test_vanishing_task_is_unknown_after_so_many_polls():
    store = Store(durations=0)
    task = accept(store, Vanish(after_polls=1))
    assert statuses(store, task, [0]) == ["completed"]
    assert problem_of(store.poll, task.id, key="k", now=0) == (404, "async_task_not_found")


def test_late_task_is_unknown_at_first():
    store = Store(durations=0)
    task = accept(store, LateVisible(polls=2))
    for _ in range(2):
        assert problem_of(store.poll, task.id, key="k", now=0) == (404, "async_task_not_found")
    assert statuses(store, task, [0]) == ["completed"]


@pytest.mark.parametrize("error", ["boom", {"code": "c", "message": "m"}])
def test_failed_task_says_why_and_is_released(error):
    store = Store(durations=0)
    task = accept(store, Fail(error))
    answer = store.poll(task.id, key="k", now=0).poll_response(0, [])
    assert (answer["status"], answer["error"], answer["data"]) == ("failed", error, [])
    assert store.ledger.released == {"a cat": 1}


def test_failed_task_may_say_nothing_or_be_cancelled():
    answer = accept(Store(durations=0), Fail(None, cancelled=True)).poll_response(0, [])
    assert "error" not in answer
    assert (answer["cancelled"], answer["cancellation_status"]) == (True, "cancelled")


def test_result_is_sent_as_it_is():
    task = accept(Store(durations=0), Result([{"url": ""}]))
    assert task.poll_response(0, ["http://x"])["data"] == [{"url": ""}]


def test_answer_overrides_and_removes_fields():
    task = accept(Store(), Answer(poll_url="//evil", task_id=None, extra=1))
    answer = task.submit_response()
    assert answer["poll_url"] == "//evil"
    assert "task_id" not in answer
    assert answer["extra"] == 1


def test_scripts_about_polling_mean_nothing_to_inline_jobs():
    store = Store(durations=0)
    accept(store, Script(("pending",)), Vanish(), model="dall-e-3")
    assert store.ledger.open == {"a cat"}
    store.settle(0)
    assert store.ledger.settled == {"a cat": 1}


# Ownership and cancelling


def test_task_of_another_key_looks_unknown():
    store = Store()
    task = accept(store)
    assert problem_of(store.poll, task.id, key="other", now=0) == (404, "async_task_not_found")
    assert problem_of(store.poll, "nope", key="k", now=0) == (404, "async_task_not_found")


def test_cancelling_is_refused_for_each_documented_reason():
    plain, able = Store(durations=0), Store(durations=0, is_cancellable=True)
    task, over = accept(plain), accept(able)
    assert problem_of(able.cancel, "nope", key="k", now=0) == (404, "async_task_not_found")
    assert problem_of(able.cancel, over.id, key="other", now=0) == (403, "access_denied")
    assert problem_of(plain.cancel, task.id, key="k", now=0) == (400, "unsupported_task_cancel")
    assert problem_of(able.cancel, over.id, key="k", now=0) == (409, "task_not_cancellable")


def test_cancelled_task_is_failed_and_released():
    store = Store(is_cancellable=True)
    task = accept(store)
    answer = store.cancel(task.id, key="k", now=0).poll_response(0, [])
    assert (answer["status"], answer["cancelled"]) == ("failed", True)
    assert store.ledger.released == {"a cat": 1}


# Money


def test_job_is_settled_at_the_first_look_after_its_end():
    store = Store(durations=10)
    task = accept(store, user="row 1")
    store.settle(task.done_at - 0.001)
    assert store.ledger.open == {"row 1"}
    store.settle(task.done_at)
    assert [entry.kind for entry in store.ledger.entries] == ["reserve", "settle"]


def test_jobs_are_settled_in_the_order_they_ended():
    store = Store(durations={"flux-pro": 50, "midjourney": 5})
    accept(store, prompt="slow")
    accept(store, prompt="fast", model="midjourney")
    store.settle(LATE)
    assert [entry.job for entry in store.ledger.entries[2:]] == ["fast", "slow"]


def test_balance_is_used_up_to_the_last_cent():
    store = Store(durations=0, balance_usd=0.12)
    for _ in range(3):
        accept(store, model="dall-e-3")
    with pytest.raises(ServiceError) as caught:
        accept(store, model="dall-e-3")
    error = caught.value.as_json()["error"]
    assert (caught.value.status, error["code"]) == (402, "insufficient_balance")
    assert (error["balance_usd"], error["estimated_cost_usd"]) == (0.0, 0.04)
    assert store.ledger.sold == {"a cat": 3}


def test_token_priced_job_is_reserved_above_and_billed_by_usage():
    store = Store(durations=0)
    accept(store, model="gpt-image-2", quality="high")
    store.settle(0)
    reserved, settled = store.ledger.entries
    assert reserved.amount_usd > settled.amount_usd > 0.1
    assert reserved.task_id is None


def test_forgetting_tasks_releases_what_was_open():
    store = Store()
    task = accept(store)
    store.clear_tasks()
    assert store.find(task.id) is None
    assert store.ledger.released == {"a cat": 1}


# Links


def test_links_stay_the_same_while_they_live_and_are_renewed_after():
    store = Store(durations=0, link_ttl_s=100)
    task = accept(store, n=2)
    first = store.links(task, 0)
    assert store.links(task, 99.9) == first
    assert len({link.token for link in first}) == 2
    renewed = store.links(task, 100)
    assert {link.token for link in renewed}.isdisjoint({link.token for link in first})
    assert problem_of(store.resolve_link, first[0].token, 100) == (410, "link_expired")
    assert store.resolve_link(renewed[0].token, 100).index == 0


def test_link_names_depend_on_the_key():
    """Nobody without the key can name a file, although all is drawn from the seed."""

    def token(key):
        store = Store(durations=0)
        return store.links(accept(store, key=key), 0)[0].token

    assert token("a") == token("a") != token("b")


def test_link_can_expire_before_its_time():
    store = Store(durations=0)
    task = accept(store)
    (link,) = store.links(task, 5)
    store.expire_link(link.token, 6)
    store.expire_link("nobody", 6)
    assert problem_of(store.resolve_link, link.token, 6) == (410, "link_expired")
    assert store.links(task, 6) != [link]


def test_unknown_link_is_not_found():
    assert problem_of(Store().resolve_link, "nope", 0) == (404, "link_not_found")


# A long life


def test_oldest_ended_tasks_are_forgotten_and_running_ones_are_not():
    store = Store(durations=10, kept=10)
    stuck = accept(store, Stuck())
    ended = [accept(store, now=number * 1000.0) for number in range(12)]
    store.settle(LATE * 10)
    for number in range(8):
        accept(store, now=LATE * 10 + number)
    assert stuck.id in store.tasks
    assert ended[0].id not in store.tasks
    assert ended[-1].id in store.tasks
    assert len(store.tasks) <= 11
    assert store.ledger.sold == {"a cat": 21}


def test_oldest_links_are_forgotten():
    store = Store(durations=0, kept=10)
    links = [store.links(accept(store), 0.0)[0] for _ in range(12)]
    assert store.find_link(links[0].token) is None
    assert store.find_link(links[-1].token) is links[-1]
