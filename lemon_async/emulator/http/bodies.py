"""Read request bodies: JSON objects, and forms whose files stream into temporary files.

No upload is ever in memory as a whole: a part beyond one MiB is written to disk while it arrives. Every limit is
checked before or while reading, never afterwards.
"""

import io
import re
import tempfile
from typing import IO, Any

import orjson
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from lemon_async.emulator.service.messages import JSON_TYPE, MAX_FILE_BYTES, Call, Upload
from lemon_async.emulator.service_errors import ServiceError, excerpt

MAX_JSON_BYTES = 2**20
MAX_FILES = 17  # sixteen sources and a mask
MAX_TEXT_BYTES = 64 * 2**10
MAX_TEXT_FIELDS = 64
MAX_HEAD_BYTES = 16 * 2**10  # of everything before the first part, and between two parts
MAX_FORM_BYTES = MAX_FILES * MAX_FILE_BYTES + MAX_TEXT_FIELDS * MAX_TEXT_BYTES

_FORM = "multipart/form-data"
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


async def read_body(request: web.BaseRequest, call: Call) -> None:
    """Read the body into `call`; its kind `either` is JSON or a form, and `json` ignores the Content-Type.

    The caller closes the files in `call.uploads`, whether or not this fails.

    Raises:
        ServiceError: 413 if the body is too large, 400 if it is malformed or of another type.
    """
    is_form = request.content_type == _FORM
    if call.body_kind == "form" and not is_form:
        raise ServiceError(400, message=f"The body must be {_FORM}.")
    if call.body_kind == "either" and request.content_type not in {_FORM, JSON_TYPE}:
        raise ServiceError(400, message=f"The body must be {JSON_TYPE} or {_FORM}.")
    call.is_form = is_form and call.body_kind != "json"
    if (request.content_length or 0) > (MAX_FORM_BYTES if call.is_form else MAX_JSON_BYTES):
        raise ServiceError(413)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    if not call.is_form:
        call.body = await _read_json(request)
        return
    try:
        call.body = await _read_form(request, call.uploads)
    except _MALFORMED as error:
        raise ServiceError(400, message=f"The body is not a valid form: {excerpt(str(error))}") from error


async def _read_json(request: web.BaseRequest) -> dict[str, Any]:
    try:
        value = orjson.loads(await request.read())
    except web.HTTPRequestEntityTooLarge as error:
        raise ServiceError(413) from error
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, message=f"The body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ServiceError(400, message="The body must be a JSON object.")
    return value


class _BoundedLines:
    """A stream that limits the bytes read by the line: boundaries, headers and what precedes the first part.

    The contents of parts are not read by the line; `_copy` counts those.
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


async def _read_form(request: web.BaseRequest, uploads: list[Upload]) -> dict[str, Any]:
    """Read a form to its end; add its files to `uploads` and return its other fields."""
    fields: dict[str, Any] = {}
    text_fields = 0
    content: Any = _BoundedLines(request.content)
    parts = MultipartReader(request.headers, content)
    while (part := await parts.next()) is not None:
        if isinstance(part, MultipartReader) or not part.name:
            raise ValueError("every part needs a distinct name")
        if part.filename is not None or _FILE_FIELD.fullmatch(part.name):
            await _read_file(part, part.name, uploads)
        else:
            # Parts are counted, not names: all parts of a flood may have the same name.
            text_fields += 1
            fields[part.name] = _parse_text(part.name, await _read_text(part, part.name, text_fields))
        _check_total(request)
        content.reset()
    # Bytes may follow the last boundary; the next request on this connection begins after them.
    async for _ in request.content.iter_any():
        _check_total(request)
    return fields


def _check_total(request: web.BaseRequest) -> None:
    """Check the size of a body whose length was not announced."""
    if request.content.total_bytes > MAX_FORM_BYTES:
        raise ServiceError(413)


async def _read_file(part: BodyPartReader, name: str, uploads: list[Upload]) -> None:
    param = excerpt(name.partition("[")[0])
    if len(uploads) == MAX_FILES:
        raise ServiceError(400, "too_many_images", f"{param}: a request holds at most {MAX_FILES} files", param)
    # Without characters that JSON cannot hold: the name is part of later responses.
    filename = (part.filename or "upload").encode("utf-8", "replace").decode()
    file = spool()
    uploads.append(Upload(name, filename, file))
    await _copy(part, file, MAX_FILE_BYTES, f"a file holds at most {MAX_FILE_BYTES // 2**20} MiB", param)
    file.seek(0)


async def _read_text(part: BodyPartReader, name: str, number: int) -> str:
    param = excerpt(name)
    if number > MAX_TEXT_FIELDS:
        raise ServiceError(413, message="The form has too many fields.", param=param)
    text = io.BytesIO()
    await _copy(part, text, MAX_TEXT_BYTES, f"a text field holds at most {MAX_TEXT_BYTES} bytes", param)
    return text.getvalue().decode()


async def _copy(part: BodyPartReader, file: IO[bytes], most: int, rule: str, param: str) -> None:
    """Copy a part of at most `most` bytes."""
    size = 0
    while not part.at_eof():
        chunk = await part.read_chunk(_CHUNK_BYTES)
        size += len(chunk)
        if size > most:
            raise ServiceError(413, message=f"{param}: {rule}", param=param)
        file.write(chunk)


def _parse_text(name: str, text: str) -> Any:
    """Convert the text of a field; text that cannot be converted is left for validation to refuse."""
    if name in _INTEGERS and _INTEGER.fullmatch(text):
        return int(text)
    if name in _BOOLEANS and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    return text
