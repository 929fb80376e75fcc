"""Request bodies: JSON and forms, opened again for every attempt, at the moment of sending.

A request may wait minutes for its rate-limit slot, together with a thousand others, so it holds no open file while it
waits. And a form cannot be sent twice.
"""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import BinaryIO

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter

from lemon_async._api.encoding import fingerprint
from lemon_async._http.transport import Body
from lemon_async._images.threads import run_uncancellable
from lemon_async._uploads.upload import CHUNK_BYTES, Upload, open_upload

__all__ = ["File", "Form", "Json"]

_LONG_BODY_BYTES = 64 * 1024
_JSON_HEADERS = {"Content-Type": "application/json"}


@attrs.frozen
class Json:
    """A body of JSON."""

    path: str
    content: bytes = attrs.field(repr=False)
    _fingerprints: list[str] = attrs.field(factory=list, init=False, repr=False, eq=False)

    @property
    def fingerprint(self) -> str:
        """Digest of the request; equal requests have equal fingerprints."""
        return self._fingerprints[0] if self._fingerprints else fingerprint(self.content)

    async def open(self, held: ExitStack) -> Body:  # noqa: ARG002 - nothing is open
        """Return the body of one attempt."""
        if len(self.content) < _LONG_BODY_BYTES:
            return Body(self.content, _JSON_HEADERS)
        if not self._fingerprints:  # before sending, whose errors report it
            self._fingerprints.append(await asyncio.to_thread(fingerprint, self.content))
        return Body(_Content(self.content), _JSON_HEADERS)


@attrs.frozen
class File:
    """One file of a form; `place` is its name in problems."""

    field: str
    place: str
    filename: str
    content_type: str
    upload: Upload


@attrs.frozen
class Form:
    """A body of `multipart/form-data`, streamed from its files."""

    path: str
    fingerprint: str
    fields: Mapping[str, str]
    files: tuple[File, ...]

    async def open(self, held: ExitStack) -> Body:
        """Return the body of one attempt."""
        form = aiohttp.FormData(quote_fields=False)  # "my cat.png" as browsers send it, not "my%20cat.png"
        for name, text in self.fields.items():
            form.add_field(name, text)
        is_left = threading.Event()
        opened = held.enter_context(ExitStack())
        held.callback(is_left.set)
        await run_uncancellable(self._open_files, form, opened, is_left)
        return Body(form, {})

    def _open_files(self, form: aiohttp.FormData, opened: ExitStack, is_left: threading.Event) -> None:
        try:
            for file in self.files:
                content = opened.enter_context(open_upload(file.place, file.upload))
                part = _Part(content, file.upload.size_bytes, file.content_type)
                form.add_field(file.field, part, filename=file.filename, content_type=file.content_type)
        finally:
            if is_left.is_set():  # the attempt is over and no longer closes anything
                opened.close()


class _Content(aiohttp.payload.Payload):
    """Long bytes, sent in chunks: aiohttp writes `bytes` in one go, and copies an `io.BytesIO` first."""

    _autoclose = True  # there is nothing to close

    def __init__(self, content: bytes) -> None:
        super().__init__(content, headers=_JSON_HEADERS)
        self._size = len(content)

    async def write(self, writer: AbstractStreamWriter) -> None:
        view = memoryview(self._value)
        for at in range(0, len(view), CHUNK_BYTES):
            await writer.write(view[at : at + CHUNK_BYTES])
            await asyncio.sleep(0)  # a fast connection never waits

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)


class _Part(aiohttp.payload.Payload):
    """A file of the announced size: the bytes of one that grows would run into the next request."""

    def __init__(self, file: BinaryIO, size_bytes: int, content_type: str) -> None:
        super().__init__(file, content_type=content_type)
        self._size = size_bytes

    async def write(self, writer: AbstractStreamWriter) -> None:
        left = self._size or 0
        while left:
            chunk = await asyncio.to_thread(self._value.read, min(left, CHUNK_BYTES))
            if not chunk:
                raise OSError("a file became shorter while it was sent")
            left -= len(chunk)
            await writer.write(chunk)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        raise TypeError("a picture has no text")
