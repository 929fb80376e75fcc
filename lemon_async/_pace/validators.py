"""Validators that the settings classes share: an invalid value raises where it is set."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from lemon_async._formats.json_documents import safe_repr
from lemon_async.errors import ContractError

__all__ = ["at_least_one", "at_least_zero", "boolean", "find_callback_fault", "is_duration", "positive"]


def _refuse(attribute: Any, advice: str, value: object) -> None:
    raise ContractError.of(attribute.name, f"{advice}, not {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_duration(value: object) -> bool:
    """Return whether `value` is a finite number of seconds that is not negative."""
    return _is_number(value) and value >= 0  # type: ignore[operator]  # `_is_number` checked it


def positive(_: object, attribute: Any, value: float) -> None:
    """Accept finite numbers above zero."""
    if not (_is_number(value) and value > 0):
        _refuse(attribute, "must be a finite number above 0", value)


def at_least_zero(_: object, attribute: Any, value: float) -> None:
    """Accept finite numbers that are not negative."""
    if not is_duration(value):
        _refuse(attribute, "must be a finite number and not negative", value)


def at_least_one(_: object, attribute: Any, value: int) -> None:
    """Accept whole numbers from 1."""
    if type(value) is not int or value < 1:
        _refuse(attribute, "must be a whole number from 1", value)


def boolean(_: object, attribute: Any, value: bool) -> None:
    """Accept `True` and `False`."""
    if not isinstance(value, bool):
        _refuse(attribute, "must be True or False", value)


def find_callback_fault(value: object) -> str | None:
    """Return why a value cannot be a function that is called and not awaited, or `None` if it can."""
    if not callable(value):
        return f"must be a function, not {safe_repr(value)}"
    if _is_async(value):
        return "must be a plain function, which is called and not awaited; an asyncio.Queue's put_nowait is one"
    return None


def _is_async(function: Callable[..., object]) -> bool:
    """Return whether calling it would only create an awaitable; an object is called by its class."""
    called = function if inspect.isroutine(function) or isinstance(function, partial) else type(function).__call__
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
