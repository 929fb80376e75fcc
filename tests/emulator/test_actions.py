"""Actions check their arguments when they are made, not when a fault strikes."""

import pytest

from lemon_async.emulator import Answer, Body, Drip, Emulator, HalfClose, Redirect, Reset, Script, Status


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reset("somewhere"), "'at' must be in"),
        (lambda: HalfClose(""), "'at' must be in"),
        (lambda: Status(500, "xml"), "'body' must be in"),
        (lambda: Drip(0), "'bytes_per_s' must be > 0"),
        (lambda: Drip(float("nan")), "'bytes_per_s' must be > 0"),
        (lambda: Script(()), "Length of 'statuses' must be >= 1"),
        (lambda: Status(500, headers={"X-A": "1\r\nX-B: 2"}), "'headers' cannot be sent: X-A: '1"),
        (lambda: Status(500, headers={"X-A": 1}), "'headers' cannot be sent: X-A: 1"),
        (lambda: Status(500, headers={"X-A": "\ud800"}), "'headers' cannot be sent: X-A"),
        (lambda: Body(b"", headers={"X A": "1"}), "'headers' cannot be sent: X A: '1'"),
        (lambda: Body(b"", "image/png\n"), "'content_type' cannot be sent: 'image/png"),
        (lambda: Redirect("/x\nX-B: 2"), "'location' cannot be sent: '/x"),
    ],
)
def test_action_that_makes_no_sense_is_refused(make, message):
    """The message names the argument."""
    with pytest.raises(ValueError, match=message):
        make()


def test_actions_are_equal_by_value():
    """Faults can be compared in tests."""
    assert Script(["pending"]) == Script(("pending",))
    assert Answer(id=None, status="done").fields == {"id": None, "status": "done"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Status("x"),
        lambda: Status(99),
        lambda: Status(600),
        lambda: Redirect("/", status="307"),
        lambda: Emulator(speed="x"),
        lambda: Emulator(speed=0),
        lambda: Emulator(speed=float("inf")),
        lambda: Emulator(port="x"),
        lambda: Emulator(port=-1),
        lambda: Emulator(port=99_999),
    ],
)
def test_value_that_cannot_work_is_refused_where_it_is_written(make):
    with pytest.raises((ValueError, TypeError), match=r"status|speed|port"):
        make()
