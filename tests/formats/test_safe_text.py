"""What a user or a stranger wrote is quoted on one line, and never at length."""

import pytest

from lemon_async._formats.safe_text import safe_repr, safe_str


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no words")

    __str__ = __repr__


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize("value", ["", "a", "a" * 80, "a\nb", 5, None, ["a"], b"a"])
def test_short_value_is_quoted_whole(value):
    assert safe_repr(value) == repr(value)


@pytest.mark.parametrize("value", ["a" * 81, "a" * 10**6, b"a" * 10**6, ["a"] * 1000, 10**100])
def test_long_value_is_quoted_in_part(value):
    text = safe_repr(value)
    assert text.startswith(repr(value[:20] if isinstance(value, str | bytes) else value)[:20])
    assert text.endswith("…")
    assert len(text) <= 83


@pytest.mark.parametrize("value", [Unspeakable(), 10**5000], ids=["raising", "number of too many digits"])
def test_value_without_words_is_quoted_by_its_type(value):
    assert safe_repr(value) == f"<{type(value).__name__}>"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError("a\r\nb"), "a b"),
        (RuntimeError(), "RuntimeError"),
        (UnspeakableError(), "UnspeakableError"),
        (OSError("x" * 1000), "x" * 200),
    ],
    ids=["lines", "nothing", "raising", "long"],
)
def test_failure_is_told_on_one_line(failure, words):
    assert safe_str(failure) == words
