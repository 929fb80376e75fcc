"""Decide after which errors a map submits nothing more.

    stop_on="account"                                       counts while
    401, 402, 403                                           always
    404 or 400 model_not_found, 403 model_not_allowed       nothing has been accepted: otherwise only that model is bad

Three of these in a row, without an acceptance in between, stop the map. Other errors are about one request: they
neither count nor interrupt the row.

Because a wrong key is refused within a fraction of a second, a map starts with three requests and waits until one of
them shows that the account is fine, or for `PROBE_S`: models that answer inline take a minute.
"""

from collections.abc import Callable

from lemon_async._pace.validators import find_callback_fault
from lemon_async.errors import (
    AccessDenied,
    ApiError,
    AuthenticationError,
    ContractError,
    InsufficientBalance,
    TransportError,
)
from lemon_async.types import StopOn

__all__ = ["PROBE_S", "StopRule", "find_stop_fault"]

PROBE_S = 0.5
_IN_A_ROW = 3
_MODEL_CODES = frozenset({"model_not_found", "model_not_allowed"})


class StopRule:
    """The rule of one map.

    Args:
        stop_on: As for `LemonSession.map`.
        is_proven: Whether a request of this account has been accepted before.

    Attributes:
        allowance: How many requests may have been submitted by now; `None` for any number.
    """

    def __init__(self, stop_on: StopOn, *, is_proven: bool = False) -> None:
        self._stops = self._stops_account if stop_on == "account" else _matcher(stop_on)
        self._in_a_row = 0
        self._has_accepted = False
        self.allowance: int | None = _IN_A_ROW if stop_on == "account" and not is_proven else None

    def observe_acceptance(self) -> None:
        """Note that a request was accepted."""
        self._in_a_row = 0
        self._has_accepted = True
        self.allowance = None

    def stops(self, error: Exception) -> bool:
        """Note an error, and return whether nothing more is to be submitted."""
        return self._stops(error)

    def _stops_account(self, error: Exception) -> bool:
        if self._is_about_account(error):
            self._in_a_row += 1
        elif not isinstance(error, ContractError | TransportError):
            self.allowance = None
        elif self.allowance is not None:  # it never reached the service, and proves nothing
            self.allowance += 1
        return self._in_a_row >= _IN_A_ROW

    def _is_about_account(self, error: Exception) -> bool:
        if isinstance(error, ApiError) and error.code in _MODEL_CODES:
            return not self._has_accepted
        return isinstance(error, AuthenticationError | InsufficientBalance | AccessDenied)


def find_stop_fault(stop_on: object) -> str | None:
    """Return why a value cannot be `stop_on`, or `None` if it can."""
    kinds = stop_on if isinstance(stop_on, tuple) else (stop_on,)
    if stop_on is None or stop_on == "account" or (kinds and all(map(_is_error_type, kinds))):
        return None
    if isinstance(stop_on, str | tuple | type) or not callable(stop_on):
        return f"must be 'account', exception types, a function or None, not {stop_on!r:.80}"
    return find_callback_fault(stop_on)


def _is_error_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _matcher(stop_on: StopOn) -> Callable[[Exception], bool]:
    if stop_on is None:
        return lambda _: False
    if isinstance(stop_on, tuple | type):
        return lambda error: isinstance(error, stop_on)
    assert callable(stop_on)  # noqa: S101 - `find_stop_fault` has checked it
    return stop_on
