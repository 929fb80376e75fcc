"""Read responses about models and stored files ("List models", OpenAI's file object)."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lemon_async._api.error_responses import api_error
from lemon_async._api.response import Response, Unreadable, id_of, text_of, whole_of
from lemon_async.types import Model, StoredFile

__all__ = ["MAX_ENTRIES", "read_file", "read_files", "read_model", "read_models"]

Kind = TypeVar("Kind", Model, StoredFile)

MAX_ENTRIES = 1000
"""Further entries of a list are not read: each holds up the event loop for several microseconds."""


def read_models(response: Response) -> tuple[Model, ...]:
    """Return the models of a list: the first `MAX_ENTRIES` entries, except those without an id.

    Raises:
        ApiError: The service refused, or the response is not a list.
    """
    return _many(response, _model)


def read_model(response: Response) -> Model:
    """Return one model.

    Raises:
        ApiError: The service refused, or the response is not a model.
    """
    return _one(response, _model)


def read_files(response: Response) -> tuple[StoredFile, ...]:
    """Return the files of a list: the first `MAX_ENTRIES` entries, except those without an id.

    Raises:
        ApiError: The service refused, or the response is not a list.
    """
    return _many(response, _file)


def read_file(response: Response) -> StoredFile:
    """Return one file.

    Raises:
        ApiError: The service refused, or the response is not a file.
    """
    return _one(response, _file)


def _model(entry: Mapping[str, Any]) -> Model:
    lemondata = entry.get("lemondata")
    return Model(
        entry["id"],
        created=whole_of(entry.get("created")),
        owned_by=text_of(entry.get("owned_by")),
        lemondata=lemondata if isinstance(lemondata, Mapping) else {},
        raw=entry,
    )


def _file(entry: Mapping[str, Any]) -> StoredFile:
    return StoredFile(
        entry["id"],
        filename=text_of(entry.get("filename")),
        size_bytes=whole_of(entry.get("bytes")),
        purpose=text_of(entry.get("purpose")),
        created_at=whole_of(entry.get("created_at")),
        status=text_of(entry.get("status")),
        model=text_of(entry.get("model")),
        raw=entry,
    )


def _many(response: Response, read: Callable[[Mapping[str, Any]], Kind]) -> tuple[Kind, ...]:
    entries = _parsed(response, lambda parsed: parsed.get("data"), list)[:MAX_ENTRIES]
    return tuple(read(entry) for entry in entries if isinstance(entry, Mapping) and id_of(entry.get("id")))


def _one(response: Response, read: Callable[[Mapping[str, Any]], Kind]) -> Kind:
    return read(_parsed(response, lambda parsed: id_of(parsed.get("id")) and parsed, Mapping))


def _parsed(response: Response, pick: Callable[[Mapping[str, Any]], Any], kind: type[Any]) -> Any:
    """Return the part of a successful response that `pick` selects, or raise the response as an error."""
    if response.is_success:
        try:
            parsed = response.json()
        except Unreadable:
            raise api_error(response) from None
        found = pick(parsed) if isinstance(parsed, Mapping) else None
        if isinstance(found, kind):
            return found
    raise api_error(response)
