"""Resume tokens contain the address of a task, and nothing in them is trusted."""

import base64
import string

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lemon_async import ContractError
from lemon_async._api.job_responses import pack as pack_snapshot
from lemon_async._api.resume_token import TaskReference, parse_reference, token_of
from lemon_async.types import TaskSnapshot

ids = st.text(string.ascii_letters + string.digits + "_-~:@!$&'()*+,;=?#", min_size=1, max_size=60)


def pack(value):
    return "lemon1." + base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


@given(
    task_id=ids,
    poll_url=st.text(min_size=1),
    model=st.none() | st.text(),
    created=st.none() | st.integers(0, 10**12),
    is_id_guessed=st.booleans(),
)
def test_token_leads_back_to_the_reference(task_id, poll_url, model, created, is_id_guessed):
    reference = TaskReference(task_id, poll_url, model, created, is_id_guessed=is_id_guessed)
    assert parse_reference(reference.token()) == reference


@given(task_id=ids, poll_url=st.none() | st.text(max_size=0), model=st.none() | st.text())
def test_token_without_an_address_leads_back_to_the_reference(task_id, poll_url, model):
    reference = TaskReference(task_id, poll_url, model)
    assert parse_reference(reference.token()) == reference
    assert not parse_reference(pack({"task_id": task_id, "is_id_guessed": True})).is_id_guessed


@given(task_id=ids, poll_url=st.none() | st.text())
def test_token_is_one_word_that_survives_shells_and_urls(task_id, poll_url):
    word = TaskReference(task_id, poll_url).token()
    assert set(word) <= set(string.ascii_letters + string.digits + "-_.")


@given(task_id=ids)
def test_plain_id_is_a_reference(task_id):
    assert parse_reference(task_id) == TaskReference(task_id)


def test_reference_without_address_makes_a_short_token():
    """Unknown fields are left out."""
    assert orjson.loads(base64.urlsafe_b64decode(TaskReference("ldtask_1").token()[7:] + "==")) == {
        "task_id": "ldtask_1"
    }


@given(reference=st.builds(TaskReference, ids, st.none() | st.text(), st.none() | st.text()), data=st.data())
def test_token_cut_anywhere_is_refused_or_another_token(reference, data):
    """A truncated token never crashes the parser."""
    word = reference.token()
    cut = word[: data.draw(st.integers(7, len(word) - 1))]
    try:
        found = parse_reference(cut)
    except ContractError:
        return
    assert isinstance(found, TaskReference)


@given(st.text() | st.text().map("lemon1.".__add__) | st.binary() | st.none() | st.integers())
def test_anything_else_is_a_reference_or_a_contract_error(text):
    try:
        found = parse_reference(text)
    except ContractError:
        return
    assert isinstance(found.task_id, str)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two words",
        "a/b\\c",
        "..",
        "%2e%2e",
        "ldtask_\n1",
        "ldtäsk",
        "x" * 513,
        "lemon1.",
        "lemon1.!",
        "lemon1.ä",
        "lemon1.A",
        pack([]),
        pack({}),
        pack({"task_id": None}),
        pack({"task_id": 5}),
        pack({"task_id": ""}),
        pack({"task_id": ".."}),
        pack({"task_id": "a b"}),
        pack({"task_id": "a", "poll_url": 5}),
        pack({"task_id": "a", "model": ["m"]}),
        pack({"poll_url": "/v1/tasks/a"}),
        pack({"task_id": "", "poll_url": "/v1/tasks/a"}),
        pack({"task_id": "a\n\x1b[31m", "poll_url": "/v1/tasks/a"}),
        pack({"task_id": "a", "label": 17}),
        pack({"task_id": "a", "label": ""}),
        pack({"task_id": "a", "label": "two\r\nlines"}),
        pack({"task_id": "a", "label": "\x1b]0;title\x07"}),
        pack({"task_id": "a", "label": "x" * 201}),
        pack({"task_id": "a", "prompt": ["a cat"]}),
        pack({"task_id": "a", "prompt": "x" * 1001}),
        pack({"task_id": "a"}) + "!",
        pack({"task_id": "a"})[:12] + "\n" + pack({"task_id": "a"})[12:],
        pack("ldtask_1"),
    ],
    ids=repr,
)
def test_damaged_reference_is_refused_before_anything_is_sent(text):
    with pytest.raises(ContractError, match=r"task: is neither a task id nor a resume token \(.*nothing was sent"):
        parse_reference(text)


def test_fields_of_a_later_version_are_ignored():
    assert parse_reference(pack({"task_id": "a", "account": "x"})) == TaskReference("a")


@given(
    task_id=ids,
    label=st.none() | st.text(max_size=200).filter(lambda text: text and text.isprintable()),
    prompt=st.none() | st.text(max_size=1000),
)
def test_label_and_prompt_survive_in_one_word(task_id, label, prompt):
    """They may contain line ends; base64 has none."""
    reference = TaskReference(task_id, label=label, prompt=prompt)
    word = reference.token()
    assert set(word) <= set(string.ascii_letters + string.digits + "-_.")
    assert parse_reference(word) == reference


def test_long_prompt_is_cut_and_the_token_stays_readable():
    """Each character may take six bytes of JSON."""
    reference = TaskReference("a", prompt="\x01" * 5000)
    assert reference.prompt == "\x01" * 999 + "…"
    assert parse_reference(reference.token()) == reference
    assert len(reference.token()) < 9000


def test_token_without_newer_fields_is_read():
    """It has no label and no prompt."""
    word = "lemon1.eyJ0YXNrX2lkIjoibGR0YXNrXzEiLCJwb2xsX3VybCI6Ii92MS90YXNrcy9sZHRhc2tfMSIsImNyZWF0ZWQiOjV9"
    assert parse_reference(word) == TaskReference("ldtask_1", "/v1/tasks/ldtask_1", created=5)
    assert TaskReference("ldtask_1", "/v1/tasks/ldtask_1", created=5).token() == word


def test_token_tells_when_the_task_was_taken_and_nothing_odd_about_it():
    assert parse_reference(TaskReference("a", created=1706000000).token()) == TaskReference("a", created=1706000000)
    assert parse_reference(pack({"task_id": "a", "created": "yesterday"})) == TaskReference("a")


@pytest.mark.parametrize("text", ["http://x/", "https://api.lemondata.cc/v1/tasks/ldtask_1", "/v1/tasks/ldtask_1"])
def test_address_is_not_a_reference(text):
    """It would be polled until the deadline."""
    with pytest.raises(ContractError, match="an address is not an id: give the id that it ends in"):
        parse_reference(text)


@pytest.mark.parametrize(("poll_url", "kept"), [("https://api.example/v1/tasks/t1", "/v1/tasks/t1"), (None, None)])
def test_token_of_a_task_has_the_path_of_its_address(poll_url, kept):
    """It is relative to the base URL, which may be another where the token is used."""
    snapshot = TaskSnapshot(status="pending", task_id="t1", poll_url=poll_url, model="flux-pro", created=7)
    reference = parse_reference(token_of(pack_snapshot(snapshot), "t1", "/v1/tasks/t1", "label", "a cat"))
    assert (reference.task_id, reference.poll_url, reference.model) == ("t1", kept, "flux-pro")
    assert (reference.created, reference.label, reference.prompt) == (7, "label", "a cat")
