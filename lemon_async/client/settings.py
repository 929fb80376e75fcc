"""The check of a session's settings: every problem at once, before anything is connected."""

import os
from collections.abc import Mapping

from lemon_async.api.errors import ContractError, Problem
from lemon_async.api.urls import DEFAULT_ORIGIN, parse_base_url
from lemon_async.client.key import ApiKey

__all__ = ["BASE_URL_VARIABLE", "check_settings"]

BASE_URL_VARIABLE = "LEMONDATA_BASE_URL"


def check_settings(
    base_url: str | None,
    key: ApiKey,
    limits: Mapping[str, int],
    policies: Mapping[str, tuple[object, type[object]]],
) -> str:
    """Return the origin to talk to.

    Raises:
        ContractError: With all that is wrong.
    """
    problems = key.problems()
    try:
        origin = parse_base_url(base_url or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_ORIGIN)
    except ValueError as fault:
        problems.append(Problem("base_url", str(fault)))
        origin = ""
    problems += [
        Problem(name, f"must be a whole number from 1, not {value!r}")
        for name, value in limits.items()
        if type(value) is not int or value < 1
    ]
    problems += [
        Problem(name, f"must be a {kind.__name__}, not {value!r}")
        for name, (value, kind) in policies.items()
        if not isinstance(value, kind)
    ]
    if problems:
        raise ContractError(problems=tuple(problems))
    return origin
