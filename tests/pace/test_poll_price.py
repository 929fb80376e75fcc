"""The price of a poll follows demand, within bounds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._pace.poll_price import HIGHEST_PRICE_S, LOWEST_PRICE_S, least_gap_s, price_s

steady = settings(derandomize=True, deadline=None)
pendings = st.integers(1, 100_000)
rooms = st.floats(1, 60_000)


@steady
@given(pendings, pendings, rooms, rooms)
def test_price_never_falls_with_demand_and_never_rises_with_room(pending, others, room_rpm, more_rpm):
    price = price_s(pending, room_rpm)
    assert LOWEST_PRICE_S <= price <= HIGHEST_PRICE_S
    assert price <= price_s(pending + others, room_rpm)
    assert price >= price_s(pending, room_rpm + more_rpm)
    assert least_gap_s(room_rpm) >= least_gap_s(room_rpm + more_rpm)


@steady
@given(rooms)
def test_lone_task_takes_at_most_half_of_the_room(room_rpm):
    assert 60 / least_gap_s(room_rpm) <= room_rpm / 2 * 1.000001


def test_price_is_between_its_bounds_where_the_table_says():
    for room_rpm, at_floor, below_ceiling in [(60, 0, 3), (1_000, 6, 64), (10_000, 64, 645)]:
        assert price_s(at_floor, room_rpm) == LOWEST_PRICE_S < price_s(at_floor + 1, room_rpm)
        assert price_s(below_ceiling, room_rpm) < HIGHEST_PRICE_S == price_s(below_ceiling + 1, room_rpm)


def test_price_makes_the_affordable_gap_the_best_one():
    """Ten tasks share five polls per second: at a hazard of 1 / 60 per second the best gap is two seconds."""
    best_gap_s = (2 * price_s(10, 600) * 60) ** 0.5
    assert abs(best_gap_s - 2.0) < 1e-9
