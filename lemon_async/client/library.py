"""What the service keeps and knows beside jobs: the files of a key, and the catalogue of models. Nothing here costs."""

from collections.abc import AsyncIterable, Callable
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlencode

import attrs

from lemon_async.api.catalogue import read_file, read_files, read_model, read_models
from lemon_async.api.errors import ContractError, Problem
from lemon_async.api.fields import RULES
from lemon_async.api.models import Model, StoredFile
from lemon_async.api.refusals import api_error
from lemon_async.api.requests import AsyncFile
from lemon_async.api.response import Response
from lemon_async.api.sources import MAX_SOURCE_BYTES, SourceFacts
from lemon_async.api.urls import one_segment
from lemon_async.client.calls import Calls
from lemon_async.client.image import Image
from lemon_async.client.payload import File, Form
from lemon_async.client.sources import Picked, take_in

__all__ = ["Files", "Uploadable", "find_models", "find_upload_problems", "get_model"]

Uploadable = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO | AsyncFile | AsyncIterable[bytes] | Image
"""What has bytes: a path, bytes, a binary file, an async iterable of bytes, or an `Image`."""

_FILES_PATH = "/v1/files"
_MODELS_PATH = "/v1/models"
_DEFAULT_MODEL = "gpt-image-2"
_PURPOSES = ("vision", "user_data")
_FORMATS = ("png", "jpeg", "webp")
_MOST_PAGES = 1000


class Files:
    """The files that the service keeps for a key; `LemonSession.files`. Nothing here costs money.

    A GET is repeated after faults of the way, as long as `RetryPolicy.max_elapsed_s` allows. Every method raises
    `TransportError` when no answer came, and `ApiError` (`NotFound` for an id that is not this key's) when the service
    refused.
    """

    def __init__(self, calls: Calls, check_usable: Callable[[], None]) -> None:
        self._calls = calls
        self._check_usable = check_usable

    async def upload(
        self,
        file: Uploadable,
        /,
        *,
        purpose: str = "vision",
        model: str | None = None,
        filename: str | None = None,
    ) -> StoredFile:
        """Upload a picture, so that edits can refer to it: `session.edit(..., image=stored, model=stored.model)`.

        It is streamed from the disk, at most 50 MB. Costs nothing. Cancelling, or a `TransportError`, leaves open
        whether it arrived; `list` tells.

        Args:
            file: A path, bytes, a binary file, an async iterable of bytes, or an `Image`.
            purpose: `vision` or `user_data`.
            model: The model whose edits will use it; the service's default is `gpt-image-2`.
            filename: By default the name of the file, or `file` and what its bytes are.

        Raises:
            ContractError: It cannot be read, is empty, too large or, for `vision`, no whole PNG, JPEG or WebP.
            PayloadTooLarge, BadRequest: The service refused it.
        """
        self._check_usable()
        with ExitStack() as held:
            picked = await take_in("file", file, held, MAX_SOURCE_BYTES)
            name = _name_of(file, picked) if filename is None else filename
            problems = find_upload_problems(picked.facts, purpose=purpose, model=model, filename=name)
            if problems or picked.upload is None:
                raise ContractError(problems=tuple(problems))
            kind = picked.facts.picture
            content_type = f"image/{kind.format}" if kind else "application/octet-stream"
            fields = {"purpose": purpose, **({} if model is None else {"model": model})}
            sent = File("file", "file", name, content_type, picked.upload)
            form = Form(_FILES_PATH, picked.upload.digest, fields, (sent,))
            stored = await self._calls.change("POST", _FILES_PATH, read_file, payload=form)
        return attrs.evolve(stored, model=stored.model or model or _DEFAULT_MODEL)

    async def list(self, *, purpose: str | None = None) -> tuple[StoredFile, ...]:
        """Return all files, page by page, in the service's order. Costs nothing; cancelling stops the asking.

        Args:
            purpose: Only those of this purpose.
        """
        self._check_usable()
        files: dict[str, StoredFile] = {}
        query = {} if purpose is None else {"purpose": purpose}
        for _ in range(_MOST_PAGES):
            page, has_more = await self._calls.read(_with_query(_FILES_PATH, query), _read_page)
            known = len(files)
            files |= {file.id: file for file in page}
            if not has_more or len(files) == known:
                break
            query["after"] = page[-1].id
        return tuple(files.values())

    async def get(self, file: str | StoredFile) -> StoredFile:
        """Return what the service says of a file. Costs nothing; cancelling stops the asking."""
        self._check_usable()
        return await self._calls.read(_file_path(file), read_file)

    async def content(self, file: str | StoredFile) -> bytes:
        """Return the bytes of a file. Costs nothing; cancelling stops the download."""
        self._check_usable()
        path = f"{_file_path(file)}/content"
        return await self._calls.read(path, _read_content, max_bytes=2 * MAX_SOURCE_BYTES)

    async def delete(self, file: str | StoredFile) -> None:
        """Delete a file; it can then no longer be edited. Costs nothing; cancelling leaves open whether it was."""
        self._check_usable()
        await self._calls.change("DELETE", _file_path(file), _read_done)


async def find_models(calls: Calls, **filters: str | None) -> tuple[Model, ...]:
    """Return the models that all filters let through; see `LemonSession.models`."""
    query = {name: value for name, value in filters.items() if value is not None}
    return await calls.read(_with_query(_MODELS_PATH, query), read_models)


async def get_model(calls: Calls, model: str) -> Model:
    """Return one model; see `LemonSession.model`."""
    return await calls.read(f"{_MODELS_PATH}/{_segment('model', model)}", read_model)


def _read_page(response: Response) -> tuple[tuple[StoredFile, ...], bool]:
    files = read_files(response)
    return files, len(files) > 0 and response.json().get("has_more") is True


def _read_content(response: Response) -> bytes:
    if not response.is_success:
        raise api_error(response)
    return response.body


def _read_done(response: Response) -> None:
    if not response.is_success:
        raise api_error(response)


def _with_query(path: str, query: dict[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _file_path(file: str | StoredFile) -> str:
    return f"{_FILES_PATH}/{_segment('file', file.id if isinstance(file, StoredFile) else file)}"


def _segment(what: str, word: str) -> str:
    try:
        return one_segment(word)
    except (ValueError, TypeError) as fault:
        raise ContractError(problems=(Problem(what, f"cannot be an id: {fault}"),)) from None


def _name_of(file: Any, picked: Picked) -> str:
    """Name a file as it is called; only the last part, because folders tell about the caller."""
    path = file if isinstance(file, str | PathLike) else getattr(file, "name", None)
    if isinstance(path, str | PathLike) and Path(path).name:
        return Path(path).name
    kind = picked.facts.picture
    return f"file.{kind.format}" if kind else "file"


def find_upload_problems(facts: SourceFacts, *, purpose: str, model: str | None, filename: str) -> list[Problem]:
    """Return everything that is wrong with an upload; see `Files.upload`."""
    problems = []
    is_seen = purpose == "vision"
    if facts.fault and (is_seen or not facts.is_readable or not facts.size_bytes):
        problems.append(Problem("file", facts.fault))
    elif is_seen and facts.picture is not None and facts.picture.format not in _FORMATS:
        problems.append(Problem("file", f"is {facts.picture.format.upper()}; PNG, JPEG or WebP are taken"))
    if facts.size_bytes is not None and facts.size_bytes > MAX_SOURCE_BYTES:
        problems.append(Problem("file", f"has {facts.size_bytes:,} bytes; at most {MAX_SOURCE_BYTES:,} are taken"))
    if purpose not in _PURPOSES:
        problems.append(Problem("purpose", f"must be one of {', '.join(_PURPOSES)}, not {purpose!r}"))
    for name, value in (("model", model), ("filename", filename)):
        fault = None if value is None else RULES["model"](value)
        if fault:
            problems.append(Problem(name, fault))
    return problems
