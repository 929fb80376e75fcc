"""Check the settings of a session, and report all problems together."""

import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import attrs
from aiohttp import TraceConfig

from lemon_async._api.urls import DEFAULT_ORIGIN, parse_base_url, parse_http_hosts
from lemon_async._http.attempt import HiddenText
from lemon_async._http.key import ApiKey
from lemon_async._http.transport import Timeouts
from lemon_async._pace.learned_durations import LearnedDurations
from lemon_async._pace.retry import RetryPolicy
from lemon_async._pace.schedule import PollPolicy
from lemon_async._pace.validators import find_callback_fault
from lemon_async.errors import ContractError
from lemon_async.types import Problem

if TYPE_CHECKING:
    from lemon_async.events import EventHandler

__all__ = ["BASE_URL_VARIABLE", "Settings"]

BASE_URL_VARIABLE = "LEMONDATA_BASE_URL"
_LIMITS = ("requests_per_minute", "max_submits", "max_polls", "max_downloads")
_TYPES: Mapping[str, type[object]] = {
    "polling": PollPolicy,
    "retry": RetryPolicy,
    "timeouts": Timeouts,
    "check_contracts": bool,
}


def _hide(url: str | None) -> str | None:
    """Hide a URL, which may have a password, from tracebacks that show local variables."""
    return HiddenText(url) if isinstance(url, str) else url


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Settings:
    """The arguments of `LemonSession`; see there."""

    base_url: str | None
    allow_http: AbstractSet[str]
    key: ApiKey
    polling: PollPolicy
    retry: RetryPolicy
    timeouts: Timeouts
    requests_per_minute: int | None
    shared_limit: str | None = attrs.field(converter=_hide)
    max_submits: int
    max_polls: int
    max_downloads: int
    check_contracts: bool
    learned_durations: Mapping[str, Any] | None
    on_event: "EventHandler | Sequence[EventHandler] | None" = None
    trace_configs: Sequence[TraceConfig] = ()

    def handlers(self) -> "tuple[EventHandler, ...]":
        """Return the functions of `on_event`."""
        if isinstance(self.on_event, Sequence) and not callable(self.on_event):
            return tuple(self.on_event)
        return () if self.on_event is None else (self.on_event,)

    def checked(self) -> tuple[str, frozenset[str], LearnedDurations]:
        """Return the base URL, the hosts that may be used without encryption, and the learned durations.

        Raises:
            ContractError: With all problems.
        """
        base_url, http_hosts, durations = "", frozenset[str](), LearnedDurations()
        problems = self.key.problems()
        try:
            http_hosts = parse_http_hosts(self.allow_http)
        except (TypeError, ValueError) as fault:
            problems.append(Problem("allow_http", str(fault)))
        default = os.environ.get(BASE_URL_VARIABLE) or DEFAULT_ORIGIN
        given = default if self.base_url is None or self.base_url == "" else self.base_url
        try:
            base_url = parse_base_url(given, http_hosts)
        except ValueError as fault:
            problems.append(Problem("base_url", str(fault)))
        problems += self._limit_problems()
        faults = filter(None, map(find_callback_fault, self.handlers()))
        problems += [Problem("on_event", fault) for fault in dict.fromkeys(faults)]
        traces: Any = self.trace_configs
        if not isinstance(traces, list | tuple) or not all(isinstance(each, TraceConfig) for each in traces):
            problems.append(
                Problem("trace_configs", f"must be aiohttp.TraceConfig objects in a list, not {traces!r:.80}")
            )
        for name, kind in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                problems.append(Problem(name, f"must be a {kind.__name__}, not {value!r:.80}"))
        if self.learned_durations is not None:
            try:
                durations = LearnedDurations.restore(self.learned_durations)
            except ContractError as error:
                problems += error.problems
        if problems:
            raise ContractError(problems=tuple(problems))
        return base_url, http_hosts, durations

    def _limit_problems(self) -> Iterator[Problem]:
        for name in _LIMITS:
            value = getattr(self, name)
            if (type(value) is not int or value < 1) and (name, value) != ("requests_per_minute", None):
                yield Problem(name, f"must be a whole number from 1, not {value!r:.80}")
        if self.shared_limit is None:
            return
        if not isinstance(self.shared_limit, str):
            yield Problem("shared_limit", f"must be the URL of a store, not a {type(self.shared_limit).__name__}")
        elif self.requests_per_minute is None:
            yield Problem("shared_limit", "needs requests_per_minute: the limit of all processes together")
