"""Build a request from a caller's arguments, check it, and build the body to send.

A request may wait minutes for its rate-limit slot, together with a thousand others, so a body holds no open file while
it waits: it is opened anew for every attempt, at the moment of sending. And a form cannot be sent twice.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import aiohttp
import attrs
from aiohttp.abc import AbstractStreamWriter

from lemon_async._api.source_rules import SourceFacts, unreadable
from lemon_async._api.validation import PATHS, check, check_label, encode, encode_form, fingerprint
from lemon_async._http.transport import Body, Payload
from lemon_async._images.threads import run_uncancellable
from lemon_async.errors import ContractError
from lemon_async.requests import EditRequest, GenerateRequest, Operation, Request, VariationRequest
from lemon_async.types import Problem

if TYPE_CHECKING:
    from lemon_async._uploads.sources import ExaminedSource
    from lemon_async._uploads.upload import Upload

__all__ = ["File", "Form", "Json", "build_request", "find_problems", "glance_at_sources", "prepare", "request_from"]

_LONG_BODY_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024  # copied in 0.1 ms
_JSON_HEADERS = {"Content-Type": "application/json"}


class Json:
    """A body of JSON."""

    __slots__ = ("_fingerprint", "content", "path")

    def __init__(self, path: str, content: bytes) -> None:
        self.path: str = path
        self.content: bytes = content
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """Digest of the request; equal requests have equal fingerprints."""
        return self._fingerprint or fingerprint(self.content)

    async def open(self, held: ExitStack) -> Body:  # noqa: ARG002 - nothing is open
        """Return the body of one attempt."""
        if len(self.content) < _LONG_BODY_BYTES:
            return Body(self.content, _JSON_HEADERS)
        await self.find_fingerprint()  # before sending, whose errors report it
        return Body(_Content(self.content), _JSON_HEADERS)

    async def find_fingerprint(self) -> str:
        """Return `fingerprint`, that of a long body from a thread."""
        if len(self.content) >= _LONG_BODY_BYTES and self._fingerprint is None:
            self._fingerprint = await asyncio.to_thread(fingerprint, self.content)
        return self.fingerprint


class File(NamedTuple):
    """One file of a form; `place` is its name in problems."""

    field: str
    place: str
    filename: str
    upload: "Upload"

    @property
    def content_type(self) -> str:
        """Its media type."""
        picture = self.upload.picture
        return f"image/{picture.format}" if picture else "application/octet-stream"


class Form(NamedTuple):
    """A body of `multipart/form-data`, streamed from its files."""

    path: str
    fingerprint: str
    fields: Mapping[str, str]
    files: tuple[File, ...]

    async def find_fingerprint(self) -> str:
        """Return `fingerprint`."""
        return self.fingerprint

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
        from lemon_async._uploads.upload import open_upload  # noqa: PLC0415 - most requests have no pictures

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
        for at in range(0, len(view), _CHUNK_BYTES):
            await writer.write(view[at : at + _CHUNK_BYTES])
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
            chunk = await asyncio.to_thread(self._value.read, min(left, _CHUNK_BYTES))
            if not chunk:
                raise OSError("a file became shorter while it was sent")
            left -= len(chunk)
            await writer.write(chunk)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's signature
        raise TypeError("a picture has no text")


# A missing picture is a `ContractError`, not a `TypeError`.
_STARTS: Mapping[Operation, Callable[[Any], dict[str, Any]]] = {
    "generate": lambda prompt: {"prompt": prompt},
    "edit": lambda prompt: {"prompt": prompt, "image": ()},
    "variation": lambda picture: {"image": picture},
}

_FIELDS: Mapping[type[Request], Mapping[str, object]] = {
    kind: attrs.fields_dict(kind) for kind in (GenerateRequest, EditRequest, VariationRequest)
}

Kind = TypeVar("Kind", GenerateRequest, EditRequest, VariationRequest)


def build_request(kind: type[Kind], fields: Mapping[str, Any], start: object, /) -> Kind:
    """Return a request of a class; explicit fields take precedence over those of a request.

    Args:
        kind: The class.
        fields: Explicit fields; `None` unsets one, except `image` and `mask`.
        start: A prompt, a picture for a variation, or a request to start from.

    Raises:
        ContractError: A field that the class does not have, or a request of another class.
    """
    known = _FIELDS[kind]
    if not fields.keys() <= known.keys():
        unknown = tuple(Problem(name, _advice_on(name, list(known))) for name in fields if name not in known)
        raise ContractError(problems=unknown)
    given = {name: value for name, value in fields.items() if value is not None or name not in {"image", "mask"}}
    if isinstance(start, kind):
        return attrs.evolve(start, **given) if given else start
    if isinstance(start, Request):
        advice = f"is a {type(start).__name__}, and a {kind.__name__} goes here; see session.submit"
        raise ContractError.of("request", advice)
    return kind(**{**_STARTS[kind.operation](start), **given})


def request_from(prompt: object, fields: Mapping[str, Any]) -> Request:
    """Return the request for a prompt or request and fields: an edit if there are pictures.

    Raises:
        ContractError: A field that this request does not have.
    """
    if isinstance(prompt, VariationRequest):
        return build_request(VariationRequest, fields, prompt)
    if isinstance(prompt, EditRequest) or "image" in fields or "mask" in fields:
        return build_request(EditRequest, fields, prompt)
    return build_request(GenerateRequest, fields, prompt)


def glance_at_sources(request: Request) -> tuple[SourceFacts, ...]:
    """Return the facts about pictures that can be found without consuming any; reads the beginnings of files."""
    if isinstance(request, GenerateRequest):
        return ()
    from lemon_async._uploads.sources import glance_at, named_sources  # noqa: PLC0415 - most requests have no pictures

    return tuple(glance_at(place, source) for place, source in named_sources(request))


async def prepare(request: Request, held: ExitStack, *, is_checked: bool, is_stream: bool = False) -> Payload:
    """Read the pictures of a request, check everything, and return the body.

    Args:
        request: The request.
        held: Closes the copies of pictures when the request is over.
        is_checked: Whether to check the documented rules.
        is_stream: Whether the response is an event stream.

    Raises:
        ContractError: With every problem that was found, or because a picture cannot be read.
        TransportError: This machine cannot open another file.
    """
    sources: Sequence[ExaminedSource] = ()
    if not isinstance(request, GenerateRequest):
        from lemon_async._uploads.sources import examine_sources  # noqa: PLC0415 - most requests have no pictures

        sources = await examine_sources(request, held, is_checked=is_checked)
    facts = [source.facts for source in sources]
    try:
        payload = _payload(request, sources, is_stream=is_stream)
    except ContractError as error:
        problems = find_problems(request, facts, is_checked=is_checked, is_stream=is_stream) or error.problems
        raise ContractError(problems=problems) from None
    problems = find_problems(request, facts, is_checked=is_checked, is_stream=is_stream, is_written=True)
    if problems:
        raise ContractError(problems=problems)
    return payload


def find_problems(
    request: Request, facts: Sequence[SourceFacts], *, is_checked: bool, is_stream: bool, is_written: bool = False
) -> tuple[Problem, ...]:
    """Return the problems of a request; `is_checked=False` leaves those that this library cannot work around."""
    if is_checked:
        return check(request, facts, is_stream=is_stream, is_written=is_written)
    return (*check_label(request), *unreadable(facts))


def _payload(request: Request, sources: "Sequence[ExaminedSource]", *, is_stream: bool) -> Payload:
    """Return a form for uploads, and JSON otherwise."""
    path = PATHS[request.operation]
    references = [source.reference for source in sources if source.reference is not None]
    if isinstance(request, GenerateRequest) or (references and len(references) == len(sources)):
        content = encode(request, references, is_stream=is_stream)
        return Json(path, content)
    digests = [f"{source.facts.place} {source.upload.digest}" for source in sources if source.upload]
    return Form(
        path=path,
        fingerprint=fingerprint(encode(request), digests),
        fields=encode_form(request, is_stream=is_stream),
        files=tuple(_file(source) for source in sources if source.upload),
    )


def _file(source: "ExaminedSource") -> File:
    """Return a part of a form, under a name that does not reveal the caller's file name."""
    assert source.upload is not None  # noqa: S101 - checked by the caller
    place, picture = source.facts.place, source.facts.picture
    field = place.partition("[")[0]
    suffix = f".{picture.format}" if picture else ""
    return File(field, place, place.replace("[", "-").rstrip("]") + suffix, source.upload)


_ADVICE: Mapping[str, str] = {
    "input_fidelity": "is removed by the service for gpt-image-2; for other models, pass it in extra={...}",
    "stream": "is not a field: use session.stream(...)",
    "timeout": "is not a field: see Timeouts, PollPolicy and ImageTask.wait(timeout)",
    "timeout_s": "is not a field: see Timeouts, PollPolicy and ImageTask.wait(timeout)",
}


def _advice_on(name: str, names: Sequence[str]) -> str:
    if name in _ADVICE:
        return _ADVICE[name]
    from difflib import get_close_matches  # noqa: PLC0415 - for mistakes

    alike = get_close_matches(f"{name}_", names, n=1)
    guess = f" (did you mean {alike[0]}=?)" if alike else ""
    return f"is not a field of this version{guess}; pass unknown fields in extra={{...}}"
