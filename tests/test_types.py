"""Snapshots, files, models and counts as data."""

import pickle

import attrs
import pytest

from lemon_async.types import Billing, ImageData, Inline, Model, Record, StoredFile, TaskFault, TaskSnapshot


def test_image_data_is_usable_with_a_link_or_with_bytes():
    for image, is_usable in (
        (ImageData(), False),
        (ImageData(url=""), False),
        (ImageData(url="", inline=None), False),
        (ImageData(revised_prompt="a cat"), False),
        (ImageData(url="https://cdn.example/1.png"), True),
        (ImageData(inline=Inline(b"x")), True),
        (ImageData(url="", inline=Inline(None, "odd")), True),
    ):
        assert image.is_usable is is_usable


def test_image_data_gives_its_bytes():
    """The previews in an error can be read."""
    assert ImageData(inline=Inline(b"hat")).content() == b"hat"
    assert ImageData(url="u").content() == b""


def test_bytes_that_were_dropped_are_gone():
    """From every copy of the entry; their number is still known."""
    inline = Inline(b"hat")
    image = ImageData(inline=inline)
    inline.drop()
    assert (image.is_usable, inline.size_bytes, inline.fault) == (True, 3, None)
    with pytest.raises(ValueError, match="the bytes were dropped"):
        image.content()
    with pytest.raises(ValueError, match="odd"):
        ImageData(inline=Inline(None, "odd")).content()


def test_bytes_of_a_picture_are_pickled_and_equal_to_themselves_alone():
    inline = Inline(b"hat")
    copied = pickle.loads(pickle.dumps(inline))
    assert (copied.content, copied.fault, copied.size_bytes) == (b"hat", None, 3)
    assert inline != copied
    assert len({inline, copied}) == 2


@pytest.mark.parametrize(
    ("inline", "words"),
    [
        (Inline(b"A" * 9999), "<Inline 9,999 bytes>"),
        (Inline(None, "odd"), "<Inline 0 bytes at fault: odd>"),
        (Inline(None), "<Inline 0 bytes, dropped>"),
    ],
)
def test_image_data_keeps_megabytes_out_of_its_repr(inline, words):
    assert repr(ImageData(url="u", inline=inline)) == f"ImageData(url='u', inline={words}, revised_prompt=None)"


def test_snapshot_is_done_with_a_documented_final_status():
    """The page "Get image status" knows `pending`, `processing`, `completed` and `failed`."""
    for status, is_done in (
        ("pending", False),
        ("processing", False),
        ("completed", True),
        ("failed", True),
        ("", False),
        ("queued", False),
    ):
        assert TaskSnapshot(status=status).is_done is is_done


def test_snapshot_is_written_with_names():
    with pytest.raises(TypeError):
        TaskSnapshot("pending")


def test_snapshot_is_empty_by_default():
    assert TaskSnapshot() == TaskSnapshot(
        status="",
        task_id=None,
        poll_url=None,
        images=(),
        created=None,
        model=None,
        progress=None,
        fault=None,
        is_cancelled=False,
        billing=Billing(transaction_id=None, usage=None, headers={}),
    )


def test_fault_has_no_code_by_default():
    assert TaskFault("out of paint") == TaskFault("out of paint", code=None)


def test_billing_is_empty_by_default():
    assert Billing() == Billing(transaction_id=None, usage=None, headers={})
    assert Billing().headers is not Billing().headers


def test_file_is_named_by_its_id_alone():
    """That is enough for an edit."""
    file = StoredFile("file-abc123")
    assert attrs.asdict(file) == {
        "id": "file-abc123",
        **dict.fromkeys(("filename", "size_bytes", "purpose", "created_at", "status", "model")),
        "raw": {},
    }
    with pytest.raises(TypeError):
        StoredFile("file-abc123", "cat.png")


@pytest.mark.parametrize("kind", [StoredFile, Model])
def test_raw_answer_counts_neither_for_equality_nor_for_the_repr(kind):
    one, other = kind("x", raw={"a": 1}), kind("x", raw={"b": "secret"})
    assert one == other
    assert one != kind("y")
    assert "secret" not in repr(other)
    assert pickle.loads(pickle.dumps(one)).raw == {"a": 1}


DETAILS = {
    "category": "image",
    "pricing_unit": "per_image",
    "supported_operations": ["generate", "edit"],
    "agent_preferences": {"image": {"preferred_rank": 1, "success_rate_24h": 0.99}},
}


def test_model_reads_its_details():
    model = Model("flux-pro", lemondata=DETAILS)
    assert model.category == "image"
    assert model.pricing_unit == "per_image"
    assert model.supported_operations == ("generate", "edit")
    assert model.preference == {"preferred_rank": 1, "success_rate_24h": 0.99}


def test_model_ignores_odd_details():
    for odd in (None, 5, True, {}, {"image": None}, {"image": [1]}, {"image": "first"}):
        model = Model("flux-pro", lemondata=dict.fromkeys(DETAILS, odd))
        assert (model.category, model.pricing_unit, model.supported_operations) == (None, None, ())
        assert model.preference == {}


def test_model_without_details_is_empty():
    model = Model("flux-pro")
    assert (model.category, model.pricing_unit, model.supported_operations) == (None, None, ())
    assert model.preference == {}


def test_model_leaves_out_operations_that_are_no_words():
    assert Model("m", lemondata={"supported_operations": ["edit", None, 5, ["x"]]}).supported_operations == ("edit",)


@attrs.frozen
class Ordinary:
    always: int
    hidden: int = attrs.field(eq=False, repr=False)
    unhashed: int = attrs.field(hash=False)


@attrs.frozen(eq=False, repr=False)
class Ours(Record):
    always: int
    hidden: int = attrs.field(eq=False, repr=False)
    unhashed: int = attrs.field(hash=False)


@pytest.mark.parametrize("other", [(1, 2, 3), (1, 9, 3), (2, 2, 3), (1, 2, 9)], ids=str)
def test_record_compares_hashes_and_prints_as_attrs_would(other):
    """`eq`, `hash` and `repr` of a field mean what they mean to attrs."""
    one, two = (Ours(1, 2, 3), Ordinary(1, 2, 3)), (Ours(*other), Ordinary(*other))
    assert (one[0] == two[0]) == (one[1] == two[1])
    assert (hash(one[0]) == hash(two[0])) == (hash(one[1]) == hash(two[1]))
    assert repr(two[0]) == repr(two[1]).replace("Ordinary", "Ours")
    assert one[0] != one[1]
