"""Read request bodies: JSON objects, and forms whose files stream into temporary files.

No upload is ever in memory as a whole: a part beyond one MiB is written to disk while it arrives. Every limit is
checked before or while reading, never afterwards.
"""

import re
import tempfile
from collections.abc import Mapping
from typing import IO, Any

import orjson
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from attrs import frozen

from lemon_async.emulator.service.messages import MAX_FILE_BYTES, BodyKind, Upload
from lemon_async.emulator.service_errors import ServiceError, excerpt

MAX_JSON_BYTES = 2**20
MAX_FILES = 17  # sixteen sources and a mask
MAX_TEXT_BYTES = 64 * 2**10
MAX_TEXT_FIELDS = 64
MAX_HEAD_BYTES = 16 * 2**10  # of everything before the first part, and between two parts
MAX_FORM_BYTES = MAX_FILES * MAX_FILE_BYTES + MAX_TEXT_FIELDS * MAX_TEXT_BYTES

_JSON, _FORM = "application/json", "multipart/form-data"
_SPOOL_BYTES = 2**20
_CHUNK_BYTES = 64 * 2**10

# All fields of a form are text; these are converted.
_INTEGERS = frozenset({"n", "partial_images", "output_compression", "compression", "expires_after[seconds]"})
_BOOLEANS = frozenset({"async", "stream"})
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_FILE_FIELD = re.compile(r"image(\[[0-9]*\])?|mask|file")

# What aiohttp's reader raises on malformed forms; some programs turn warnings into errors.
_MALFORMED = (ValueError, LookupError, AssertionError, RuntimeError, HttpProcessingError, Warning)


def spool() -> IO[bytes]:
    """Open a temporary file that begins in memory; the caller closes it."""
    return tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)


@frozen
class Body:
    """A parsed body; the caller closes the files of `uploads`."""

    fields: Mapping[str, Any]
    uploads: tuple[Upload, ...] = ()
    is_form: bool = False


async def read_body(request: web.BaseRequest, kind: BodyKind) -> Body:
    """Read a body; `either` is JSON or a form, as the Content-Type says, and `json` ignores the Content-Type.

    Raises:
        ServiceError: 413 if it is too large, 400 if it is malformed or of another type.
    """
    is_form = request.content_type == _FORM
    if kind == "form" and not is_form:
        raise ServiceError(400, message=f"The body must be {_FORM}.")
    if kind == "either" and request.content_type not in {_FORM, _JSON}:
        raise ServiceError(400, message=f"The body must be {_JSON} or {_FORM}.")
    read, most = (_read_form, MAX_FORM_BYTES) if is_form and kind != "json" else (_read_json, MAX_JSON_BYTES)
    if (request.content_length or 0) > most:
        raise ServiceError(413)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return await read(request)


async def _read_json(request: web.BaseRequest) -> Body:
    try:
        value = orjson.loads(await request.read())
    except web.HTTPRequestEntityTooLarge as error:
        raise ServiceError(413) from error
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, message=f"The body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ServiceError(400, message="The body must be a JSON object.")
    return Body(value)


async def _read_form(request: web.BaseRequest) -> Body:
    form = _FormReader(request)
    try:
        return await form.read()
    except _MALFORMED as error:
        form.close()
        raise ServiceError(400, message=f"The body is not a valid form: {excerpt(str(error))}") from error
    except BaseException:
        form.close()
        raise


class _BoundedLines:
    """A stream that limits the bytes read by the line: boundaries, headers and what precedes the first part.

    The contents of parts are not read by the line; `_FormReader` counts those.
    """

    def __init__(self, content: Any) -> None:
        self._content = content
        self._left_bytes = MAX_HEAD_BYTES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    def reset(self) -> None:
        """Start the limit anew, at the end of a part."""
        self._left_bytes = MAX_HEAD_BYTES

    async def readline(self, **options: Any) -> bytes:
        """Read a line.

        Raises:
            ValueError: The limit is exceeded.
        """
        line: bytes = await self._content.readline(**options)
        self._left_bytes -= len(line)
        if self._left_bytes < 0:
            raise ValueError(f"there are more than {MAX_HEAD_BYTES} bytes before a part")
        return line


class _FormReader:
    """Reads one form; `close` closes its files if reading fails."""

    def __init__(self, request: web.BaseRequest) -> None:
        self._request = request
        self._fields: dict[str, Any] = {}
        self._uploads: list[Upload] = []
        self._text_fields = 0

    async def read(self) -> Body:
        """Read to the end."""
        content: Any = _BoundedLines(self._request.content)
        parts = MultipartReader(self._request.headers, content)
        while (part := await parts.next()) is not None:
            await self._read_part(part)
            self._check_total()
            content.reset()
        # Bytes may follow the last boundary; the next request on this connection begins after them.
        async for _ in self._request.content.iter_any():
            self._check_total()
        return Body(self._fields, tuple(self._uploads), is_form=True)

    def _check_total(self) -> None:
        """Check the size of a body whose length was not announced."""
        if self._request.content.total_bytes > MAX_FORM_BYTES:
            raise ServiceError(413)

    def close(self) -> None:
        """Close the files."""
        for upload in self._uploads:
            upload.file.close()

    async def _read_part(self, part: MultipartReader | BodyPartReader) -> None:
        if isinstance(part, MultipartReader) or not part.name:
            raise ValueError("every part needs a name of its own")
        if part.filename is not None or _FILE_FIELD.fullmatch(part.name):
            await self._read_file(part, part.name)
        else:
            self._fields[part.name] = _parse_text(part.name, await self._read_text(part, part.name))

    async def _read_file(self, part: BodyPartReader, name: str) -> None:
        param = excerpt(name.partition("[")[0])
        if len(self._uploads) == MAX_FILES:
            raise ServiceError(400, "too_many_images", f"{param}: a request holds at most {MAX_FILES} files", param)
        # Without characters that JSON cannot hold: the name is part of later responses.
        filename = (part.filename or "upload").encode("utf-8", "replace").decode()
        file, size = spool(), 0
        self._uploads.append(Upload(name, filename, file, 0))
        while not part.at_eof():
            chunk = await part.read_chunk(_CHUNK_BYTES)
            size += len(chunk)
            _check_file_size(size, param)
            file.write(chunk)
        file.seek(0)
        self._uploads[-1] = Upload(name, filename, file, size)

    async def _read_text(self, part: BodyPartReader, name: str) -> str:
        param = excerpt(name)
        # Parts are counted, not names: all parts of a flood may have the same name.
        self._text_fields += 1
        if self._text_fields > MAX_TEXT_FIELDS:
            raise ServiceError(413, message="The form has too many fields.", param=param)
        value = bytearray()
        while not part.at_eof():
            value += await part.read_chunk(_CHUNK_BYTES)
            if len(value) > MAX_TEXT_BYTES:
                message = f"{param}: a text field holds at most {MAX_TEXT_BYTES} bytes"
                raise ServiceError(413, message=message, param=param)
        return value.decode()


def _check_file_size(size: int, param: str) -> None:
    if size > MAX_FILE_BYTES:
        raise ServiceError(413, message=f"{param}: a file holds at most {MAX_FILE_BYTES // 2**20} MiB", param=param)


def _parse_text(name: str, text: str) -> Any:
    """Convert the text of a field; text that cannot be converted is left for validation to refuse."""
    if name in _INTEGERS and _INTEGER.fullmatch(text):
        return int(text)
    if name in _BOOLEANS and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    return text
