"""A value of an unexpected type counts as missing; nothing else is lost to it."""

import base64
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._api.response import fault_of, id_of, snapshot_fields, text_of
from lemon_async.types import Billing, ImageData, Inline, TaskFault, TaskSnapshot

steady = settings(derandomize=True, deadline=None)


class Same(Inline):
    """Equal to any other that came from the same base64."""

    __hash__ = None

    def __init__(self, text):
        super().__init__(base64.b64decode(text))

    def __eq__(self, other):
        return isinstance(other, Inline) and self.content == other.content


LINK = "https://cdn.example/1.png"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


def read(value):
    return TaskSnapshot(**snapshot_fields(value))


def test_text_is_not_empty():
    for value, text in (("a\nb", "a\nb"), ("", None), (None, None), (5, None), (b"a", None)):
        assert text_of(value) == text


def test_id_is_text_on_one_line():
    for value, id_ in (
        ("t1", "t1"),
        ("猫", "猫"),
        *((odd, None) for odd in ("", "t\n1", "t\x1b[2J", "\u202et1", 5, None, ["t1"], True)),
    ):
        assert id_of(value) == id_


def test_snapshot_of_nothing_is_empty():
    assert read({}) == TaskSnapshot()


def test_snapshot_is_read_by_the_services_names_alone():
    """`images`, `fault`, `is_cancelled` and `billing` are names of the library, not of the service."""
    ours = {"images": [{"url": LINK}], "fault": "no", "is_cancelled": True, "billing": {"transaction_id": "tx_1"}}
    assert read(ours) == TaskSnapshot()
    theirs = {"data": [{"url": LINK}], "error": "no", "cancelled": True, "task_id": "t1", "poll_url": "/v1/tasks/t1"}
    assert read({**theirs, "status": "failed", "model": "flux-pro"}) == TaskSnapshot(
        status="failed",
        task_id="t1",
        poll_url="/v1/tasks/t1",
        images=(ImageData(url=LINK),),
        model="flux-pro",
        fault=TaskFault("no"),
        is_cancelled=True,
        billing=Billing(),
    )


def test_odd_text_of_a_snapshot_counts_as_missing():
    for odd in (None, "", 5, True, [], {}):
        found = read({"task_id": odd, "poll_url": odd, "model": odd})
        assert (found.task_id, found.poll_url, found.model) == (None, None, None)


FAILED_TASK_GIVES_ITS_ROWS = (
    ("out of paint", TaskFault("out of paint")),
    ({"message": "out of paint"}, TaskFault("out of paint")),
    ({"message": "out of paint", "code": "no_paint"}, TaskFault("out of paint", "no_paint")),
    ({"code": "no_paint"}, TaskFault("no_paint", "no_paint")),
    ({"message": 5, "code": "no_paint"}, TaskFault("no_paint", "no_paint")),
    ({"message": "out of paint", "code": 5}, TaskFault("out of paint")),
    ("two\r\nlines\x1b[2J", TaskFault("two lines [2J")),
    ({"message": "two\r\nlines\x1b[2J", "code": "no\npaint"}, TaskFault("two lines [2J", "no paint")),
    ("", None),
    (" \n", None),
    (None, None),
    (5, None),
    ([], None),
    ({}, None),
    ({"message": ""}, None),
    ({"detail": "x"}, None),
)


def test_failed_task_gives_its_reason_as_text_or_object_alike():
    """A string on the page "Get image status", an object `{code, message}` elsewhere; both become printable text."""
    for error, fault in FAILED_TASK_GIVES_ITS_ROWS:
        found = read({"status": "failed", "error": error})
        assert found.fault == fault_of(error) == fault
        assert found.is_done


def test_cancelled_task_has_a_true_flag():
    for cancelled, is_cancelled in ((True, True), (False, False), (None, False), ("true", False), (1, False)):
        value = {"status": "failed", "cancelled": cancelled, "cancellation_status": "cancelled"}
        assert read(value).is_cancelled is is_cancelled


PROGRESS_IS_A_NUMBER_ROWS = (
    (45, 45.0),
    (0.45, 0.45),
    ("45%", 45.0),
    (" 45 % ", 45.0),
    ("45", 45.0),
    (0, 0.0),
    ("half", None),
    ("", None),
    ("nan", None),
    ("inf", None),
    ("1e400", None),
    (10**12, None),
    (True, None),
    (None, None),
    ([45], None),
    ({}, None),
)


def test_progress_is_a_number_however_it_is_written():
    for progress, number in PROGRESS_IS_A_NUMBER_ROWS:
        assert read({"progress": progress}).progress == number


def test_created_is_whole_seconds_however_it_is_written():
    for created, seconds in (
        *((value, 1706000000) for value in (1706000000, 1706000000.9, "1706000000")),
        *((value, None) for value in ("2024-01-23T08:53:20Z", None, True, [], "nan", 2**63)),
    ):
        assert read({"created": created}).created == seconds


def test_status_is_a_short_printable_word():
    for status, word in (
        (" completed\r\n", "completed"),
        ("in\x1b[2J queue", "in [2J queue"),
        ("x" * 99, "x" * 64),
        ("\0", ""),
        (5, ""),
        (None, ""),
    ):
        assert read({"status": status}).status == word


IMAGE_IS_A_LINK_ROWS = (
    ({"url": LINK}, ImageData(url=LINK)),
    ({"b64_json": PIXEL}, ImageData(inline=Same(PIXEL))),
    ({"url": LINK, "b64_json": PIXEL}, ImageData(url=LINK, inline=Same(PIXEL))),
    ({"url": "", "b64_json": PIXEL}, ImageData(inline=Same(PIXEL))),
    (
        {"url": None, "b64_json": PIXEL, "revised_prompt": "a cat"},
        ImageData(inline=Same(PIXEL), revised_prompt="a cat"),
    ),
    ({"url": LINK, "b64_json": None, "revised_prompt": ["odd"]}, ImageData(url=LINK)),
    ({"url": LINK, "b64_json": 5, "odd": {}}, ImageData(url=LINK)),
    ({"url": 5, "b64_json": PIXEL}, ImageData(inline=Same(PIXEL))),
    ({"url": f"data:image/png;base64,{PIXEL}"}, ImageData(inline=Same(PIXEL))),
    ({"url": PIXEL}, ImageData(inline=Same(PIXEL))),
    ({"url": "a/b.png"}, ImageData(url="a/b.png")),
    ({"b64_json": f"data:image/png;base64,{PIXEL}"}, ImageData(inline=Same(PIXEL))),
    ({"b64_json": f"data:;base64,{PIXEL}"}, ImageData(inline=Same(PIXEL))),
    ({"url": LINK, "b64_json": f"data:image/png;base64,{PIXEL}"}, ImageData(url=LINK, inline=Same(PIXEL))),
    (
        {"url": f"data:image/png;base64,{PIXEL}", "revised_prompt": "a cat"},
        ImageData(inline=Same(PIXEL), revised_prompt="a cat"),
    ),
    ({"url": "data:image/svg+xml,<svg/>"}, ImageData(url="data:image/svg+xml,<svg/>")),
    ({"url": "https://cdn.example/data:;base64,x"}, ImageData(url="https://cdn.example/data:;base64,x")),
)


def test_image_is_a_link_or_bytes_whatever_stands_beside_it():
    for entry, image in IMAGE_IS_A_LINK_ROWS:
        assert read({"data": [entry]}).images == (image,)


def test_placeholder_is_no_image():
    for entry in (
        *(None, 5, LINK, [], {}, {"url": ""}, {"url": None}, {"b64_json": ""}, {"revised_prompt": "a cat"}, {"url": 5}),
        *({"url": "data:image/png;base64,"}, {"b64_json": "data:image/png;base64,"}),
    ):
        assert read({"data": [entry]}).images == ()
        assert read({"data": [entry, {"url": LINK}, entry]}).images == (ImageData(url=LINK),)


def test_data_of_another_shape_holds_no_images():
    for data in (None, 5, "x", {}, {"url": LINK}):
        assert read({"data": data}).images == ()


def test_data_is_read_up_to_a_hundred_entries():
    """Ten images can be requested; a million entries would hold the event loop for seconds."""
    assert len(read({"data": [{"url": LINK}] * 1000}).images) == 100
    assert read({"data": [None] * 100 + [{"url": LINK}]}).images == ()


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from([LINK, PIXEL, "45%"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["status", "task_id", "poll_url", "created", "model", "progress", "error", "cancelled"]
entries = st.fixed_dictionaries({}, optional=dict.fromkeys(["url", "b64_json", "revised_prompt"], anything))


@steady
@given(
    st.fixed_dictionaries(
        {}, optional={**dict.fromkeys(NAMES, anything), "data": st.lists(entries | anything, max_size=3)}
    )
)
def test_snapshot_of_anything_is_read_with_the_promised_types(value):
    found = read(value)
    assert found.status.isprintable()
    assert all(text is None or text for text in (found.task_id, found.poll_url, found.model))
    assert all(image.is_usable for image in found.images)
    assert found.created is None or type(found.created) is int
    assert found.progress is None or math.isfinite(found.progress)
    assert found.fault is None or found.fault.message.isprintable()
