"""Models and files are read from lists and objects; anything else is an error."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lemon_async._api.models_and_files import MAX_ENTRIES, read_file, read_files, read_model, read_models
from lemon_async._api.response import Response
from lemon_async.errors import ApiError, AuthenticationError, NotFound
from lemon_async.types import Model, StoredFile

steady = settings(derandomize=True, deadline=None)

MODEL = {
    "id": "flux-pro",
    "object": "model",
    "created": 1706000000,
    "owned_by": "bfl",
    "lemondata": {"category": "image", "pricing_unit": "per_image"},
}
FILE = {
    "id": "file-abc123",
    "object": "file",
    "bytes": 1024,
    "created_at": 1706000000,
    "filename": "cat.png",
    "purpose": "vision",
    "status": "processed",
}


def answer(value, status=200):
    return Response(status, {}, value if isinstance(value, bytes) else orjson.dumps(value))


def test_model_is_read_with_all_that_is_said_of_it():
    model = read_model(answer(MODEL))
    assert model == Model("flux-pro", created=1706000000, owned_by="bfl")
    assert (model.lemondata, model.raw) == (MODEL["lemondata"], MODEL)


def test_file_is_read_with_all_its_fields():
    """OpenAI's file object; `bytes` is its size."""
    file = read_file(answer(FILE))
    assert file == StoredFile(
        "file-abc123",
        filename="cat.png",
        size_bytes=1024,
        purpose="vision",
        created_at=1706000000,
        status="processed",
    )
    assert file.raw == FILE


@pytest.mark.parametrize(
    ("read", "entry", "bare"),
    [(read_models, MODEL, Model("flux-pro")), (read_files, FILE, StoredFile("file-abc123"))],
)
def test_list_holds_every_entry_that_has_an_id(read, entry, bare):
    odd = [None, 5, "flux-pro", [], {}, {"id": 5}, {"id": ""}, {"id": "a\nb"}]
    found = read(answer({"object": "list", "data": [entry, *odd, {"id": entry["id"]}]}))
    assert [item.id for item in found] == [entry["id"], entry["id"]]
    assert found[1] == bare
    assert found[1].raw == {"id": entry["id"]}


@pytest.mark.parametrize("read", [read_models, read_files])
def test_long_list_is_read_up_to_a_bound(read):
    """Each entry takes time, for which the event loop is blocked."""
    found = read(answer({"data": [{"id": f"id-{number}"} for number in range(MAX_ENTRIES + 5)]}))
    assert len(found) == MAX_ENTRIES
    assert found[-1].id == f"id-{MAX_ENTRIES - 1}"


@pytest.mark.parametrize("read", [read_models, read_files])
def test_list_of_nothing_is_empty(read):
    assert read(answer({"data": []})) == ()


def test_entry_with_odd_optional_fields_is_read_without_them():
    for odd in (None, 5, "text", "", True, [], {}, 1e300):
        model = read_model(answer({"id": "m", **dict.fromkeys(("created", "lemondata"), odd)}))
        assert (model.created, model.lemondata) == (5 if odd == 5 else None, {})
        file = read_file(answer({"id": "f", **dict.fromkeys(("bytes", "created_at"), odd)}))
        assert file.size_bytes == file.created_at == (5 if odd == 5 else None)


def test_entry_with_odd_text_is_read_without_it():
    for odd in (None, 5, "", True, [], {}):
        assert read_model(answer({"id": "m", "owned_by": odd})) == Model("m")
        names = ("filename", "purpose", "status", "model")
        assert read_file(answer({"id": "f", **dict.fromkeys(names, odd)})) == StoredFile("f")


def test_file_that_names_its_model_is_bound_to_it():
    assert read_file(answer({"id": "f", "model": "gpt-image-2"})).model == "gpt-image-2"


def test_success_of_another_shape_is_an_error_that_shows_it():
    for value in (None, 5, "text", [], [MODEL], {}, {"data": None}, {"data": {}}, {"id": 5}, {"id": ""}):
        for read in (read_model, read_models, read_file, read_files):
            with pytest.raises(ApiError, match="HTTP 200: the text") as caught:
                read(answer(value))
            assert type(caught.value) is ApiError


def test_success_that_cannot_be_read_is_an_error_that_shows_it():
    for body in (b"", b"<html>busy</html>", b'{"data": ['):
        for read in (read_model, read_models, read_file, read_files):
            with pytest.raises(ApiError, match="HTTP 200: the response is ") as caught:
                read(answer(body))
            assert caught.value.__suppress_context__


def test_refusal_is_the_error_of_its_status_whatever_it_holds():
    for status, cls in ((401, AuthenticationError), (404, NotFound), (302, ApiError)):
        for read in (read_model, read_models, read_file, read_files):
            with pytest.raises(cls, match="no such model"):
                read(answer({"error": {"message": "no such model"}, "data": [], "id": "m"}, status))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["created", "owned_by", "lemondata", "bytes", "created_at", "filename", "purpose", "status", "model", "raw"]
entries = st.fixed_dictionaries({"id": st.just("x") | json_values}, optional=dict.fromkeys(NAMES, json_values))


@steady
@given(st.lists(entries | json_values, max_size=3), st.sampled_from([read_models, read_files]))
def test_list_of_anything_is_read_without_raising(data, read):
    for item in read(answer({"data": data})):
        assert item.id.isprintable()
        assert item.raw["id"] == item.id


@steady
@given(entries | json_values, st.sampled_from([read_model, read_file]))
def test_entry_of_anything_is_read_or_an_api_error(value, read):
    """Nothing else is raised."""
    try:
        raw = read(answer(value)).raw
    except ApiError:
        return
    assert raw == value
