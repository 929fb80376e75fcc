"""Requests as frozen data: generations, edits and variations, and the kinds of pictures they start from.

A field that is `None` is not sent; the service has its own defaults. `lemon_async._api` checks and encodes
requests.

Requests are hashable, and equal requests have equal hashes. Neither `extra` nor the content of bytes and mappings
counts, because mutable values may equal immutable ones.
"""

import re
from collections.abc import AsyncIterable, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, ClassVar, Literal, Protocol, Self, TypedDict, runtime_checkable

import attrs

from lemon_async.types import Record, StoredFile

__all__ = [
    "AsyncFile",
    "EditFields",
    "EditRequest",
    "FilePath",
    "GenerateFields",
    "GenerateRequest",
    "GoneSource",
    "JobFields",
    "Operation",
    "ReadablePicture",
    "Request",
    "Source",
    "Uploadable",
    "VariationFields",
    "VariationRequest",
]

_ADDRESS = re.compile(r"[^/]*://[^?#]*")
_LONGEST_SHOWN = 200


@runtime_checkable
class FilePath(Protocol):
    """A path, as in `os.PathLike`."""

    def __fspath__(self) -> str:
        """Return the path as text."""


class AsyncFile(Protocol):
    """A binary file whose `read` is a coroutine, such as a web framework's upload."""

    async def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


class ReadablePicture(Protocol):
    """An `Image` of an earlier result."""

    @property
    def url(self) -> str | None:
        """The link to the picture, if there is one."""

    async def read(self) -> bytes:
        """Return the bytes of the picture."""


@attrs.frozen(eq=False, repr=False)
class GoneSource(Record):
    """Replaces a source that cannot be pickled: an open file, a stream, a live image."""

    description: str


Uploadable = (
    str | FilePath | bytes | bytearray | memoryview | BinaryIO | AsyncFile | AsyncIterable[bytes] | ReadablePicture
)
"""A source of bytes.

A path, the bytes, a binary file (read from its current position; `read` may be a coroutine), an async iterable of
bytes, or an `Image` of an earlier result.
"""
Source = Uploadable | StoredFile | Mapping[str, str] | GoneSource
"""A picture to start from.

Anything `Uploadable` is uploaded. The service itself fetches a public `https://` or `http://` address, a `StoredFile`,
a file id such as `file-abc123`, or one of its own objects, `{"image_url": ...}` or `{"file_id": ...}`.
"""
Operation = Literal["generate", "edit", "variation"]


class VariationFields(TypedDict, total=False):
    """The fields of "Create image variation" except the picture; fields that are not given are not sent."""

    model: str
    """Model id; the server's default is `dall-e-2`, the only documented one."""
    n: int
    """Number of images, 1-10, model dependent; the server's default is 1."""
    size: str
    """`auto` or `WIDTHxHEIGHT` in pixels."""
    response_format: Literal["url", "b64_json"]
    """How inline images arrive; tasks always answer with URLs."""
    user: str
    """Your own id for the end user."""
    label: str
    """Your own name of the job, one line of at most 200 characters: not sent, but in its task, tokens and errors."""
    extra: Mapping[str, Any]
    """Fields that this version does not know, sent as they are."""


class EditFields(VariationFields, total=False):
    """The fields of "Edit image" except the prompt and the pictures; fields that are not given are not sent.

    `LemonSession.validate` says which fields and values a model takes. The server's default model is `dall-e-2`.
    """

    aspect_ratio: str
    """`WIDTH:HEIGHT`, such as `16:9`."""
    resolution: str
    """`1k`, `2k` or `4k`."""
    quality: str
    """`standard` or `hd` (DALL-E); `auto`, `low`, `medium` or `high` (GPT Image)."""
    async_: bool
    """Sent as `async`: create a task first (gpt-image-2 and FLUX)."""
    background: str
    """`auto`, `transparent` or `opaque` (gpt-image-2)."""
    output_format: str
    """`png`, `jpeg` or `webp` (gpt-image-2)."""
    output_compression: int
    """Per cent, 0-100 (gpt-image-2)."""
    compression: int
    """The service's other name for `output_compression`."""
    moderation: str
    """`auto` or `low` (gpt-image-2)."""
    partial_images: int
    """Number of previews while streaming, 0-3 (gpt-image-2)."""


class GenerateFields(EditFields, total=False):
    """The fields of "Create image" except the prompt; fields that are not given are not sent.

    `LemonSession.validate` says which fields and values a model takes. The server's default model is `dall-e-3`.
    """

    style: str
    """`vivid` or `natural` (DALL-E 3)."""


class JobFields(GenerateFields, total=False):
    """The fields of any job except the prompt; with `image` or `mask` it is an edit."""

    image: Source | Sequence[Source]
    """One `Source` or a sequence of them."""
    mask: Source
    """A PNG as large as the first image, whose transparent areas are to be edited."""


class _Sources(tuple[Source, ...]):
    """A tuple that is hashable whatever sources it holds."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(tuple(map(_hash_of, self)))


def _hash_of(source: object) -> int:
    if isinstance(source, bytes | bytearray | memoryview | Mapping):
        return 0
    try:
        return hash(source)
    except TypeError:
        return 0


def _many(value: Any) -> _Sources:
    """Return one source, or a sequence of them, as a tuple; text and bytes are sequences of something else."""
    is_many = isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)
    return _Sources(value if is_many else (value,))


@attrs.frozen(eq=False, repr=False, kw_only=True)
class _Common(Record):
    """The fields of all requests (see `VariationFields`), which can be shown, copied and pickled whatever they hold."""

    model: str | None = None
    n: int | None = None
    size: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: str | None = None
    label: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)

    def __repr__(self) -> str:
        return _only_set_fields(self)

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **_portable_fields(self)), ()


@attrs.frozen(eq=False, repr=False, kw_only=True)
class _Selectors(_Common):
    """The fields of requests with a prompt; see `EditFields`."""

    aspect_ratio: str | None = None
    resolution: str | None = None
    quality: str | None = None
    async_: bool | None = None
    background: str | None = None
    output_format: str | None = None
    output_compression: int | None = None
    compression: int | None = None
    moderation: str | None = None
    partial_images: int | None = None


@attrs.frozen(eq=False, repr=False)
class GenerateRequest(_Selectors):
    """A request for pictures from a prompt, accepted in place of one. The fields are those of `GenerateFields`."""

    operation: ClassVar[Operation] = "generate"
    default_model: ClassVar[str] = "dall-e-3"

    prompt: str
    style: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(eq=False, repr=False)
class EditRequest(_Selectors):
    """A request to edit pictures, accepted in place of a prompt. The fields are those of `EditFields`.

    Attributes:
        image: One `Source` or a sequence of them; stored as a tuple.
        mask: A PNG as large as the first image, whose transparent areas are to be edited.
    """

    operation: ClassVar[Operation] = "edit"
    default_model: ClassVar[str] = "dall-e-2"

    prompt: str
    image: tuple[Source, ...] = attrs.field(kw_only=True, converter=_many)
    mask: Source | None = attrs.field(default=None, kw_only=True, hash=False)


@attrs.frozen(eq=False, repr=False, kw_only=True)
class VariationRequest(_Common):
    """A request for variations of a picture; the fields are those of `VariationFields`.

    Attributes:
        image: A square PNG; stored as a tuple of one `Source`.
    """

    operation: ClassVar[Operation] = "variation"
    default_model: ClassVar[str] = "dall-e-2"

    image: tuple[Source, ...] = attrs.field(converter=_many)


Request = GenerateRequest | EditRequest | VariationRequest


def _only_set_fields(request: Any) -> str:
    fields = {field.name: getattr(request, field.name) for field in attrs.fields(type(request))}
    prompt = [repr(fields.pop("prompt"))] if "prompt" in fields else []
    describe = {"image": _description, "mask": _description}
    shown = [f"{name}={describe.get(name, repr)(value)}" for name, value in fields.items() if value not in (None, {})]
    return f"{type(request).__name__}({', '.join(prompt + shown)})"


def _description(source: object) -> str:
    """Return a short `repr` of a source, or a tuple of them, that shows no credentials of an address."""
    if isinstance(source, tuple):
        return f"[{', '.join(map(_description, source))}]"
    if isinstance(source, bytes | bytearray | memoryview):
        return f"<{len(source)} bytes>"
    if isinstance(source, Mapping):
        return f"{{{', '.join(f'{name!r}: {_description(value)}' for name, value in source.items())}}}"
    if not isinstance(source, str):
        return repr(source)
    if address := _ADDRESS.match(source):
        if "@" in source:
            return "<address with credentials>"
        source = address[0]
    return repr(source if len(source) <= _LONGEST_SHOWN else f"{source[:_LONGEST_SHOWN]}…")


def _portable_fields(request: Any) -> dict[str, Any]:
    fields = {field.name: getattr(request, field.name) for field in attrs.fields(type(request))}
    fields["extra"] = _plain(request.extra)
    if "image" in fields:
        fields["image"] = tuple(map(_portable, request.image))
    if fields.get("mask") is not None:
        fields["mask"] = _portable(request.mask)
    return fields


def _portable(source: object) -> object:
    if isinstance(source, str | FilePath | bytes | bytearray | StoredFile | GoneSource):
        return source
    if isinstance(source, Mapping):
        return _plain(source)
    return bytes(source) if isinstance(source, memoryview) else GoneSource(repr(source))


def _plain(mapping: object) -> Any:
    """Return a mapping as a dict, because views cannot be pickled; validation reports anything else."""
    return dict(mapping) if isinstance(mapping, Mapping) else mapping
