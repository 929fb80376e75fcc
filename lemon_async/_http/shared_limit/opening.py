"""Open the store that the URL of a shared rate limit names."""

import re
from collections.abc import Callable

from lemon_async._http.shared_limit.store import LimitStore
from lemon_async.errors import ContractError

__all__ = ["open_store", "store_name"]

_REDIS = {"redis", "rediss", "valkey", "valkeys", "unix"}
_POSTGRES = {"postgres", "postgresql"}
_URLS = "redis://, rediss://, valkey://, valkeys://, unix://, postgres:// or postgresql://"
# Text before the last @ is taken for credentials. A URL with a question mark there is ambiguous: the mark may belong to
# the password, or the @ to an option.
_URL = re.compile(r"(?P<scheme>[a-z]+://)(?:[^@?]*@)?(?P<place>[^@?#]*)(?:\?[^@]*)?")


def open_store(
    url: str, *, account: str, rpm: int, interval_s: float, horizon_s: float, on_pause: Callable[[float], None]
) -> LimitStore:
    """Return the store of a URL; it connects when it is first used.

    Args:
        url: `redis://`, `rediss://`, `valkey://`, `valkeys://`, `unix://`, `postgres://` or `postgresql://`.
        account: Identifies the account: 16 hexadecimal digits.
        rpm: The limit, in requests per minute.
        interval_s: Seconds from one slot to the next.
        horizon_s: How far ahead a lease may begin at most.
        on_pause: Called on the event loop with the seconds of a pause.

    Raises:
        ContractError: The URL is invalid, or the extra that it needs is not installed (names it). The problem's field
            is `shared_limit`, and the message never has the password.
    """
    scheme = url.partition("://")[0]
    make = _redis() if scheme in _REDIS else _postgres() if scheme in _POSTGRES else None
    if make is None:
        raise ContractError.of("shared_limit", f"must be a URL that begins with {_URLS}")
    name = store_name(url)
    return make(url, name=name, account=account, rpm=rpm, interval_s=interval_s, horizon_s=horizon_s, on_pause=on_pause)


def store_name(url: str) -> str:
    """Return a URL without credentials and options; no more than its scheme if it is unclear where they end."""
    found = _URL.fullmatch(url)
    return f"{found['scheme']}{found['place']}" if found else f"{url.partition('://')[0]}://..."


def _redis() -> Callable[..., LimitStore]:
    try:
        from lemon_async._http.shared_limit.redis import RedisStore  # noqa: PLC0415 - needs redis-py, an extra
    except ModuleNotFoundError:
        raise ContractError.of("shared_limit", "needs redis-py: pip install 'lemon-async[redis]'") from None
    return RedisStore


def _postgres() -> Callable[..., LimitStore]:
    try:
        from lemon_async._http.shared_limit.postgres import PostgresStore  # noqa: PLC0415 - needs psycopg, an extra
    except ImportError:  # also if there is no libpq
        raise ContractError.of("shared_limit", "needs psycopg: pip install 'lemon-async[postgres]'") from None
    return PostgresStore
