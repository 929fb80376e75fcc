"""Scripted faults: `match x when x do x bill`.

A fault names a route and the actions to take there. Which requests it hits depends on facts about the request (model,
prompt, key), on its number among the matching ones (`nth`), on emulated time and on a seeded coin, so that the same
script hits the same requests in every run.

At most one fault acts on a request: of those that are due, the one registered first. Actions that belong together go
into one fault. Every matching fault counts the request, whichever acts on it.

A fault is looked up at one stage of an exchange, the earliest one that its actions need:

    accept         a connection was made: no route, no facts, `nth` counts connections
    request_head   the request line is known: route only
    request_body   the head is known: route and key
    request        everything is known
"""

import re
from collections.abc import Collection, Iterable
from random import Random
from typing import Any, Literal, TypedDict, TypeVar, get_args

from attrs import define, field, frozen

from lemon_async.emulator.actions import (
    Action,
    Body,
    Break,
    Expire,
    HttpAction,
    Latency,
    TaskAction,
)
from lemon_async.emulator.service.messages import PAID_ROUTES

Route = Literal["submit", "edit", "poll", "cancel", "files", "models", "cdn"]
Stage = Literal["accept", "request_head", "request_body", "request"]

ROUTES: tuple[Route, ...] = get_args(Route)
# Facts that are not yet known at a stage. A fault of one of these stages breaks the connection.
_UNKNOWN_FACTS: dict[Stage, tuple[str, ...]] = {
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
    """What is known about a request when a fault is looked up."""

    route: str = ""
    model: str | None = None
    prompt: str | None = None
    key: str | None = None


def _to_actions(value: Any) -> tuple[Action, ...]:
    actions = tuple(value) if isinstance(value, Iterable) else (value,)
    for action in actions:
        if not isinstance(action, Action):
            raise ValueError(f"an action is an object such as Status(502), not {action!r}")  # noqa: TRY004 - one kind
    return actions


def _to_numbers(value: Any) -> Collection[int] | None:
    if value is None or isinstance(value, int):
        return None if value is None else (value,)
    if not isinstance(value, Collection) or not all(isinstance(number, int) for number in value):
        raise ValueError(f"nth must be a number counted from 1, or several, not {value!r}")
    return value


@define(eq=False)
class Fault:
    """A rule for misbehaving; `hits` counts the requests it has acted on.

    Args:
        route: Where to act: `submit`, `edit` (includes variations), `poll`, `cancel`, `files`, `models` or `cdn`.
        actions: One action, or several that combine.
        model: Match this model only.
        prompt: Match prompts in which this regular expression is found.
        key: Match this API key only.
        nth: Act on this one of the matching requests, or on these, counted from 1.
        times: Act at most this often.
        probability: Chance of each matching request, from a coin seeded by `seed`.
        seed: Seed of the coin and of the jitter of `Latency`.
        window_s: Match only between these emulated seconds since the start.
        bill: Whether a faulty submit or edit is billed; None leaves it to the actions.

    Raises:
        ValueError: The parts cannot work together, e.g. a prompt to match before it has arrived.
    """

    route: Route
    actions: tuple[Action, ...] = field(converter=_to_actions)
    model: str | None = field(default=None, kw_only=True)
    prompt: str | None = field(default=None, kw_only=True)
    key: str | None = field(default=None, kw_only=True)
    nth: Collection[int] | None = field(default=None, kw_only=True, converter=_to_numbers)
    times: int | None = field(default=None, kw_only=True)
    probability: float = field(default=1.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    window_s: tuple[float, float] | None = field(default=None, kw_only=True)
    bill: bool | None = field(default=None, kw_only=True)
    hits: int = field(default=0, init=False)
    _matched: int = field(default=0, init=False, repr=False)
    # Two generators: the number of delays drawn must not decide which request is hit next.
    _coin: Random = field(init=False, repr=False)
    _jitter: Random = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._coin = Random(f"{self.seed}:coin")  # noqa: S311 - for tests, no secret
        self._jitter = Random(f"{self.seed}:jitter")  # noqa: S311 - likewise
        if self.route not in ROUTES:
            raise ValueError(f"route must be one of {', '.join(ROUTES)}; got {self.route!r}")
        if self.times is not None and not isinstance(self.times, int):
            raise ValueError(f"times must be a whole number, not {self.times!r}")
        if not self.actions:
            raise ValueError("a fault needs at least one action")
        if self.route not in PAID_ROUTES and self.task_script:
            raise ValueError("task actions belong to the routes 'submit' and 'edit', which create tasks")
        if self.route != "cdn" and self.find(Expire) is not None:
            raise ValueError(f"Expire() acts on the route 'cdn' only, not on {self.route!r}: write Status(410)")
        try:
            re.compile(self.prompt or "")
        except re.error as error:
            raise ValueError(f"prompt is not a regular expression: {error}") from error
        stage = self.stage
        if stage in _UNKNOWN_FACTS and (len(self.actions) > 1 or self.bill):
            raise ValueError(f"a break at {stage} is the only action of its fault, and is never billed")
        unknown = [name for name in _UNKNOWN_FACTS.get(stage, ()) if getattr(self, name) is not None]
        if unknown:
            raise ValueError(f"not yet known at {stage}: {', '.join(unknown)}")

    @property
    def stage(self) -> Stage:
        """The stage at which this fault is looked up."""
        at = None if self.connection_break is None else self.connection_break.at
        return next((stage for stage in _UNKNOWN_FACTS if stage == at), "request")

    @property
    def task_script(self) -> tuple[TaskAction, ...]:
        """The actions that change the task."""
        return tuple(action for action in self.actions if isinstance(action, TaskAction))

    @property
    def connection_break(self) -> Break | None:
        """The action that breaks the connection, if there is one."""
        return next((action for action in self.actions if isinstance(action, Break)), None)

    @property
    def replacement(self) -> HttpAction | None:
        """The action that replaces the response, if there is one."""
        return next((action for action in self.actions if isinstance(action, HttpAction)), None)

    @property
    def is_billed(self) -> bool:
        """Whether a submit or edit that this fault acts on is billed."""
        if self.bill is not None:
            return self.bill
        # A `Body` is a response 200, which a service sends only after it has accepted the job.
        is_refused = self.replacement is not None and not isinstance(self.replacement, Body)
        return not is_refused and self.stage == "request"

    def latency_s(self) -> float:
        """Return how long to delay the response; draws the jitter anew each time."""
        latency = self.find(Latency)
        if latency is None:
            return 0.0
        jitter = self._jitter.uniform(-latency.jitter_ms, latency.jitter_ms)
        return max(0.0, latency.ms + jitter) / 1000

    def find(self, kind: type[A]) -> A | None:
        """Return the first action of this kind."""
        return next((action for action in self.actions if isinstance(action, kind)), None)

    def matches(self, facts: RequestFacts) -> bool:
        """Return whether the fault counts requests with these facts."""
        return (
            (self.stage == "accept" or self.route == facts.route)
            and self.model in (None, facts.model)
            and self.key in (None, facts.key)
            and (self.prompt is None or re.search(self.prompt, facts.prompt or "") is not None)
        )

    def register(self, facts: RequestFacts, now: float) -> bool:
        """Count a request if it matches; return whether the fault is due to act on it."""
        is_open = self.window_s is None or self.window_s[0] <= now < self.window_s[1]
        if not is_open or not self.matches(facts):
            return False
        self._matched += 1
        # The coin is tossed for every matching request, so that one draw belongs to one request.
        is_lucky = self._coin.random() < self.probability
        is_due = self.nth is None or self._matched in self.nth
        is_left = self.times is None or self.hits < self.times
        return is_lucky and is_due and is_left


def take_fault(faults: Iterable[Fault], stage: Stage, facts: RequestFacts, now: float) -> Fault | None:
    """Return the fault that acts on a request at this stage, and count the request and the hit."""
    due = [fault for fault in faults if fault.stage == stage and fault.register(facts, now)]
    if not due:
        return None
    due[0].hits += 1
    return due[0]
