"""Between the service's JSON and our data.

Reading is liberal, because a paid result must not be lost to an odd optional field: what is of an unexpected type
counts as missing. Fields and their types are those of the pages "Create image", "Get image status", "List models" and
OpenAI's file object.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from lemon_async._formats.base64_text import decoded, decoded_url
from lemon_async._formats.pictures import sniff
from lemon_async._formats.safe_text import one_line
from lemon_async.requests import EditRequest, GenerateRequest, VariationRequest
from lemon_async.types import ImageData, Inline, Model, StoredFile, TaskFault

__all__ = ["converter", "facts_of", "fault_of", "file_of", "id_of", "image_of", "model_of", "text_of"]

_MOST_IMAGES = 100  # ten can be asked for
_LONGEST_WORD = 64
_LONGEST_SCHEME = 16
_NOTHING: Mapping[str, Inline] = {}


def text_of(value: object) -> str | None:
    """Return text that is not empty."""
    return value if isinstance(value, str) and value else None


def _word(value: object) -> str:
    return (one_line(value) or "")[:_LONGEST_WORD]


def id_of(value: object) -> str | None:
    """Return text that can be an id: not empty, on one line."""
    return value if isinstance(value, str) and value and value.isprintable() else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _number(value: object) -> float | None:
    """A number, or text that begins with one, as in "45%"."""
    if isinstance(value, str):
        try:
            value = float(value.strip().rstrip("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**12:
        return None
    return float(value)


def _images(value: object, lifted: Mapping[str, Inline]) -> tuple[ImageData, ...]:
    if not isinstance(value, list):
        return ()
    images = (image_of(entry, lifted) for entry in value[:_MOST_IMAGES] if isinstance(entry, Mapping))
    return tuple(image for image in images if image.is_usable)


def image_of(entry: Mapping[str, Any], lifted: Mapping[str, Inline] = _NOTHING) -> ImageData:
    """Read an entry of `data`, usable or not; pictures that were lifted out of it are found in `lifted`.

    Some gateways put base64 into `url`, with a `data:` prefix or bare, or the prefix before `b64_json`. Both a link and
    base64 are kept.
    """
    link, text = text_of(entry.get("url")), text_of(entry.get("b64_json"))
    inline = None if text is None else lifted.get(text) or decoded_url(text) or decoded(text)
    if link is not None and (held := lifted.get(link) or decoded_url(link) or _bare_picture(link)):
        link, inline = None, inline or held
    if inline is not None and inline.content == b"":
        inline = None
    return ImageData(link, inline, text_of(entry.get("revised_prompt")))


def _bare_picture(link: str) -> Inline | None:
    """Return the picture in what should be a link, and is base64."""
    if ":" in link[:_LONGEST_SCHEME]:
        return None
    inline = decoded(link)
    return inline if inline.content is not None and sniff(inline.content) is not None else None


def facts_of(answer: Mapping[str, Any], lifted: Mapping[str, Inline] = _NOTHING) -> dict[str, Any]:
    """Return the fields of a `TaskSnapshot` that an answer about a job has, apart from those about money.

    Written by hand, because every answer passes here: generated code takes twice as long.
    """
    return {
        "status": _word(answer.get("status")),
        "task_id": id_of(answer.get("task_id")),
        "poll_url": text_of(answer.get("poll_url")),
        "images": _images(answer.get("data"), lifted),
        "created": _whole(answer.get("created")),
        "model": text_of(answer.get("model")),
        "progress": _number(answer.get("progress")),
        "fault": fault_of(answer.get("error")),
        "is_cancelled": answer.get("cancelled") is True,
    }


def fault_of(value: object) -> TaskFault | None:
    """A failed task's `error` is a string on one page and an object on another; both read the same."""
    if isinstance(value, Mapping):
        code = one_line(value.get("code"))
        message = one_line(value.get("message")) or code
    else:
        code, message = None, one_line(value)
    return TaskFault(message, code) if message else None


def model_of(entry: Mapping[str, Any]) -> Model:
    """Read a model of the catalogue that has an id; likewise."""
    lemondata = entry.get("lemondata")
    return Model(
        entry["id"],
        created=_whole(entry.get("created")),
        owned_by=text_of(entry.get("owned_by")),
        lemondata=lemondata if isinstance(lemondata, Mapping) else {},
        raw=entry,
    )


def file_of(entry: Mapping[str, Any]) -> StoredFile:
    """Read a stored file that has an id; likewise."""
    return StoredFile(
        entry["id"],
        filename=text_of(entry.get("filename")),
        size_bytes=_whole(entry.get("bytes")),
        purpose=text_of(entry.get("purpose")),
        created_at=_whole(entry.get("created_at")),
        status=text_of(entry.get("status")),
        model=text_of(entry.get("model")),
        raw=entry,
    )


@cache
def converter() -> cattrs.Converter:
    """Return the converter of requests; built at first use, because generating its code would slow down the import."""
    made = cattrs.Converter(detailed_validation=False)
    for request in (GenerateRequest, EditRequest, VariationRequest):
        special: dict[str, Any] = {"async_": override(rename="async")}
        special |= {name: override(omit=True) for name in ("image", "mask", "label", "extra")}
        own = {name: rule for name, rule in special.items() if name in attrs.fields_dict(request)}
        made.register_unstructure_hook(
            request, make_dict_unstructure_fn(request, made, _cattrs_omit_if_default=True, **own)
        )
    return made
