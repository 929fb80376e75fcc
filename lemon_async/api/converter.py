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
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from lemon_async.api.models import ImageData, Model, StoredFile, TaskFault
from lemon_async.api.requests import EditRequest, GenerateRequest, VariationRequest
from lemon_async.api.response import one_line

__all__ = ["converter", "facts_of", "fault_of", "id_of", "image_of", "text_of"]

_MOST_IMAGES = 100  # ten can be asked for
_LONGEST_WORD = 64


def text_of(value: object, _: type[Any] | None = None) -> str | None:
    """Return text that is not empty."""
    return value if isinstance(value, str) and value else None


def _word(value: object) -> str:
    return (one_line(value) or "")[:_LONGEST_WORD]


def id_of(value: object, _: type[Any] | None = None) -> str | None:
    """Return text that can be an id: not empty, on one line."""
    return value if isinstance(value, str) and value and value.isprintable() else None


def _whole(value: object, _: type[Any] | None = None) -> int | None:
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


def _object(value: object, _: type[Any]) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _images(value: object) -> tuple[ImageData, ...]:
    if not isinstance(value, list):
        return ()
    images = (image_of(entry) for entry in value[:_MOST_IMAGES] if isinstance(entry, Mapping))
    return tuple(image for image in images if image.is_usable)


def image_of(entry: Mapping[str, Any]) -> ImageData:
    """Read an entry of `data`, usable or not.

    Some gateways put base64 into `url`, or a `data:` prefix before `b64_json`.
    """
    url, b64_json = text_of(entry.get("url")), text_of(entry.get("b64_json"))
    for text in (b64_json, url):
        if text is not None and text.startswith("data:"):
            head, comma, _ = text[:100].partition(",")
            if comma and head.endswith(";base64"):
                url, b64_json = None, text[len(head) + 1 :]
                break
    return ImageData(url, b64_json, text_of(entry.get("revised_prompt")))


def facts_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a `TaskSnapshot` that an answer about a job has, apart from those about money.

    Written by hand, because every answer passes here: generated code takes twice as long.
    """
    return {
        "status": _word(answer.get("status")),
        "task_id": id_of(answer.get("task_id")),
        "poll_url": text_of(answer.get("poll_url")),
        "images": _images(answer.get("data")),
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


@cache
def converter() -> cattrs.Converter:
    """Return the converter; built at first use, because generating its code would slow down the import."""
    made = cattrs.Converter(detailed_validation=False)  # what is read is lenient: nothing is reported
    lenient, whole = override(struct_hook=text_of), override(struct_hook=_whole)
    kept = override(struct_hook=_object)
    made.register_structure_hook(
        StoredFile,
        make_dict_structure_fn(
            StoredFile,
            made,
            filename=lenient,
            size_bytes=override(rename="bytes", struct_hook=_whole),
            purpose=lenient,
            created_at=whole,
            status=lenient,
            model=lenient,
            raw=override(omit=True),
        ),
    )
    made.register_structure_hook(
        Model,
        make_dict_structure_fn(Model, made, created=whole, owned_by=lenient, lemondata=kept, raw=override(omit=True)),
    )
    for request in (GenerateRequest, EditRequest, VariationRequest):
        special: dict[str, Any] = {"async_": override(rename="async")}
        special |= {name: override(omit=True) for name in ("image", "mask", "extra")}
        own = {name: rule for name, rule in special.items() if name in attrs.fields_dict(request)}
        made.register_unstructure_hook(
            request, make_dict_unstructure_fn(request, made, _cattrs_omit_if_default=True, **own)
        )
    return made
