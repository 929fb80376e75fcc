"""Requests are counted per key and minute, and the headers say how many are left."""

from lemon_async.emulator.service.rate_limit import FixedWindow


def test_window_grants_the_limit_then_refuses_until_the_minute_is_over():
    """Refused requests do not count."""
    window = FixedWindow(2)
    grants = [window.take("k", at).is_granted for at in (0, 1, 2, 59.9, 60)]
    assert grants == [True, True, False, False, True]


def test_keys_have_windows_of_their_own():
    """API.md: the limit is per account."""
    window = FixedWindow(1)
    assert window.take("a", 0).is_granted
    assert window.take("b", 0).is_granted
    assert not window.take("a", 0).is_granted


def test_headers_count_down_and_name_the_reset():
    """The reset is Unix time."""
    window = FixedWindow(3)
    assert window.take("k", 20.5).headers(1000.0) == {
        "X-RateLimit-Limit": "3",
        "X-RateLimit-Remaining": "2",
        "X-RateLimit-Reset": "1040",
    }


def test_refusal_says_how_long_to_wait_in_whole_seconds():
    """At least one."""
    window = FixedWindow(0)
    refused = window.take("k", 20.5)
    assert refused.retry_after == 40
    assert refused.headers(0.0)["Retry-After"] == "40"
    assert window.take("k", 59.99).retry_after == 1
