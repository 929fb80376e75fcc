"""Validate edits and variations in two steps; "Edit image".

First the fields and the references to source pictures, which costs nothing. Then, when the pictures have been loaded,
their formats and sizes.
"""

from collections.abc import Sequence
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

# Results of larger sources are scaled down to this edge: no model draws more, and two threads hold them in memory.
_MAX_EDGE = 4096
_JSON_FIELDS = ("image_url", "image_urls", "images")


@frozen
class SourceRef:
    """Where a source picture is: in the form, at a URL, or in a file uploaded to `/v1/files`."""

    param: str
    upload: Upload | None = None
    url: str | None = None
    file_id: str = ""


@frozen
class UnresolvedEdit:
    """A valid edit whose sources have not been loaded."""

    spec: JobSpec
    source_refs: tuple[SourceRef, ...]
    mask: Upload | None = None
    is_size_given: bool = False


def parse_edit(call: Call) -> UnresolvedEdit:
    """Validate the fields of an edit.

    Raises:
        ServiceError: 400, naming every invalid field.
    """
    errors: list[FieldError] = []
    refs = _form_refs(call) if call.is_form else _json_refs(call, errors)
    if not refs and not errors:
        errors.append(_missing(call))
    if call.body.get("mask") is not None:
        errors.append(FieldError("mask", "must be a file of a multipart form"))
    masks = _upload_refs(call.uploads, "mask")
    if len(masks) > 1:
        errors.append(FieldError("mask", "must be a single file"))
    return _unresolved(call, "edit", refs, errors, masks[0].upload if masks else None)


def parse_variation(call: Call) -> UnresolvedEdit:
    """Validate the fields of a variation.

    Raises:
        ServiceError: 400, naming every invalid field.
    """
    refs = _upload_refs(call.uploads, "image")
    errors = [] if len(refs) == 1 else [FieldError("image", "must be a single file", "missing")]
    return _unresolved(call, "variation", refs, errors)


def _unresolved(
    call: Call,
    operation: str,
    refs: Sequence[SourceRef],
    errors: Sequence[FieldError],
    mask: Upload | None = None,
) -> UnresolvedEdit:
    spec = parse_job(call.body, operation=operation, default_model=DEFAULT_EDIT_MODEL, other_errors=errors)
    is_size_given = call.body.get("size") not in {None, "auto"}
    is_shape_given = any(call.body.get(name) for name in ("aspect_ratio", "resolution"))
    return UnresolvedEdit(spec, tuple(refs), mask, is_size_given or is_shape_given)


def resolve_edit(edit: UnresolvedEdit, sources: Sequence[SourceImage], mask: SourceImage | None) -> JobSpec:
    """Check the loaded sources and add them to the job.

    Raises:
        ServiceError: 400 or 413, the model does not accept a source or the mask.
    """
    spec, first = edit.spec, sources[0]
    for ref, source in zip(edit.source_refs, sources, strict=True):
        _check_format(spec, source, ref.param)
    if spec.operation == "variation":
        _check_variation(first)
    elif mask is not None:
        _check_mask(mask, first)
    elif spec.family.needs_transparency and not first.has_alpha:
        message = f"must have transparent areas for {excerpt(spec.model)}, unless there is a mask"
        raise _invalid(edit.source_refs[0].param, message)
    picture = evolve(spec.picture, sources=tuple(sources), mask=mask)
    if not edit.is_size_given:
        width, height = _scaled_down(*first.size)
        picture = evolve(picture, width=width, height=height)
    return evolve(spec, picture=picture)


# References


def _upload_refs(uploads: Sequence[Upload], name: str) -> list[SourceRef]:
    """Return the files of a field, which some clients number as `image[]`."""
    files = [upload for upload in uploads if upload.name.partition("[")[0] == name]
    if len(files) == 1:
        return [SourceRef(name, upload=files[0])]
    return [SourceRef(f"{name}[{index}]", upload=file) for index, file in enumerate(files)]


def _form_refs(call: Call) -> Sequence[SourceRef]:
    refs = _upload_refs(call.uploads, "image")
    _check_count(call, "image", len(refs))
    return refs


def _json_refs(call: Call, errors: list[FieldError]) -> Sequence[SourceRef]:
    given = {name: call.body[name] for name in _JSON_FIELDS if call.body.get(name) is not None}
    if len(given) != 1:
        message = f"give exactly one of {', '.join(_JSON_FIELDS)}"
        errors.extend(FieldError(name, message) for name in list(given)[1:])
        return []
    ((name, value),) = given.items()
    if name == "image_url":
        entries = {name: value}
    elif isinstance(value, list) and value:
        _check_count(call, name, len(value))
        # More are possible only for an unknown model, which is refused by its name.
        entries = {f"{name}[{index}]": entry for index, entry in enumerate(value[:MAX_SOURCES])}
    else:
        errors.append(FieldError(name, "must be a list with at least one entry", "invalid_type"))
        return []
    parse = _parse_image if name == "images" else _parse_url
    found = [parse(param, entry) for param, entry in entries.items()]
    errors.extend(entry for entry in found if isinstance(entry, FieldError))
    return [entry for entry in found if isinstance(entry, SourceRef)]


def _parse_url(param: str, value: Any) -> SourceRef | FieldError:
    if isinstance(value, str):
        return SourceRef(param, url=value)
    return FieldError(param, "must be a string", "invalid_type")


def _parse_image(param: str, entry: Any) -> SourceRef | FieldError:
    given = {name: entry.get(name) for name in ("image_url", "file_id")} if isinstance(entry, dict) else {}
    match [(name, value) for name, value in given.items() if value is not None]:
        case [("image_url", str(url))]:
            return SourceRef(f"{param}.image_url", url=url)
        case [("file_id", str(file_id))]:
            return SourceRef(f"{param}.file_id", file_id=file_id)
        case _:
            return FieldError(param, "must hold either an image_url or a file_id, as a string")


def _missing(call: Call) -> FieldError:
    if call.is_form:
        return FieldError("image", "is required, as a file", "missing")
    return FieldError("image_url", f"is required, or one of {', '.join(_JSON_FIELDS[1:])}", "missing")


def _check_count(call: Call, param: str, count: int) -> None:
    """Refuse too many sources before anything else is checked: this error has a separate code."""
    model = call.body.get("model") or DEFAULT_EDIT_MODEL
    family = family_of(model) if isinstance(model, str) else None
    if family is not None and count > family.max_sources:
        message = f"{excerpt(model)} takes at most {family.max_sources} source images; got {count}"
        raise ServiceError(400, "too_many_images", message, param)


# Loaded sources


def _check_format(spec: JobSpec, source: SourceImage, param: str) -> None:
    formats = spec.family.source_formats
    if source.format not in formats:
        raise _invalid(param, f"must be {' or '.join(name.upper() for name in formats)} for {excerpt(spec.model)}")


def _check_mask(mask: SourceImage, first: SourceImage) -> None:
    _check_below("mask", mask, MAX_FILE_BYTES)
    if mask.format != "png":
        raise _invalid("mask", "must be a PNG")
    if mask.size != first.size:
        expected, got = (f"{width}x{height}" for width, height in (first.size, mask.size))
        raise _invalid("mask", f"must have the size of the image, {expected}; got {got}")
    if not mask.has_alpha:
        raise _invalid("mask", "must have an alpha channel, whose transparent areas are edited")


def _check_variation(source: SourceImage) -> None:
    _check_below("image", source, MAX_VARIATION_BYTES)
    if source.width != source.height:
        raise _invalid("image", f"must be square; got {source.width}x{source.height}")


def _check_below(param: str, image: SourceImage, limit: int) -> None:
    if image.blob.size_bytes >= limit:
        raise ServiceError(413, message=f"{param}: must be less than {limit // 2**20} MiB", param=param)


def _invalid(param: str, message: str) -> ServiceError:
    return ServiceError.invalid(FieldError(param, message))


def _scaled_down(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, _MAX_EDGE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
