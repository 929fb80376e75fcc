"""Quotes of untrusted text are one short printable line."""

import pytest

from lemon_async._formats.json_documents import masked_text, one_line, safe_repr, safe_str


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no words")

    __str__ = __repr__


class UnprintableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def test_one_line_keeps_printable_text_and_single_spaces():
    for value, words in (
        ("out of paint", "out of paint"),
        ("  two\r\n lines,\ta tab ", "two lines, a tab"),
        ("\x1b[31mred\0\u202e\u2028\ud800", "[31mred"),
        ("猫 <b>é</b>", "猫 <b>é</b>"),
        ("a" * 2001, "a" * 2000),
        ("x" * 10**8, "x" * 2000),  # cut before it is searched
    ):
        assert one_line(value) == words, value[:50]
    for value in ("", " \n\0", None, 5, b"bytes", ["list"]):
        assert one_line(value) is None


def test_safe_repr_of_a_short_value_is_its_repr():
    for value in ("", "a", "a" * 78, "a\nb", 5, None, ["a"], b"a"):
        assert safe_repr(value) == repr(value)


def test_safe_repr_of_a_long_value_is_cut():
    for value in ("a" * 79, "a" * 10**6, b"a" * 10**6, ["a"] * 1000, 10**100):
        text = safe_repr(value)
        assert text.startswith(repr(value[:20] if isinstance(value, str | bytes) else value)[:20])
        assert text.endswith("…")
        assert len(text) == 81


def test_safe_repr_names_the_type_if_repr_raises():
    for value in (Unprintable(), 10**5000):
        assert safe_repr(value) == f"<{type(value).__name__}>"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("a\r\nb"), "a b"),
        (RuntimeError(), "RuntimeError"),
        (UnprintableError(), "UnprintableError"),
        (OSError("x" * 1000), "x" * 200),
    ],
    ids=["lines", "empty", "raising", "long"],
)
def test_safe_str_is_one_short_line(error, words):
    assert safe_str(error) == words


SECRET = "s3cr3t/k3y"


def test_masked_text_undoes_escapes_before_it_masks_and_masks_before_it_cuts():
    """A truncated JSON document can escape letters in as many ways as a whole one."""
    for content, text in (
        (f"no {SECRET}".encode(), "no ***"),
        (rb"no s3cr3t\/k3y", "no ***"),
        (rb"no \u0073\u0033cr3t\u002Fk3y \u00e9", "no *** é"),
        (rb"C:\users \u12 \n", r"C:\users \u12 \n"),
        (b"\xffa", "\ufffda"),
        (b"x" * 5000, "x" * 4096),
        (b"x" * 4090 + SECRET.encode() + b"y" * 5000, "x" * 4090 + "***yyy"),
        (b"", ""),
    ):
        assert masked_text(content, lambda text: text.replace(SECRET, "***")) == text
