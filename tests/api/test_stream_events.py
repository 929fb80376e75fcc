"""Streams of events read the same wherever they are cut, and any event has a defined meaning."""

import base64
import itertools
import math
import re
import time
import tracemalloc

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lemon_async._api.response import MAX_BODY_BYTES, Unreadable
from lemon_async._api.stream_events import Event, EventSplitter, Failed, Final, Partial, Unclear, read_event
from lemon_async.types import Billing, ImageData, Inline, TaskFault

steady = settings(derandomize=True, deadline=None)
ODD_ERROR = "the stream has an error that is not the service's own"


class Same(Inline):
    """Equal to any other that came from the same base64."""

    __hash__ = None

    def __init__(self, text):
        super().__init__(base64.b64decode(text))

    def __eq__(self, other):
        return isinstance(other, Inline) and self.content == other.content


MARK = b"\xef\xbb\xbf"
ENDS = [b"\n", b"\r\n", b"\r"]
PIXEL = "iVBORw0KGgo="
LINK = "https://cdn.example/1.png"


def split(*pieces, **options):
    splitter = EventSplitter(**options)
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return [*events, *splitter.end()]


def model(stream):
    """Read a whole stream as the HTML standard says, and its last event even without a blank line."""
    events, name, data = [], "", []
    for line in [*re.split(rb"\r\n|\n|\r", stream.removeprefix(MARK)), b""]:
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode(errors="replace")
        elif not line:
            events += [Event(name, b"\n".join(data))] if any(data) or len(data) > 1 else []
            name, data = "", []
    return events


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (rb'{"error": "no \u00733cr3t"}', "no ***"),
        (rb'{"error": {"message": "no s3cr3t"}}', "no ***"),
        (rb'{"error": {"message": "no s3cr3t \ud83d"}}', "no *** \ufffd"),
        (b"no s3cr3t", "no ***"),
        (rb'{"error": "no \u00733cr3t', '{"error": "no ***'),
    ],
)
def test_secret_in_an_event_is_masked(data, words):
    """In its name and in any text made of its data; the data are unchanged."""
    stream = b"event: s3cr3t\ndata: {}\n\nevent: error\ndata: " + data
    odd, error = split(stream, mask=lambda text: text.replace("s3cr3t", "***"))
    assert odd[:2] == ("***", b"{}")
    assert error[:2] == ("error", data)
    assert read_event(error) == Unclear(f"{ODD_ERROR}: {words}")


# The framing ("Interpreting an event stream")


@pytest.mark.parametrize("end", ENDS)
def test_stream_is_read_with_any_end_of_line(end):
    lines = [b"event: a", b"data: 1", b"", b"data: 2", b"data: 3", b"", b""]
    assert split(end.join(lines)) == [Event("a", b"1"), Event("", b"2\n3")]


STREAM_IS_READ_AS_ROWS = (
    (b"", []),
    (b"\n\r\r\n", []),
    (b"data: 1\n\n", [Event("", b"1")]),
    (b"data:1\n\n", [Event("", b"1")]),
    (b"data:  1 \n\n", [Event("", b" 1 ")]),
    (b"data: a: b\n\n", [Event("", b"a: b")]),
    (b": a comment\n:\ndata: 1\n: another\n\n", [Event("", b"1")]),
    (b": keep-alive\n\n: keep-alive\n\n", []),
    (b"id: 7\nretry: 10\nodd\nDATA: x\ndata : x\ndata: 1\n\n", [Event("", b"1")]),
    (b"event: a\nevent: b\ndata: 1\n\n", [Event("b", b"1")]),
    (b"event: a\n\ndata: 1\n\n", [Event("", b"1")]),
    (b"event: \xff\ndata: \xff\n\n", [Event("\ufffd", b"\xff")]),
    (b"data\n\n", []),
    (b"data:\n\n", []),
    (b"data\ndata\n\n", [Event("", b"\n")]),
    (b"data: 1\r\r\ndata: 2\n\r", [Event("", b"1"), Event("", b"2")]),
    (MARK + b"data: 1\n\n", [Event("", b"1")]),
    (MARK, []),
    (MARK[:2], []),
    (MARK + MARK + b"data: 1\ndata: 2\n\n", [Event("", b"2")]),
    (b"data: 1\n\n" + MARK + b"data: 2\ndata: 3\n\n", [Event("", b"1"), Event("", b"3")]),
)


def test_stream_is_read_as_the_standard_says():
    for stream, events in STREAM_IS_READ_AS_ROWS:
        assert split(stream) == events
        assert split(*(stream[at : at + 1] for at in range(len(stream)))) == events
        assert model(stream) == events


def test_stream_without_its_last_blank_line_has_its_last_event():
    """A proxy that drops a line must not cost a picture; the standard would drop the event."""
    for tail in (b"", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r", b"\r\n\r\n"):
        assert split(b"event: a\ndata: 1\n\nevent: b\ndata: 2x" + tail) == [Event("a", b"1"), Event("b", b"2x")]


def test_stream_ends_once():
    splitter = EventSplitter()
    assert list(splitter.feed(b"data: 1")) == []
    assert list(splitter.end()) == [Event("", b"1")]
    assert list(splitter.end()) == []


def test_event_comes_as_soon_as_it_is_complete():
    """A preview is useful only before the next one."""
    splitter = EventSplitter()
    assert list(splitter.feed(b"data: 1\n")) == []
    assert list(splitter.feed(b"\n")) == [Event("", b"1")]
    assert list(splitter.feed(b"data: 2\r\n\r\ndata: 3")) == [Event("", b"2")]
    assert list(splitter.feed(b"\n\n")) == [Event("", b"3")]


def test_event_keeps_megabytes_out_of_its_repr():
    assert repr(Event("a", b"x" * 99)) == "<Event 'a', 99 bytes>"


chunks = st.sampled_from(
    [
        b"data: 1",
        b"data:",
        b"data",
        b"event: a",
        b"event: b",
        b": note",
        b"id: 1",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        MARK,
        b"x",
    ]
)
streams = st.lists(chunks | st.binary(max_size=4), max_size=14).map(b"".join)


@settings(steady, max_examples=80)
@given(streams, st.data())
@example(MARK + b"data: 1\r\n\r\n", None)
@example(b"data: 1\r\rdata: 2\r\n\n", None)
@example(b"data: 1\r\ndata: 2\r\n\r\n", None)
def test_stream_cut_anywhere_gives_the_same_events(stream, data):
    """For any number and size of pieces, including empty ones."""
    whole = split(stream)
    assert whole == model(stream)
    assert split(*(stream[at : at + 1] for at in range(len(stream)))) == whole
    if data is not None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        edges = [0, *cuts, len(stream)]
        assert split(*(stream[start:stop] for start, stop in itertools.pairwise(edges))) == whole


@steady
@given(st.lists(st.tuples(st.sampled_from(["", "a", "b.c"]), st.binary(min_size=1, max_size=9)), max_size=5), st.data())
def test_stream_of_events_round_trips(events, data):
    """With any line ends, and with comments."""
    events = [(name, re.sub(rb"[\r\n]", b"-", content)) for name, content in events]
    stream = data.draw(st.sampled_from([b"", MARK]))
    for name, content in events:
        lines = [b": note", b"event: " + name.encode(), b"data: " + content, b""]
        end = data.draw(st.sampled_from(ENDS))
        stream += b"".join(line + end for line in lines)
    cut = data.draw(st.integers(0, len(stream)))
    assert split(stream[:cut], stream[cut:]) == [Event(name, content) for name, content in events]


# Bounds


@pytest.mark.parametrize("pieces", [[b"x" * 11], [b"x" * 10, b"x"], [b"data: 1\n\n", b"\n\n"], [MARK, b"x" * 8]])
def test_stream_longer_than_its_bound_is_unreadable(pieces):
    with pytest.raises(Unreadable, match=r"^a stream of more than 10 bytes$"):
        split(*pieces, max_bytes=10)


def test_event_with_more_text_than_makes_sense_is_unreadable():
    with pytest.raises(Unreadable, match=r"^an event with more than 1,048,576 bytes of text beside its pictures$"):
        split(b"data: ", *[b"[" * 1_000_000] * 5, b"\n\n")


def test_stream_up_to_its_bound_is_read():
    assert split(b"data: 1\n\n", b"\n", max_bytes=10) == [Event("", b"1")]


def test_stream_is_bound_as_any_other_body():
    splitter = EventSplitter()
    assert splitter._max_bytes == MAX_BODY_BYTES


def test_stream_of_one_large_line_is_searched_once():
    """A picture is one line of megabytes, and arrives in thousands of pieces."""
    piece = b"x" * 16_384
    started = time.process_time()
    (event,) = split(b'data: {"b64_json": "', *[piece] * 2_000, b'"}\n\n')
    (inline,) = event.pictures.values()
    assert inline.size_bytes == 1_500 * len(piece)
    assert time.process_time() - started < 5


def test_stream_of_many_events_is_let_go_as_it_is_read(no_drawing):
    splitter = EventSplitter()
    piece = b"data: " + b"x" * 100_000 + b"\n\n"
    tracemalloc.start()
    try:
        for _ in range(100):
            assert len(list(splitter.feed(piece))) == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


# Meanings of events


def event(value, name=""):
    return Event(name, value if isinstance(value, bytes) else orjson.dumps(value))


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
@pytest.mark.parametrize("is_named", [True, False])
def test_preview_is_recognized_by_its_name(kind, is_named):
    """By `type`, as documented, or by the name of the event alone."""
    name = f"{kind}.partial_image"
    value = {"b64_json": PIXEL, "partial_image_index": 2, **({"type": name} if is_named else {})}
    assert read_event(event(value, "" if is_named else name)) == Partial(ImageData(inline=Same(PIXEL)), 2)


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
@pytest.mark.parametrize("is_named", [True, False])
def test_result_is_recognized_by_its_name(kind, is_named):
    name = f"{kind}.completed"
    value = {
        "b64_json": PIXEL,
        "created_at": 1706000000,
        "usage": {"total_tokens": 7},
        "billing_transaction_id": "tx_1",
        **({"type": name} if is_named else {}),
    }
    billing = Billing("tx_1", {"total_tokens": 7})
    assert read_event(event(value, "" if is_named else name)) == Final(
        ImageData(inline=Same(PIXEL)), 1706000000, billing
    )


DONE = "image_generation.completed"


def test_result_is_an_image_whatever_else_the_event_has():
    """It is paid for."""
    for fields, image in (
        ({"url": LINK, "revised_prompt": "a cat"}, ImageData(url=LINK, revised_prompt="a cat")),
        ({"url": "", "b64_json": PIXEL}, ImageData(inline=Same(PIXEL))),
        ({"b64_json": f"data:image/png;base64,{PIXEL}"}, ImageData(inline=Same(PIXEL))),
        ({"url": f"data:image/png;base64,{PIXEL}"}, ImageData(inline=Same(PIXEL))),
        ({"b64_json": PIXEL, "error": None}, ImageData(inline=Same(PIXEL))),
        ({"b64_json": PIXEL, "error": {}}, ImageData(inline=Same(PIXEL))),
        ({"b64_json": PIXEL, "error": {"message": "the preview failed"}}, ImageData(inline=Same(PIXEL))),
        ({"b64_json": PIXEL, "url": 5, "revised_prompt": []}, ImageData(inline=Same(PIXEL))),
    ):
        assert read_event(event({"type": DONE, **fields})) == Final(image, None, Billing())


def test_odd_numbers_of_an_event_are_left_out():
    for odd in (None, "soon", True, [], {}):
        assert read_event(event({"type": DONE, "b64_json": PIXEL, "created_at": odd})).created is None
        preview = {"type": "image_edit.partial_image", "b64_json": PIXEL, "partial_image_index": odd}
        assert read_event(event(preview)).number == 0


def test_number_of_a_preview_is_plausible():
    """It is used in file names and counts."""
    for given_index, index in ((0, 0), (3, 3), (1000, 1000), (1001, 0), (2**63, 0), (-5, 0)):
        preview = {"type": "image_edit.partial_image", "b64_json": PIXEL, "partial_image_index": given_index}
        assert read_event(event(preview)).number == index


NO_PAINT = TaskFault("out of paint", "no_paint")


def test_error_in_the_services_own_shape_is_a_failure():
    """A message, and a code that is a word."""
    for value, name, fault in (
        ({"type": "error", "message": "out of paint", "code": "no_paint"}, "", NO_PAINT),
        ({"message": "out\r\nof\x1b paint", "code": "no_paint"}, "error", NO_PAINT),
        ({"type": "error", "error": {"message": "out of paint", "code": "no_paint"}}, "", NO_PAINT),
        ({"error": {"message": "out of paint", "code": "no_paint"}}, "", NO_PAINT),
        ({"error": {"code": "no_paint"}}, "", TaskFault("no_paint", "no_paint")),
        ({"error": {"message": "late", "code": "late"}, "type": DONE}, "", TaskFault("late", "late")),
        (rb'{"error": {"message": "out of \ud83d", "code": "no_paint"}}', "", TaskFault("out of \ufffd", "no_paint")),
    ):
        assert read_event(event(value, name)) == Failed(fault)


ERROR_IN_ANOTHER_SHAPE_ROWS = (
    ({"type": "error", "error": {"message": "no upstream"}}, "", "no upstream"),
    (
        {"type": "error", "error": {"message": "no upstream", "code": None, "type": "server_error"}},
        "",
        "no upstream",
    ),
    ({"type": "error", "error": {"message": "no upstream", "code": 502}}, "", "no upstream"),
    ({"type": "error", "error": {"message": "no upstream", "code": "502"}}, "", "no upstream"),
    ({"type": "error", "message": "no upstream", "code": 502}, "", "no upstream"),
    ({"error": "no upstream"}, "", "no upstream"),
    ({"error": "late", "type": DONE}, "", "late"),
    ({"message": "no\r\nup\x1bstream"}, "error", "no up stream"),
    ({"detail": "no upstream"}, "error", '{"detail":"no upstream"}'),
    ({"type": "error"}, "", '{"type":"error"}'),
    ([], "error", "[]"),
    (b"not JSON", "error", "not JSON"),
    (b"\x01", "error", "nothing"),
    ({"error": "x" * 999}, "", "x" * 200),
)


def test_error_in_another_shape_leaves_the_outcome_unknown():
    """A gateway's number, a framework's `detail`, text: whether the job was accepted is unknown."""
    for value, name, words in ERROR_IN_ANOTHER_SHAPE_ROWS:
        assert read_event(event(value, name)) == Unclear(f"{ODD_ERROR}: {words}")


def test_error_without_a_message_ends_no_job():
    """A job reported as failed counts as released, and its caller may submit it again."""
    for error in (False, 0, "", {}, [], None):
        assert read_event(event({"error": error, "message": "still painting"}, "")) is None
        partial = {"error": error, "b64_json": PIXEL, "type": "image_edit.partial_image"}
        assert isinstance(read_event(event(partial, "")), Partial)


EVENT_ABOUT_SOMETHING_ELSE_ROWS = (
    (b"[DONE]", ""),
    (b"", ""),
    (b"\xff", DONE),
    (b'{"type": "' + DONE.encode() + b'", "b64_json": "cut', ""),
    (b"[" * 100_000, DONE),
    ([], DONE),
    ("text", DONE),
    (None, DONE),
    ({}, DONE),
    ({"type": DONE}, ""),
    ({"type": DONE, "b64_json": "", "url": ""}, ""),
    ({"type": "image_edit.partial_image", "b64_json": 5}, ""),
    ({"b64_json": PIXEL}, ""),
    ({"b64_json": PIXEL}, "ping"),
    ({"b64_json": PIXEL, "type": "image_generation.started"}, DONE),
    ({"b64_json": PIXEL, "error": None}, ""),
)


def test_event_about_something_else_is_ignored():
    for value, name in EVENT_ABOUT_SOMETHING_ELSE_ROWS:
        assert read_event(event(value, name)) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([DONE, "image_edit.partial_image", "error", "ping", ""]) | st.text(max_size=9)
NAMES = ["b64_json", "url", "error", "message", "code", "created_at", "partial_image_index", "usage", "revised_prompt"]
loose = json_values | st.sampled_from([PIXEL, LINK, f"data:;base64,{PIXEL}"])
shaped = st.fixed_dictionaries({}, optional={"type": names | json_values, **dict.fromkeys(NAMES, loose)})


@settings(steady, max_examples=80)
@given(names, (shaped | json_values).map(orjson.dumps) | st.binary(max_size=40))
def test_event_of_anything_is_read_without_raising(name, data):
    match read_event(Event(name, data)):
        case Partial(image, index):
            assert image.is_usable
            assert type(index) is int
        case Final(image, created, billing):
            assert image.is_usable
            assert created is None or (type(created) is int and math.isfinite(created))
            assert billing.headers == {}
        case Failed(fault):
            assert fault.message.isprintable()
        case Unclear(reason):
            assert reason.isprintable()
        case reading:
            assert reading is None
