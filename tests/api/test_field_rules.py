"""The rows of the field tables ("Create image", "Edit image"), for every model."""

import attrs
import pytest

from lemon_async._api.families import LABEL, RULES
from lemon_async._api.validation import check
from lemon_async.requests import EditRequest, GenerateRequest, VariationRequest
from lemon_async.types import Problem

ONE_LINE = "must be one line of text and not empty"
WORDS = (
    ONE_LINE,
    ["a", "two words", "Ünïcode 猫", "a" * 1000],
    ["", "a\nb", "a\rb", "a\0b", "a\tb", "\x1b[2J", "\u2028", "\ud800", 5, b"a", ["a"]],
)


def whole(low, high):
    advice = f"must be a whole number from {low} to {high}"
    return advice, [low, low + 1, high], [low - 1, high + 1, -1, True, False, float(low), str(low), [low]]


ROWS = {
    "prompt": (
        "must be text and not empty",
        ["a", "a\ncat\twith\rlines", "猫" * 10_000],
        ["", " ", "\n\t", None, 5, b"a cat", ["a cat"]],
    ),
    "model": WORDS,
    "n": whole(1, 10),
    "size": (
        "must be 'auto' or WIDTHxHEIGHT, like 1024x1024",
        ["auto", "1x1", "99999x99999", "256x1024"],
        [
            *("100000x1", "1x100000", "0x1", "1x0", "01x1", "-1x1", "1.5x1", "1\u0660x1\u0660", "1x1\n", " 1x1", "x"),
            *("1024X1024", "1024\u00d71024", "1024", "", " auto", "Auto", "auto\n", 1024, (1024, 1024), ["auto"]),
        ],
    ),
    "aspect_ratio": (
        "must be WIDTH:HEIGHT, like 16:9",
        ["1:1", "16:9", "9:16", "3:2", "2:3", "999:999"],
        [
            *("1000:1", "1:1000", "0:1", "1:0", "16/9", "16:9:1", "16 : 9", "", ":", "1:1\n"),
            *("1\u0660:9", 1.5, ("16", "9")),
        ],
    ),
    "resolution": ("must be one of 1k, 2k, 4k", ["1k", "2k", "4k"], ["8k", "1K", "", "1024", 1, ["1k"]]),
    "quality": WORDS,
    "style": WORDS,
    "response_format": ("must be one of url, b64_json", ["url", "b64_json"], ["b64", "URL", "", 1, {"url"}]),
    "async_": ("must be True or False", [True, False], [1, 0, "true", "", []]),
    "background": WORDS,
    "output_format": WORDS,
    "output_compression": whole(0, 100),
    "compression": whole(0, 100),
    "moderation": WORDS,
    "partial_images": whole(0, 3),
    "user": WORDS,
}
every_row = pytest.mark.parametrize("field", ROWS)
UNKNOWN_MODEL = {"prompt": "a cat", "model": "acme-paint-9"}


def test_every_field_has_its_row():
    """Except the pictures and the label, which have separate rules, and unknown fields."""
    assert list(RULES) == list(ROWS)
    names = {name for kind in (GenerateRequest, EditRequest, VariationRequest) for name in attrs.fields_dict(kind)}
    assert names == {*ROWS, "image", "mask", "label", "extra"}


def test_row_of_a_field_accepts_documented_values():
    for field, (_, accepted, _) in ROWS.items():
        assert all(RULES[field].accepts(value) for value in accepted)


def test_row_of_a_field_refuses_other_values():
    for field, (fault, _, refused) in ROWS.items():
        assert not any(RULES[field].accepts(value) for value in refused)
        assert f"must be {RULES[field].words}" == fault


@every_row
@pytest.mark.parametrize("kind", [GenerateRequest, EditRequest, VariationRequest])
def test_row_of_a_field_holds_in_every_request_that_has_it(kind, field):
    """For a model of no family, too; problems have the name on the wire."""
    names = attrs.fields_dict(kind)
    if field not in names:
        return
    fault, accepted, refused = ROWS[field]
    basis = {name: value for name, value in {**UNKNOWN_MODEL, "image": b"\x89PNG"}.items() if name in names}
    for value in accepted:
        assert check(kind(**basis | {field: value})) == ()
    for value in refused:
        if value is not None or field == "prompt":
            assert check(kind(**basis | {field: value})) == (Problem(field.rstrip("_"), fault),)


def test_row_of_a_field_that_is_not_set_is_not_asked():
    for field in [field for field in ROWS if field != "prompt"]:
        assert check(GenerateRequest("a cat", **{field: None})) == ()


@pytest.mark.parametrize("label", ["sku-17", "é", "a b", "x" * 200])
def test_label_is_one_line(label):
    assert LABEL.accepts(label)
    assert check(GenerateRequest("a cat", label=label)) == ()


def test_label_that_is_not_a_short_line_is_refused():
    """It would appear in tokens, logs and error messages."""
    for kind in (GenerateRequest, EditRequest, VariationRequest):
        for label in ("", "x" * 201, "a\nb", "a\rb", "\x00", "\x1b[31m", "\ud83d", "\u2028", 17, b"sku"):
            basis = {"prompt": "a cat", "image": b"\x89PNG"}
            request = kind(
                **{name: value for name, value in basis.items() if name in attrs.fields_dict(kind)}, label=label
            )
            assert check(request) == (
                Problem("label", "must be one line of text, not empty, of at most 200 characters"),
            )


def test_field_of_the_service_that_is_named_label_can_be_sent():
    """The library's label is never sent, so there is no conflict."""
    assert check(GenerateRequest("a cat", extra={"label": "theirs"}, label="ours")) == ()
