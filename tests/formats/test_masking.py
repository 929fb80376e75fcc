"""A secret that a sender quotes in what is no JSON is in nothing that is made of it."""

import pytest

from lemon_async._formats.masking import masked_text

SECRET = "s3cr3t/k3y"


def mask(text):
    return text.replace(SECRET, "***")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (f"no {SECRET}".encode(), "no ***"),
        (rb"no s3cr3t\/k3y", "no ***"),
        (rb"no \u0073\u0033cr3t\u002Fk3y \u00e9", "no *** é"),
        (rb"C:\users \u12 \n", r"C:\users \u12 \n"),
        (b"\xffa", "\ufffda"),
        (b"x" * 5000, "x" * 4096),
        (b"x" * 4090 + SECRET.encode() + b"y" * 5000, "x" * 4090 + "***yyy"),
        (b"", ""),
    ],
)
def test_text_that_is_no_json_is_masked_before_it_is_cut(content, text):
    """Escapes are undone first: half of a JSON document spells a letter in as many ways as a whole one."""
    assert masked_text(content, mask) == text
