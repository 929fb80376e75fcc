"""Models and files: from answers to data ("List models", OpenAI's file object)."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lemon_async._api.decoding import file_of, id_of, model_of
from lemon_async._api.refusals import api_error
from lemon_async._api.response import Response, Unreadable
from lemon_async.types import Model, StoredFile

__all__ = ["MOST_ENTRIES", "read_file", "read_files", "read_model", "read_models"]

Kind = TypeVar("Kind", Model, StoredFile)

MOST_ENTRIES = 1000
"""Of a longer list, the entries after these are not read: each takes several microseconds of the event loop."""


def read_models(response: Response) -> tuple[Model, ...]:
    """Return the models of a list; entries without an id are left out, and so are those after `MOST_ENTRIES`.

    Raises:
        ApiError: The service refused, or what came is no list.
    """
    return _many(response, model_of)


def read_model(response: Response) -> Model:
    """Return one model.

    Raises:
        ApiError: The service refused, or what came is no model.
    """
    return _one(response, model_of)


def read_files(response: Response) -> tuple[StoredFile, ...]:
    """Return the files of a list; entries without an id are left out, and so are those after `MOST_ENTRIES`.

    Raises:
        ApiError: The service refused, or what came is no list.
    """
    return _many(response, file_of)


def read_file(response: Response) -> StoredFile:
    """Return one file.

    Raises:
        ApiError: The service refused, or what came is no file.
    """
    return _one(response, file_of)


def _many(response: Response, read: Callable[[Mapping[str, Any]], Kind]) -> tuple[Kind, ...]:
    entries = _parsed(response, lambda parsed: parsed.get("data"), list)
    entries = entries[:MOST_ENTRIES]
    return tuple(read(entry) for entry in entries if isinstance(entry, Mapping) and id_of(entry.get("id")))


def _one(response: Response, read: Callable[[Mapping[str, Any]], Kind]) -> Kind:
    return read(_parsed(response, lambda parsed: id_of(parsed.get("id")) and parsed, Mapping))


def _parsed(response: Response, pick: Callable[[Mapping[str, Any]], Any], kind: type[Any]) -> Any:
    """Return what `pick` finds in a successful answer, or raise what the answer is instead."""
    if response.is_success:
        try:
            parsed = response.json()
        except Unreadable:
            raise api_error(response) from None
        found = pick(parsed) if isinstance(parsed, Mapping) else None
        if isinstance(found, kind):
            return found
    raise api_error(response)
