"""The rules of a store, shown with the model that the tests of its clients use."""

from limit_store import LimitState


def state(now=0.0):
    return LimitState.create(now, interval_s=0.5, horizon_s=10.0)


def test_leases_do_not_overlap():
    """Each lease begins where the last one ended, or now."""
    store = state()
    leases = [store.reserve(0.0, 4, epoch=None, owed=0, worker=name) for name in "ab"]
    assert [(lease.slots, lease.wait_s, lease.workers) for lease in leases] == [(4, 0.0, 1), (4, 2.0, 2)]
    assert store.reserve(100.0, 1, epoch=leases[0].epoch, owed=0, worker="a").wait_s == 0.0


def test_no_slot_is_granted_beyond_the_horizon():
    """Asking does not move what others get."""
    store = state()
    store.reserve(0.0, 21, epoch=None, owed=0, worker="a")
    for _ in range(3):
        lease = store.reserve(0.0, 4, epoch=None, owed=0, worker="b")
        assert (lease.slots, lease.wait_s) == (0, 10.5)
    assert store.reserve(0.5, 4, epoch=None, owed=0, worker="b").slots == 4


def test_lost_state_costs_one_minute_once():
    """All clients that knew the old state wait until the same moment; later ones do not wait again."""
    store = state(now=100.0)
    assert store.reserve(105.0, 1, epoch="old", owed=0, worker="a").wait_s == 55.0
    assert store.reserve(110.0, 1, epoch="old", owed=0, worker="b").wait_s == 50.0
    assert store.reserve(170.0, 1, epoch="old", owed=0, worker="c").wait_s == 0.0


def test_owed_requests_and_pauses_delay_everybody():
    store = state()
    assert store.reserve(0.0, 1, epoch=None, owed=3, worker="a").wait_s == 1.5
    store.pause(1.0, 5.0)
    store.pause(1.0, 2.0)
    assert store.reserve(1.0, 1, epoch=None, owed=0, worker="b").wait_s == 5.0
