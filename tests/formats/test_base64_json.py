"""Pictures are extracted wherever the pieces of a document begin, and the rest reads as it does whole."""

import base64
import itertools
import os
import tracemalloc

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lemon_async._api.response import read_image
from lemon_async._formats.base64_json import LONG_BYTES, PIECE_BYTES, RESERVE_BYTES, Base64Extractor, Extracted

steady = settings(derandomize=True, deadline=None)
LONG = 400  # in these tests: longer than the strings that are skipped in one step


def extracted(*pieces, long_bytes=LONG):
    extractor = Base64Extractor(long_bytes)
    for piece in pieces:
        extractor.feed(piece)
    return extractor.end()


def entries(document, pictures=()):
    """Return the entries of `data`, as bytes or faults."""
    read = [read_image(entry, pictures or {}) for entry in orjson.loads(document)["data"]]
    return [
        (image.url, image.inline and (image.inline.content, image.inline.fault), image.revised_prompt) for image in read
    ]


def text_of(size, *, seed=0):
    return base64.b64encode(bytes((seed + at * 7) % 256 for at in range(size))).decode()


def pieces_of(document, size):
    return [document[at : at + size] for at in range(0, len(document), size)]


PICTURE = text_of(1200)
PHP = PICTURE.replace("/", "\\/")
ODD = [
    ("plain", PICTURE),
    ("two bytes", text_of(1201)),
    ("one byte", text_of(1202)),
    ("without padding", text_of(1201).rstrip("=")),
    ("doubled padding", text_of(1201) + "=="),
    ("slashes escaped", PHP),
    ("all escaped", "".join(f"\\u{ord(letter):04X}" for letter in PICTURE)),
    ("lines", "\\n".join(pieces_of(PICTURE, 76))),
    ("lines of Windows", "\\r\\n".join(pieces_of(PICTURE, 76)) + "\\r\\n"),
    ("address", f"data:image/png;base64,{PICTURE}"),
    ("address of PHP", f"data:image\\/png;base64,{PHP}"),
    ("address of another kind", f"data:image/svg+xml,{PICTURE}"),
    ("padding within", f"{text_of(1201)}{PICTURE}"),
    ("padding after padding", f"{text_of(1201)}\\n{PICTURE[:3]}"),
    ("one left over", PICTURE + "A"),
    ("stops being base64", PICTURE + "?" + PICTURE),
    ("begins with none", "?" + PICTURE),
    ("a backslash", PICTURE + "\\\\/" + PICTURE),
    ("a quote", PICTURE + '\\"' + PICTURE),
    ("another script", PICTURE + "\\u00e9é" + PICTURE),
    ("words", "a white cat " * 90),
]


def content_of(text):
    """Return the picture in a string, by a slow reference implementation."""
    letters = "".join(text.removeprefix("data:image/png;base64,").split()).rstrip("=")
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except ValueError:
        return None


def test_document_in_pieces_of_any_size_reads_as_it_does_whole():
    for text in [text for _, text in ODD]:
        document = f'{{"created": 1, "data": [{{"b64_json": "{text}"}}, {{"url": "u"}}], "x": "\\\\"}}'.encode()
        expected = content_of(orjson.loads(document)["data"][0]["b64_json"])
        for size in (1, 2, 3, 5, 64, LONG, LONG + 1, 500, 10_000):
            result = extracted(*pieces_of(document, size))
            (_, (content, fault), _), other = entries(result.skeleton, result.pictures)
            assert (content, fault is None, other) == (expected, expected is not None, ("u", None, None))
            assert len(result.pictures) == 1
            assert orjson.loads(result.skeleton)["x"] == "\\"
        assert entries(document)[0][1][0] == expected


def test_bad_escape_in_a_picture_is_the_fault_of_that_picture():
    """By itself, it would make the whole document unreadable."""
    document = f'{{"data": [{{"b64_json": "{PICTURE}\\q{PICTURE}"}}, {{"b64_json": "{PICTURE}"}}]}}'.encode()
    result = extracted(document)
    bad, good = result.pictures.values()
    assert (bad.content, bad.fault is None) == (None, False)
    assert good.content == content_of(PICTURE)
    orjson.loads(result.skeleton)


def test_link_is_extracted_if_it_is_base64():
    for text, is_extracted in (
        (PICTURE, True),
        (PHP, True),
        (f"data:image/png;base64,{PICTURE}", True),
        (f"data:image/png;base64,?{PICTURE}", True),
        (f"data:image/svg+xml,{PICTURE}", False),
        ("a white cat, " * 90, False),
        ("\\n?" * 400, False),
        ("https://cdn.test/" + "a" * 900, False),
        ("a_b-c" * 200, True),
        ("a b:c" * 200, False),
        ("\\\\" * 400, False),
    ):
        document = f'{{"url": "{text}", "b": {{"url" :\n"{text}"}}}}'.encode()
        for size in (1, 7, 500, 10_000):
            result = extracted(*pieces_of(document, size))
            assert len(result.pictures) == 2 * is_extracted
            assert is_extracted or result.skeleton == document
            orjson.loads(result.skeleton)


def test_text_of_another_name_stays_whatever_it_looks_like():
    """Words are valid base64, too."""
    for text in ("a white cat " * 90, PICTURE, PHP):
        for name in ("revised_prompt", "message", "curl", "b64\\u005fjson"):
            document = f'{{"{name}": "{text}", "data": ["b64_json", "{text}", "url", "{text}"]}}'.encode()
            for size in (1, 7, 500, 10_000):
                assert extracted(*pieces_of(document, size)) == Extracted(document, {})


@pytest.mark.parametrize("name", ["revised_prompt", "message"])
def test_address_that_holds_base64_is_extracted_under_any_name(name):
    document = f'{{"{name}": "data:image/png;base64,{PICTURE}"}}'.encode()
    assert len(extracted(document).pictures) == 1


@pytest.mark.parametrize(
    "document", [b'"' + b"QUJD" * 20 + b"\\ud800" * 200 + b'"', b" " * 50 + b'"' + b"?" * 380 + b'"', b'"' + b"?" * 600]
)
def test_document_without_base64_stays_as_it_came(document):
    """Invalid JSON, a medium string at the end of a piece, a long string that is cut."""
    assert extracted(document).skeleton == document


def test_document_that_is_cut_is_no_json_and_reads_as_it_came():
    for cut in (1, 30, 200, 700, 1000, 1600):
        document = f'{{"data": [{{"b64_json": "{PICTURE}"}}]}}'.encode()[:cut]
        for size in (1, 50, 1000):
            skeleton = extracted(*pieces_of(document, size)).skeleton
            assert skeleton[:60] == document[:60]
            with pytest.raises(orjson.JSONDecodeError):
                orjson.loads(skeleton)


def test_short_document_is_its_own_skeleton():
    document = f'{{"data": [{{"b64_json": "{PICTURE}"}}]}}'.encode()
    assert extracted(*pieces_of(document, 9), long_bytes=LONG_BYTES).skeleton == document
    assert extracted().skeleton == b""


def test_text_that_stands_for_a_picture_cannot_be_quoted():
    """Each response has a different token, which cannot be guessed."""
    document = f'{{"b64_json": "{PICTURE}"}}'.encode()
    (one,), (other,) = extracted(document).pictures, extracted(document).pictures
    assert one != other
    assert orjson.loads(extracted(document).skeleton)["b64_json"].startswith("base64, left out (")


texts = st.sampled_from([text for _, text in ODD] + ["", "a", "\\n", "\\u00e9", "\\\\"])
strings = texts.map(lambda text: f'"{text}"')
named = st.tuples(st.sampled_from(["b64_json", "url", "x", "revised_prompt"]), strings | st.sampled_from(["1", "null"]))
objects = st.lists(named, max_size=4, unique_by=lambda pair: pair[0]).map(
    lambda pairs: "{" + ", ".join(f'"{name}" : {value}' for name, value in pairs) + "}"
)
documents = st.lists(objects, max_size=4).map(lambda inner: f'{{"data": [{", ".join(inner)}]}}'.encode())


@settings(steady, max_examples=80)
@given(documents, st.data())
def test_document_cut_anywhere_holds_the_same_pictures(document, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(document)), max_size=6)))
    pieces = [document[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(document)])]
    whole, result = extracted(document), extracted(*pieces)
    assert len(whole.pictures) == len(result.pictures)
    for one, other in zip(whole.pictures.values(), result.pictures.values(), strict=True):
        assert (one.content, one.fault is None) == (other.content, other.fault is None)
    bare = [
        b"".join(each.skeleton.split(name.encode())) for each in (whole, result) for name in [*each.pictures, "|"][:1]
    ]
    assert len(whole.skeleton) == len(result.skeleton)
    assert bare
    for entry, same in zip(entries(document), entries(result.skeleton, result.pictures), strict=True):
        assert (entry[1] and entry[1][0]) == (same[1] and same[1][0]) or same[0] is None


@settings(steady, max_examples=80)
@given(
    st.lists(
        st.sampled_from(
            [b'"', b"\\", b"\\u00", b"41", PICTURE.encode(), b'"b64_json":"', b"=", b"\xff", b"data:;base64,"]
        )
        | st.binary(max_size=5),
        max_size=30,
    ),
    st.integers(1, 300),
)
@example([b'"', PICTURE.encode(), b"\\"], 1)
@example([b'"b64_json":"', PICTURE.encode(), b"\\u00"], 2)
def test_extraction_never_raises(parts, size):
    """Except for damaged strings, a document is valid without its pictures only if it is valid as a whole."""
    document = b"".join(parts)
    result = extracted(*pieces_of(document, size))
    if not result.pictures:
        assert result.skeleton[:100] == document[:100]
        assert len(result.skeleton) <= len(document)


# Bounds


def test_large_response_is_extracted_without_a_copy_of_its_text(no_drawing):
    """Four pictures of 2 MiB: their bytes are the only large thing in memory."""
    contents = [os.urandom(2 << 20) for _ in range(4)]
    data = b",".join(b'{"b64_json":"%b"}' % base64.b64encode(content) for content in contents)
    pieces = pieces_of(b'{"data":[%b]}' % data, PIECE_BYTES)
    tracemalloc.start()
    try:
        result = extracted(*pieces, long_bytes=LONG_BYTES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [inline.content for inline in result.pictures.values()] == contents
    assert peak < RESERVE_BYTES + sum(map(len, contents))


def test_text_around_pictures_is_bounded():
    """Parsing megabytes holds the loop, with or without pictures."""
    picture = b'{"b64_json":"%b","x":"' % (b"QUJD" * 30_000)
    result = extracted(picture, *[b"?" * PIECE_BYTES] * 9, b'"}', long_bytes=LONG_BYTES)
    assert (result.skeleton, result.pictures) == (b"", {})
    assert result.fault == "more than 1,048,576 bytes of text beside its pictures"
    assert extracted(*[b"[" * PIECE_BYTES] * 9, long_bytes=LONG_BYTES).fault == result.fault
    assert extracted(*[b"[" * PIECE_BYTES] * 8, long_bytes=LONG_BYTES).fault is None


def test_flood_of_small_things_is_walked_through_once():
    for flood in (b'"",', b'"\\n",', b'"' + b"\\n" * 20 + b'",', b"[", b'"' + b"a" * 3000 + b'",'):
        document = b"[" + flood * (1_000_000 // len(flood))
        assert extracted(*pieces_of(document, PIECE_BYTES), long_bytes=LONG_BYTES).skeleton == document


def test_extracted_document_has_a_repr_without_its_text():
    """It quotes prompts, and may be large."""
    assert repr(Extracted(b"SECRET" * 9)) == "<Extracted 54 bytes, 0 pictures, fault=None>"
