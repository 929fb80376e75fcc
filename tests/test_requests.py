"""Requests can be shown, compared, hashed, copied and pickled, whatever they start from."""

import copy
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async.requests import (
    EditFields,
    EditRequest,
    FilePath,
    GenerateFields,
    GenerateRequest,
    GoneSource,
    JobFields,
    VariationFields,
    VariationRequest,
)
from lemon_async.types import StoredFile

steady = settings(derandomize=True, deadline=None)

KINDS = [(GenerateRequest, GenerateFields), (EditRequest, EditFields), (VariationRequest, VariationFields)]
every_kind = pytest.mark.parametrize(("kind", "fields"), KINDS)


class Picture:
    """An image of an earlier result."""

    url = None

    async def read(self):
        return b""

    def __repr__(self):
        return "<Image 1024 x 1024>"


async def pieces():
    yield b""


def sample(kind, **fields):
    """Return a request with the least that it needs."""
    needed = {"prompt": "a cat", "image": "cat.png"}
    return kind(**{name: value for name, value in needed.items() if name in attrs.fields_dict(kind)} | fields)


def repickled(request, protocol=None):
    return pickle.loads(pickle.dumps(request, protocol))


@every_kind
def test_fields_that_editors_complete_are_those_of_the_request(kind, fields):
    """The prompt and the pictures are arguments of their own."""
    assert fields.__annotations__.keys() == attrs.fields_dict(kind).keys() - {"prompt", "image", "mask"}


@every_kind
def test_fields_that_editors_complete_have_the_types_of_the_request(kind, fields):
    """A request has `None` for a field that is not sent."""
    hints, typed = get_type_hints(kind), get_type_hints(fields)
    assert typed.pop("extra") == hints["extra"] == Mapping[str, Any]
    assert {name: hint | None for name, hint in typed.items()} == {name: hints[name] for name in typed}


def test_fields_of_any_job_are_those_of_generations_and_the_pictures():
    """With pictures to start from, it is an edit."""
    assert JobFields.__annotations__.keys() == GenerateFields.__annotations__.keys() | {"image", "mask"}
    assert JobFields.__required_keys__ == frozenset()


@every_kind
def test_fields_that_editors_complete_are_all_optional(kind, fields):
    assert fields.__required_keys__ == frozenset()


@pytest.mark.parametrize(
    ("kind", "operation", "default_model"),
    [
        (GenerateRequest, "generate", "dall-e-3"),
        (EditRequest, "edit", "dall-e-2"),
        (VariationRequest, "variation", "dall-e-2"),
    ],
)
def test_request_knows_its_operation_and_the_servers_default_model(kind, operation, default_model):
    assert (kind.operation, kind.default_model) == (operation, default_model)
    assert sample(kind).model is None


@every_kind
def test_request_sends_nothing_that_was_not_set(kind, fields):
    request = sample(kind)
    assert {name: getattr(request, name) for name in fields.__annotations__} == {
        name: {} if name == "extra" else None for name in fields.__annotations__
    }


def test_request_takes_its_prompt_alone_by_position():
    with pytest.raises(TypeError):
        GenerateRequest("a cat", "flux-pro")
    with pytest.raises(TypeError):
        EditRequest("a cat", "cat.png")
    with pytest.raises(TypeError):
        VariationRequest("cat.png")


@every_kind
def test_request_is_frozen(kind, fields):
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        sample(kind).model = "flux-pro"


@every_kind
def test_requests_share_no_extra(kind, fields):
    assert sample(kind).extra is not sample(kind).extra


FILE = io.BytesIO(b"\x89PNG")
STREAM = pieces()


REQUEST_HOLDS_ONE_SOURCE_ROWS = (
    ("cat.png", ("cat.png",)),
    (b"\x89PNG", (b"\x89PNG",)),
    (bytearray(b"\x89PNG"), (bytearray(b"\x89PNG"),)),
    (memoryview(b"\x89PNG"), (memoryview(b"\x89PNG"),)),
    (Path("cat.png"), (Path("cat.png"),)),
    ({"file_id": "file-1"}, ({"file_id": "file-1"},)),
    (StoredFile("file-1"), (StoredFile("file-1"),)),
    (FILE, (FILE,)),
    (STREAM, (STREAM,)),
    (["cat.png", b"\x89PNG"], ("cat.png", b"\x89PNG")),
    (("cat.png",), ("cat.png",)),
    ([], ()),
    (None, (None,)),
)


def test_request_holds_one_source_or_many_as_a_tuple():
    """Text and bytes are sequences, too, but of something else."""
    for kind in (EditRequest, VariationRequest):
        for image, held in REQUEST_HOLDS_ONE_SOURCE_ROWS:
            assert sample(kind, image=image).image == held


def test_request_with_changes_keeps_its_sources():
    request = attrs.evolve(EditRequest("a hat", image=[FILE, "cat.png"], mask=STREAM), n=2)
    assert (request.image, request.mask, request.n) == ((FILE, "cat.png"), STREAM, 2)


def test_path_is_recognized_by_its_protocol():
    assert isinstance(Path("cat.png"), FilePath)
    assert not isinstance("cat.png", FilePath)


# Hashes


@every_kind
def test_equal_requests_have_equal_hashes(kind, fields):
    """`extra` and its values do not matter."""
    one, other = (sample(kind, n=2, extra={"lora": [1]}) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert {one: 1}[other] == 1
    assert hash(attrs.evolve(one, n=3)) != hash(one)


def test_requests_for_other_sources_have_other_hashes():
    """Or a set of them would be searched one by one."""
    names = [f"{number}.png" for number in range(100)]
    assert len({hash(VariationRequest(image=name)) for name in names}) > 90
    assert len({hash(EditRequest("a hat", image=StoredFile(name))) for name in names}) > 90


class Unhashable:
    """An object of the caller with an equality of its own."""

    __hash__ = None

    def __eq__(self, other):
        return type(other) is Unhashable


def test_sources_that_are_equal_have_equal_hashes():
    """Bytes equal a bytearray, and a dict its view, so their content cannot count."""
    for sources in (
        (b"\x89PNG", bytearray(b"\x89PNG"), memoryview(b"\x89PNG"), memoryview(bytearray(b"\x89PNG"))),
        ({"file_id": "file-1"}, MappingProxyType({"file_id": "file-1"})),
        (Unhashable(), Unhashable()),
    ):
        for make in (
            lambda source: VariationRequest(image=source),
            lambda source: EditRequest("a hat", image=["cat.png", source], mask=source),
        ):
            assert len({make(source) for source in sources}) == 1


def test_live_sources_count_by_identity():
    files = [io.BytesIO(b"\x89PNG"), io.BytesIO(b"\x89PNG")]
    assert len({VariationRequest(image=file) for file in files * 2}) == 2


def test_bytearray_that_changes_leaves_the_hash_as_it_was():
    source = bytearray(b"\x89PNG")
    request = VariationRequest(image=source)
    before = hash(request)
    source.extend(b"more")
    assert hash(request) == before


# Reprs


REPR_SHOWS_WHAT_IS_ROWS = (
    (GenerateRequest("a cat"), "GenerateRequest('a cat')"),
    (
        GenerateRequest("a cat", style="vivid", n=0, user="", async_=False, extra={"seed": 7}),
        "GenerateRequest('a cat', n=0, user='', extra={'seed': 7}, async_=False, style='vivid')",
    ),
    (EditRequest("a hat", image="cat.png"), "EditRequest('a hat', image=['cat.png'])"),
    (
        EditRequest("a hat", model="gpt-image-2", image=[b"\x89PNG", Path("/cat.png")], mask=bytearray(9)),
        f"EditRequest('a hat', model='gpt-image-2', image=[<4 bytes>, {Path('/cat.png')!r}], mask=<9 bytes>)",
    ),
    (EditRequest("a hat", image=()), "EditRequest('a hat', image=[])"),
    (VariationRequest(image=memoryview(b"1234")), "VariationRequest(image=[<4 bytes>])"),
    (VariationRequest(image=Picture(), n=2), "VariationRequest(n=2, image=[<Image 1024 x 1024>])"),
    (VariationRequest(image={"file_id": "file-1"}), "VariationRequest(image=[{'file_id': 'file-1'}])"),
    (VariationRequest(image=GoneSource("a file")), "VariationRequest(image=[GoneSource(description='a file')])"),
    (VariationRequest(image={"image_url": 5, 1: b"x"}), "VariationRequest(image=[{'image_url': 5, 1: <1 bytes>}])"),
    (VariationRequest(image="a" * 200), f"VariationRequest(image=['{'a' * 200}'])"),
    (VariationRequest(image="a" * 201), f"VariationRequest(image=['{'a' * 200}…'])"),
)


def test_repr_shows_the_fields_that_are_set():
    for request_, words in REPR_SHOWS_WHAT_IS_ROWS:
        assert repr(request_) == words


def test_repr_shows_no_megabytes():
    for source in (
        bytes(10_000_000),
        bytearray(10_000_000),
        memoryview(bytes(10_000_000)),
        "data:image/png;base64," + "A" * 10_000_000,
        "https://cdn.example/" + "a" * 10_000_000,
        {"image_url": "data:image/png;base64," + "A" * 10_000_000},
        "a" * 10_000_000,
    ):
        assert len(repr(EditRequest("a hat", image=[source, source], mask=source))) < 1000


def test_repr_shows_no_credentials_of_an_address():
    """Neither those before the host nor a signed query, in whatever way the address is broken."""
    for url in (
        "https://me:secret@cdn.example/cat.png",
        "https://secret@cdn.example/cat.png",
        "https://me:sec/ret@cdn.example/cat.png",
        "https://me:sec?ret@cdn.example/cat.png",
        " https://me:secret@cdn.example/cat.png",
        "me:secret@s3://bucket/cat.png",
    ):
        words = repr(EditRequest("a hat", image=["cat.png", {"image_url": url}], mask=url))
        hidden = "<address with credentials>"
        assert words == f"EditRequest('a hat', image=['cat.png', {{'image_url': {hidden}}}], mask={hidden})"
    for url in ("https://cdn.example/cat.png?Signature=secret", "https://cdn.example/cat.png#secret"):
        assert repr(VariationRequest(image=url)) == "VariationRequest(image=['https://cdn.example/cat.png'])"


@steady
@given(st.text(max_size=30) | st.binary(max_size=5) | st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_repr_is_one_printable_line_whatever_the_source(source):
    assert repr(VariationRequest(image=[source])).isprintable()


# Pickles and copies

PORTABLE = [
    "cat.png",
    "https://cdn.example/cat.png",
    Path("cat.png"),
    b"\x89PNG",
    bytearray(b"\x89PNG"),
    StoredFile("file-1", model="gpt-image-2"),
    {"file_id": "file-1"},
    GoneSource("an open file"),
]


def test_request_survives_pickle():
    for kind, _fields in KINDS:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            request = sample(kind, model="dall-e-2", n=2, extra={"seed": 7})
            twin = repickled(request, protocol)
            assert type(twin) is kind
            assert twin == request


def test_source_that_can_be_pickled_is():
    for source in PORTABLE:
        request = EditRequest("a hat", image=[source, "cat.png"], mask=source)
        assert repickled(request) == request


def test_source_that_cannot_be_pickled_leaves_what_can():
    """`SubmissionUnknown` goes to a journal with its request, whatever that started from."""
    for source, twin in (
        (memoryview(b"\x89PNG"), b"\x89PNG"),
        (memoryview(b"0123456789")[::2], b"02468"),
        (MappingProxyType({"file_id": "file-1"}), {"file_id": "file-1"}),
        (Picture(), GoneSource("<Image 1024 x 1024>")),
        (FILE, GoneSource(repr(FILE))),
        (STREAM, GoneSource(repr(STREAM))),
        (None, GoneSource("None")),
    ):
        restored = repickled(EditRequest("a hat", image=["cat.png", source], n=2))
        assert restored == EditRequest("a hat", image=["cat.png", twin], n=2)
        assert repickled(VariationRequest(image=source)).image == (twin,)
        if source is not None:
            assert repickled(EditRequest("a hat", image="cat.png", mask=source)).mask == twin


def test_file_that_is_open_leaves_its_name(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(b"\x89PNG")
    with path.open("rb") as file:
        (gone,) = repickled(VariationRequest(image=file)).image
        assert isinstance(gone, GoneSource)
        assert "cat.png" in gone.description
        assert file.tell() == 0


def test_request_that_was_pickled_twice_loses_no_more():
    once = repickled(VariationRequest(image=Picture()))
    assert repickled(once) == once


def test_extra_of_any_mapping_survives_pickle():
    for kind, _fields in KINDS:
        for extra in (MappingProxyType({"seed": 7}), {"seed": 7}):
            assert repickled(sample(kind, extra=extra)).extra == {"seed": 7}


def test_extra_that_is_no_mapping_is_kept_for_checks_to_name():
    assert repickled(GenerateRequest("a cat", extra=[1])).extra == [1]


@every_kind
def test_copy_of_a_request_keeps_its_live_sources(kind, fields):
    request = sample(kind, **{name: FILE for name in ("image", "mask") if name in attrs.fields_dict(kind)})
    assert copy.copy(request) is request


def test_deepcopy_of_a_request_holds_what_a_pickle_holds():
    request = copy.deepcopy(EditRequest("a hat", image=Picture(), mask=b"\x89PNG", extra={"lora": [1]}))
    gone = GoneSource("<Image 1024 x 1024>")
    assert request == EditRequest("a hat", image=gone, mask=b"\x89PNG", extra={"lora": [1]})
