"""Resume tokens: what another process needs to know of a task to pick it up, and nothing secret."""

import base64
import binascii

import attrs
import orjson

from lemon_async.api.errors import ContractError, Problem
from lemon_async.api.urls import task_path

__all__ = ["TaskReference", "parse_reference"]

_PREFIX = "lemon1."


@attrs.frozen
class TaskReference:
    """Where a task is found, and what helps to poll it well.

    Attributes:
        task_id: Its id.
        poll_url: The address that the service told to poll.
        model: What makes its pictures.
        created: When the service took it, in Unix seconds.
    """

    task_id: str
    poll_url: str | None = None
    model: str | None = None
    created: int | None = None

    def token(self) -> str:
        """Return the reference as one word of ASCII."""
        packed = orjson.dumps(attrs.asdict(self, filter=lambda _, value: value is not None))
        return _PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def parse_reference(text: str) -> TaskReference:
    """Read a resume token, or a plain task id.

    Raises:
        ContractError: When it is neither. Nothing in it is trusted: the address is checked again when used.
    """
    try:
        if not isinstance(text, str):
            raise TypeError("it must be text")  # noqa: TRY301 - one place words the refusal
        if text.startswith(_PREFIX):
            return _unpack(text.removeprefix(_PREFIX))
        if text.startswith(("/", "http:", "https:")):
            raise ValueError("an address is none: give the id that it ends in")  # noqa: TRY301 - likewise
        task_path(text)
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        advice = f"is neither a task id nor a resume token ({fault})"
        raise ContractError(problems=(Problem("task", advice),)) from None
    return TaskReference(text)


def _unpack(word: str) -> TaskReference:
    try:
        packed = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("the token is damaged") from None
    try:
        fields = orjson.loads(packed)
    except orjson.JSONDecodeError:
        raise ValueError("the token is damaged") from None
    values = {name: fields.get(name) for name in ("task_id", "poll_url", "model")}
    if not all(value is None or isinstance(value, str) for value in values.values()):
        raise ValueError("the token is damaged")
    created = fields.get("created")
    if type(created) is not int:
        created = None
    if not values["poll_url"]:
        task_path(values["task_id"])
    return TaskReference(**values, created=created)
