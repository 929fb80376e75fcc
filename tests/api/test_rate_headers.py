"""Rate-limit headers are read if they are plausible."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._api.response import RateReport, read_rate_headers

UNIX = 1_790_000_000.0
DATE = "Mon, 21 Sep 2026 14:13:50 GMT"  # half a minute after UNIX

steady = settings(derandomize=True, deadline=None)


def read(**values):
    headers = {f"x-ratelimit-{name}": value for name, value in values.items()}
    return read_rate_headers(headers, received_at=UNIX)


def test_headers_have_limit_and_rest_and_reset():
    assert read(limit="60", remaining="59", reset="12") == RateReport(limit=60, remaining=59, reset_s=12.0)


def test_headers_that_say_nothing_of_a_limit_are_nothing():
    assert read_rate_headers({"content-type": "application/json"}, received_at=UNIX) is None
    assert read(limit="many", remaining="", reset="-5") is None


RESET_IS_SECONDS_OR_ROWS = (
    ("12", 12.0),
    ("0.5", 0.5),
    (" 60 ", 60.0),
    ("86400", 86400.0),
    (f"{UNIX + 30:.0f}", 30.0),
    (f"{UNIX + 30.5}", 30.5),
    (DATE, 30.0),
    ("2026-09-21T14:13:50Z", None),
    ("0", None),
    ("-1", None),
    (f"{UNIX - 30:.0f}", None),
    ("Mon, 21 Sep 2026 14:12:50 GMT", None),
    ("86401", None),
    (f"{UNIX * 1000:.0f}", None),
    ("nan", None),
    ("inf", None),
    ("1e400", None),
    ("soon", None),
    ("", None),
)


def test_reset_is_seconds_or_unix_seconds_or_a_date():
    for text, reset_s in RESET_IS_SECONDS_OR_ROWS:
        reported = read(limit="60", reset=text)
        assert reported == RateReport(limit=60, reset_s=None if reset_s is None else pytest.approx(reset_s))


def test_counts_are_whole_numbers_within_reason():
    odd = ("-1", "+5", "1000001", "9" * 400, "NaN", "1e400", "1e3", "6.5", "٣", "60;w=60", "")
    whole = {"1": 1, " 60 ": 60, "\x1f60": 60, "1000.0": 1000, "1000000": 1_000_000}
    for text, number in (dict.fromkeys(odd) | whole).items():
        assert read(limit=text, reset="5") == RateReport(limit=number, reset_s=5.0)
        assert read(remaining=text, reset="5") == RateReport(remaining=number, reset_s=5.0)


def test_nothing_may_remain_but_no_limit_is_nothing():
    assert read(limit="0", remaining="0", reset="5") == RateReport(remaining=0, reset_s=5.0)


texts = st.text(max_size=20) | st.floats().map(str) | st.integers().map(str)


@steady
@given(texts, texts, texts)
def test_whatever_is_sent_is_read_as_something_sensible_or_not_at_all(limit, remaining, reset):
    reported = read(limit=limit, remaining=remaining, reset=reset) or RateReport()
    assert reported.limit is None or 1 <= reported.limit <= 1_000_000
    assert reported.remaining is None or 0 <= reported.remaining <= 1_000_000
    assert reported.reset_s is None or (math.isfinite(reported.reset_s) and 0 < reported.reset_s <= 86_400)
