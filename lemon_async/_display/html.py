"""Build pieces of HTML for notebooks and pages, in which untrusted text is escaped.

A piece has no script, no style sheet and loads nothing from elsewhere. Its colours derive from the text colour, so that
it fits light and dark themes.
"""

import html
from collections.abc import Iterable
from urllib.parse import urlsplit

__all__ = ["Markup", "escaped", "facts_table", "figure", "image", "is_web_address", "visible"]

_TABLE = "border-collapse:collapse;margin:.25em 0;font-size:.9em;line-height:1.45;text-align:left;max-width:60em"
_TITLE = "caption-side:top;text-align:left;font-weight:600;padding:.15em 0;color:inherit"
_CELL = "padding:.15em .9em .15em 0;text-align:left;vertical-align:top;background:none;border:0"
_NAME = f"{_CELL};font-weight:400;opacity:.7;white-space:nowrap"
_VALUE = f"{_CELL};overflow-wrap:anywhere;white-space:pre-wrap"
_FIGURE = "margin:0;padding:0;min-width:0"
_PICTURE = "display:block;max-width:100%;height:auto;border-radius:.3em;background:rgba(127,127,127,.12)"
_CAPTION = "margin-top:.4em;font-size:.85em;line-height:1.4;text-align:left;overflow-wrap:anywhere"

# Characters that reorder the text around them or are invisible: shown by their numbers.
_HIDDEN = (0x061C, 0x200E, 0x200F, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x2070))
_VISIBLE: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\N{SYMBOL FOR DELETE}",
    **{code: f"[U+{code:04X}]" for code in (*range(0x80, 0xA0), *_HIDDEN, *range(0xE0000, 0xE0080))},
    **dict.fromkeys((0x2028, 0x2029), "\n"),
    **dict.fromkeys((*range(0xD800, 0xE000), 0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}"),
}


class Markup(str):
    """HTML in which untrusted text is escaped already."""

    __slots__ = ()

    def __html__(self) -> str:
        """Return it unchanged: template engines ask by this name whether to escape."""
        return self


def escaped(text: object) -> Markup:
    """Return `visible` text as HTML that is safe between tags and within a quoted attribute."""
    return Markup(html.escape(visible(text), quote=True))


def visible(text: object) -> str:
    """Return `str(text)` as text, not HTML, that every document can hold.

    Characters that reorder or hide text (bidi controls, control characters) are shown by their symbol or number.
    """
    return str(text).replace("\r\n", "\n").translate(_VISIBLE)


def facts_table(rows: Iterable[tuple[str, object]], *, title: str) -> Markup:
    """Return a table of names and values under a title; a `Markup` value is not escaped."""
    lines = "".join(
        f'<tr style="background:none"><th scope="row" style="{_NAME}">{escaped(name)}</th>'
        f'<td dir="auto" style="{_VALUE}">{_value(value)}</td></tr>'
        for name, value in rows
    )
    return Markup(f'<table style="{_TABLE}"><caption style="{_TITLE}">{escaped(title)}</caption>{lines}</table>')


def figure(picture: str, *, caption: Iterable[str] = ()) -> Markup:
    """Return a figure with the lines of its caption; both are markup."""
    lines = "".join(f'<div dir="auto">{line}</div>' for line in caption)
    words = f'<figcaption style="{_CAPTION}">{lines}</figcaption>' if lines else ""
    return Markup(f'<figure style="{_FIGURE}">{picture}{words}</figure>')


def image(source: str, *, alt: str, width: int | None = None, height: int | None = None) -> Markup:
    """Return a picture from a `data:` address, a link or a relative path; the browser sends no referrer."""
    shape = f' width="{width:d}" height="{height:d}"' if width and height else ""
    return Markup(
        f'<img src="{_value(source)}" alt="{escaped(alt)}"{shape} referrerpolicy="no-referrer" style="{_PICTURE}">'
    )


def is_web_address(url: str) -> bool:
    """Return whether an address is http(s), not a script or a file."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)


def _value(value: object) -> str:
    return value if isinstance(value, Markup) else escaped(value)
