"""Validation of edits and variations, before and after their sources are at hand; "Edit image".

Before: fields and where each source comes from, at no cost. After: what the sources are. In between,
`intake` gets them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from lemon_async.emulator.pictures.picture import SourceImage
from lemon_async.emulator.problems import Complaint, Problem, excerpt
from lemon_async.emulator.service.families import FAMILIES, family_of
from lemon_async.emulator.service.messages import MAX_FILE_BYTES, Call, Upload
from lemon_async.emulator.service.rules import Order, read_order

DEFAULT_EDIT_MODEL = "dall-e-2"
MAX_VARIATION_BYTES = 4 * 2**20
MAX_SOURCES: int = max(family.max_sources for family in FAMILIES)

# Larger sources give results of this edge: no model draws more, and two threads have to hold it.
_LONGEST_EDGE = 4096
_JSON_FIELDS = ("image_url", "image_urls", "images")


@frozen
class FromUpload:
    """A source in the form itself."""

    param: str
    upload: Upload


@frozen
class FromUrl:
    """A source on somebody's server."""

    param: str
    url: str


@frozen
class FromFile:
    """A source that was uploaded before."""

    param: str
    file_id: str


Origin = FromUpload | FromUrl | FromFile


@frozen
class Draft:
    """An order whose sources are not at hand yet."""

    order: Order
    origins: tuple[Origin, ...]
    mask: FromUpload | None = None
    is_size_asked: bool = False


def read_edit(call: Call) -> Draft:
    """Turn an edit request into a draft.

    Raises:
        Problem: 400, naming every bad field.
    """
    complaints: list[Complaint] = []
    origins = _form_origins(call) if call.is_form else _json_origins(call, complaints)
    if not origins and not complaints:
        complaints.append(_missing(call))
    if call.body.get("mask") is not None:
        complaints.append(Complaint("mask", "must be a file of a multipart form"))
    masks = _uploads(call.uploads, "mask")
    if len(masks) > 1:
        complaints.append(Complaint("mask", "must be a single file"))
    order = read_order(call.body, operation="edit", default_model=DEFAULT_EDIT_MODEL, others=complaints)
    return Draft(order, tuple(origins), masks[0] if masks else None, _is_size_asked(call.body))


def read_variation(call: Call) -> Draft:
    """Turn a variation request into a draft.

    Raises:
        Problem: 400, naming every bad field.
    """
    origins = _uploads(call.uploads, "image")
    complaints = [] if len(origins) == 1 else [Complaint("image", "must be a single file", "missing")]
    order = read_order(call.body, operation="variation", default_model=DEFAULT_EDIT_MODEL, others=complaints)
    return Draft(order, tuple(origins), is_size_asked=_is_size_asked(call.body))


def finish(draft: Draft, sources: Sequence[SourceImage], mask: SourceImage | None) -> Order:
    """Complete a draft with its sources.

    Raises:
        Problem: 400 or 413, a source or the mask is not what the model takes.
    """
    order = draft.order
    for origin, source in zip(draft.origins, sources, strict=True):
        _check_source(order, source, origin.param)
    if order.operation == "variation":
        _check_variation(sources[0])
    elif mask is not None:
        _check_mask(mask, sources[0])
    elif order.family.needs_transparency and not sources[0].has_alpha:
        message = f"must have transparent areas for {excerpt(order.model)}, unless there is a mask"
        raise _refusal(draft.origins[0].param, message)
    size = order.size if draft.is_size_asked else _fitted(*sources[0].size)
    return evolve(order, size=size, sources=tuple(sources), mask=mask)


# Where the sources come from


def _uploads(uploads: Sequence[Upload], name: str) -> list[FromUpload]:
    """The files of a field, also those a client has numbered as `image[]`."""
    files = [upload for upload in uploads if upload.name.partition("[")[0] == name]
    if len(files) == 1:
        return [FromUpload(name, files[0])]
    return [FromUpload(f"{name}[{index}]", file) for index, file in enumerate(files)]


def _form_origins(call: Call) -> Sequence[Origin]:
    origins = _uploads(call.uploads, "image")
    _check_count(call, "image", len(origins))
    return origins


def _json_origins(call: Call, complaints: list[Complaint]) -> Sequence[Origin]:
    given = [name for name in _JSON_FIELDS if call.body.get(name) is not None]
    if len(given) > 1:
        message = f"give exactly one of {', '.join(_JSON_FIELDS)}"
        complaints.extend(Complaint(name, message) for name in given[1:])
        return []
    if not given:
        return []
    name, value = given[0], call.body[given[0]]
    if name != "image_url" and isinstance(value, list):
        _check_count(call, name, len(value))
    found = list(_entries(name, value))
    complaints.extend(entry for entry in found if isinstance(entry, Complaint))
    return [entry for entry in found if not isinstance(entry, Complaint)]


def _entries(name: str, value: Any) -> Iterator[Origin | Complaint]:
    """What one of the three fields holds."""
    if name == "image_url":
        yield FromUrl(name, value) if isinstance(value, str) else Complaint(name, "must be a string", "invalid_type")
    elif not isinstance(value, list) or not value:
        yield Complaint(name, "must be a list with at least one entry", "invalid_type")
    else:
        read = _url_entry if name == "image_urls" else _image_entry
        # There are more only for a model that nobody knows, which is refused by its name.
        for index, entry in enumerate(value[:MAX_SOURCES]):
            yield read(f"{name}[{index}]", entry)


def _url_entry(param: str, entry: Any) -> Origin | Complaint:
    return FromUrl(param, entry) if isinstance(entry, str) else Complaint(param, "must be a string", "invalid_type")


def _image_entry(param: str, entry: Any) -> Origin | Complaint:
    given = {name: entry.get(name) for name in ("image_url", "file_id")} if isinstance(entry, dict) else {}
    match [(name, value) for name, value in given.items() if value is not None]:
        case [("image_url", str(url))]:
            return FromUrl(f"{param}.image_url", url)
        case [("file_id", str(file_id))]:
            return FromFile(f"{param}.file_id", file_id)
        case _:
            return Complaint(param, "must hold either an image_url or a file_id, as a string")


def _missing(call: Call) -> Complaint:
    if call.is_form:
        return Complaint("image", "is required, as a file", "missing")
    return Complaint("image_url", f"is required, or one of {', '.join(_JSON_FIELDS[1:])}", "missing")


def _check_count(call: Call, param: str, count: int) -> None:
    """Too many sources have a code of their own, so they are refused before anything else is judged."""
    model = call.body.get("model") or DEFAULT_EDIT_MODEL
    family = family_of(model) if isinstance(model, str) else None
    if family is not None and count > family.max_sources:
        message = f"{excerpt(model)} takes at most {family.max_sources} source images; got {count}"
        raise Problem(400, "too_many_images", message, param)


# What the sources are


def _check_source(order: Order, source: SourceImage, param: str) -> None:
    formats = order.family.source_formats
    if source.format not in formats:
        raise _refusal(param, f"must be {' or '.join(name.upper() for name in formats)} for {excerpt(order.model)}")


def _check_mask(mask: SourceImage, first: SourceImage) -> None:
    if mask.blob.size_bytes >= MAX_FILE_BYTES:
        raise _too_large("mask", MAX_FILE_BYTES)
    if mask.format != "png":
        raise _refusal("mask", "must be a PNG")
    if mask.size != first.size:
        expected, got = (f"{width}x{height}" for width, height in (first.size, mask.size))
        raise _refusal("mask", f"must have the size of the image, {expected}; got {got}")
    if not mask.has_alpha:
        raise _refusal("mask", "must have an alpha channel, whose transparent areas are edited")


def _check_variation(source: SourceImage) -> None:
    if source.blob.size_bytes >= MAX_VARIATION_BYTES:
        raise _too_large("image", MAX_VARIATION_BYTES)
    if source.width != source.height:
        raise _refusal("image", f"must be square; got {source.width}x{source.height}")


def _refusal(param: str, message: str) -> Problem:
    return Problem.of([Complaint(param, message)])


def _too_large(param: str, most: int) -> Problem:
    return Problem(413, message=f"{param}: must be less than {most // 2**20} MiB", param=param)


def _is_size_asked(body: Mapping[str, Any]) -> bool:
    return body.get("size") not in (None, "auto") or any(body.get(name) for name in ("aspect_ratio", "resolution"))


def _fitted(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, _LONGEST_EDGE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
