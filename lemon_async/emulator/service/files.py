"""Files that clients upload to name them later; after OpenAI's Files API."""

import math
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import IO, Any

from attrs import frozen

from lemon_async.emulator.clock import Clock
from lemon_async.emulator.pictures.blob_store import BlobStore
from lemon_async.emulator.pictures.picture import CONTENT_TYPES, InvalidImage, SourceImage
from lemon_async.emulator.pictures.renderer import Renderer
from lemon_async.emulator.service.field_checks import Check, integer, one_of
from lemon_async.emulator.service.job_spec import unknown_model
from lemon_async.emulator.service.messages import Call, Reply, json_reply
from lemon_async.emulator.service.model_families import family_of
from lemon_async.emulator.service_errors import FieldError, ServiceError, excerpt

DEFAULT_FILE_MODEL = "gpt-image-2"
PURPOSES = ("vision", "user_data")
MAX_PAGE = 10_000

ORDERS = ("asc", "desc")

_EXPIRY_SECONDS = "expires_after[seconds]"
# Both or neither, as in OpenAI's API: from an hour to 30 days.
EXPIRY: Mapping[str, Check] = {
    "expires_after[anchor]": one_of("created_at"),
    _EXPIRY_SECONDS: integer(3600, 2_592_000),
}


@frozen
class StoredFile:
    """An uploaded file; it belongs to a key, and to the model that its upload named.

    It expires `lifetime_s` after `created`: in Unix time for clients, `expires_at_s` on the emulated clock.
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
        """OpenAI's file object."""
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
    """The endpoints under `/v1/files`, and what they know."""

    def __init__(self, blobs: BlobStore, renderer: Renderer, clock: Clock, seed: int) -> None:
        self._blobs = blobs
        self._renderer = renderer
        self._clock = clock
        self._random = Random(f"{seed}:files")  # noqa: S311 - reproducible, no secret
        self._files: dict[str, StoredFile] = {}

    def clear(self) -> None:
        """Forget every file."""
        self._files.clear()

    async def store(self, file: IO[bytes], param: str) -> SourceImage:
        """Store a picture that a client sent and decode it once; the caller may close the file afterwards.

        Raises:
            ServiceError: 400, the file cannot be used as a picture.
        """
        try:
            return await self._renderer.inspect(await self._renderer.run(self._blobs.add, file))
        except InvalidImage as error:
            raise ServiceError.of([FieldError(param, str(error), "invalid_image")]) from error

    def source(self, file_id: str, *, key: str, model: str, param: str) -> SourceImage:
        """The picture behind a `file_id` of an edit.

        Raises:
            ServiceError: 404 no such file for this key, 400 it was uploaded for another model.
        """
        file = self._of(file_id, key, param)
        if file.model != model:
            message = (
                f"{param}: the file was uploaded for {excerpt(file.model)} and cannot be used with {excerpt(model)}"
            )
            raise ServiceError(400, message=message, param=param)
        return file.source

    async def create(self, call: Call) -> Reply:
        """Take a file."""
        upload = next((upload for upload in call.uploads if upload.name == "file"), None)
        purpose, model = call.body.get("purpose"), call.body.get("model", DEFAULT_FILE_MODEL)
        field_errors = []
        if upload is None:
            field_errors.append(FieldError("file", "is required, as a file", "missing"))
        if purpose not in PURPOSES:
            field_errors.append(FieldError("purpose", f"must be one of {', '.join(PURPOSES)}"))
        field_errors.extend(_expiry_errors(call.body))
        if upload is None or field_errors:
            raise ServiceError.of(field_errors)
        _check_model(model)
        lifetime_s = call.body.get(_EXPIRY_SECONDS)
        file = StoredFile(
            id=f"file-{self._random.getrandbits(96):024x}",
            key=call.key,
            model=model,
            purpose=str(purpose),
            filename=upload.filename,
            created=int(self._clock.unix()),
            source=await self.store(upload.file, "file"),
            lifetime_s=lifetime_s,
            expires_at_s=math.inf if lifetime_s is None else self._clock.now() + lifetime_s,
        )
        self._forget_expired()
        self._files[file.id] = file
        return json_reply(file.as_json())

    async def list(self, call: Call) -> Reply:
        """The files of a key, newest first unless asked otherwise."""
        limit, order = _limit(call.query.get("limit")), call.query.get("order", "desc")
        if order not in ORDERS:
            raise ServiceError.of([FieldError("order", f"must be one of {', '.join(ORDERS)}")])
        purpose = call.query.get("purpose")
        self._forget_expired()
        files = [file for file in self._files.values() if file.key == call.key and purpose in (None, file.purpose)]
        if order == "desc":
            files.reverse()
        rest = _after(files, call.query.get("after"))
        page = [file.as_json() for file in rest[:limit]]
        answer = {"object": "list", "data": page, "has_more": len(rest) > limit}
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return json_reply(answer | ends)

    async def show(self, call: Call) -> Reply:
        """One file."""
        return json_reply(self._of(call.args["id"], call.key).as_json())

    async def read(self, call: Call) -> Reply:
        """The bytes of a file."""
        source = self._of(call.args["id"], call.key).source
        return Reply(200, await self._renderer.run(_bytes_of, source), CONTENT_TYPES[source.format])

    async def delete(self, call: Call) -> Reply:
        """Forget a file; orders that were sold keep what they need."""
        file = self._of(call.args["id"], call.key)
        del self._files[file.id]
        return json_reply({"id": file.id, "object": "file", "deleted": True})

    def _forget_expired(self) -> None:
        now = self._clock.now()
        for file_id in [id_ for id_, file in self._files.items() if now >= file.expires_at_s]:
            del self._files[file_id]

    def _of(self, file_id: str, key: str, param: str = "id") -> StoredFile:
        file = self._files.get(file_id)
        if file is None or file.key != key or self._clock.now() >= file.expires_at_s:
            raise ServiceError(404, "file_not_found", f"No such File object: {excerpt(file_id)}", param)
        return file


def _check_model(model: str) -> None:
    family = family_of(model)
    if family is None:
        raise unknown_model(model, status=400)
    if "edit" not in family.operations:
        raise ServiceError.of([FieldError("model", f"{excerpt(model)} takes no files")])


def _expiry_errors(body: Mapping[str, Any]) -> Iterator[FieldError]:
    if not any(name in body for name in EXPIRY):
        return
    for name, check in EXPIRY.items():
        wrong = check(body.get(name))
        if wrong:
            yield FieldError(name, wrong)


def _limit(text: str | None) -> int:
    if text is None:
        return MAX_PAGE
    # ASCII digits only, and few of them: int() would take other scripts, and choke on thousands.
    if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_PAGE)) and 1 <= int(text) <= MAX_PAGE:
        return int(text)
    raise ServiceError.of([FieldError("limit", f"must be an integer from 1 to {MAX_PAGE}")])


def _after(files: Sequence[StoredFile], file_id: str | None) -> Sequence[StoredFile]:
    """The files behind the one that ended the page before."""
    if file_id is None:
        return files
    ids = [file.id for file in files]
    if file_id not in ids:
        raise ServiceError.of([FieldError("after", f"No such File object: {excerpt(file_id)}")])
    return files[ids.index(file_id) + 1 :]


def _bytes_of(source: SourceImage) -> bytes:
    with open(source.blob.path, "rb") as file:  # noqa: PTH123 - paths of the vault are strings
        return file.read()
