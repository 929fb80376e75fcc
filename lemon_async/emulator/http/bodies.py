"""Request bodies: a JSON object, or a form whose files stream into spooled temporary files.

No upload is ever whole in memory: a part beyond a mebibyte goes to the disk while it comes in. Every
bound is checked before or while reading, never after.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import orjson
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from attrs import define, field

from lemon_async.emulator.service.messages import MAX_FILE_BYTES, Upload
from lemon_async.emulator.service_errors import ServiceError, excerpt

MAX_JSON_BYTES = 2**20
MAX_FILES = 17  # sixteen sources and a mask
MAX_TEXT_BYTES = 64 * 2**10
MAX_TEXT_FIELDS = 64
MAX_HEAD_BYTES = 16 * 2**10  # what stands before the first part, or before the contents of any
MAX_FORM_BYTES = MAX_FILES * MAX_FILE_BYTES + MAX_TEXT_FIELDS * MAX_TEXT_BYTES

_SPOOL_BYTES = 2**20
_CHUNK_BYTES = 64 * 2**10

# Everything in a form is text; these fields mean something else.
_INTEGERS = frozenset({"n", "partial_images", "output_compression", "compression", "expires_after[seconds]"})
_BOOLEANS = frozenset({"async", "stream"})
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_FILE_FIELD = re.compile(r"image(\[[0-9]*\])?|mask|file")

# What aiohttp's reader raises on bytes that are no form; the warnings are errors in some programs.
_MALFORMED = (ValueError, LookupError, AssertionError, RuntimeError, HttpProcessingError, Warning)


def spool() -> IO[bytes]:
    """A temporary file that begins in memory; whoever takes it closes it."""
    return tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)


@define
class Body:
    """What a request said; closing it gives its files back."""

    fields: Mapping[str, Any] = field(factory=dict)
    uploads: tuple[Upload, ...] = ()
    is_form: bool = False

    def close(self) -> None:
        """Close the files."""
        for upload in self.uploads:
            upload.file.close()


async def read_json(request: web.BaseRequest) -> Body:
    """Read a JSON object, whatever its Content-Type says.

    Raises:
        ServiceError: 413 too large, 400 no JSON object.
    """
    _check_length(request, MAX_JSON_BYTES)
    await _send_continue(request)
    try:
        value = orjson.loads(await request.read())
    except web.HTTPRequestEntityTooLarge as error:
        raise ServiceError(413) from error
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, message=f"The body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ServiceError(400, message="The body must be a JSON object.")
    return Body(value)


async def read_form(request: web.BaseRequest) -> Body:
    """Read `multipart/form-data`.

    Raises:
        ServiceError: 413 too large, 400 no such form.
    """
    if request.content_type != "multipart/form-data":
        raise ServiceError(400, message="The body must be multipart/form-data.")
    _check_length(request, MAX_FORM_BYTES)
    await _send_continue(request)
    form = _FormReader(request)
    try:
        with _malformed_form_as_400():
            return await form.read()
    except BaseException:
        form.close()
        raise


async def read_either(request: web.BaseRequest) -> Body:
    """Read a form or a JSON object, as the Content-Type says.

    Raises:
        ServiceError: 413 too large, 400 neither of them.
    """
    if request.content_type == "multipart/form-data":
        return await read_form(request)
    if request.content_type == "application/json":
        return await read_json(request)
    raise ServiceError(400, message="The body must be application/json or multipart/form-data.")


READERS = {"json": read_json, "form": read_form, "either": read_either}


def _check_length(request: web.BaseRequest, most: int) -> None:
    if (request.content_length or 0) > most:
        raise ServiceError(413)


async def _send_continue(request: web.BaseRequest) -> None:
    """Tell a client that waits with its body to send it."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


@contextmanager
def _malformed_form_as_400() -> Iterator[None]:
    try:
        yield
    except _MALFORMED as error:
        raise ServiceError(400, message=f"The body is not a valid form: {excerpt(str(error))}") from error


class _BoundedLines:
    """A body whose lines are bounded: boundaries, headers and what precedes them are read by the line.

    The contents of parts are not; whoever reads them keeps count.
    """

    def __init__(self, content: Any) -> None:
        self._content = content
        self._left_bytes = MAX_HEAD_BYTES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    def allow(self) -> None:
        """Begin to count anew, at the end of a part."""
        self._left_bytes = MAX_HEAD_BYTES

    async def readline(self, **options: Any) -> bytes:
        """Read a line, while there may be more of them."""
        line: bytes = await self._content.readline(**options)
        self._left_bytes -= len(line)
        if self._left_bytes < 0:
            raise ValueError(f"there are more than {MAX_HEAD_BYTES} bytes before a part")
        return line


class _FormReader:
    """A form that is being read; open files are closed by whoever gives up."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._fields: dict[str, Any] = {}
        self._uploads: list[Upload] = []
        self._texts = 0

    async def read(self) -> Body:
        """Read to the end."""
        content: Any = _BoundedLines(self._request.content)
        parts = MultipartReader(self._request.headers, content)
        while (part := await parts.next()) is not None:
            await self._take(part)
            self._check_total()
            content.allow()
        # The next request of this connection begins behind what follows the last boundary.
        async for _ in self._request.content.iter_any():
            self._check_total()
        return Body(self._fields, tuple(self._uploads), is_form=True)

    def _check_total(self) -> None:
        """Count a body of unannounced length while it comes in."""
        if self._request.content.total_bytes > MAX_FORM_BYTES:
            raise ServiceError(413)

    def close(self) -> None:
        """Close what was opened."""
        for upload in self._uploads:
            upload.file.close()

    async def _take(self, part: MultipartReader | BodyPartReader) -> None:
        if isinstance(part, MultipartReader) or not part.name:
            raise ValueError("every part needs a name of its own")
        if part.filename is not None or _FILE_FIELD.fullmatch(part.name):
            await self._take_file(part, part.name, _filename(part))
        else:
            self._fields[part.name] = _parse_text(part.name, await self._text(part, part.name))

    async def _take_file(self, part: BodyPartReader, name: str, filename: str) -> None:
        param = excerpt(name.partition("[")[0])
        if len(self._uploads) == MAX_FILES:
            raise ServiceError(400, "too_many_images", f"{param}: a request holds at most {MAX_FILES} files", param)
        file, size = spool(), 0
        self._uploads.append(Upload(name, filename, file, 0))
        while not part.at_eof():
            chunk = await part.read_chunk(_CHUNK_BYTES)
            size += len(chunk)
            _check_file_size(size, param)
            file.write(chunk)
        file.seek(0)
        self._uploads[-1] = Upload(name, filename, file, size)

    async def _text(self, part: BodyPartReader, name: str) -> str:
        param = excerpt(name)
        # Not the names are counted: a flood may have but one.
        self._texts += 1
        if self._texts > MAX_TEXT_FIELDS:
            raise ServiceError(413, message="The form has too many fields.", param=param)
        value = bytearray()
        while not part.at_eof():
            value += await part.read_chunk(_CHUNK_BYTES)
            if len(value) > MAX_TEXT_BYTES:
                raise ServiceError(
                    413, message=f"{param}: a text field holds at most {MAX_TEXT_BYTES} bytes", param=param
                )
        return value.decode()


def _filename(part: BodyPartReader) -> str:
    """The name of a file, without what no answer could repeat."""
    return (part.filename or "upload").encode("utf-8", "replace").decode()


def _check_file_size(size: int, param: str) -> None:
    if size > MAX_FILE_BYTES:
        raise ServiceError(413, message=f"{param}: a file holds at most {MAX_FILE_BYTES // 2**20} MiB", param=param)


def _parse_text(name: str, text: str) -> Any:
    """What a text stands for; what cannot be read stays text, for the checks to complain about."""
    if name in _INTEGERS and _INTEGER.fullmatch(text):
        return int(text)
    if name in _BOOLEANS and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    return text
