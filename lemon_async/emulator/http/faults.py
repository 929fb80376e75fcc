"""Scripted faults: `match x when x do x bill`.

A fault names a route and what to do there. Which requests it hits is decided by facts about the
request (model, prompt, key), by its number among the matching ones (`nth`), by emulated time and by
a seeded coin, so that the same script meets the same requests in every run.

At most one fault acts on a request: the first registered one that takes it. Actions that belong
together go into one fault. Every matching fault counts the request, whoever takes it.

A fault is asked at one stage of the exchange, the earliest that its actions need:

    accept         a connection was made: no route, no facts, `nth` counts connections
    request_head   the request line is known: route only
    request_body   the head is known: route and key
    request        everything is known
"""

import re
from collections.abc import Collection, Iterable
from random import Random
from typing import Any, Literal, TypedDict, TypeVar

from attrs import define, field, frozen

from lemon_async.emulator.actions import (
    Action,
    Body,
    Break,
    HttpAction,
    Latency,
    TaskAction,
)

Route = Literal["submit", "edit", "poll", "cancel", "files", "models", "cdn"]
Stage = Literal["accept", "request_head", "request_body", "request"]

ROUTES: tuple[Route, ...] = ("submit", "edit", "poll", "cancel", "files", "models", "cdn")
_PAID: tuple[Route, ...] = ("submit", "edit")
_EARLY: tuple[Stage, ...] = ("accept", "request_head", "request_body")
_UNKNOWN_AT: dict[Stage, tuple[str, ...]] = {
    "accept": ("model", "prompt", "key"),
    "request_head": ("model", "prompt", "key"),
    "request_body": ("model", "prompt"),
}

A = TypeVar("A")


class Match(TypedDict, total=False):
    """The keyword arguments of `Fault`, for editors and type checkers."""

    model: str | None
    prompt: str | None
    key: str | None
    nth: Collection[int] | int | None
    times: int | None
    probability: float
    seed: int
    window_s: tuple[float, float] | None
    bill: bool | None


@frozen
class RequestFacts:
    """What is known about a request when a fault is asked."""

    route: str = ""
    model: str | None = None
    prompt: str | None = None
    key: str | None = None


def _actions(value: Any) -> tuple[Action, ...]:
    actions = tuple(value) if isinstance(value, Iterable) else (value,)
    for action in actions:
        if not isinstance(action, Action):
            raise ValueError(f"a fault does actions such as Status(502), not {action!r}")  # noqa: TRY004 - one kind
    return actions


def _numbers(value: Any) -> Collection[int] | None:
    if value is None or isinstance(value, int):
        return None if value is None else (value,)
    if not isinstance(value, Collection) or not all(isinstance(number, int) for number in value):
        raise ValueError(f"nth must be a number counted from 1, or several, not {value!r}")
    return value


@define(eq=False)
class Fault:
    """One rule of misbehaviour; `hits` counts the requests it has acted on.

    Args:
        route: Where: `submit`, `edit` (variations, too), `poll`, `cancel`, `files`, `models` or `cdn`.
        do: What: one action, or several that combine.
        model: Only this model.
        prompt: Only prompts in which this regular expression is found.
        key: Only this API key.
        nth: Only this one of the matching requests, or these, counted from 1.
        times: At most so many hits.
        probability: The chance of each matching request, from a coin seeded by `seed`.
        window_s: Only between these emulated seconds since the start.
        bill: Whether a faulted submit or edit is sold; None asks the actions.

    Raises:
        ValueError: The parts cannot work together, e.g. a prompt to match before it has arrived.
    """

    route: Route
    do: tuple[Action, ...] = field(converter=_actions)
    model: str | None = field(default=None, kw_only=True)
    prompt: str | None = field(default=None, kw_only=True)
    key: str | None = field(default=None, kw_only=True)
    nth: Collection[int] | None = field(default=None, kw_only=True, converter=_numbers)
    times: int | None = field(default=None, kw_only=True)
    probability: float = field(default=1.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    window_s: tuple[float, float] | None = field(default=None, kw_only=True)
    bill: bool | None = field(default=None, kw_only=True)
    hits: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False, repr=False)
    # Two sources: how often a delay is drawn must not decide who is hit next.
    _coin: Random = field(init=False, repr=False)
    _jitter: Random = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._coin = Random(f"{self.seed}:coin")  # noqa: S311 - for tests, no secret
        self._jitter = Random(f"{self.seed}:jitter")  # noqa: S311 - likewise
        self._check()

    def _check(self) -> None:
        if self.route not in ROUTES:
            raise ValueError(f"route must be one of {', '.join(ROUTES)}; got {self.route!r}")
        if self.times is not None and not isinstance(self.times, int):
            raise ValueError(f"times must be a whole number, not {self.times!r}")
        if not self.do:
            raise ValueError("a fault needs something to do")
        if self.route not in _PAID and self.task_script:
            raise ValueError("task actions belong to the routes 'submit' and 'edit', which sell the task")
        self._check_prompt()
        stage = self.stage
        if stage in _EARLY and (len(self.do) > 1 or self.bill):
            raise ValueError(f"a break at {stage} stands alone and sells nothing")
        blind = [name for name in _UNKNOWN_AT.get(stage, ()) if getattr(self, name) is not None]
        if blind:
            raise ValueError(f"at {stage} nothing is known yet about: {', '.join(blind)}")

    def _check_prompt(self) -> None:
        try:
            re.compile(self.prompt or "")
        except re.error as error:
            raise ValueError(f"prompt is no regular expression: {error}") from error

    @property
    def stage(self) -> Stage:
        """When this fault is asked."""
        at = None if self.connection_break is None else self.connection_break.at
        return next((stage for stage in _EARLY if stage == at), "request")

    @property
    def task_script(self) -> tuple[TaskAction, ...]:
        """The actions that change the task."""
        return tuple(action for action in self.do if isinstance(action, TaskAction))

    @property
    def is_billed(self) -> bool:
        """Whether a submit or edit that meets this fault is billed like any other."""
        if self.bill is not None:
            return self.bill
        # A body of our own is an answer 200, which nobody sends without having sold something.
        is_refused = self.replacement is not None and not isinstance(self.replacement, Body)
        return not is_refused and self.stage == "request"

    def latency_s(self) -> float:
        """How long to wait before the answer; draws the jitter anew each time."""
        latency = self.find(Latency)
        if latency is None:
            return 0.0
        jitter = self._jitter.uniform(-latency.jitter_ms, latency.jitter_ms)
        return max(0.0, latency.ms + jitter) / 1000

    @property
    def connection_break(self) -> Break | None:
        """How the connection is broken, if it is."""
        return next((action for action in self.do if isinstance(action, Break)), None)

    @property
    def replacement(self) -> HttpAction | None:
        """What is answered instead of the real answer, if anything."""
        return next((action for action in self.do if isinstance(action, HttpAction)), None)

    def find(self, kind: type[A]) -> A | None:
        """The first action of this kind."""
        return next((action for action in self.do if isinstance(action, kind)), None)

    def matches(self, facts: RequestFacts) -> bool:
        """Whether a request with these facts is one of those this fault counts."""
        return (
            (self.stage == "accept" or self.route == facts.route)
            and self.model in (None, facts.model)
            and self.key in (None, facts.key)
            and (self.prompt is None or re.search(self.prompt, facts.prompt or "") is not None)
        )

    def register(self, facts: RequestFacts, now: float) -> bool:
        """Count a request that this fault is about; whether it is due to be hit."""
        if not self.matches(facts) or not self._is_open(now):
            return False
        self._seen += 1
        # The coin is tossed for every matching request, so that one draw belongs to one request.
        is_lucky = self._coin.random() < self.probability
        is_due = self.nth is None or self._seen in self.nth
        is_left = self.times is None or self.hits < self.times
        return is_lucky and is_due and is_left

    def _is_open(self, now: float) -> bool:
        return self.window_s is None or self.window_s[0] <= now < self.window_s[1]


def take(faults: Iterable[Fault], stage: Stage, facts: RequestFacts, now: float) -> Fault | None:
    """The fault that acts on this request at this stage; counts the request and the hit."""
    due = [fault for fault in faults if fault.stage == stage and fault.register(facts, now)]
    if not due:
        return None
    due[0].hits += 1
    return due[0]
