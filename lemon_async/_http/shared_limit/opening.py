"""Open the store that the URL of a shared rate limit names."""

from collections.abc import Callable

from lemon_async._http.shared_limit.store import LimitStore

__all__ = ["open_store"]


def open_store(
    url: str, *, account: str, rpm: int, interval_s: float, horizon_s: float, on_pause: Callable[[float], None]
) -> LimitStore:
    """Return the store of a URL; it connects when it is first used.

    Args:
        url: `redis://`, `rediss://`, `valkey://`, `valkeys://`, `postgres://` or `postgresql://`.
        account: Identifies the account: 16 hexadecimal digits.
        rpm: The limit, in requests per minute.
        interval_s: Seconds from one slot to the next.
        horizon_s: How far ahead a lease may begin at most.
        on_pause: Called on the event loop with the seconds of a pause.

    Raises:
        ContractError: The URL is invalid, or the extra that it needs is not installed (names it). The problem's field
            is `shared_limit`, and the message never has the password.
    """
    raise NotImplementedError
