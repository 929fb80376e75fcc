"""Build MIME bundles for notebooks: one picture as itself, several as a grid.

Bytes are sent as base64 text, because not every kernel encodes `bytes`. A picture whose MIME type every frontend draws
is sent as that type, others in an HTML figure. Nothing is decoded or scaled, because notebooks call this on the event
loop; a note replaces pictures that are too large.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pybase64

from lemon_async._display.html import Markup, escaped, figure, image, is_web_address, visible

__all__ = [
    "MAX_EMBEDDED_BYTES",
    "Bundle",
    "Shown",
    "data_address",
    "failure_bundle",
    "picture_bundle",
    "pictures_bundle",
]

MAX_EMBEDDED_BYTES = 24 * 2**20
"""Maximum size of all pictures in one bundle; base64 adds a third."""

Bundle = tuple[dict[str, Any], dict[str, Any]]
"""Data and metadata by MIME type, as IPython takes them from `_repr_mimebundle_`."""

_NATIVE = frozenset({"png", "jpeg", "gif"})
_KNOWN = _NATIVE | {"webp", "avif"}
_MAX_EDGE = 512
_CELL_EDGE = 256
_MAX_ALT = 300
_MAX_TEXT = 2000
_MAX_CELLS = 200
_GRID = f"display:grid;grid-template-columns:repeat(auto-fill,minmax(min({_CELL_EDGE}px,100%),1fr));gap:1.1em"
_NOTE = "padding:.7em .9em;border:1px dashed;border-radius:.3em;opacity:.8;font-size:.85em;line-height:1.4"


@attrs.frozen
class _Advice:
    """Notes about pictures that are not here."""

    link: str
    unread: str
    save: str


_OF_ONE = _Advice(
    "This is a link that expires in some hours: await image.read() or image.save(...) keeps the picture.",
    "not read yet: await image.read() fetches it.",
    "await image.save(...) keeps it.",
)
_OF_MANY = _Advice(
    "This is a link that expires in some hours: await images.read() or images.save(...) keeps the pictures.",
    "not read yet: await images.read() fetches them.",
    "await images.save(...) keeps it.",
)


@attrs.frozen(kw_only=True)
class Shown:
    """What is known about a picture without fetching anything.

    Attributes:
        content: Its bytes, if they are here.
        url: Its link, if it has one.
        format: `png jpeg gif webp avif`, if known.
        size: Width and height in pixels.
        prompt: The prompt of the request.
        revised_prompt: The prompt that was really used.
        label: Its text for consoles.
    """

    content: bytes | None = attrs.field(default=None, repr=False)
    url: str | None = None
    format: str | None = None
    size: tuple[int, int] | None = None
    prompt: str | None = None
    revised_prompt: str | None = None
    label: str = ""


def picture_bundle(picture: Shown) -> Bundle:
    """Return the bundle of one picture: as itself if every frontend draws its format, else in a figure."""
    content, kind = picture.content, f"image/{picture.format}"
    if content is None or picture.format not in _NATIVE or len(content) > MAX_EMBEDDED_BYTES:
        html = _figure(picture, _OF_ONE, left_bytes=MAX_EMBEDDED_BYTES, edge=_MAX_EDGE)
        return {"text/html": html, "text/plain": picture.label}, {}
    size = _fitted(picture.size, _MAX_EDGE)
    shape = {"width": size[0], "height": size[1]} if size else {}
    metadata = {kind: {**shape, "alt": visible(_alt(picture))}}
    return {kind: pybase64.b64encode_as_string(content), "text/plain": picture.label}, metadata


def pictures_bundle(pictures: Sequence[Shown]) -> Bundle:
    """Return the bundle of several pictures: a grid of figures with their prompts, at most 200."""
    plain = "\n".join(picture.label for picture in pictures)
    html = f'<div style="{_GRID}">{"".join(_cells(pictures[:_MAX_CELLS]))}</div>'
    if len(pictures) > _MAX_CELLS:
        html += f'<p style="{_NOTE}">{len(pictures) - _MAX_CELLS} more: await contact_sheet(...) shows them all.</p>'
    return {"text/html": html, "text/plain": plain}, {}


def failure_bundle(failure: str, *, label: str) -> Bundle:
    """Return the bundle of a job without pictures."""
    return {"text/html": f'<div dir="auto" style="{_NOTE}">{_short(failure)}</div>', "text/plain": label}, {}


def data_address(content: bytes, kind: str) -> Markup:
    """Return the `data:` address of a picture in a format such as `png`."""
    return Markup(f"data:image/{escaped(kind)};base64,{pybase64.b64encode_as_string(content)}")


def _cells(pictures: Sequence[Shown]) -> Iterator[str]:
    left_bytes = MAX_EMBEDDED_BYTES
    for picture in pictures:
        yield _figure(picture, _OF_MANY, left_bytes=left_bytes, edge=_CELL_EDGE)
        size_bytes = len(picture.content or b"")
        left_bytes -= size_bytes if size_bytes <= left_bytes else 0


def _figure(picture: Shown, advice: _Advice, *, left_bytes: int, edge: int) -> Markup:
    notes: list[str] = []
    source = _source(picture, advice, left_bytes, notes)
    lines = [_short(text) for text in (picture.prompt,) if text]
    if picture.revised_prompt and picture.revised_prompt != picture.prompt:
        lines.append(Markup(f'<span style="opacity:.75">Revised: {_short(picture.revised_prompt)}</span>'))
    lines += [Markup(f'<span style="opacity:.75">{escaped(note)}</span>') for note in notes if source]
    if source is None:
        return figure(Markup(f'<div style="{_NOTE}">{escaped(" ".join(notes))}</div>'), caption=lines)
    width, height = _fitted(picture.size, edge) or (None, None)
    return figure(image(source, alt=_alt(picture), width=width, height=height), caption=lines)


def _alt(picture: Shown) -> str:
    return (picture.prompt or picture.revised_prompt or "Picture without a known prompt")[:_MAX_ALT]


def _source(picture: Shown, advice: _Advice, left_bytes: int, notes: list[str]) -> str | None:
    """Return the address of a picture for the frontend, and append notes about it."""
    content = picture.content
    if content is not None and picture.format in _KNOWN and len(content) <= left_bytes:
        return data_address(content, picture.format or "png")
    if picture.url and is_web_address(picture.url):
        notes.append(advice.link)
        return picture.url
    if content is None:
        notes.append(advice.unread)
    elif picture.format not in _KNOWN:
        notes.append("The bytes are not a known picture format.")
    else:
        notes.append(f"Not shown here, for its size ({len(content) / 2**20:.1f} MB): {advice.save}")
    return None


def _short(text: str) -> Markup:
    return escaped(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…")


def _fitted(size: tuple[int, int] | None, edge: int) -> tuple[int, int] | None:
    """Scale a size down to at most `edge`."""
    if size is None or min(size) < 1:
        return None
    scale = min(1.0, edge / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
