"""A secret that a sender quotes is in nothing that is made of what was sent."""

import sys
import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.api.masking import masked, masked_json, masked_text

steady = settings(derandomize=True, deadline=None)
SECRET = "s3cr3t/k3y"
LONG = "A" * 300_000


def mask(text):
    return text.replace(SECRET, "***")


@pytest.mark.parametrize(
    ("parsed", "words"),
    [
        (f"a {SECRET}", "a ***"),
        ([SECRET, [SECRET], 5], ["***", ["***"], 5]),
        ({SECRET: {"a": [{SECRET: f"{SECRET}!"}]}}, {"***": {"a": [{"***": "***!"}]}}),
        ({"b64_json": SECRET, "url": f"data:{SECRET}"}, {"b64_json": "***", "url": "data:***"}),
        ({"message": LONG + SECRET}, {"message": LONG + "***"}),
        (None, None),
        (1.5, 1.5),
        ({}, {}),
        ([], []),
    ],
)
def test_every_text_and_every_name_is_masked(parsed, words):
    assert masked(parsed, mask) == words


def test_order_of_names_stays():
    assert list(masked({"b": 1, SECRET: 2, "a": 3}, mask)) == ["b", "***", "a"]


@pytest.mark.parametrize(("name", "text"), [("b64_json", LONG), ("url", f"data:image/png;base64,{LONG}")])
def test_large_picture_is_not_searched(name, text):
    """Megabytes of base64 hold no plain text, and searching them takes time."""
    searched = []
    masked({name: text}, lambda word: searched.append(word) or word)
    assert searched == [name]


def test_nesting_deeper_than_the_stack_is_masked():
    """As deep as the parser goes, and deeper than Python calls itself."""
    parsed = orjson.loads("[" * 1000 + f'"{SECRET}"' + "]" * 1000)
    for _ in range(10 * sys.getrecursionlimit()):
        parsed = [parsed]
    found = masked(parsed, mask)
    while isinstance(found, list):
        (found,) = found
    assert found == "***"


json = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "a", SECRET, f"x{SECRET}y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", SECRET]), inner, max_size=3),
    max_leaves=20,
)


@steady
@given(json)
def test_masked_json_of_anything_is_that_of_the_masked_text(parsed):
    assert masked(parsed, mask) == orjson.loads(mask(orjson.dumps(parsed).decode()))


def test_inline_answer_of_pictures_costs_no_search():
    """What is masked of ten large pictures is their names."""
    parsed = {"created": 1, "data": [{"b64_json": "A" * 10_000_000} for _ in range(10)]}
    started = time.perf_counter()
    masked(parsed, mask)
    assert time.perf_counter() - started < 0.01


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


@pytest.mark.parametrize(
    ("words", "is_walked"),
    [
        ("a cat", False),
        ("https:\\/\\/a", False),
        ("\\\\/", True),
        (SECRET, True),
        ("a\\ncat", True),
        (SECRET.replace("/", "\\/"), True),
    ],
    ids=["plain", "slashes", "a backslash", "quoted", "escaped", "quoted with an escape"],
)
@pytest.mark.parametrize("entries", [1, 50_000])
def test_document_is_walked_through_only_if_it_may_quote_the_secret(entries, words, is_walked):
    """However long it is: one look at its text tells, and is much quicker."""
    asked = []
    content = b"[%b]" % b",".join([b'{"url":"https://cdn.test/1"}'] * entries + [b'"%b"' % words.encode()])
    parsed = masked_json(content, lambda text: asked.append(text) or mask(text))
    assert (len(asked) > 1) == is_walked
    assert SECRET not in parsed[-1]
    assert parsed[0] == {"url": "https://cdn.test/1"}
