"""Actions that a fault can take: plain data, carried out in `http/` and `service/`.

HTTP actions replace the response, transport actions break the way in which it is sent, and task actions change the
fate of the task that the faulted submit or edit creates.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from attrs import Attribute, field, frozen
from attrs.validators import and_, ge, gt, in_, instance_of, le, min_len

Point = Literal["accept", "request_head", "request_body", "request_end", "response_head", "response_body"]
BodyKind = Literal["json", "html", "empty", "truncated", "huge"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile("[^\0-\x08\n-\x1f\x7f\ud800-\udfff]*")


def _is_value(_action: object, attribute: "Attribute[str]", value: Any) -> None:
    """Refuse what would break the head of a response.

    Raises:
        ValueError: It has line breaks or other control characters, or is no text.
    """
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ValueError(f"{attribute.name!r} cannot be sent: {value!r}")


def _are_headers(_action: object, attribute: "Attribute[Mapping[str, str]]", value: Mapping[Any, Any]) -> None:
    """Refuse headers that would break the head of a response.

    Raises:
        ValueError: A name or a value has characters that it cannot have, or is no text.
    """
    for name, text in value.items():
        pair = (name, _NAME), (text, _VALUE)
        if not all(isinstance(part, str) and pattern.fullmatch(part) for part, pattern in pair):
            raise ValueError(f"{attribute.name!r} cannot be sent: {name}: {text!r}")


_is_point = in_(get_args(Point))
_is_status = and_(instance_of(int), ge(100), le(599))


# HTTP


@frozen
class Status:
    """Respond with this status.

    `error` adds fields to the error object of a JSON body; a value of None removes one. As at the service, a JSON 429
    has a `Retry-After` of one second unless `headers` or `error` set one, and a JSON 503 is `retryable` unless `error`
    says otherwise. `html` and `empty` bodies imitate a proxy and carry no hints.
    """

    status: int = field(validator=_is_status)
    body: BodyKind = field(default="json", validator=in_(get_args(BodyKind)))
    headers: Mapping[str, str] = field(factory=dict, validator=_are_headers)
    code: str | None = None
    message: str | None = None
    error: Mapping[str, Any] = field(factory=dict)


@frozen
class Redirect:
    """Respond with a redirect to `location`, which is sent unchanged."""

    location: str = field(validator=_is_value)
    status: int = field(default=307, validator=_is_status)


@frozen
class Body:
    """Respond 200 with exactly these bytes, e.g. a wrong file type or a decompression bomb."""

    content: bytes
    content_type: str = field(default="image/png", validator=_is_value)
    headers: Mapping[str, str] = field(factory=dict, validator=_are_headers)


@frozen
class Expire:
    """Expire a result link early: 410 from now on, and a new link in the next poll."""


# Transport


@frozen
class Latency:
    """Delay the response by `ms` real milliseconds, plus or minus up to `jitter_ms`."""

    ms: float
    jitter_ms: float = 0.0


@frozen
class Blackhole:
    """Never respond; the connection stays open until either side closes it."""


@frozen
class Drip:
    """Send the head without delay and the body at `bytes_per_s`."""

    bytes_per_s: float = field(validator=gt(0))


@frozen
class Cut:
    """Send the head with the full Content-Length and `at_byte` bytes of the body, then reset the connection."""

    at_byte: int


@frozen
class Reset:
    """Reset the connection (TCP RST) at a point of the exchange."""

    at: Point = field(validator=_is_point)


@frozen
class HalfClose:
    """Close the emulator's side of the connection (TCP FIN) at a point of the exchange."""

    at: Point = field(validator=_is_point)


@frozen
class Garbage:
    """Respond with bytes that are not HTTP, then close the emulator's side of the connection."""


# Tasks


@frozen
class Script:
    """Report one of these statuses per poll, and the last one from then on."""

    statuses: tuple[str, ...] = field(converter=tuple, validator=min_len(1))


@frozen
class Stuck:
    """Never finish."""


@frozen
class Vanish:
    """Respond to this many polls, and with 404 to all later ones."""

    after_polls: int = 0


@frozen
class LateVisible:
    """Respond 404 to the first `polls` polls, as a lagging replica does."""

    polls: int = 2


@frozen
class Fail:
    """Fail when the job would have finished; `error` is a string, an object `{code, message}` or None."""

    error: str | Mapping[str, Any] | None = "Generation failed"
    cancelled: bool = False


@frozen
class Result:
    """Complete with exactly this `data`."""

    data: Sequence[Any] = ()


@frozen(init=False)
class Answer:
    """Replace fields of the response to the submit; a value of None removes the field."""

    fields: Mapping[str, Any]

    def __init__(self, **fields: Any) -> None:
        self.__attrs_init__(fields)


Break = Reset | HalfClose
HttpAction = Status | Redirect | Body | Expire
TransportAction = Latency | Blackhole | Drip | Cut | Reset | HalfClose | Garbage
TaskAction = Script | Stuck | Vanish | LateVisible | Fail | Result | Answer
Action = HttpAction | TransportAction | TaskAction
