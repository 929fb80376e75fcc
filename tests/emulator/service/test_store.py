"""The store accepts jobs, closes their reservations and keeps tasks and links."""

import pytest

from lemon_async.emulator.actions import Stuck
from lemon_async.emulator.service.store import Store
from lemon_async.emulator.service_errors import ServiceError


def error_of(call, *args, **kwargs):
    """Return status and code of the error that a call raises."""
    with pytest.raises(ServiceError) as caught:
        call(*args, **kwargs)
    return caught.value.status, caught.value.as_json()["error"]["code"]


# Seeds and durations


def test_tasks_are_reproducible_for_a_seed(accept):
    """Ids have the documented shape."""

    def make(seed):
        store = Store(seed=seed)
        return [(task.id, task.done_at) for task in (accept(store), accept(store))]

    assert make(1) == make(1) != make(2)
    (id_, _), _ = make(1)
    assert id_.startswith("ldtask_")
    assert len(id_) == 7 + 32


def test_durations_are_spread_around_the_median(accept):
    """Most lie within a factor of 1.4, none is absurd."""
    store = Store(durations=100)
    times = sorted(accept(store).done_at for _ in range(400))
    assert 90 < times[200] < 110
    assert times[0] > 20
    assert times[-1] < 500


def test_durations_by_model_do_not_change_other_models(accept):
    """These stay realistic."""
    store = Store(durations={"midjourney": 0})
    assert accept(store, model="midjourney").done_at == 0
    assert accept(store, model="flux-pro").done_at > 5


# Ownership and cancelling


def test_task_of_another_key_is_not_found(accept):
    """The response does not reveal that it exists."""
    store = Store()
    task = accept(store)
    assert error_of(store.poll, task.id, key="other", now=0) == (404, "async_task_not_found")
    assert error_of(store.poll, "nope", key="k", now=0) == (404, "async_task_not_found")


def test_cancelling_is_refused_for_each_documented_reason(accept):
    """API.md, section 3."""
    plain, able = Store(durations=0), Store(durations=0, is_cancellable=True)
    task, over = accept(plain), accept(able)
    assert error_of(able.cancel, "nope", key="k", now=0) == (404, "async_task_not_found")
    assert error_of(able.cancel, over.id, key="other", now=0) == (403, "access_denied")
    assert error_of(plain.cancel, task.id, key="k", now=0) == (400, "unsupported_task_cancel")
    assert error_of(able.cancel, over.id, key="k", now=0) == (409, "task_not_cancellable")


def test_cancelled_task_is_failed_and_released(accept):
    """It costs nothing."""
    store = Store(is_cancellable=True)
    task = accept(store)
    response = store.cancel(task.id, key="k", now=0).poll_response(0, [])
    assert (response["status"], response["cancelled"]) == ("failed", True)
    assert store.ledger.released == {"a cat": 1}


# Money


def test_job_is_settled_by_the_first_read_after_its_end(accept):
    """Nothing runs in the background."""
    store = Store(durations=10)
    task = accept(store, user="row 1")
    store.settle(task.done_at - 0.001)
    assert store.ledger.open == {"row 1"}
    store.settle(task.done_at)
    assert [entry.kind for entry in store.ledger.entries] == ["reserve", "settle"]


def test_jobs_are_settled_in_the_order_in_which_they_ended(accept):
    """Not in that of their acceptance."""
    store = Store(durations={"flux-pro": 50, "midjourney": 5})
    accept(store, prompt="slow")
    accept(store, prompt="fast", model="midjourney")
    store.settle(10_000.0)
    assert [entry.job for entry in store.ledger.entries[2:]] == ["fast", "slow"]


def test_balance_is_used_up_to_the_last_cent(accept):
    """A job that costs more than is left is refused and not reserved."""
    store = Store(durations=0, balance_usd=0.12)
    for _ in range(3):
        accept(store, model="dall-e-3")
    with pytest.raises(ServiceError) as caught:
        accept(store, model="dall-e-3")
    error = caught.value.as_json()["error"]
    assert (caught.value.status, error["code"]) == (402, "insufficient_balance")
    assert (error["balance_usd"], error["estimated_cost_usd"]) == (0.0, 0.04)
    assert store.ledger.sold == {"a cat": 3}


def test_token_priced_job_is_billed_by_usage(accept):
    """Its reservation was higher."""
    store = Store(durations=0)
    accept(store, model="gpt-image-2", quality="high")
    store.settle(0)
    reserved, settled = store.ledger.entries
    assert reserved.amount_usd > settled.amount_usd > 0.1
    assert reserved.task_id is None


def test_clearing_tasks_releases_their_reservations(accept):
    """As in a restart that loses them."""
    store = Store()
    task = accept(store)
    store.clear_tasks(7.0)
    assert store.find(task.id) is None
    assert store.ledger.released == {"a cat": 1}


# Links


def test_links_are_stable_until_they_expire_and_then_renewed(accept):
    """An expired link stays known, as 410."""
    store = Store(durations=0, link_ttl_s=100)
    task = accept(store, n=2)
    first = store.links(task, 0)
    assert store.links(task, 99.9) == first
    assert len({link.token for link in first}) == 2
    renewed = store.links(task, 100)
    assert {link.token for link in renewed}.isdisjoint({link.token for link in first})
    assert error_of(store.resolve_link, first[0].token, 100) == (410, "link_expired")
    assert store.resolve_link(renewed[0].token, 100).index == 0


def test_link_tokens_depend_on_the_key(accept):
    """They cannot be guessed without it, although ids are drawn from the seed."""

    def token(key):
        store = Store(durations=0)
        return store.links(accept(store, key=key), 0)[0].token

    assert token("a") == token("a") != token("b")


def test_link_can_expire_early(accept):
    """The next poll has another one."""
    store = Store(durations=0)
    task = accept(store)
    (link,) = store.links(task, 5)
    store.expire_link(link.token, 6)
    store.expire_link("unknown", 6)
    assert error_of(store.resolve_link, link.token, 6) == (410, "link_expired")
    assert store.links(task, 6) != [link]


def test_unknown_link_is_not_found():
    """It is no 410: that one would have existed."""
    assert error_of(Store().resolve_link, "nope", 0) == (404, "link_not_found")


# Eviction


def test_oldest_finished_tasks_are_evicted_and_running_ones_kept(accept):
    """The ledger keeps every entry."""
    store = Store(durations=10, kept=10)
    stuck = accept(store, Stuck())
    ended = [accept(store, now=number * 1000.0) for number in range(12)]
    store.settle(100_000.0)
    for number in range(8):
        accept(store, now=100_000.0 + number)
    assert stuck.id in store.tasks
    assert ended[0].id not in store.tasks
    assert ended[-1].id in store.tasks
    assert len(store.tasks) <= 11
    assert store.ledger.sold == {"a cat": 21}


def test_oldest_links_are_evicted(accept):
    """The memory of a long-running emulator is bounded."""
    store = Store(durations=0, kept=10)
    links = [store.links(accept(store), 0.0)[0] for _ in range(12)]
    assert store.find_link(links[0].token) is None
    assert store.find_link(links[-1].token) is links[-1]
