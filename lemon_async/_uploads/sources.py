"""The pictures that a request starts from: what each of them is, and how the service gets at it.

    a path, bytes, a binary file, an async iterable, an `Image`       uploaded, in a form
    an address, a `StoredFile` or `file-…`, one of the API's objects  told to the service, in JSON

An `Image` with a public link goes as its link when the others are told to the service, so that it fits either way.
All that can be found out about a picture is, before anything is sent.
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

from lemon_async._api.fields import LINE
from lemon_async._api.source_rules import MAX_SOURCE_BYTES, SourceFacts
from lemon_async._api.urls import find_remote_fault
from lemon_async._formats.safe_text import safe_str
from lemon_async._images.image import Image
from lemon_async._images.threads import run_uncancellable
from lemon_async._uploads.spooling import drain, is_read_once
from lemon_async._uploads.upload import (
    HEAD_BYTES,
    SpooledUpload,
    UnusableSource,
    Upload,
    as_unusable,
    as_view,
    examine_bytes,
    examine_file,
    examine_path,
    glance,
    is_shortage,
)
from lemon_async.errors import DownloadError, SessionError, TransportError
from lemon_async.requests import EditRequest, GoneSource, Source, VariationRequest
from lemon_async.types import StoredFile

__all__ = ["ExaminedSource", "is_told", "look_at", "pick", "places", "take_in"]

_LONGEST_TEXT = 1024 * 1024
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:")
_FILE_ID = re.compile(r"file-[A-Za-z0-9_-]+")
_SPENT = "there are no bytes left: a file is read from where it stands (seek(0) first?), a generator once"
_LONG = "characters, longer than any address or file name: decode it, and give the bytes"
_ONCE = "and that can be read only once: give each its own, or its bytes"
_LONGEST_DESCRIPTION = 80
_REFERENCE_KEYS = ({"image_url"}, {"file_id"})


@attrs.frozen
class ExaminedSource:
    """One picture, ready to go.

    Attributes:
        reference: What the service is told: `{"image_url": ...}` or `{"file_id": ...}`; `None` for an upload.
        upload: What is uploaded; `None` for a reference, and for what cannot be read.
    """

    facts: SourceFacts
    reference: Mapping[str, str] | None = None
    upload: Upload | None = None


@attrs.frozen
class _Repeated:
    """Stands for a source that is given twice, and can be read only once."""

    first_place: str


def places(request: EditRequest | VariationRequest) -> Iterator[tuple[str, Any]]:
    """Yield each picture of a request with the name that problems call it by, a mask last."""
    named = [(f"image[{index}]", source) for index, source in enumerate(request.image)]
    mask = getattr(request, "mask", None)
    seen: dict[int, str] = {}
    for place, source in named if mask is None else [*named, ("mask", mask)]:
        is_again = id(source) in seen and is_read_once(source) and not isinstance(source, Image)
        yield place, _Repeated(seen[id(source)]) if is_again else source
        seen.setdefault(id(source), place)


def look_at(place: str, source: Source) -> SourceFacts:
    """Return what can be found out about a picture without consuming it; blocks for as long as the disk does."""
    try:
        with as_unusable():
            picked = _as_reference(place, source)
            return picked.facts if picked is not None else _facts(place, _glance(source))
    except UnusableSource as fault:
        return _unreadable(place, str(fault))


async def pick(
    request: EditRequest | VariationRequest, held: ExitStack, *, is_checked: bool
) -> tuple[ExaminedSource, ...]:
    """Read or copy every picture of a request, so that it can be sent as often as needed.

    Costs nothing. Cancelling leaves nothing open but what `held` closes; a read of the caller's file that does not
    return is left to itself.

    Args:
        request: The request.
        held: Closes what was copied, when the request is done with.
        is_checked: Whether to stop reading what is too large to be taken.

    Raises:
        TransportError: This machine has no room for another open file.
    """
    sources = [(place, source, _referred(place, source)) for place, source in places(request)]
    has_references = any(reference for _, _, reference in sources)
    max_bytes = MAX_SOURCE_BYTES if is_checked else None
    return tuple(
        [
            reference
            or (_as_link(place, source) if has_references else None)
            or await take_in(place, source, held, max_bytes)
            for place, source, reference in sources
        ]
    )


async def take_in(place: str, source: Source, held: ExitStack, max_bytes: int | None) -> ExaminedSource:
    """Read or copy a picture that is going to be uploaded; `held` closes what was copied.

    Raises:
        TransportError: This machine has no room for another open file.
    """
    try:
        with as_unusable():
            upload = await _read(source, held, max_bytes)
    except UnusableSource as fault:
        if is_shortage(fault.__cause__):
            raise TransportError(message=f"not sent: {place}: {fault}") from fault
        return ExaminedSource(_unreadable(place, str(fault)))
    return ExaminedSource(_facts(place, upload), upload=upload)


async def _read(source: Any, held: ExitStack, max_bytes: int | None) -> Upload:
    """Make an upload of anything that has bytes.

    Raises:
        Unusable: It has none, or they cannot be read.
    """
    if isinstance(source, str | PathLike):
        # It opens and closes one file: cancelling need not wait for it.
        return await asyncio.to_thread(examine_path, _path_of(source), is_hashed=True, max_bytes=max_bytes)
    if isinstance(source, Image):
        source = await _bytes_of(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return await _read_memory(source, held, max_bytes)
    if not isinstance(source, AsyncIterable) and not callable(getattr(source, "read", None)):
        raise UnusableSource(_misfit(source))
    spool = SpooledUpload(max_bytes)
    held.callback(spool.close)
    await drain(source, spool)
    upload = spool.finish()
    if not upload.size_bytes:
        raise UnusableSource(_SPENT)
    return upload


async def _read_memory(source: bytes | bytearray | memoryview, held: ExitStack, max_bytes: int | None) -> Upload:
    """Share bytes, and copy what may change."""
    upload = _in_memory(source)
    if max_bytes is not None and upload.size_bytes > max_bytes:
        return upload
    if type(source) is bytes:
        return await asyncio.to_thread(examine_bytes, source)
    spool = SpooledUpload(max_bytes)
    held.callback(spool.close)
    await run_uncancellable(spool.write, source)
    return spool.finish()


async def _bytes_of(image: Image) -> bytes:
    try:
        return await image._bytes()
    except (DownloadError, SessionError) as failure:
        raise UnusableSource(f"cannot be fetched: {failure}") from failure


def _glance(source: Any) -> Upload | None:
    """Return what a source that stays as it is tells, or `None` for one that can be read only once.

    Raises:
        Unusable: It cannot be read.
    """
    if isinstance(source, str | PathLike):
        return examine_path(_path_of(source), is_hashed=False)
    if isinstance(source, bytes | bytearray | memoryview):
        return _in_memory(source)
    if isinstance(source, Image | AsyncIterable) or inspect.iscoroutinefunction(getattr(source, "read", None)):
        return None
    if not callable(getattr(source, "read", None)):
        raise UnusableSource(_misfit(source))
    upload = examine_file(source) if source.seekable() else None
    if upload is not None and not upload.size_bytes:
        raise UnusableSource(_SPENT)
    return upload


def _path_of(source: str | PathLike[str]) -> Path:
    if isinstance(source, str) and len(source) > _LONGEST_TEXT:
        raise UnusableSource(f"is a text of {len(source):,} {_LONG}")
    try:
        return Path(source)
    except Exception as failure:
        raise UnusableSource(f"cannot be a file name: {safe_str(failure)}") from failure


def _in_memory(source: bytes | bytearray | memoryview) -> Upload:
    view = as_view(source)
    return glance(bytes(view[:HEAD_BYTES]), len(view), lambda: io.BytesIO(source))


def _facts(place: str, upload: Upload | None) -> SourceFacts:
    if upload is None:
        return SourceFacts(place=place, kind="upload")
    return SourceFacts(
        place=place, kind="upload", fault=upload.fault, size_bytes=upload.size_bytes, picture=upload.picture
    )


def _unreadable(place: str, reason: str) -> SourceFacts:
    return SourceFacts(place=place, kind="upload", fault=reason, is_readable=False)


def _referred(place: str, source: object) -> ExaminedSource | None:
    """Return what `_as_reference` returns; an object that cannot be asked what it is, cannot be read."""
    try:
        with as_unusable():
            return _as_reference(place, source)
    except UnusableSource as fault:
        return ExaminedSource(_unreadable(place, str(fault)))


def _as_reference(place: str, source: object) -> ExaminedSource | None:
    """Return what to tell the service about a picture, or `None` when its bytes are to be sent."""
    if isinstance(source, _Repeated):
        return ExaminedSource(_unreadable(place, f"is the same object as {source.first_place}, {_ONCE}"))
    if isinstance(source, StoredFile):
        return _reference(place, "file_id", {"file_id": source.id}, model=source.model)
    if isinstance(source, Mapping):
        return _as_given(place, source)
    text = source if isinstance(source, str) and len(source) <= _LONGEST_TEXT else ""
    if _ADDRESS.match(text):
        return _reference(place, "url", {"image_url": text}, url=text)
    if _FILE_ID.fullmatch(text):
        return _reference(place, "file_id", {"file_id": text})
    return None


def is_told(source: object) -> bool:
    """Tell whether the service is told about a picture, instead of being sent its bytes."""
    try:
        with as_unusable():
            return _as_reference("", source) is not None
    except UnusableSource:
        return False


def _as_link(place: str, source: object) -> ExaminedSource | None:
    """Return the link of an earlier result, if the service could follow it."""
    url = source.url if isinstance(source, Image) else None
    return _reference(place, "url", {"image_url": url}, url=url) if url and find_remote_fault(url) is None else None


def _as_given(place: str, source: Mapping[str, Any]) -> ExaminedSource:
    """Take one of the service's own objects."""
    try:
        with as_unusable():
            reference = dict(source)
    except UnusableSource as fault:
        return ExaminedSource(_unreadable(place, str(fault)))
    if set(reference) not in _REFERENCE_KEYS or not all(isinstance(value, str) for value in reference.values()):
        return ExaminedSource(_unreadable(place, 'must be {"image_url": "https://…"} or {"file_id": "file-…"}'))
    kind: Literal["url", "file_id"] = "url" if "image_url" in reference else "file_id"
    return _reference(place, kind, reference, url=reference.get("image_url", ""))


def _reference(
    place: str,
    kind: Literal["url", "file_id"],
    reference: Mapping[str, str],
    *,
    url: str = "",
    model: str | None = None,
) -> ExaminedSource:
    if len(reference.get("image_url", "")) > _LONGEST_TEXT:
        return ExaminedSource(_unreadable(place, f"has an image_url of {len(url):,} {_LONG}"))
    if kind == "file_id" and not LINE.accepts(reference["file_id"]):
        return ExaminedSource(_unreadable(place, f"has an id that is not {LINE.words}"))
    return ExaminedSource(SourceFacts(place=place, kind=kind, url=url, model=model), reference)


def _misfit(source: object) -> str:
    if isinstance(source, GoneSource):
        return f"{source.description[:_LONGEST_DESCRIPTION]} did not survive pickling: give it anew"
    kind = type(source)
    if kind.__module__.startswith("PIL."):
        return "is a picture of Pillow: save it into a BytesIO, seek(0), and give that"
    return (
        f"must be a path, bytes, a binary file, an async iterable of bytes or an Image of a result, not {kind.__name__}"
    )
