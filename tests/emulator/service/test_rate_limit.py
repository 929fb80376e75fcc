"""Requests are counted per key and minute, and the headers say how many are left."""

from lemon_async.emulator.service.rate_limit import FixedWindow


def test_window_grants_the_limit_then_refuses_until_the_minute_is_over():
    """Refused requests do not count."""
    window = FixedWindow(2)
    waits = [window.take("k", at, 0)[1] for at in (0, 1, 2, 59.9, 60)]
    assert waits == [None, None, 58, 1, None]


def test_keys_have_windows_of_their_own():
    """API.md: the limit is per account."""
    window = FixedWindow(1)
    assert [window.take(key, 0, 0)[1] for key in "aba"] == [None, None, 60]


def test_headers_count_down_and_name_the_reset():
    """The reset is Unix time."""
    headers, _ = FixedWindow(3).take("k", 20.5, 1000.0)
    assert headers == {
        "X-RateLimit-Limit": "3",
        "X-RateLimit-Remaining": "2",
        "X-RateLimit-Reset": "1040",
    }


def test_refusal_says_how_long_to_wait_in_whole_seconds():
    """At least one."""
    window = FixedWindow(0)
    assert [window.take("k", at, 0)[1] for at in (20.5, 59.99)] == [40, 1]
