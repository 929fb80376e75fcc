"""Pictures in terminals."""

import base64
import re
import sys

import pytest

from lemon_async._display.terminal import PROTOCOLS, detect, iterm2, kitty, preview, sixel

BEGINNINGS = {"kitty": "\x1b_G", "iterm2": "\x1b]1337;", "sixel": "\x1bP0;1;0q"}
RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_kitty_gets_a_file_in_chunks():
    """Chunks have at most 4096 characters, all but the last are continued, and the terminal is asked not to answer."""
    content = bytes(range(256)) * 40
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty(content))
    assert [head for head, _ in parts] == ["a=T,f=100,q=2,m=1", *["m=1"] * 2, "m=0"]
    assert all(len(text) <= 4096 for _, text in parts)
    assert base64.b64decode("".join(text for _, text in parts)) == content


def test_kitty_gets_a_small_file_at_once():
    """One chunk is the last."""
    assert kitty(b"x") == "\x1b_Ga=T,f=100,q=2,m=0;eA==\x1b\\"
    assert kitty(b"") == "\x1b_Ga=T,f=100,q=2,m=0;\x1b\\"


def test_iterm2_gets_a_file_and_its_name():
    """The name is in base64, so that no name ends the sequence."""
    assert iterm2(b"xyz") == "\x1b]1337;File=size=3;inline=1;preserveAspectRatio=1:eHl6\a"
    assert f"name={base64.b64encode(b'a;b.png').decode()};" in iterm2(b"xyz", "a;b.png")


def undo(codes):
    """Decode what `sixel` writes, as a terminal does: rows of colours, `None` where there is none."""
    width, height, body = re.fullmatch(r'\x1bP0;1;0q"1;1;(\d+);(\d+)(.*)\x1b\\', codes, re.DOTALL).groups()
    palette = {int(n): tuple(map(int, rgb.split(";"))) for n, rgb in re.findall(r"#(\d+);2;(\d+;\d+;\d+)", body)}
    rows = [[None] * int(width) for _ in range(int(height))]
    lines = re.sub(r"#\d+;[\d;]+", "", body).split("-")
    for top, line in enumerate(lines):
        for colour, run in re.findall(r"#(\d+)([^$]*)", line):
            signs = "".join(sign * int(repeat or 1) for repeat, sign in re.findall(r"(?:!(\d+))?([?-~])", run))
            for x, sign in enumerate(signs):
                for bit in range(6):
                    if (ord(sign) - 63) >> bit & 1:
                        rows[6 * top + bit][x] = palette[int(colour)]
    return rows


@pytest.mark.parametrize("size", [(1, 1), (7, 6), (20, 13)])
def test_sixel_shows_every_pixel(size):
    """What a terminal reads is what was drawn, whatever the height; numbers outside of the palette are no pixel."""
    width, height = size
    indices = bytes((x // 3 + y) % 3 for y in range(height) for x in range(width))
    expected = {0: (100, 0, 0), 1: (0, 0, 100), 2: None}
    rows = undo(sixel(width, height, [RED, BLUE], indices))
    assert [pixel for row in rows for pixel in row] == [expected[index] for index in indices]


def test_sixel_counts_runs():
    """A line of one colour takes a few characters."""
    assert "#0!200~" in sixel(200, 6, [RED], bytes(1200))


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "mlterm-256color"}, "sixel"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "vscode"}, None),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, None),
        ({"TERM": "xterm-kitty", "STY": "1.pts"}, None),
        ({"TERM": "dumb", "TERM_PROGRAM": "iTerm.app"}, None),
        ({}, None),
    ],
)
def test_terminal_is_known_by_its_environment(environ, protocol):
    """Only terminals that are known to show pictures get any, and none through tmux or screen."""
    assert detect(environ) == protocol


@pytest.mark.parametrize(("protocol", "begin"), BEGINNINGS.items())
def test_preview_speaks_every_protocol(picture, protocol, begin):
    """A picture is scaled and told in the terminal's words."""
    assert preview(picture((64, 32), kind="PNG"), protocol, edge=16).startswith(begin)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_preview_needs_pillow(picture, monkeypatch, protocol):
    """Without it there is none."""
    content = picture()
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert preview(content, protocol, edge=16) is None
