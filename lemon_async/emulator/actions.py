"""What a fault can do. Plain data; the rooms that act on it are `door`, `delivery` and `store`.

Transport actions spoil the way the answer travels, HTTP actions replace the answer, and task actions
change the fate of the task that a submit has just sold.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from attrs import field, frozen

Point = Literal[
    "accept",
    "request_head",
    "request_body",
    "request_end",
    "response_head",
    "response_body",
]
BodyKind = Literal["json", "html", "empty", "truncated", "huge"]

POINTS: tuple[Point, ...] = (
    "accept",
    "request_head",
    "request_body",
    "request_end",
    "response_head",
    "response_body",
)
BODY_KINDS: tuple[BodyKind, ...] = ("json", "html", "empty", "truncated", "huge")


def _is_one_of(choices: Sequence[str], what: str) -> Any:
    """An attrs validator whose message lists the choices."""

    def validate(_instance: object, _attribute: object, value: str) -> None:
        if value not in choices:
            raise ValueError(f"{what} must be one of {', '.join(choices)}; got {value!r}")

    return validate


# HTTP


@frozen
class Status:
    """Answer with this status; `error` adds fields inside the error object of a JSON body, None removes one.

    As from the service, a JSON 429 has a `Retry-After` of one second unless `headers` or `error` mention one, and a
    JSON 503 is `retryable` unless `error` says otherwise. `html` and `empty` bodies are those of a proxy: no hints.
    """

    status: int
    body: BodyKind = field(default="json", validator=_is_one_of(BODY_KINDS, "body"))
    headers: Mapping[str, str] = field(factory=dict)
    code: str | None = None
    message: str | None = None
    error: Mapping[str, Any] = field(factory=dict)


@frozen
class Redirect:
    """Answer with a redirect to `location`, which is sent as given."""

    location: str
    status: int = 307


@frozen
class Body:
    """Answer 200 with exactly these bytes, e.g. a wrong type or a decompression bomb."""

    content: bytes
    content_type: str = "image/png"
    headers: Mapping[str, str] = field(factory=dict)


@frozen
class Expire:
    """Let a result link expire before its time: 410 now, and a fresh link at the next poll."""


# Transport


@frozen
class Latency:
    """Answer `ms` later, give or take up to `jitter_ms`. Real milliseconds, whatever the speed."""

    ms: float
    jitter_ms: float = 0.0


@frozen
class Blackhole:
    """Never answer; the connection stays open until either side closes it."""


@frozen
class Drip:
    """Send the head at once and the body at this pace."""

    bytes_per_s: float = field()

    @bytes_per_s.validator
    def _is_positive(self, _attribute: object, value: float) -> None:
        if not value > 0:
            raise ValueError(f"bytes_per_s must be above 0; got {value!r}")


@frozen
class Cut:
    """Send the head with the full Content-Length, `at_byte` bytes of the body, then abort."""

    at_byte: int


@frozen
class Reset:
    """Abort the connection at a point of the exchange: the client sees a TCP reset."""

    at: Point = field(validator=_is_one_of(POINTS, "at"))


@frozen
class HalfClose:
    """End our side of the connection at a point of the exchange: the client sees an orderly end."""

    at: Point = field(validator=_is_one_of(POINTS, "at"))


@frozen
class Garbage:
    """Answer with bytes that are no HTTP, then end our side of the connection."""


# Tasks


@frozen
class Script:
    """Show one of these statuses per poll; the last one stays."""

    statuses: tuple[str, ...] = field(converter=tuple)

    @statuses.validator
    def _is_not_empty(self, _attribute: object, value: tuple[str, ...]) -> None:
        if not value:
            raise ValueError("a script needs at least one status")


@frozen
class Stuck:
    """Never finish."""


@frozen
class Vanish:
    """Answer this many polls, then 404 for ever."""

    after_polls: int = 0


@frozen
class LateVisible:
    """Answer 404 to this many polls first, as a lagging replica does."""

    polls: int = 2


@frozen
class Fail:
    """Fail when the time has come; `error` is a string, an object `{code, message}` or nothing."""

    error: str | Mapping[str, Any] | None = "Generation failed"
    cancelled: bool = False


@frozen
class Result:
    """Complete with exactly this `data`."""

    data: Sequence[Any] = ()


@frozen(init=False)
class Answer:
    """Override fields of the submit answer; None removes the field."""

    fields: Mapping[str, Any]

    def __init__(self, **fields: Any) -> None:
        self.__attrs_init__(fields)


Break = Reset | HalfClose
HttpAction = Status | Redirect | Body | Expire
TransportAction = Latency | Blackhole | Drip | Cut | Reset | HalfClose | Garbage
TaskAction = Script | Stuck | Vanish | LateVisible | Fail | Result | Answer
Action = HttpAction | TransportAction | TaskAction

HTTP_ACTIONS = (Status, Redirect, Body, Expire)
TASK_ACTIONS = (Script, Stuck, Vanish, LateVisible, Fail, Result, Answer)
BREAKS = (Reset, HalfClose)
