"""The endpoints under `/v1/files`, after OpenAI's Files API: upload a picture now, edit it later."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import IO, Any

from attrs import frozen

from lemon_async.emulator.clock import Clock
from lemon_async.emulator.pictures.blob_store import BlobStore
from lemon_async.emulator.pictures.picture import CONTENT_TYPES, InvalidImage, SourceImage
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.field_checks import Check, integer, one_of
from lemon_async.emulator.service.job_spec import known_family
from lemon_async.emulator.service.messages import Call, Reply, json_reply
from lemon_async.emulator.service_errors import FieldError, ServiceError, excerpt

DEFAULT_FILE_MODEL = "gpt-image-2"
PURPOSES = ("vision", "user_data")
MAX_PAGE = 10_000

SORT_ORDERS = ("asc", "desc")

_EXPIRY_SECONDS = "expires_after[seconds]"
# Both or neither, as in OpenAI's API: from an hour to 30 days.
EXPIRY: Mapping[str, Check] = {
    "expires_after[anchor]": one_of("created_at"),
    _EXPIRY_SECONDS: integer(3600, 2_592_000),
}


@frozen
class StoredFile:
    """An uploaded file; only its key may use it, and only with the model named in the upload.

    It expires at `expires_at_s` on the emulated clock; clients are shown `lifetime_s` after `created`, in Unix time.
    """

    id: str
    key: str
    model: str
    purpose: str
    filename: str
    created: int
    source: SourceImage
    lifetime_s: int | None = None
    expires_at_s: float = math.inf

    def as_json(self) -> dict[str, Any]:
        """Return OpenAI's file object."""
        expiry = {} if self.lifetime_s is None else {"expires_at": self.created + self.lifetime_s}
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.source.blob.size_bytes,
            "created_at": self.created,
            **expiry,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class Files:
    """The uploaded files and their endpoints."""

    def __init__(self, blobs: BlobStore, renderer: Renderer, clock: Clock, seed: int) -> None:
        self._blobs = blobs
        self._renderer = renderer
        self._clock = clock
        self._random = Random(f"{seed}:files")  # noqa: S311 - reproducible, no secret
        self._files: dict[str, StoredFile] = {}

    def clear(self) -> None:
        """Drop every file."""
        self._files.clear()

    async def store(self, file: IO[bytes], param: str) -> SourceImage:
        """Store a picture that a client sent and decode it once; the caller may close the file afterwards.

        Raises:
            ServiceError: 400, the file cannot be used as a picture.
        """
        try:
            return await self._renderer.inspect(await self._renderer.run(self._blobs.add, file))
        except InvalidImage as error:
            raise ServiceError.invalid(FieldError(param, str(error), "invalid_image")) from error

    def find_source(self, file_id: str, *, key: str, model: str, param: str) -> SourceImage:
        """Return the picture behind a `file_id` of an edit.

        Raises:
            ServiceError: 404 this key has no such file, 400 it was uploaded for another model.
        """
        file = self._find(file_id, key, param)
        if file.model != model:
            models = f"{excerpt(file.model)} and cannot be used with {excerpt(model)}"
            message = f"{param}: the file was uploaded for {models}"
            raise ServiceError(400, message=message, param=param)
        return file.source

    async def create(self, call: Call) -> Reply:
        """Store an uploaded file."""
        upload = next((upload for upload in call.uploads if upload.name == "file"), None)
        model = call.body.get("model", DEFAULT_FILE_MODEL)
        errors = list(_field_errors(call.body))
        if upload is None:
            raise ServiceError.invalid(FieldError("file", "is required, as a file", "missing"), *errors)
        if errors:
            raise ServiceError.invalid(*errors)
        if "edit" not in known_family(model).operations:
            raise ServiceError.invalid(FieldError("model", f"{excerpt(model)} takes no files"))
        lifetime_s = call.body.get(_EXPIRY_SECONDS)
        file = StoredFile(
            id=f"file-{self._random.getrandbits(96):024x}",
            key=call.key,
            model=model,
            purpose=call.body["purpose"],
            filename=upload.filename,
            created=int(self._clock.unix()),
            source=await self.store(upload.file, "file"),
            lifetime_s=lifetime_s,
            expires_at_s=math.inf if lifetime_s is None else self._clock.now() + lifetime_s,
        )
        self._drop_expired()
        self._files[file.id] = file
        return json_reply(file.as_json())

    async def list(self, call: Call) -> Reply:
        """Return the files of a key, by default newest first."""
        limit, order = _limit(call.query.get("limit", str(MAX_PAGE))), call.query.get("order", "desc")
        if order not in SORT_ORDERS:
            raise ServiceError.invalid(FieldError("order", f"must be one of {', '.join(SORT_ORDERS)}"))
        purpose = call.query.get("purpose")
        self._drop_expired()
        files = [file for file in self._files.values() if file.key == call.key and purpose in (None, file.purpose)]
        if order == "desc":
            files.reverse()
        rest = _after(files, call.query.get("after"))
        page = [file.as_json() for file in rest[:limit]]
        return json_reply(
            {
                "object": "list",
                "data": page,
                "has_more": len(rest) > limit,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
            }
        )

    async def show(self, call: Call) -> Reply:
        """Return one file object."""
        return json_reply(self._find(call.args["id"], call.key).as_json())

    async def read(self, call: Call) -> Reply:
        """Return the bytes of a file."""
        source = self._find(call.args["id"], call.key).source
        content = await self._renderer.run(Path.read_bytes, Path(source.blob.path))
        return Reply(200, content, CONTENT_TYPES[source.format])

    async def delete(self, call: Call) -> Reply:
        """Delete a file; accepted jobs keep their sources."""
        file = self._find(call.args["id"], call.key)
        del self._files[file.id]
        return json_reply({"id": file.id, "object": "file", "deleted": True})

    def _drop_expired(self) -> None:
        now = self._clock.now()
        for file_id in [id_ for id_, file in self._files.items() if now >= file.expires_at_s]:
            del self._files[file_id]

    def _find(self, file_id: str, key: str, param: str = "id") -> StoredFile:
        file = self._files.get(file_id)
        if file is None or file.key != key or self._clock.now() >= file.expires_at_s:
            raise ServiceError(404, "file_not_found", f"No such File object: {excerpt(file_id)}", param)
        return file


def _field_errors(body: Mapping[str, Any]) -> Iterator[FieldError]:
    checks = {"purpose": one_of(*PURPOSES), **(EXPIRY if any(name in body for name in EXPIRY) else {})}
    for name, check in checks.items():
        message = check(body.get(name))
        if message:
            yield FieldError(name, message)


def _limit(text: str) -> int:
    # int() would accept digits of other scripts, and is slow with thousands of them.
    if re.fullmatch(r"[0-9]{1,5}", text) and 1 <= int(text) <= MAX_PAGE:
        return int(text)
    raise ServiceError.invalid(FieldError("limit", f"must be an integer from 1 to {MAX_PAGE}"))


def _after(files: Sequence[StoredFile], file_id: str | None) -> Sequence[StoredFile]:
    """Return the files after the last one of the previous page."""
    if file_id is None:
        return files
    ids = [file.id for file in files]
    if file_id not in ids:
        raise ServiceError.invalid(FieldError("after", f"No such File object: {excerpt(file_id)}"))
    return files[ids.index(file_id) + 1 :]
