"""Find out what each picture of a request is, and how the service gets it.

    a path, bytes, a binary file, an async iterable, an `Image`       uploaded, in a form
    an address, a `StoredFile` or `file-…`, one of the API's objects  a reference, in JSON

An `Image` with a public link is sent as a reference if another picture is one: a request holds uploads or references.
Everything that can be checked is checked before anything is sent.
"""

import asyncio
import inspect
import io
import re
from collections.abc import AsyncIterable, Iterator, Mapping
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import attrs

from lemon_async._api.families import LINE
from lemon_async._api.source_rules import MAX_SOURCE_BYTES, SourceFacts
from lemon_async._api.urls import find_remote_fault
from lemon_async._formats.json_documents import safe_str
from lemon_async._images.image import Image
from lemon_async._images.threads import run_uncancellable
from lemon_async._uploads.upload import (
    HEAD_BYTES,
    SpooledUpload,
    UnusableSource,
    Upload,
    as_unusable,
    as_view,
    drain,
    examine_bytes,
    examine_file,
    examine_path,
    glance,
    is_read_once,
    is_shortage,
)
from lemon_async.errors import DownloadError, SessionError, TransportError
from lemon_async.requests import EditRequest, GoneSource, Source, VariationRequest
from lemon_async.types import StoredFile

__all__ = ["ExaminedSource", "examine_sources", "glance_at", "is_reference", "named_sources", "read_source"]

_MAX_TEXT = 1024 * 1024
_MAX_DESCRIPTION = 80
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")
_FILE_ID = re.compile(r"file-[A-Za-z0-9_-]+")
_REFERENCE_KEYS = ({"image_url"}, {"file_id"})
_EXHAUSTED = "there are no bytes left: a file is read from where it stands (seek(0) first?), a generator once"
_TOO_LONG = "characters, longer than any address or file name: decode it, and give the bytes"
_ONCE = "and that can be read only once: give each its own, or its bytes"


@attrs.frozen
class ExaminedSource:
    """One picture, ready to be sent.

    Attributes:
        reference: `{"image_url": ...}` or `{"file_id": ...}`; `None` for an upload.
        upload: `None` for a reference, and for a source that cannot be read.
    """

    facts: SourceFacts
    reference: Mapping[str, str] | None = None
    upload: Upload | None = None


@attrs.frozen
class _Repeated:
    """Stands for a source that is given twice but can be read only once."""

    first_place: str


def named_sources(request: EditRequest | VariationRequest) -> Iterator[tuple[str, Any]]:
    """Yield each picture of a request with the name that problems use for it, the mask last."""
    named = [(f"image[{index}]", source) for index, source in enumerate(request.image)]
    mask = getattr(request, "mask", None)
    seen: dict[int, str] = {}
    for place, source in named if mask is None else [*named, ("mask", mask)]:
        is_again = id(source) in seen and is_read_once(source) and not isinstance(source, Image)
        yield place, _Repeated(seen[id(source)]) if is_again else source
        seen.setdefault(id(source), place)


def glance_at(place: str, source: Source) -> SourceFacts:
    """Return the facts about a picture that can be found without consuming it; reads the beginning of a file."""
    found = _find_reference(place, source)
    if found is not None:
        return found.facts
    try:
        with as_unusable():
            return _facts(place, _glance(source))
    except UnusableSource as fault:
        return _unreadable(place, fault)


def is_reference(source: object) -> bool:
    """Return whether a source is an address or the id of a file."""
    found = _find_reference("", source)
    return found is not None and found.reference is not None


async def examine_sources(
    request: EditRequest | VariationRequest, held: ExitStack, *, is_checked: bool
) -> tuple[ExaminedSource, ...]:
    """Read or copy every picture of a request, so that it can be sent as often as needed.

    Costs nothing. Cancelling leaves nothing open except what `held` closes; a read of the caller's file that does not
    return is abandoned.

    Args:
        request: The request.
        held: Closes the copies when the request is over.
        is_checked: Whether to stop reading a picture that is larger than the service accepts.

    Raises:
        TransportError: This machine cannot open another file.
    """
    sources = [(place, source, _find_reference(place, source)) for place, source in named_sources(request)]
    has_references = any(reference for _, _, reference in sources)
    max_bytes = MAX_SOURCE_BYTES if is_checked else None
    return tuple(
        [
            reference
            or (_link_of(place, source) if has_references else None)
            or await read_source(place, source, held, max_bytes)
            for place, source, reference in sources
        ]
    )


async def read_source(place: str, source: Source, held: ExitStack, max_bytes: int | None) -> ExaminedSource:
    """Read or copy a picture that will be uploaded; `held` closes the copy.

    Raises:
        TransportError: This machine cannot open another file.
    """
    try:
        with as_unusable():
            upload = await _read(source, held, max_bytes)
    except UnusableSource as fault:
        if is_shortage(fault.__cause__):
            raise TransportError(message=f"not sent: {place}: {fault}") from fault
        return ExaminedSource(_unreadable(place, fault))
    return ExaminedSource(_facts(place, upload), upload=upload)


async def _read(source: Any, held: ExitStack, max_bytes: int | None) -> Upload:
    """Return an upload of any source of bytes.

    Raises:
        UnusableSource: It cannot be read.
    """
    if isinstance(source, str | PathLike):
        # It opens and closes one file: cancelling need not wait for it.
        return await asyncio.to_thread(examine_path, _path_of(source), is_hashed=True, max_bytes=max_bytes)
    if isinstance(source, Image):
        try:
            source = await source._bytes()
        except (DownloadError, SessionError) as failure:
            raise UnusableSource(f"cannot be fetched: {failure}") from failure
    if isinstance(source, bytes | bytearray | memoryview):
        upload = _glance_at_bytes(source)
        if max_bytes is not None and upload.size_bytes > max_bytes:
            return upload
        if type(source) is bytes:
            return await asyncio.to_thread(examine_bytes, source)
    elif not isinstance(source, AsyncIterable) and not callable(getattr(source, "read", None)):
        raise UnusableSource(_type_fault(source))
    spool = SpooledUpload(max_bytes)
    held.callback(spool.close)
    if isinstance(source, bytes | bytearray | memoryview):  # it may change
        await run_uncancellable(spool.write, source)
        return spool.finish()
    await drain(source, spool)
    return _not_empty(spool.finish())


def _glance(source: Any) -> Upload | None:
    """Return an upload of a source that can be read again; `None` for others.

    Raises:
        UnusableSource: It cannot be read.
    """
    if isinstance(source, str | PathLike):
        return examine_path(_path_of(source), is_hashed=False)
    if isinstance(source, bytes | bytearray | memoryview):
        return _glance_at_bytes(source)
    if isinstance(source, Image | AsyncIterable) or inspect.iscoroutinefunction(getattr(source, "read", None)):
        return None
    if not callable(getattr(source, "read", None)):
        raise UnusableSource(_type_fault(source))
    return _not_empty(examine_file(source)) if source.seekable() else None


def _glance_at_bytes(source: bytes | bytearray | memoryview) -> Upload:
    view = as_view(source)
    return glance(bytes(view[:HEAD_BYTES]), len(view), lambda: io.BytesIO(source))


def _not_empty(upload: Upload) -> Upload:
    if not upload.size_bytes:
        raise UnusableSource(_EXHAUSTED)
    return upload


def _path_of(source: str | PathLike[str]) -> Path:
    if isinstance(source, str) and len(source) > _MAX_TEXT:
        raise UnusableSource(f"is a text of {len(source):,} {_TOO_LONG}")
    try:
        return Path(source)
    except Exception as failure:
        raise UnusableSource(f"cannot be a file name: {safe_str(failure)}") from failure


def _facts(place: str, upload: Upload | None) -> SourceFacts:
    if upload is None:
        return SourceFacts(place=place, kind="upload")
    return SourceFacts(
        place=place, kind="upload", fault=upload.fault, size_bytes=upload.size_bytes, picture=upload.picture
    )


def _unreadable(place: str, fault: UnusableSource) -> SourceFacts:
    return SourceFacts(place=place, kind="upload", fault=str(fault), is_readable=False)


def _find_reference(place: str, source: object) -> ExaminedSource | None:
    """Return the reference to a picture, or `None` if its bytes are to be sent."""
    try:
        with as_unusable():
            return _reference_of(place, source)
    except UnusableSource as fault:
        return ExaminedSource(_unreadable(place, fault))


def _reference_of(place: str, source: object) -> ExaminedSource | None:
    """Return the reference to a picture, or `None` if its bytes are to be sent.

    Raises:
        UnusableSource: It is neither a reference nor a picture.
    """
    if isinstance(source, _Repeated):
        raise UnusableSource(f"is the same object as {source.first_place}, {_ONCE}")
    if isinstance(source, StoredFile):
        return _reference(place, "file_id", source.id, model=source.model)
    if isinstance(source, Mapping):
        entry = dict(source)
        if set(entry) not in _REFERENCE_KEYS or not all(isinstance(value, str) for value in entry.values()):
            raise UnusableSource('must be {"image_url": "https://…"} or {"file_id": "file-…"}')
        ((key, value),) = entry.items()
        return _reference(place, "url" if key == "image_url" else "file_id", value)
    if not isinstance(source, str) or len(source) > _MAX_TEXT:
        return None
    if _ADDRESS.match(source):
        return _reference(place, "url", source)
    return _reference(place, "file_id", source) if _FILE_ID.fullmatch(source) else None


def _reference(place: str, kind: Literal["url", "file_id"], value: str, *, model: str | None = None) -> ExaminedSource:
    if kind == "url":
        if len(value) > _MAX_TEXT:
            raise UnusableSource(f"has an image_url of {len(value):,} {_TOO_LONG}")
        return ExaminedSource(SourceFacts(place=place, kind=kind, url=value, model=model), {"image_url": value})
    if not LINE.accepts(value):
        raise UnusableSource(f"has an id that is not {LINE.words}")
    return ExaminedSource(SourceFacts(place=place, kind=kind, model=model), {"file_id": value})


def _link_of(place: str, source: object) -> ExaminedSource | None:
    """Return a reference by the link of an earlier result, if the service can follow it."""
    url = source.url if isinstance(source, Image) else None
    is_usable = url and len(url) <= _MAX_TEXT and find_remote_fault(url) is None
    return _reference(place, "url", url) if url and is_usable else None


def _type_fault(source: object) -> str:
    if isinstance(source, GoneSource):
        return f"{source.description[:_MAX_DESCRIPTION]} did not survive pickling: give it anew"
    kind = type(source)
    if kind.__module__.startswith("PIL."):
        return "is a Pillow image: save it to a BytesIO, seek(0), and pass that"
    return (
        f"must be a path, bytes, a binary file, an async iterable of bytes or an Image of a result, not {kind.__name__}"
    )
