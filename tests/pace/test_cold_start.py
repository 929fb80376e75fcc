"""Tasks of a model of which little is known wait for the answers of a few, for a bounded time."""

import pytest

from lemon_async._pace.cold_start import ColdModel, ColdStart


def held(number, **fields):
    return ColdModel(held=dict.fromkeys(range(number), 0.0), **fields)


def poll_all(model, now, price_s=0.5):
    """Let go what may go; return how many did."""
    gone = 0
    while model.may_poll(now):
        del model.held[next(iter(model.held))]
        model.started(now, price_s, 90.0)
        gone += 1
    return gone


def test_two_scouts_go_first_and_each_answer_lets_one_more_go():
    model = held(10)
    assert poll_all(model, 0.0) == 2
    assert poll_all(model, 0.9) == 0
    model.answered(None, has_ended=False)
    assert poll_all(model, 0.9) == 1


def test_end_of_a_task_makes_room_for_two_more():
    model = held(10)
    poll_all(model, 0.0)
    model.answered(None, has_ended=True)
    assert poll_all(model, 0.0) == 3


def test_one_of_sixteen_tasks_is_a_scout_when_there_are_many():
    assert poll_all(held(1600), 0.0) == pytest.approx(100, abs=7)


def test_scouts_without_answers_hold_the_others_up_for_two_prices_and_then_fewer():
    """Their connection hangs, or they were cancelled: with a thousand tasks, all have gone after ten such times."""
    model, now, gone = held(1000), 0.0, []
    while model.held:
        gone.append(poll_all(model, now))
        now = model.wake_at() or now
    assert gone[1] >= 1.9 * gone[0]
    assert len(gone) <= 10
    assert now <= 10.0


def test_patience_is_a_part_of_the_longest_gap_at_most():
    model = held(10)
    model.started(0.0, 1e9, 90.0)
    model.started(0.0, 1e9, 90.0)
    assert model.wake_at() == 9.0


def test_late_answers_make_no_debt():
    model = held(10)
    for _ in range(5):
        model.answered(None, has_ended=False)
    assert poll_all(model, 0.0) == 2


def test_model_that_is_known_holds_nothing():
    model = held(10, is_cold=False)
    assert poll_all(model, 0.0) == 10
    assert model.wake_at() is None


def test_tasks_rest_when_many_were_considered_unless_the_model_is_known():
    model = held(10)
    model.rest(7.0)
    assert not model.may_poll(7.0)
    assert model.wake_at() == 7.05
    assert model.may_poll(7.05)
    model.rest(8.0, 1000.0)
    assert model.wake_at() == 8.00005
    known = held(10, is_cold=False)
    known.rest(7.0)
    assert known.may_poll(7.0)


def test_planned_tasks_are_checked_in_turn_after_answers_that_change_the_estimate():
    model = ColdModel(planned={"a": 1.0, "b": 2.0, "c": 3.0})
    assert model.wake_at() is None
    model.answered("first", has_ended=False)
    assert model.wake_at() == 0.0
    assert model.take_unchecked(2) == [("a", 1.0), ("b", 2.0)]
    assert model.wake_at() is None
    model.answered("first", has_ended=False)
    assert model.wake_at() == 0.0
    assert model.take_unchecked(2) == [("c", 3.0)]
    model.answered("first", has_ended=False)
    assert model.wake_at() is None
    model.answered("second", has_ended=False)
    assert [key for key, _ in model.take_unchecked(5)] == ["a", "b", "c"]


def test_all_planned_tasks_of_a_model_that_is_known_are_checked_without_further_answers():
    model = ColdModel(planned={"a": 1.0, "b": 2.0}, is_cold=False)
    model.answered("first", has_ended=True)
    model.take_unchecked(1)
    assert model.wake_at() == 0.0
    model.take_unchecked(1)
    assert model.wake_at() is None


def test_tasks_of_unknown_models_are_not_held():
    start = ColdStart()
    assert start.get_or_add(None) is start.get_or_add("") is start.get_or_add(5) is start.get("m") is None
    assert not start.hold(None, "a", 0.0, deadline=100.0, max_gap_s=90.0)
    start.discard(None, "a")
    start.answered(None, None, is_cold=True)
    assert list(start) == []


def test_only_planned_tasks_are_held_and_none_shortly_before_its_deadline_or_at_its_longest_gap():
    start = ColdStart()
    model = start.get_or_add("m")
    model.planned = {"a": 1.0, "b": 2.0, "c": 2.0}
    assert start.hold("m", "a", 50.0, deadline=100.0, max_gap_s=90.0)
    assert model.held == {"a": 1.0}
    assert not start.hold("m", "b", 91.0, deadline=100.0, max_gap_s=900.0)
    assert not start.hold("m", "c", 84.0, deadline=900.0, max_gap_s=90.0)
    assert not model.planned  # they are polled
    assert not start.hold("m", "d", 50.0, deadline=100.0, max_gap_s=90.0)
    start.discard("m", "a")
    assert not model.held
    assert not model.planned


def test_model_is_forgotten_once_it_is_known_and_none_of_its_tasks_waits():
    start = ColdStart()
    start.get_or_add("m").planned = {"a": 1.0}
    start.answered("m", None, is_cold=False)
    assert start.get("m") is not None
    start.discard("m", "a")
    start.answered("m", None, is_cold=False)
    assert start.get("m") is None


def test_number_of_models_is_bounded_and_those_without_tasks_make_room():
    start = ColdStart()
    for number in range(64):
        start.get_or_add(str(number)).planned = {"a": 1.0}
    assert start.get_or_add("new") is None
    start.discard("5", "a")
    assert start.get_or_add("new") is start.get("new") is not None
    assert start.get("5") is None
