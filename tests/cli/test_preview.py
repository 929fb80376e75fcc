"""Pictures are shown where a terminal shows them, and nowhere else."""

import contextlib
import errno
import io
import sys

import pytest
from PIL import Image

from lemon_async.cli.preview import Preview

KITTY = {"TERM": "xterm-kitty"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Closed(io.StringIO):
    def isatty(self):
        raise ValueError("I/O operation on closed file")


@contextlib.contextmanager
def streams(stdout, stderr):
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        yield


def written(*, wish, stdout, stderr, environ=KITTY):
    with streams(stdout, stderr):
        return Preview.find(wish, environ)


def test_pictures_go_to_stdout_if_that_is_a_terminal():
    stdout, stderr = Terminal(), Terminal()
    found = written(wish="auto", stdout=stdout, stderr=stderr)
    assert (found.protocol, found.terminal) == ("kitty", stdout)


@pytest.mark.parametrize("stdout", [io.StringIO(), Closed(), None], ids=["pipe", "closed", "none"])
def test_pictures_go_to_stderr_if_only_that_is_a_terminal(stdout):
    stderr = Terminal()
    found = written(wish="sixel", stdout=stdout, stderr=stderr)
    assert (found.protocol, found.terminal) == ("sixel", stderr)


@pytest.mark.parametrize("wish", ["auto", "kitty"])
def test_pictures_go_nowhere_without_a_terminal(wish):
    stderr = io.StringIO()
    assert written(wish=wish, stdout=io.StringIO(), stderr=stderr) is None
    assert stderr.getvalue() == ""


def test_pictures_that_nobody_wishes_to_see_are_not_shown():
    assert written(wish=None, stdout=Terminal(), stderr=Terminal()) is None


@pytest.mark.parametrize("environ", [{}, {"TERM": "xterm"}, {"TERM": "xterm-kitty", "TMUX": "1"}], ids=str)
def test_terminal_that_shows_no_pictures_gets_one_note_and_no_garbage(environ):
    stdout, stderr = Terminal(), Terminal()
    assert written(wish="auto", stdout=stdout, stderr=stderr, environ=environ) is None
    assert stdout.getvalue() == ""
    assert stderr.getvalue() == (
        "note: this terminal is not known to show pictures; to try: --preview kitty, iterm2, sixel\n"
    )


@pytest.mark.parametrize(("protocol", "start"), [("kitty", "\x1b_G"), ("iterm2", "\x1b]1337;"), ("sixel", "\x1bP")])
async def test_picture_is_drawn_in_the_way_of_the_terminal(draw, tmp_path, protocol, start):
    terminal = Terminal()
    preview = Preview(protocol, terminal)
    codes = await preview.drawn(tmp_path / draw("cat.png"))
    assert codes.startswith(start)
    preview.show(codes)
    assert terminal.getvalue() == f"{codes}\n"


async def test_large_picture_is_shown_small(tmp_path):
    Image.effect_noise((1500, 1500), 100).save(tmp_path / "cat.png")
    codes = await Preview("kitty", Terminal()).drawn(tmp_path / "cat.png")
    assert 0 < len(codes) < (tmp_path / "cat.png").stat().st_size / 4


@pytest.mark.parametrize("protocol", ["kitty", "iterm2"])
async def test_png_is_shown_as_it_is_without_pillow(draw, tmp_path, monkeypatch, protocol):
    name = draw("cat.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert await Preview(protocol, Terminal()).drawn(tmp_path / name)


@pytest.mark.parametrize(("protocol", "suffix"), [("kitty", "webp"), ("sixel", "png")])
async def test_what_takes_pillow_is_noted_once_without_it(draw, tmp_path, monkeypatch, capsys, protocol, suffix):
    name = draw(f"cat.{suffix}")
    monkeypatch.setitem(sys.modules, "PIL", None)
    preview = Preview(protocol, Terminal())
    assert [await preview.drawn(tmp_path / name) for _ in range(2)] == [None, None]
    assert capsys.readouterr().err == (
        "note: to preview these pictures takes Pillow: pip install 'lemon-async[emulator]'\n"
    )


async def test_picture_that_cannot_be_drawn_is_noted_and_ends_nothing(tmp_path, capsys):
    (tmp_path / "cat.png").write_bytes(b"no picture")
    preview = Preview("kitty", Terminal())
    assert await preview.drawn(tmp_path / "cat.png") is None
    assert await preview.drawn(tmp_path / "gone.png") is None
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"note: no preview of {tmp_path}/cat.png: ")
    assert second.startswith(f"note: no preview of {tmp_path}/gone.png: ")


@pytest.mark.parametrize(
    "fault", [OSError(errno.EIO, "Input/output error"), ValueError("I/O operation on closed file.")], ids=repr
)
async def test_terminal_that_went_away_is_noted_once_and_shown_nothing_more(draw, tmp_path, capsys, fault):
    class Gone(Terminal):
        def write(self, text):
            raise fault

    path = tmp_path / draw("cat.png")
    preview = Preview("kitty", Gone())
    codes = await preview.drawn(path)
    preview.show(codes)
    preview.show(codes)  # drawn before the first one was shown
    assert await preview.drawn(path) is None
    assert capsys.readouterr().err == f"note: no more previews: {fault}\n"
