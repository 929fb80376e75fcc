"""Actions check their arguments when they are made, not when a fault strikes."""

import pytest

from lemon_async.emulator import Answer, Drip, HalfClose, Reset, Script, Status


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reset("somewhere"), "'at' must be in"),
        (lambda: HalfClose(""), "'at' must be in"),
        (lambda: Status(500, "xml"), "'body' must be in"),
        (lambda: Drip(0), "'bytes_per_s' must be > 0"),
        (lambda: Drip(float("nan")), "'bytes_per_s' must be > 0"),
        (lambda: Script(()), "Length of 'statuses' must be >= 1"),
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
