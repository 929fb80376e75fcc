"""Resume tokens: what another process needs to continue with a task, and nothing secret.

A token is `lemon1.` and the base64 of a JSON object. Unknown fields are ignored, so that fields can be added without a
new prefix. Nothing in a token is trusted, and everyone who has it can read it.
"""

import base64
import binascii

import attrs
import orjson

from lemon_async._api.families import LABEL, LINE
from lemon_async._api.job_responses import CREATED, IS_ID_GUESSED, MODEL, POLL_URL, Packed
from lemon_async._api.urls import task_path
from lemon_async.errors import ContractError
from lemon_async.types import Record

__all__ = ["TaskReference", "cut_prompt", "parse_reference", "token_of"]

_PREFIX = "lemon1."
_MAX_PROMPT_CHARS = 1000


def cut_prompt(prompt: object) -> str | None:
    """Return a prompt, or its beginning; `None` for anything but text."""
    if not isinstance(prompt, str):
        return None
    return prompt if len(prompt) <= _MAX_PROMPT_CHARS else f"{prompt[: _MAX_PROMPT_CHARS - 1]}…"


@attrs.frozen(eq=False, repr=False)
class TaskReference(Record):
    """The address of a task, and what helps to poll it well.

    Attributes:
        task_id: Its id.
        poll_url: The URL that the service named for polling.
        model: Its model.
        created: When the service accepted it, in Unix seconds.
        label: The caller's label.
        prompt: The prompt, or its beginning.
        is_id_guessed: Whether the service may use another id, so that only `poll_url` identifies the task.
    """

    task_id: str
    poll_url: str | None = None
    model: str | None = None
    created: int | None = None
    label: str | None = None
    prompt: str | None = attrs.field(default=None, converter=cut_prompt)
    is_id_guessed: bool = False

    def token(self) -> str:
        """Return the reference as an ASCII string without spaces."""
        packed = orjson.dumps(attrs.asdict(self, filter=lambda _, value: value is not None and value is not False))
        return _PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def token_of(accepted: Packed, task_id: str | None, path: str, label: str | None, prompt: str | None) -> str:
    """Return the token of a task: what its first response said, and where it is polled."""
    # The path is relative to the base URL, which may differ where the token is used.
    poll_url = (path or accepted[POLL_URL]) if accepted[POLL_URL] else None
    model, created, is_id_guessed = accepted[MODEL], accepted[CREATED], accepted[IS_ID_GUESSED]
    return TaskReference(task_id or "", poll_url, model, created, label, prompt, is_id_guessed).token()


def parse_reference(text: str) -> TaskReference:
    """Read a resume token, or a plain task id.

    Raises:
        ContractError: It is neither. The address in a token is checked again when it is used.
    """
    try:
        if not isinstance(text, str):
            raise TypeError("it must be text")  # noqa: TRY301 - reported below
        if text.startswith(_PREFIX):
            return _unpack(text.removeprefix(_PREFIX))
        if text.startswith(("/", "http:", "https:")):
            raise ValueError("an address is not an id: give the id that it ends in")  # noqa: TRY301 - likewise
        task_path(text)
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        advice = f"is neither a task id nor a resume token ({fault})"
        raise ContractError.of("task", advice) from None
    return TaskReference(text)


def _unpack(word: str) -> TaskReference:
    try:
        fields = orjson.loads(base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        raise ValueError("the token is damaged") from None
    values = {name: fields.get(name) for name in ("task_id", "poll_url", "model", "label", "prompt")}
    if not all(value is None or isinstance(value, str) for value in values.values()):
        raise ValueError("the token is damaged")
    if not LINE.accepts(values["task_id"]):
        raise ValueError("the token names no task")
    if values["label"] is not None and not LABEL.accepts(values["label"]):
        raise ValueError(f"its label is not {LABEL.words}")
    if len(values["prompt"] or "") > _MAX_PROMPT_CHARS:
        raise ValueError(f"its prompt is longer than {_MAX_PROMPT_CHARS:,} characters")
    created = fields.get("created")
    if type(created) is not int:
        created = None
    if not values["poll_url"]:
        task_path(values["task_id"])
    is_id_guessed = fields.get("is_id_guessed") is True and bool(values["poll_url"])
    return TaskReference(**values, created=created, is_id_guessed=is_id_guessed)
