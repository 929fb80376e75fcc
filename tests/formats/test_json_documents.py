"""JSON from an untrusted sender is bounded, read leniently if need be, and masked."""

import json
import math

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lemon_async._formats.base64_json import MAX_TEXT_BYTES
from lemon_async._formats.json_documents import MAX_LENIENT_BYTES, MAX_LENIENT_MARKS, MAX_MARKS, Unreadable, read_json

steady = settings(derandomize=True, deadline=None)
SECRET = "s3cr3t/k3y"


def mask(text):
    return text.replace(SECRET, "***")


# The lenient reading


ODD_CHARACTER_COSTS_ITSELF_ROWS = (
    (rb'"\ud83d"', "\ufffd"),
    (rb'"\ude00"', "\ufffd"),
    (rb'"\ud83d\ud83d\ude00 \ud83d\n"', "\ufffd😀 \ufffd\n"),
    (rb'"\ud83d \\ud83d"', "\ufffd \\ud83d"),
    (rb'{"\ud83d": 1}', {"\ufffd": 1}),
    (b'"cut \xf0\x9f\x98"', "cut \ufffd"),
    (b'"\xed\xa0\xbd"', "\ufffd\ufffd\ufffd"),
    (b'"caf\xe9"', "caf\ufffd"),
    (b'"a\nb\tc\0d\x1b"', "a\nb\tc\0d\x1b"),
    (b"[NaN, Infinity, -Infinity, 1e400, -1e400, 1.5]", [None, None, None, None, None, 1.5]),
    (b"[NaN, 9, -9, 18446744073709551615, -9223372036854775808]", [None, 9, -9, 2**64 - 1, -(2**63)]),
    (b"[NaN, 18446744073709551616, -9223372036854775809]", [None, 1.8446744073709552e19, -9.223372036854775808e18]),
    (b"[NaN, " + b"9" * 300 + b", " + b"9" * 5000 + b"]", [None, 1e300, None]),
    (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    (rb'"a \x1b b \' c \u12 d \\x \\\x e \""', "a \\x1b b \\' c \\u12 d \\x \\\\x e \""),
)


def test_odd_character_costs_itself_and_not_the_document():
    """Lone surrogates, other encodings, control characters, NaN, a byte order mark, odd escapes."""
    for body, value in ODD_CHARACTER_COSTS_ITSELF_ROWS:
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(body)
        assert read_json(body, mask) == value


def test_document_that_is_cut_or_goes_on_is_not_json():
    for body in (
        b"",
        b"{",
        b'{"a": 1',
        b'{"a": 1}}',
        b"{} {}",
        b'{"a": "\xff',
        b"\xef\xbb\xbf",
        b"[1,]",
        b"{'a': 1}",
        b"nan",
    ):
        with pytest.raises(ValueError) as caught:
            read_json(body, mask)
        assert not isinstance(caught.value, Unreadable)


def nested(depth, inside=b""):
    return b"[" * depth + inside + b"]" * depth


def test_document_is_nested_as_deeply_as_the_strict_parser_goes():
    found = read_json(nested(1000, b'"a"'), mask)
    for _ in range(1000):
        (found,) = found
    assert found == "a"


@pytest.mark.parametrize(
    "body",
    [nested(300, rb'"\n"'), nested(300, rb'"\n\ud83d"'), nested(5000, b"NaN")],
    ids=["with an escape", "with half an emoji", "deeper than the stack"],
)
def test_document_that_is_nested_too_deeply_is_unreadable(body):
    with pytest.raises(Unreadable, match="nested too deeply"):
        read_json(body, mask)


# Bounds


def test_document_of_more_values_than_the_bound_is_unreadable():
    for unit in (b"0,", b"[],", b"{},", b'"",', b'{"a":0},'):
        marks = sum(map(unit.count, (b",", b":", b"[", b"{")))
        fits = (MAX_MARKS - 2) // marks
        assert len(read_json(b"[" + unit * fits + b"0]", mask)) == fits + 1
        with pytest.raises(Unreadable, match=r"^a document of more than 65,536 values and names$"):
            read_json(b"[" + unit * (fits + 2) + b"0]", mask)


def test_list_of_500_models_with_60_fields_each_is_read():
    fields = {f"field_{n}": f"value {n}" for n in range(59)}
    models = [{"id": f"model-{n}", **fields} for n in range(500)]
    assert read_json(orjson.dumps({"object": "list", "data": models}), mask)["data"] == models


def test_document_of_more_text_than_the_bound_is_unreadable():
    assert len(read_json(b'"%b"' % (b"x" * (MAX_TEXT_BYTES - 2)), mask)) == MAX_TEXT_BYTES - 2
    with pytest.raises(Unreadable, match=r"^more than 1,048,576 bytes of text$"):
        read_json(b'"%b"' % (b"x" * (MAX_TEXT_BYTES - 1)), mask)


def test_lenient_reading_has_tighter_bounds():
    assert len(read_json(b'"\xff%b"' % (b"x" * (MAX_LENIENT_BYTES - 3)), mask)) == MAX_LENIENT_BYTES - 2
    assert len(read_json(b"[%bNaN]" % (b"0," * (MAX_LENIENT_MARKS - 1)), mask)) == MAX_LENIENT_MARKS
    with pytest.raises(Unreadable, match=r"^more than 196,608 bytes of text$"):
        read_json(b'"\xff%b"' % (b"x" * (MAX_LENIENT_BYTES - 2)), mask)
    with pytest.raises(Unreadable, match=r"^a document of more than 8,192 values and names$"):
        read_json(b"[%bNaN]" % (b"0," * MAX_LENIENT_MARKS), mask)


# Masking


def test_secret_is_masked_however_it_is_spelled():
    """In texts, names and large pictures, at any depth."""
    for body, value in (
        (b'"a s3cr3t/k3y"', "a ***"),
        (b'["s3cr3t/k3y", ["s3cr3t/k3y"], 5]', ["***", ["***"], 5]),
        (b'{"b": 1, "s3cr3t/k3y": {"a": [{"s3cr3t/k3y": "s3cr3t/k3y!"}]}}', {"b": 1, "***": {"a": [{"***": "***!"}]}}),
        (rb'"s3cr3t\/k3y"', "***"),
        (rb'{"\u0073\u0033cr3t\u002Fk3y": "\u0073\u0033cr3t\u002fk3y"}', {"***": "***"}),
        (rb'"\\\u00733cr3t\/k3y"', "\\***"),
        (rb'"\\u00733cr3t/k3y"', "\\u00733cr3t/k3y"),
        (rb'["\ud83d", "\u00733cr3t\/k3y", "s3cr3t/k3y"]', ["\ufffd", "***", "***"]),
        (b'{"b64_json": "' + b"A" * 300_000 + b's3cr3t/k3y"}', {"b64_json": "A" * 300_000 + "***"}),
        (nested(1000, b'"s3cr3t/k3y"'), orjson.loads(nested(1000, b'"***"'))),
    ):
        assert orjson_equal(read_json(body, mask), value)


def orjson_equal(found, value):
    """Compare without recursion."""
    while isinstance(found, list) and isinstance(value, list) and len(found) == len(value) == 1:
        found, value = found[0], value[0]
    return found == value


@pytest.mark.parametrize("secret", ["12345678", "rue,true", "0,0,0,0,", "[[[[[[[["])
def test_secret_that_reads_like_json_never_breaks_a_document(secret):
    """A key of digits may be part of any number; texts are masked, numbers are unchanged."""
    value = {"created": 1123456789, "odd": [True, True, 0, 0, 0, 0, 0, [[[[[[[[[]]]]]]]]]], "message": f"no {secret}!"}
    found = read_json(orjson.dumps(value), lambda text: text.replace(secret, "***"))
    assert found == {**value, "message": "no ***!"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "a", '\\"', SECRET, f"x{SECRET}y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", SECRET]), inner, max_size=3),
    max_leaves=20,
)


@steady
@given(json_values)
def test_document_of_anything_is_that_of_the_masked_text(parsed):
    content = orjson.dumps(parsed)
    assert read_json(content, mask) == orjson.loads(mask(content.decode()))


def texts_of(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from (name, *texts_of(item))


WORDS = [b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"u", b"ud83d", b"\xff", b"\0", b"NaN", b"1e400", b"9" * 30]
pieces = st.lists(st.sampled_from([*WORDS, b'"a"', b'{"a":', SECRET.encode()]) | st.binary(max_size=4), max_size=20)


@settings(steady, max_examples=80)
@given(pieces.map(b"".join))
@example(rb'"\ud83d\ude00\ude00"')
def test_document_of_anything_is_clean_or_not_json(body):
    """No surrogates, no infinity, no secret; strict JSON is unchanged otherwise."""
    try:
        value = read_json(body, mask)
    except ValueError:
        with pytest.raises(ValueError):
            orjson.loads(body)
        return
    assert not [text for text in texts_of(value) if SECRET in text or text.encode("utf-8", "replace") != text.encode()]
    assert not [number for number in json.dumps(value).split() if "NaN" in number or "Infinity" in number]


@pytest.mark.parametrize("odd", ["NaN", "Infinity", "1e400", "9" * 5000])
def test_numbers_of_the_lenient_reading_are_finite(odd):
    value = read_json(f'{{"progress": {odd}, "message": "\xff"}}'.encode("latin-1"), mask)["progress"]
    assert value is None or math.isfinite(value)
