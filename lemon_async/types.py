"""Public data classes: the service's jobs, files and models, and the progress of calls.

`lemon_async._api` makes most of it from responses.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

import attrs

__all__ = [
    "Billing",
    "ImageData",
    "Inline",
    "Model",
    "Problem",
    "Progress",
    "ProgressOption",
    "ResumableTask",
    "StopOn",
    "StoredFile",
    "SubmissionCounts",
    "SubmissionJournal",
    "TaskFault",
    "TaskSnapshot",
]

_NOTHING: Mapping[str, Any] = {}


def record_repr(record: Any) -> str:
    """Return the `repr` of an instance of an attrs class, as attrs would make it."""
    values = ", ".join(f"{each.name}={getattr(record, each.name)!r}" for each in _fields(record) if each.repr)
    return f"{type(record).__qualname__.rpartition('>.')[2]}({values})"


def _fields(record: Any) -> Iterable[Any]:
    fields: Iterable[Any] = attrs.fields(type(record))
    return fields


class Record:
    """`==`, `hash` and `repr` of frozen data, by their fields, as attrs would make them.

    attrs compiles methods of its own for each class, which takes more time than the rest of its import.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, each.name) == getattr(other, each.name) for each in _fields(self) if each.eq)

    def __hash__(self) -> int:
        hashed = [each.name for each in _fields(self) if (each.eq if each.hash is None else each.hash)]
        return hash(tuple(getattr(self, name) for name in hashed))

    def __repr__(self) -> str:
        return record_repr(self)


@attrs.define(eq=False, repr=False)
class Inline:
    """The bytes of a picture that came as base64 in a response, until they are dropped.

    Attributes:
        content: The bytes; `None` if they were dropped, or if the text was not base64.
        fault: Why the text was not base64, in one line.
        size_bytes: The number of bytes, also after they were dropped.
    """

    content: bytes | None
    fault: str | None = None
    size_bytes: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.size_bytes = len(self.content or b"")

    def drop(self) -> None:
        """Release the bytes."""
        self.content = None

    def __repr__(self) -> str:
        state = "" if self.content is not None else f" at fault: {self.fault}" if self.fault else ", dropped"
        return f"<Inline {self.size_bytes:,} bytes{state}>"


@attrs.frozen(eq=False, repr=False)
class ImageData(Record):
    """One entry of `data`: a link or the bytes that came as base64, and the prompt as the service revised it."""

    url: str | None = None
    inline: Inline | None = None
    revised_prompt: str | None = None

    def content(self) -> bytes:
        """Return the bytes that came in the response, unchecked; none if there is only a link.

        Raises:
            ValueError: The text was not base64, or the bytes were dropped.
        """
        if self.inline is None:
            return b""
        if self.inline.content is None:
            raise ValueError(self.inline.fault or "the bytes were dropped")
        return self.inline.content

    @property
    def is_usable(self) -> bool:
        """Whether this is an image, even a damaged one, and not a placeholder with an empty `url`."""
        return bool(self.url) or self.inline is not None


def is_final(status: str) -> bool:
    """Return whether a task with this status has ended."""
    return status in {"completed", "failed"}


@attrs.frozen(eq=False, repr=False)
class TaskFault(Record):
    """The reason of a failed task, which the service sends as a string or as an object."""

    message: str
    code: str | None = None


@attrs.frozen(eq=False, repr=False)
class Billing(Record):
    """The billing facts in a response.

    Attributes:
        transaction_id: `billing_transaction_id` of a completed task.
        usage: Token counts of token-priced models, as received.
        headers: Every `x-*` header of the response, names in lower case, because billing headers are not documented.
    """

    transaction_id: str | None = None
    usage: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])


@attrs.frozen(eq=False, repr=False)
class Problem(Record):
    """One problem of a request or a setting, found without sending anything."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class ResumableTask(Protocol):
    """The task of an error: an `ImageTask`."""

    @property
    def id(self) -> str | None:
        """The service's id of the task; `None` if it answered inline."""

    def resume_token(self) -> str:
        """A string that `LemonSession.task` accepts to resume the task."""


class SubmissionJournal(Protocol):
    """A durable record of the paid requests of a map, kept by its caller: what `lemon_async.batch` is made of.

    `index` is the position of the request in the input. After what a method raises, nothing more is submitted, and the
    loop over the outcomes raises it once the jobs in flight have ended. Leaving a map cancels only `intend`; the others
    are cancelled if they take longer than `Timeouts.close_s` then.
    """

    async def intend(self, index: int, fingerprint: str) -> bool:
        """Record that a request is about to be sent, and return true; every attempt waits for this.

        If it returns false, the request is not sent and has no outcome; the map goes on. If it raises, or is cancelled,
        the request is not sent, either; a cancelled one is withdrawn, because it may have been recorded. An attempt
        after one with an unknown outcome (`RetryPolicy.resubmit_unknown`) is not intended again.
        """

    async def withdraw(self, index: int, reason: Exception) -> None:
        """Record that an attempt has provably sold nothing; another one may follow.

        `reason` is the refusal, or a `TransportError` if the request was not sent.
        """

    async def accept(self, index: int, task: ResumableTask) -> None:
        """Record the task of an accepted request; its outcome is not delivered before that.

        If it raises, the outcome is delivered nevertheless.
        """


@attrs.frozen(eq=False, repr=False, kw_only=True)
class TaskSnapshot(Record):
    """The state of a job in one response of "Create image" or "Get image status".

    An inline response is the snapshot of a completed job without a `task_id`.

    Attributes:
        status: `pending`, `processing`, `completed` or `failed`; any other word counts as pending.
        images: The usable entries of `data`.
        is_id_guessed: Whether `task_id` was derived from `poll_url`, because the response had no id.
        created: Unix seconds.
        progress: The service's own figure; its scale is not documented.
    """

    status: str = ""
    task_id: str | None = None
    is_id_guessed: bool = False
    poll_url: str | None = None
    images: tuple[ImageData, ...] = ()
    created: int | None = None
    model: str | None = None
    progress: float | None = None
    fault: TaskFault | None = None
    is_cancelled: bool = False
    billing: Billing = attrs.field(factory=Billing)

    @property
    def is_done(self) -> bool:
        """Whether the job has ended."""
        return is_final(self.status)


@attrs.frozen(eq=False, repr=False)
class StoredFile(Record):
    """A file that the service stores ("Files": OpenAI's file object); accepted wherever a source picture is.

    Attributes:
        id: The id that edits refer to; `StoredFile("file-abc123")` is enough for that.
        filename: The name it was uploaded with.
        size_bytes: The service's field `bytes`.
        purpose: `vision` or `user_data`.
        created_at: Unix seconds.
        status: `processed` when it can be used.
        model: The model it was uploaded for, if known: edits need the same model.
        raw: The whole object, with fields that this version does not know.
    """

    id: str
    filename: str | None = attrs.field(default=None, kw_only=True)
    size_bytes: int | None = attrs.field(default=None, kw_only=True)
    purpose: str | None = attrs.field(default=None, kw_only=True)
    created_at: int | None = attrs.field(default=None, kw_only=True)
    status: str | None = attrs.field(default=None, kw_only=True)
    model: str | None = attrs.field(default=None, kw_only=True)
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, repr=False, eq=False)


@attrs.frozen(eq=False, repr=False)
class Model(Record):
    """A model of the catalogue ("List models").

    Attributes:
        id: The value for `model=`.
        created: Unix seconds.
        owned_by: The provider.
        lemondata: LemonData's own fields, as received; the properties read some of them.
        raw: The whole object, with fields that this version does not know.
    """

    id: str
    created: int | None = attrs.field(default=None, kw_only=True)
    owned_by: str | None = attrs.field(default=None, kw_only=True)
    lemondata: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, repr=False, eq=False)
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True, repr=False, eq=False)

    @property
    def category(self) -> str | None:
        """The kind of output, such as `image`."""
        value = self.lemondata.get("category")
        return value if isinstance(value, str) else None

    @property
    def pricing_unit(self) -> str | None:
        """The unit of billing, such as `per_image`."""
        value = self.lemondata.get("pricing_unit")
        return value if isinstance(value, str) else None

    @property
    def supported_operations(self) -> tuple[str, ...]:
        """The operations it supports, in the service's words; empty if the service does not say."""
        value = self.lemondata.get("supported_operations")
        return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()

    @property
    def preference(self) -> Mapping[str, Any]:
        """Its rank, success rate and samples in the shortlist of `recommended_for="image"`; empty if it has none."""
        preferences = self.lemondata.get("agent_preferences")
        image = preferences.get("image") if isinstance(preferences, Mapping) else None
        return image if isinstance(image, Mapping) else _NOTHING


@attrs.frozen(eq=False, repr=False)
class SubmissionCounts(Record):
    """The paid requests of a session so far.

    Attributes:
        sold: Accepted by the service, as a task or with pictures.
        settled: Of those, completed, and billed by actual usage.
        released: Of those, failed or cancelled; the service releases or refunds the reserved amount.
        unknown: Sent with an unknown outcome (`SubmissionUnknown`); not counted as sold.
    """

    sold: int = 0
    settled: int = 0
    released: int = 0
    unknown: int = 0

    @property
    def open(self) -> int:
        """Accepted and not known to have ended."""
        return self.sold - self.settled - self.released


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Progress(Record):
    """The state of one call, as passed to its option `progress`.

    Attributes:
        total: Number of jobs; `None` while it is unknown, as for a generator.
        done: Jobs that have ended.
        failed: Of those, the ones that ended in an error.
        in_flight: Jobs that were accepted and have not ended.
        submitting: Jobs that wait to be submitted, or for the response to their submit.
        seconds: Time since the start of the call, until its end.
        status: The last known status of a single job; `None` before it was accepted, and for many jobs.
    """

    total: int | None = None
    done: int = 0
    failed: int = 0
    in_flight: int = 0
    submitting: int = 0
    seconds: float = 0.0
    status: str | None = None


ProgressOption = bool | Callable[[Progress], object]
"""`True` for a progress bar, a function that is called with each `Progress`, or `False` for neither."""

StopOn = Literal["account"] | type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool] | None
"""Which errors end a map: see `LemonSession.map`."""
