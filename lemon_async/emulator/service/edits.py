"""Validation of edits and variations, before and after their sources are at hand; "Edit image".

Before: fields and where each source comes from, at no cost. After: what the sources are. In between,
`intake` gets them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, frozen

from lemon_async.emulator.pictures.picture import SourceImage
from lemon_async.emulator.service.job_spec import JobSpec, parse_job
from lemon_async.emulator.service.messages import MAX_FILE_BYTES, Call, Upload
from lemon_async.emulator.service.model_families import FAMILIES, family_of
from lemon_async.emulator.service_errors import FieldError, ServiceError, excerpt

DEFAULT_EDIT_MODEL = "dall-e-2"
MAX_VARIATION_BYTES = 4 * 2**20
MAX_SOURCES: int = max(family.max_sources for family in FAMILIES)

# Larger sources give results of this edge: no model draws more, and two threads have to hold it.
_LONGEST_EDGE = 4096
_JSON_FIELDS = ("image_url", "image_urls", "images")


@frozen
class UploadRef:
    """A source in the form itself."""

    param: str
    upload: Upload


@frozen
class UrlRef:
    """A source on somebody's server."""

    param: str
    url: str


@frozen
class FileRef:
    """A source that was uploaded before."""

    param: str
    file_id: str


SourceRef = UploadRef | UrlRef | FileRef


@frozen
class UnresolvedEdit:
    """An order whose sources are not at hand yet."""

    spec: JobSpec
    source_refs: tuple[SourceRef, ...]
    mask: UploadRef | None = None
    is_size_asked: bool = False


def read_edit(call: Call) -> UnresolvedEdit:
    """Turn an edit request into a draft.

    Raises:
        ServiceError: 400, naming every bad field.
    """
    field_errors: list[FieldError] = []
    source_refs = _form_sources(call) if call.is_form else _json_sources(call, field_errors)
    if not source_refs and not field_errors:
        field_errors.append(_missing(call))
    if call.body.get("mask") is not None:
        field_errors.append(FieldError("mask", "must be a file of a multipart form"))
    masks = _uploads(call.uploads, "mask")
    if len(masks) > 1:
        field_errors.append(FieldError("mask", "must be a single file"))
    spec = parse_job(call.body, operation="edit", default_model=DEFAULT_EDIT_MODEL, other_errors=field_errors)
    return UnresolvedEdit(spec, tuple(source_refs), masks[0] if masks else None, _is_size_asked(call.body))


def read_variation(call: Call) -> UnresolvedEdit:
    """Turn a variation request into a draft.

    Raises:
        ServiceError: 400, naming every bad field.
    """
    source_refs = _uploads(call.uploads, "image")
    field_errors = [] if len(source_refs) == 1 else [FieldError("image", "must be a single file", "missing")]
    spec = parse_job(call.body, operation="variation", default_model=DEFAULT_EDIT_MODEL, other_errors=field_errors)
    return UnresolvedEdit(spec, tuple(source_refs), is_size_asked=_is_size_asked(call.body))


def resolve_edit(edit: UnresolvedEdit, sources: Sequence[SourceImage], mask: SourceImage | None) -> JobSpec:
    """Complete a draft with its sources.

    Raises:
        ServiceError: 400 or 413, a source or the mask is not what the model takes.
    """
    spec = edit.spec
    for origin, source in zip(edit.source_refs, sources, strict=True):
        _check_source(spec, source, origin.param)
    if spec.operation == "variation":
        _check_variation(sources[0])
    elif mask is not None:
        _check_mask(mask, sources[0])
    elif spec.family.needs_transparency and not sources[0].has_alpha:
        message = f"must have transparent areas for {excerpt(spec.model)}, unless there is a mask"
        raise _refusal(edit.source_refs[0].param, message)
    size = spec.size if edit.is_size_asked else _fitted(*sources[0].size)
    return evolve(spec, size=size, sources=tuple(sources), mask=mask)


# Where the sources come from


def _uploads(uploads: Sequence[Upload], name: str) -> list[UploadRef]:
    """The files of a field, also those a client has numbered as `image[]`."""
    files = [upload for upload in uploads if upload.name.partition("[")[0] == name]
    if len(files) == 1:
        return [UploadRef(name, files[0])]
    return [UploadRef(f"{name}[{index}]", file) for index, file in enumerate(files)]


def _form_sources(call: Call) -> Sequence[SourceRef]:
    source_refs = _uploads(call.uploads, "image")
    _check_count(call, "image", len(source_refs))
    return source_refs


def _json_sources(call: Call, field_errors: list[FieldError]) -> Sequence[SourceRef]:
    given = [name for name in _JSON_FIELDS if call.body.get(name) is not None]
    if len(given) > 1:
        message = f"give exactly one of {', '.join(_JSON_FIELDS)}"
        field_errors.extend(FieldError(name, message) for name in given[1:])
        return []
    if not given:
        return []
    name, value = given[0], call.body[given[0]]
    if name != "image_url" and isinstance(value, list):
        _check_count(call, name, len(value))
    found = list(_entries(name, value))
    field_errors.extend(entry for entry in found if isinstance(entry, FieldError))
    return [entry for entry in found if not isinstance(entry, FieldError)]


def _entries(name: str, value: Any) -> Iterator[SourceRef | FieldError]:
    """What one of the three fields holds."""
    if name == "image_url":
        yield UrlRef(name, value) if isinstance(value, str) else FieldError(name, "must be a string", "invalid_type")
    elif not isinstance(value, list) or not value:
        yield FieldError(name, "must be a list with at least one entry", "invalid_type")
    else:
        read = _url_entry if name == "image_urls" else _image_entry
        # There are more only for a model that nobody knows, which is refused by its name.
        for index, entry in enumerate(value[:MAX_SOURCES]):
            yield read(f"{name}[{index}]", entry)


def _url_entry(param: str, entry: Any) -> SourceRef | FieldError:
    return UrlRef(param, entry) if isinstance(entry, str) else FieldError(param, "must be a string", "invalid_type")


def _image_entry(param: str, entry: Any) -> SourceRef | FieldError:
    given = {name: entry.get(name) for name in ("image_url", "file_id")} if isinstance(entry, dict) else {}
    match [(name, value) for name, value in given.items() if value is not None]:
        case [("image_url", str(url))]:
            return UrlRef(f"{param}.image_url", url)
        case [("file_id", str(file_id))]:
            return FileRef(f"{param}.file_id", file_id)
        case _:
            return FieldError(param, "must hold either an image_url or a file_id, as a string")


def _missing(call: Call) -> FieldError:
    if call.is_form:
        return FieldError("image", "is required, as a file", "missing")
    return FieldError("image_url", f"is required, or one of {', '.join(_JSON_FIELDS[1:])}", "missing")


def _check_count(call: Call, param: str, count: int) -> None:
    """Too many sources have a code of their own, so they are refused before anything else is judged."""
    model = call.body.get("model") or DEFAULT_EDIT_MODEL
    family = family_of(model) if isinstance(model, str) else None
    if family is not None and count > family.max_sources:
        message = f"{excerpt(model)} takes at most {family.max_sources} source images; got {count}"
        raise ServiceError(400, "too_many_images", message, param)


# What the sources are


def _check_source(spec: JobSpec, source: SourceImage, param: str) -> None:
    formats = spec.family.source_formats
    if source.format not in formats:
        raise _refusal(param, f"must be {' or '.join(name.upper() for name in formats)} for {excerpt(spec.model)}")


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


def _refusal(param: str, message: str) -> ServiceError:
    return ServiceError.of([FieldError(param, message)])


def _too_large(param: str, most: int) -> ServiceError:
    return ServiceError(413, message=f"{param}: must be less than {most // 2**20} MiB", param=param)


def _is_size_asked(body: Mapping[str, Any]) -> bool:
    return body.get("size") not in (None, "auto") or any(body.get(name) for name in ("aspect_ratio", "resolution"))


def _fitted(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, _LONGEST_EDGE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
