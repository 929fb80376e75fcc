"""What a notebook is told to show, as MIME bundles: one picture as itself, many as a grid.

Bytes go as base64 text: kernels turn `bytes` into that by themselves, but not all frontends' kernels do. A picture that
every frontend draws from its own MIME type is sent as such, others stand in a figure. Nothing is decoded or scaled
here, a notebook asks in the middle of the event loop; what is more than fits is told instead of shown.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pybase64

from lemon_async._display.html import Markup, escaped, figure, image, is_web_address, visible

__all__ = [
    "MOST_EMBEDDED_BYTES",
    "Bundle",
    "Shown",
    "data_address",
    "failure_bundle",
    "picture_bundle",
    "pictures_bundle",
]

MOST_EMBEDDED_BYTES = 24 * 2**20
"""How much of pictures goes into one bundle; base64 makes a third more of it."""

Bundle = tuple[dict[str, Any], dict[str, Any]]
"""Data and metadata by MIME type, as IPython takes them from `_repr_mimebundle_`."""

_NATIVE = frozenset({"png", "jpeg", "gif"})
_KNOWN = _NATIVE | {"webp", "avif"}
_LONGEST_EDGE = 512
_CELL_EDGE = 256
_LONGEST_ALT = 300
_LONGEST_WORDS = 2000
_MOST_CELLS = 200
_GRID = f"display:grid;grid-template-columns:repeat(auto-fill,minmax(min({_CELL_EDGE}px,100%),1fr));gap:1.1em"
_NOTE = "padding:.7em .9em;border:1px dashed;border-radius:.3em;opacity:.8;font-size:.85em;line-height:1.4"


@attrs.frozen
class _Advice:
    """What is to be done about a picture that is not here, in the words for what the cell shows."""

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
    """A picture, as far as it is known without fetching anything.

    Attributes:
        content: Its bytes, if they are here.
        url: Its link, if there is one.
        format: `png jpeg gif webp avif`, if it is known.
        size: Width and height in pixels.
        prompt: What was asked for.
        revised_prompt: What was really used.
        facts: Names and values that stand below it.
        label: What a text console shows.
    """

    content: bytes | None = attrs.field(default=None, repr=False)
    url: str | None = None
    format: str | None = None
    size: tuple[int, int] | None = None
    prompt: str | None = None
    revised_prompt: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    label: str = ""


def picture_bundle(picture: Shown) -> Bundle:
    """Return how a notebook shows one picture: as itself if that is known to work everywhere, else in a figure."""
    content, kind = picture.content, f"image/{picture.format}"
    if content is None or picture.format not in _NATIVE or len(content) > MOST_EMBEDDED_BYTES:
        html = _figure(picture, _OF_ONE, room_bytes=MOST_EMBEDDED_BYTES, edge=_LONGEST_EDGE)
        return {"text/html": html, "text/plain": picture.label}, {}
    size = _fitted(picture.size, _LONGEST_EDGE)
    shape = {"width": size[0], "height": size[1]} if size else {}
    metadata = {kind: {**shape, "alt": visible(_alt(picture))}}
    return {kind: pybase64.b64encode_as_string(content), "text/plain": picture.label}, metadata


def pictures_bundle(pictures: Sequence[Shown], *, label: str | None = None) -> Bundle:
    """Return how a notebook shows several pictures: a grid of figures with their prompts and facts.

    Args:
        pictures: In their order; the grid shows the first 200.
        label: What a text console shows; otherwise the pictures' own, a line each.
    """
    plain = "\n".join(picture.label for picture in pictures) if label is None else label
    html = f'<div style="{_GRID}">{"".join(_cells(pictures[:_MOST_CELLS]))}</div>'
    if len(pictures) > _MOST_CELLS:
        html += f'<p style="{_NOTE}">{len(pictures) - _MOST_CELLS} more: await contact_sheet(...) shows them all.</p>'
    return {"text/html": html, "text/plain": plain}, {}


def failure_bundle(failure: str, *, label: str) -> Bundle:
    """Return how a notebook shows what stands in the place of pictures."""
    return {"text/html": f'<div dir="auto" style="{_NOTE}">{_short(failure)}</div>', "text/plain": label}, {}


def data_address(content: bytes, kind: str) -> Markup:
    """Return the `data:` address of a picture in a format such as `png`; megabytes of it need no escaping."""
    return Markup(f"data:image/{escaped(kind)};base64,{pybase64.b64encode_as_string(content)}")


def _cells(pictures: Sequence[Shown]) -> Iterator[str]:
    room = MOST_EMBEDDED_BYTES
    for picture in pictures:
        yield _figure(picture, _OF_MANY, room_bytes=room, edge=_CELL_EDGE)
        size_bytes = len(picture.content or b"")
        room -= size_bytes if size_bytes <= room else 0


def _figure(picture: Shown, advice: _Advice, *, room_bytes: int, edge: int) -> Markup:
    notes: list[str] = []
    source = _source(picture, advice, room_bytes, notes)
    words = [_short(text) for text in (picture.prompt,) if text]
    if picture.revised_prompt and picture.revised_prompt != picture.prompt:
        words.append(Markup(f'<span style="opacity:.75">Revised: {_short(picture.revised_prompt)}</span>'))
    facts = " · ".join(f"{escaped(name)} {escaped(value)}" for name, value in picture.facts)
    words += [Markup(f'<span style="opacity:.75">{facts}</span>')] if facts else []
    words += [Markup(f'<span style="opacity:.75">{escaped(note)}</span>') for note in notes if source]
    if source is None:
        return figure(Markup(f'<div style="{_NOTE}">{escaped(" ".join(notes))}</div>'), caption=words)
    width, height = _fitted(picture.size, edge) or (None, None)
    return figure(image(source, alt=_alt(picture), width=width, height=height), caption=words)


def _alt(picture: Shown) -> str:
    return (picture.prompt or picture.revised_prompt or "Picture without a known prompt")[:_LONGEST_ALT]


def _source(picture: Shown, advice: _Advice, room_bytes: int, notes: list[str]) -> str | None:
    """Return where a frontend gets the picture from, and say what is to be said about that."""
    content = picture.content
    if content is not None and picture.format in _KNOWN and len(content) <= room_bytes:
        return data_address(content, picture.format or "png")
    if picture.url and is_web_address(picture.url):
        notes.append(advice.link)
        return picture.url
    if content is None:
        notes.append(advice.unread)
    elif picture.format not in _KNOWN:
        notes.append("The bytes are no known picture.")
    else:
        notes.append(f"Not shown here, for its size ({len(content) / 2**20:.1f} MB): {advice.save}")
    return None


def _short(text: str) -> Markup:
    return escaped(text if len(text) <= _LONGEST_WORDS else f"{text[:_LONGEST_WORDS]}…")


def _fitted(size: tuple[int, int] | None, edge: int) -> tuple[int, int] | None:
    """Return a size with the same shape that is at most `edge` long."""
    if size is None or min(size) < 1:
        return None
    scale = min(1.0, edge / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
