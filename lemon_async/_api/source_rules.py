"""Check the pictures that an edit or a variation starts from ("Edit image", "Remote image URLs").

`_uploads` examines the pictures; this module judges the facts. Every problem names its picture by position.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from lemon_async._api.families import LINE, Family
from lemon_async._api.urls import find_remote_fault
from lemon_async._formats.json_documents import safe_repr
from lemon_async._formats.pictures import PictureFacts
from lemon_async.requests import EditRequest, VariationRequest
from lemon_async.types import Problem

__all__ = ["MAX_SOURCE_BYTES", "SourceFacts", "check_sources", "check_upload", "unreadable"]

MAX_SOURCE_BYTES = 50 * 1024 * 1024
"""The documentation says 50 MB each."""
_MAX_VARIATION_BYTES = 4 * 1024 * 1024
_NAMES = {"png": "PNG", "jpeg": "JPEG", "webp": "WebP", "gif": "GIF", "avif": "AVIF"}
_PURPOSES = ("vision", "user_data")
_ANY = Family(name="the service", ids=(), fields=())
_ANYTHING = _ANY._replace(source_formats=tuple(_NAMES))


class SourceFacts(NamedTuple):
    """The facts about one picture, found without sending it.

    Attributes:
        place: `image[0]`, `image[1]` … or `mask`.
        kind: Whether its bytes are uploaded, or the service fetches it by its address or id.
        fault: Why no model can use it.
        is_readable: Whether there are bytes or a reference to send.
        size_bytes: `None` if it has not been read yet.
        picture: The facts in its header; `None` likewise.
        url: The address, for the kind `url`.
        model: The model that a stored file was uploaded for, if known.
    """

    place: str
    kind: Literal["upload", "url", "file_id"]
    fault: str | None = None
    is_readable: bool = True
    size_bytes: int | None = None
    picture: PictureFacts | None = None
    url: str = ""
    model: str | None = None


def check_sources(
    request: EditRequest | VariationRequest, family: Family | None, sources: Sequence[SourceFacts]
) -> list[Problem]:
    """Return every problem of the pictures of a request."""
    images = [source for source in sources if source.place != "mask"]
    masks = [source for source in sources if source.place == "mask"]
    problems = [Problem(source.place, fault) for source in sources if (fault := source.fault)]
    if isinstance(request, VariationRequest):
        return problems + list(_variation_problems(request, images))
    problems += _count_problems(request, family or _ANY)
    problems += _image_problems(request, images, family or _ANY)
    problems += _mask_problems(masks, images)
    if not masks and family is not None and family.has_masked_sources:
        problems += _transparency_problems(images[:1], family, is_default=request.model is None)
    return problems


def check_upload(facts: SourceFacts, *, purpose: str, model: str | None, filename: str) -> list[Problem]:
    """Return every problem of a file to be stored by the service ("Files")."""
    problems = []
    is_seen = purpose == "vision"
    if facts.fault and (is_seen or not facts.is_readable or not facts.size_bytes):
        problems.append(Problem(facts.place, facts.fault))
    else:
        fault = _upload_fault(facts, _ANY if is_seen else _ANYTHING)
        problems += [Problem(facts.place, fault)] if fault else []
    if purpose not in _PURPOSES:
        problems.append(Problem("purpose", f"must be one of {', '.join(_PURPOSES)}, not {safe_repr(purpose)}"))
    for name, value in (("model", model), ("filename", filename)):
        if value is not None and not LINE.accepts(value):
            problems.append(Problem(name, f"must be {LINE.words}"))
    return problems


def unreadable(sources: Sequence[SourceFacts]) -> tuple[Problem, ...]:
    """Return the problems of pictures without anything to send, which is never left unchecked."""
    return tuple(Problem(source.place, source.fault or "") for source in sources if not source.is_readable)


def _count_problems(request: EditRequest, family: Family) -> Iterator[Problem]:
    count = len(request.image)
    if not count:
        yield Problem("image", "give at least one picture to start from")
    if count > family.max_sources:
        yield Problem("image", f"{family.name} takes at most {family.max_sources} pictures, not {count}")


def _image_problems(request: EditRequest, images: Sequence[SourceFacts], family: Family) -> Iterator[Problem]:
    for image in images:
        if image.fault is None:
            fault = _upload_fault(image, family) if image.kind == "upload" else _remote_fault(image, request)
            if fault:
                yield Problem(image.place, fault)
    kinds = {image.kind for image in images}
    if "upload" in kinds and len(kinds) > 1:
        places = ", ".join(image.place for image in images if image.kind != "upload")
        advice = "a request holds uploads or addresses, not both: give the bytes of all, or upload the others first"
        yield Problem("image", f"{advice} (addresses or ids: {places})")


def _upload_fault(image: SourceFacts, family: Family) -> str | None:
    if image.size_bytes is not None and image.size_bytes > MAX_SOURCE_BYTES:
        return f"has {image.size_bytes:,} bytes; at most {MAX_SOURCE_BYTES:,} are taken"
    if image.picture is not None and image.picture.format not in family.source_formats:
        return f"is {_NAMES[image.picture.format]}; {family.name} takes {_listing(family.source_formats)}"
    return None


def _remote_fault(image: SourceFacts, request: EditRequest) -> str | None:
    if image.kind == "url":
        return find_remote_fault(image.url)
    model = request.model or request.default_model
    if image.model is not None and image.model != model:
        bound, asked = (safe_repr(name).strip("'") for name in (image.model, model))
        return f"was uploaded for {bound}, and a file is bound to its model; this request is for {asked}"
    return None


def _mask_problems(masks: Sequence[SourceFacts], images: Sequence[SourceFacts]) -> Iterator[Problem]:
    for mask in masks:
        if mask.kind != "upload" or any(image.kind != "upload" for image in images):
            yield Problem("mask", "goes with uploads only: give both as files or bytes, not as addresses or ids")
        elif mask.fault is None:
            fault = _mask_fault(mask, images[0] if images else None)
            if fault:
                yield Problem("mask", fault)


def _mask_fault(mask: SourceFacts, first: SourceFacts | None) -> str | None:
    if mask.size_bytes is not None and mask.size_bytes >= MAX_SOURCE_BYTES:
        return f"has {mask.size_bytes:,} bytes; fewer than {MAX_SOURCE_BYTES:,} are taken"
    picture = mask.picture
    if picture is None:
        return None
    if picture.format != "png":
        return f"is {_NAMES[picture.format]}; a mask is a PNG"
    if picture.has_transparency is False:
        return "has no alpha channel: make the areas to be edited fully transparent, and save it as RGBA"
    size = first.picture.size if first is not None and first.picture is not None else None
    if size is not None and picture.size is not None and size != picture.size:
        return f"is {_extent(picture.size)}, and image[0] is {_extent(size)}: they must match"
    return None


def _transparency_problems(images: Sequence[SourceFacts], family: Family, *, is_default: bool) -> Iterator[Problem]:
    for image in images:
        if image.picture is not None and image.picture.has_transparency is False:
            default = ", the service's default for edits (pass model= for another)" if is_default else ""
            yield Problem(image.place, f"has no alpha channel: {family.name}{default} needs one, or a separate mask=")


def _variation_problems(request: VariationRequest, images: Sequence[SourceFacts]) -> Iterator[Problem]:
    if len(request.image) != 1:
        yield Problem("image", f"a variation starts from one picture, not {len(request.image)}")
    for image in images:
        picture = image.picture
        if image.kind != "upload":
            yield Problem(image.place, "is uploaded: give a file or bytes, not an address")
        elif picture is not None and (picture.format != "png" or (picture.size and len(set(picture.size)) > 1)):
            shape = f" of {_extent(picture.size)}" if picture.size else ""
            yield Problem(image.place, f"is {_NAMES[picture.format]}{shape}; a variation takes a square PNG")
        if image.size_bytes is not None and image.size_bytes >= _MAX_VARIATION_BYTES:
            yield Problem(image.place, f"has {image.size_bytes:,} bytes; fewer than {_MAX_VARIATION_BYTES:,} are taken")


def _listing(formats: Sequence[str]) -> str:
    *most, last = [_NAMES[name] for name in formats]
    return f"{', '.join(most)} or {last}" if most else last


def _extent(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
