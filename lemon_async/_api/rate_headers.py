"""Read the `X-RateLimit-*` headers of a response.

No page documents them, but some versions of the service send them. Values that make no sense count as missing.
"""

import re
from collections.abc import Mapping

import attrs

from lemon_async._api.response import retry_after_s

__all__ = ["RateReport", "read_rate_headers"]

_NAMES = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
_MOST = 1_000_000
_LONGEST_RESET_S = 86_400.0
_EARLIEST_UNIX_S = 1e8
_COUNT = re.compile(r"[0-9]{1,7}(\.0*)?", re.ASCII)


@attrs.frozen(kw_only=True)
class RateReport:
    """The state of the account's rate limit in one response; `None` for a missing value.

    Attributes:
        limit: Requests per minute, at least 1.
        remaining: Requests left until the reset, for all clients of the account.
        reset_s: Seconds from the response to the reset.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_s: float | None = None


def read_rate_headers(headers: Mapping[str, str], *, received_at: float) -> RateReport | None:
    """Return the rate limit in the headers, or `None` if there is none.

    Args:
        headers: Names in lower case.
        received_at: Unix seconds, the reference for a reset that is a time.
    """
    if not any(name in headers for name in _NAMES):
        return None
    reported = RateReport(
        limit=_count(headers.get("x-ratelimit-limit")) or None,
        remaining=_count(headers.get("x-ratelimit-remaining")),
        reset_s=_reset_s(headers.get("x-ratelimit-reset"), received_at),
    )
    return None if reported == RateReport() else reported


def _count(text: str | None) -> int | None:
    found = None if text is None else _COUNT.fullmatch(text.strip())
    if found is None:
        return None
    number = int(float(found[0]))
    return number if number <= _MOST else None


def _reset_s(text: str | None, received_at: float) -> float | None:
    """Return the seconds to a reset given in seconds, Unix seconds or as an HTTP date; `None` if it is past."""
    seconds = retry_after_s(text, received_at=received_at)
    if seconds is not None and seconds >= _EARLIEST_UNIX_S:
        seconds -= received_at
    return seconds if seconds is not None and 0.0 < seconds <= _LONGEST_RESET_S else None
