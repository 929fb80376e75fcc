"""Upload, list, read and delete the files that the service stores for a key. All of it is free."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from os import PathLike
from pathlib import Path
from typing import Any

import attrs

from lemon_async._api.error_responses import api_error
from lemon_async._api.models_and_files import MAX_ENTRIES, read_file, read_files
from lemon_async._api.response import Response
from lemon_async._api.source_rules import MAX_SOURCE_BYTES, check_upload
from lemon_async._formats.pictures import sniff
from lemon_async._http.calls import Calls, path_of
from lemon_async._images.atomic_file import alternatives, checked_target, has_suffix, suffix_of, write_file
from lemon_async._images.threads import on_disk
from lemon_async._uploads.preparation import File, Form
from lemon_async._uploads.sources import ExaminedSource, glance_at, is_reference, read_source
from lemon_async.errors import ContractError
from lemon_async.requests import Uploadable
from lemon_async.types import Problem, StoredFile

__all__ = ["Files"]

_FILES_PATH = "/v1/files"
_DEFAULT_MODEL = "gpt-image-2"
_MOST_PAGES = 1000
_MAX_CONTENT_BYTES = 2 * MAX_SOURCE_BYTES  # the service may store more than it accepts today


class Files:
    """The files that the service stores for a key: `LemonSession.files`. Nothing here costs money.

    Reads are retried after connection faults for up to `RetryPolicy.max_elapsed_s`. Every method raises
    `TransportError` if there is no response, and `ApiError` if the service refuses (`NotFound` for an unknown id).
    """

    def __init__(self, calls: Calls, check_usable: Callable[[], None], *, download_s: float) -> None:
        self._calls = calls
        self._download_s = download_s
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

        It is streamed from the disk, at most 50 MB. Costs nothing. After cancelling, or a `TransportError` whose
        `was_sent` is true, the file may have arrived; `list` shows whether it did.

        Args:
            file: A path, bytes, a binary file, an async iterable of bytes, or an `Image`.
            purpose: `vision` or `user_data`.
            model: The model whose edits will use it; the service's default is `gpt-image-2`.
            filename: By default the name of the file, or `file` with the suffix of its format.

        Raises:
            ContractError: It cannot be read, is empty or too large or, for `vision`, not a complete PNG, JPEG or WebP.
            PayloadTooLarge, BadRequest: The service refused it.
        """
        self._check_usable()
        if is_reference(file):
            raise ContractError.of("file", "is an address or an id: give a file or bytes to upload")
        with ExitStack() as held:
            picked = await read_source("file", file, held, MAX_SOURCE_BYTES)
            name = _name_of(file, picked) if filename is None else filename
            problems = check_upload(picked.facts, purpose=purpose, model=model, filename=name)
            if problems or picked.upload is None:
                raise ContractError(problems=tuple(problems))
            fields = {"purpose": purpose, **({} if model is None else {"model": model})}
            sent = File("file", "file", name, picked.upload)
            form = Form(_FILES_PATH, picked.upload.digest, fields, (sent,))
            stored = await self._calls.change("POST", _FILES_PATH, read_file, payload=form)
        return attrs.evolve(stored, model=stored.model or model or _DEFAULT_MODEL)

    @staticmethod
    def validate(
        path: str | PathLike[str], *, purpose: str = "vision", model: str | None = None
    ) -> tuple[Problem, ...]:
        """Return the problems of an upload without sending it; reads the beginning of the file, and blocks.

        Args:
            path: The file.
            purpose: As for `upload`.
            model: As for `upload`.
        """
        facts = glance_at("file", Path(path))
        return tuple(check_upload(facts, purpose=purpose, model=model, filename=Path(path).name))

    async def list(self, *, purpose: str | None = None) -> tuple[StoredFile, ...]:
        """Return all files, in the service's order. Costs nothing; cancelling stops the requests.

        Args:
            purpose: Return only files of this purpose.
        """
        self._check_usable()
        files: dict[str, StoredFile] = {}
        query = {} if purpose is None else {"purpose": purpose}
        for _ in range(_MOST_PAGES):
            page, has_more = await self._calls.read(_FILES_PATH, _read_page, query=query)
            known = len(files)
            files |= {file.id: file for file in page}
            if not has_more or len(files) == known:
                break
            query["after"] = page[-1].id
        return tuple(files.values())

    async def get(self, file: str | StoredFile) -> StoredFile:
        """Return the record of a file. Costs nothing; cancelling stops the request."""
        self._check_usable()
        return await self._calls.read(_file_path(file), read_file)

    async def content(self, file: str | StoredFile) -> bytes:
        """Return the bytes of a file, within `Timeouts.download_s`. Costs nothing; cancelling stops the download."""
        self._check_usable()
        path = f"{_file_path(file)}/content"
        return await self._calls.read(
            path, _read_content, total_s=self._download_s, max_bytes=_MAX_CONTENT_BYTES, is_file=True
        )

    async def save(self, file: str | StoredFile, path: str | PathLike[str], *, replace: bool = True) -> Path:
        """Write the bytes of a file to `path`, and return where they are; the new file appears whole or not at all.

        Costs nothing; cancelling leaves no file, except when its writing has begun: then that is finished first.

        Args:
            file: The file, or its id.
            path: A file's name; missing folders are made. A name without a suffix gets that of a picture's bytes.
            replace: Whether a file of that name is replaced; otherwise the bytes go to `NAME-2`, or `NAME-3`.

        Raises:
            ContractError: `path` names no file.
            SaveError: The folder is full or not writable, or the disk does not answer within `Timeouts.download_s`.
        """
        target = checked_target(path)
        content = await self.content(file)
        facts = sniff(content)
        if facts and not has_suffix(target):
            target = target.with_name(target.name + suffix_of(facts.format))
        others = alternatives(target, 2)
        return await on_disk(
            self._download_s, target, write_file, target, content, replace=replace, alternatives=others
        )

    async def delete(self, file: str | StoredFile) -> None:
        """Delete a file. Costs nothing; after cancelling it may have been deleted or not."""
        self._check_usable()
        await self._calls.change("DELETE", _file_path(file), _read_done)


def _read_page(response: Response) -> tuple[tuple[StoredFile, ...], bool]:
    files = read_files(response)
    listing = response.json()
    has_more = listing.get("has_more") is True or len(listing["data"]) > MAX_ENTRIES
    return files, len(files) > 0 and has_more


def _read_content(response: Response) -> bytes:
    if not response.is_success or response.fault:
        raise api_error(response)
    return response.body


def _read_done(response: Response) -> None:
    if not response.is_success:
        raise api_error(response)


def _file_path(file: str | StoredFile) -> str:
    return path_of(_FILES_PATH, file=file.id if isinstance(file, StoredFile) else file)


def _name_of(file: Any, picked: ExaminedSource) -> str:
    """Return the name of a file, without its folders, which are private to the caller."""
    with suppress(Exception):  # `name` may be a property that raises
        path = file if isinstance(file, str | PathLike) else getattr(file, "name", None)
        if isinstance(path, str | PathLike) and (name := Path(path).name):
            return name
    kind = picked.facts.picture
    return f"file.{kind.format}" if kind else "file"
