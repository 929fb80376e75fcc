"""Read fields of the service's JSON as typed values.

Reading is lenient, because a paid result must not be lost to an odd optional field: a value of an unexpected type
counts as missing. The fields and their types are those of "Create image" and "Get image status".
"""

from collections.abc import Mapping
from typing import Any

from lemon_async._formats.base64_text import decode_base64, decode_data_url
from lemon_async._formats.pictures import sniff
from lemon_async._formats.safe_text import one_line
from lemon_async.types import ImageData, Inline, TaskFault

__all__ = ["fault_of", "id_of", "number_of", "read_image", "snapshot_fields", "text_of", "whole_of"]

_MAX_IMAGES = 100  # ten can be requested
_LONGEST_STATUS = 64
_LONGEST_SCHEME = 16
_NOTHING: Mapping[str, Inline] = {}


def text_of(value: object) -> str | None:
    """Return text that is not empty."""
    return value if isinstance(value, str) and value else None


def id_of(value: object) -> str | None:
    """Return text that can be an id: not empty, on one line."""
    return value if isinstance(value, str) and value and value.isprintable() else None


def whole_of(value: object) -> int | None:
    """Return a number, or text that is one, without its fraction."""
    number = number_of(value)
    return None if number is None else int(number)


def number_of(value: object) -> float | None:
    """Return a number, or text that is one, also with a per cent sign."""
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**12:
        return None
    return float(value)


def _images(value: object, pictures: Mapping[str, Inline]) -> tuple[ImageData, ...]:
    if not isinstance(value, list):
        return ()
    images = (read_image(entry, pictures) for entry in value[:_MAX_IMAGES] if isinstance(entry, Mapping))
    return tuple(image for image in images if image.is_usable)


def read_image(entry: Mapping[str, Any], pictures: Mapping[str, Inline] = _NOTHING) -> ImageData:
    """Read an entry of `data`, usable or not; `pictures` holds those that were taken out of the JSON.

    Some gateways put base64 into `url`, bare or as a `data:` URL, or put a `data:` URL into `b64_json`. An entry with a
    link and base64 keeps both.
    """
    link, text = text_of(entry.get("url")), text_of(entry.get("b64_json"))
    inline = None if text is None else pictures.get(text) or decode_data_url(text) or decode_base64(text)
    if link is not None and (held := pictures.get(link) or decode_data_url(link) or _bare_picture(link)):
        link, inline = None, inline or held
    if inline is not None and inline.content == b"":
        inline = None
    return ImageData(link, inline, text_of(entry.get("revised_prompt")))


def _bare_picture(link: str) -> Inline | None:
    """Return the picture in a "link" that is really base64."""
    if ":" in link[:_LONGEST_SCHEME]:
        return None
    inline = decode_base64(link)
    return inline if inline.content is not None and sniff(inline.content) is not None else None


def snapshot_fields(answer: Mapping[str, Any], pictures: Mapping[str, Inline] = _NOTHING) -> dict[str, Any]:
    """Return the fields of a `TaskSnapshot` except `billing`.

    Written by hand, because every answer about a job passes here, and generated code takes twice as long.
    """
    return {
        "status": (one_line(answer.get("status")) or "")[:_LONGEST_STATUS],
        "task_id": id_of(answer.get("task_id")),
        "poll_url": text_of(answer.get("poll_url")),
        "images": _images(answer.get("data"), pictures),
        "created": whole_of(answer.get("created")),
        "model": text_of(answer.get("model")),
        "progress": number_of(answer.get("progress")),
        "fault": fault_of(answer.get("error")),
        "is_cancelled": answer.get("cancelled") is True,
    }


def fault_of(value: object) -> TaskFault | None:
    """Read a failed task's `error`, which is a string on one page and an object on another."""
    if isinstance(value, Mapping):
        code = one_line(value.get("code"))
        message = one_line(value.get("message")) or code
    else:
        code, message = None, one_line(value)
    return TaskFault(message, code) if message else None
