"""Pictures in a terminal, by the three protocols that there are.

* kitty: "Terminal graphics protocol" (kitty, Ghostty): a PNG file in chunks of base64.
* iTerm2: "Inline images protocol" (iTerm2, WezTerm, mintty): any file in base64.
* sixel: DEC's, of six rows at a time (foot, mlterm, contour): palettes and run lengths.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import pybase64

from lemon_async._display.thumbnails import paletted, png

__all__ = ["PROTOCOLS", "detect", "iterm2", "kitty", "preview", "sixel"]

PROTOCOLS = ("kitty", "iterm2", "sixel")

_ESCAPE = "\x1b"
_END = "\x1b\\"
_KITTY_CHUNK = 4096
_ROWS = 6
_NOTHING = 63  # the character for no pixel; the six bits of a column are added to it
_REPEATED = re.compile(r"(.)\1{3,}")
_BY_TERM = {"xterm-kitty": "kitty", "xterm-ghostty": "kitty", "foot": "sixel", "mlterm": "sixel", "contour": "sixel"}
_BY_PROGRAM = {"ghostty": "kitty", "iTerm.app": "iterm2", "WezTerm": "iterm2", "mintty": "iterm2"}
# They draw the screen themselves and let no picture through.
_BETWEEN = ("screen", "tmux")


def detect(environ: Mapping[str, str]) -> str | None:
    """Return the protocol that the terminal of these environment variables is known to have: one of `PROTOCOLS`."""
    term = environ.get("TERM", "")
    if environ.get("TMUX") or environ.get("STY") or term.startswith((*_BETWEEN, "dumb")):
        return None
    if environ.get("KITTY_WINDOW_ID"):
        return "kitty"
    program = environ.get("TERM_PROGRAM", "")
    return _BY_PROGRAM.get(program) or _BY_TERM.get(re.sub(r"-(256color|extra|latest)$", "", term))


def preview(content: bytes, protocol: str, *, edge: int) -> str | None:
    """Return what to print so that a terminal shows a picture, scaled to `edge` pixels; blocks.

    Returns:
        `None` where Pillow is missing.

    Raises:
        ValueError: The picture cannot be decoded.
    """
    if protocol == "sixel":
        few = paletted(content, edge)
        return None if few is None else sixel(few.width, few.height, few.palette, few.indices)
    small = png(content, edge)
    if small is None:
        return None
    return kitty(small) if protocol == "kitty" else iterm2(small)


def kitty(content: bytes) -> str:
    """Return the codes that make kitty show a PNG file where the cursor is, and say nothing back."""
    text = pybase64.b64encode_as_string(content)
    chunks = [text[i : i + _KITTY_CHUNK] for i in range(0, len(text), _KITTY_CHUNK)] or [""]
    last = len(chunks) - 1
    heads = [f"{'a=T,f=100,q=2,' * (not i)}m={int(i < last)}" for i in range(len(chunks))]
    return "".join(f"{_ESCAPE}_G{head};{chunk}{_END}" for head, chunk in zip(heads, chunks, strict=True))


def iterm2(content: bytes, name: str = "") -> str:
    """Return the codes that make iTerm2 show a file where the cursor is."""
    named = f"name={pybase64.b64encode_as_string(name.encode('utf-8', 'replace'))};" if name else ""
    text = pybase64.b64encode_as_string(content)
    return f"{_ESCAPE}]1337;File={named}size={len(content)};inline=1;preserveAspectRatio=1:{text}\a"


def sixel(width: int, height: int, palette: Sequence[tuple[int, int, int]], indices: bytes) -> str:
    """Return the codes for a picture of numbered colours; a number that the palette does not have is no pixel."""
    colours = "".join(f"#{n};2;{_per_cent(r)};{_per_cent(g)};{_per_cent(b)}" for n, (r, g, b) in enumerate(palette))
    rows = [indices[start : start + width] for start in range(0, width * height, width)]
    bands = "-".join("$".join(_band(rows[top : top + _ROWS], len(palette))) for top in range(0, height, _ROWS))
    return f'{_ESCAPE}P0;1;0q"1;1;{width};{height}{colours}{bands}{_END}'


def _band(rows: Sequence[bytes], colours: int) -> Iterator[str]:
    """Yield a line for each colour of six rows: which of the six pixels of each column have it."""
    columns: dict[int, bytearray] = {}
    for row, line in enumerate(rows):
        bit = 1 << row
        for x, colour in enumerate(line):
            if colour not in columns:
                columns[colour] = bytearray([_NOTHING]) * len(line)
            columns[colour][x] += bit
    for colour in sorted(columns):
        if colour < colours:
            text = columns[colour].decode("ascii").rstrip("?")
            yield f"#{colour}{_REPEATED.sub(_run, text)}"


def _run(found: re.Match[str]) -> str:
    return f"!{len(found[0])}{found[1]}"


def _per_cent(level: int) -> int:
    return round(level * 100 / 255)
