import pytest

from lemon_async.batch import State
from lemon_async.cli.batch.rate import RateWindow


def noted(*samples, is_running=True):
    """Return a window with counts of done, refused and open rows, one a second."""
    window = RateWindow()
    for now, (done, refused, rows_open) in enumerate(samples):
        counts = {State.DONE: done, State.REFUSED: refused, State.NEW: rows_open}
        window.note(float(now), counts, is_running=is_running)
    return window


def test_rate_counts_rows_done_and_the_time_left_all_that_end():
    """Refused rows end, too."""
    window = noted((0, 0, 40), (1, 0, 39), (2, 1, 37), (3, 3, 34))
    assert window.rate_per_minute == pytest.approx(60)
    assert window.eta_s == pytest.approx(34 / 2)


@pytest.mark.parametrize("samples", [[], [(0, 0, 9)], [(0, 0, 9), (5, 0, 4)]])
def test_rate_is_unknown_at_first(samples):
    """A rate of a moment would jump."""
    window = noted(*samples)
    assert (window.rate_per_minute, window.eta_s) == (None, None)


def test_batch_that_stands_still_has_a_rate_and_no_end():
    window = noted(*[(1, 0, 9)] * 5)
    assert (window.rate_per_minute, window.eta_s) == (0, None)


def test_rate_is_that_of_the_last_two_minutes():
    """A batch that has become slow is slow."""
    window = noted(*[(10 * min(now, 100), 0, 9) for now in range(300)])
    assert window.rate_per_minute == 0


def test_rate_begins_anew_when_rows_are_taken_up_again():
    """A retry makes fewer rows done than before, which is no negative speed."""
    assert noted((9, 9, 0), (9, 9, 0), (9, 9, 0), (9, 9, 0), (9, 0, 9)).rate_per_minute is None


def test_rate_of_a_batch_that_does_not_run_is_unknown():
    assert noted(*[(9, 0, 9)] * 9, is_running=False).rate_per_minute is None
