"""What can be asked for, as frozen data: pictures from words, pictures from pictures, variations of one.

Requests are made by users, checked by `contracts` and written by `encoding`. `None` means: not sent, the server has
its own defaults.
"""

import re
from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any, BinaryIO, ClassVar, Literal, Protocol, Self, TypedDict, runtime_checkable

import attrs

from lemon_async.types import StoredFile

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
    """A path, by the protocol of the `os` module."""

    def __fspath__(self) -> str:
        """Return it as text."""


class AsyncFile(Protocol):
    """A binary file whose `read` is a coroutine, such as a web framework's upload."""

    async def read(self, size: int, /) -> bytes:
        """Return the next bytes; none at the end."""


class ReadablePicture(Protocol):
    """An `Image` of an earlier result."""

    @property
    def url(self) -> str | None:
        """Its link, if it has one."""

    async def read(self) -> bytes:
        """Return its bytes."""


@attrs.frozen
class GoneSource:
    """Stands in a request that was pickled for a source that cannot be: an open file, a stream, a live image."""

    description: str


Uploadable = (
    str | FilePath | bytes | bytearray | memoryview | BinaryIO | AsyncFile | AsyncIterable[bytes] | ReadablePicture
)
"""What has bytes.

A path, the bytes, a binary file (read from where it stands; `read` may be a coroutine), an async iterable of bytes, or
an `Image` of an earlier result.
"""
Source = Uploadable | StoredFile | Mapping[str, str] | GoneSource
"""A picture to start from.

What is `Uploadable` is uploaded. A public `https://` or `http://` address, a `StoredFile`, a word like `file-abc123`,
or one of the service's own objects, `{"image_url": ...}` or `{"file_id": ...}`, are told to the service, which fetches
them.
"""
Operation = Literal["generate", "edit", "variation"]


class VariationFields(TypedDict, total=False):
    """Fields of "Create image variation" beside the picture; what is not given is not sent."""

    model: str
    """Model id; the server's default is `dall-e-2`, the only documented one."""
    n: int
    """Number of images, 1-10, model dependent; the server's default is 1."""
    size: str
    """`auto` or `WIDTHxHEIGHT` in pixels."""
    response_format: Literal["url", "b64_json"]
    """How inline images arrive; tasks always answer with URLs."""
    user: str
    """Your own id of the end user."""
    label: str
    """What you call the job, one line of at most 200 characters: never sent; its task, tokens and errors have it."""
    extra: Mapping[str, Any]
    """Fields this version has never heard of, sent as they are."""


class EditFields(VariationFields, total=False):
    """Fields of "Edit image" beside the prompt and the pictures; what is not given is not sent.

    Which model takes which field and value is told by `lemon_async._api.validation`. The server's default model is
    `dall-e-2` for edits.
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
    """The service's other name of `output_compression`."""
    moderation: str
    """`auto` or `low` (gpt-image-2)."""
    partial_images: int
    """Number of previews while streaming, 0-3 (gpt-image-2)."""


class GenerateFields(EditFields, total=False):
    """Fields of "Create image" beside the prompt; what is not given is not sent.

    Which model takes which field and value is told by `lemon_async._api.validation`. The server's default model is
    `dall-e-3`.
    """

    style: str
    """`vivid` or `natural` (DALL-E 3)."""


class JobFields(GenerateFields, total=False):
    """Fields of any job: with pictures to start from, it is an edit."""

    image: Source | Sequence[Source]
    """One `Source` or a sequence of them."""
    mask: Source
    """A PNG as large as the first image, whose transparent areas are to be edited."""


class _Portable:
    """What all requests can: be shown, copied and pickled, whatever they start from."""

    __slots__ = ()

    def __repr__(self) -> str:
        return _only_what_is_set(self)

    def __copy__(self) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), _portable_fields(self))


@attrs.frozen(kw_only=True, repr=False)
class _Common(_Portable):
    """The fields that all requests have; see `VariationFields`."""

    model: str | None = None
    n: int | None = None
    size: str | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: str | None = None
    label: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


@attrs.frozen(kw_only=True, repr=False)
class _Selectors(_Common):
    """The fields that requests with a prompt have; see `EditFields`."""

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


def _many(value: Any) -> tuple[Any, ...]:
    """One source or a sequence of them; text and bytes are sequences, too, but of something else."""
    is_many = isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)
    return tuple(value) if is_many else (value,)


@attrs.frozen(repr=False)
class GenerateRequest(_Selectors):
    """A request for pictures from words; goes wherever a prompt goes. The fields are those of `GenerateFields`."""

    operation: ClassVar[Operation] = "generate"
    default_model: ClassVar[str] = "dall-e-3"

    prompt: str
    style: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(repr=False)
class EditRequest(_Selectors):
    """A request for pictures from pictures; goes wherever a prompt goes. The fields are those of `EditFields`.

    Attributes:
        image: One `Source` or a sequence of them; held as a tuple.
        mask: A PNG as large as the first image, whose transparent areas are to be edited.
    """

    operation: ClassVar[Operation] = "edit"
    default_model: ClassVar[str] = "dall-e-2"

    prompt: str
    image: tuple[Source, ...] = attrs.field(kw_only=True, converter=_many)
    mask: Source | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(kw_only=True, repr=False)
class VariationRequest(_Common):
    """A request for variations of a picture; the fields are those of `VariationFields`.

    Attributes:
        image: A square PNG; held as a tuple of one `Source`.
    """

    operation: ClassVar[Operation] = "variation"
    default_model: ClassVar[str] = "dall-e-2"

    image: tuple[Source, ...] = attrs.field(converter=_many)


Request = GenerateRequest | EditRequest | VariationRequest


def _only_what_is_set(request: Any) -> str:
    fields = {field.name: getattr(request, field.name) for field in attrs.fields(type(request))}
    prompt = [repr(fields.pop("prompt"))] if "prompt" in fields else []
    describe = {"image": _description, "mask": _description}
    shown = [f"{name}={describe.get(name, repr)(value)}" for name, value in fields.items() if value not in (None, {})]
    return f"{type(request).__name__}({', '.join(prompt + shown)})"


def _description(source: object) -> str:
    """What a repr shows of sources: not their megabytes, and of an address not what can be a credential."""
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
    """Some mappings cannot be pickled, views of others for instance; what is no mapping at all is for checks to say."""
    return dict(mapping) if isinstance(mapping, Mapping) else mapping


def _restore(cls: Any, fields: dict[str, Any]) -> Any:
    return cls(**fields)
