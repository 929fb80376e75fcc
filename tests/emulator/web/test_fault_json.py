"""Faults as JSON, in and out."""

import inspect
import json
from contextlib import suppress
from typing import get_args

import attrs
import pytest

from lemon_async.emulator import Answer, Body, Cut, Drip, Fail, Fault, Latency, Redirect, Reset, Result, Script, Status
from lemon_async.emulator.actions import Action, HalfClose, LateVisible, Vanish
from lemon_async.emulator.http.faults import ROUTES, Match
from lemon_async.emulator.web.fault_json import ACTIONS, InvalidFaults, fault_json, parse_fault, parse_faults

# Every argument of every action, each with a value that is not its default.
GIVEN = {
    "Status": {
        "status": 503,
        "body": "truncated",
        "headers": {"X-A": "1"},
        "code": "c",
        "message": "m",
        "error": {"a": [1]},
    },
    "Redirect": {"location": "//evil", "status": 302},
    "Body": {"content": "<html>", "content_type": "text/html", "headers": {"X-B": "2"}},
    "Expire": {},
    "Latency": {"ms": 20, "jitter_ms": 2.5},
    "Blackhole": {},
    "Drip": {"bytes_per_s": 100.5},
    "Cut": {"at_byte": 7},
    "Reset": {"at": "response_body"},
    "HalfClose": {"at": "request_end"},
    "Garbage": {},
    "Script": {"statuses": ["pending", "weird"]},
    "Stuck": {},
    "Vanish": {"after_polls": 3},
    "LateVisible": {"polls": 4},
    "Fail": {"error": {"code": "x", "message": "y"}, "cancelled": True},
    "Result": {"data": [{"url": ""}, None, 3]},
    "Answer": {"fields": {"poll_url": "//evil", "id": None}},
}
MATCH = {
    "model": "flux-pro", "prompt": "^a", "key": "sk-x", "nth": [1, 3], "times": 2, "probability": 0.5, "seed": 7,
    "window_s": [0, 2.5], "bill": True,
}  # fmt: skip


def route_of(name):
    return "submit" if name != "Expire" else "cdn"


def test_every_action_and_every_argument_is_covered():
    """The tables of this file are complete, so a new action or argument fails here until it has a value."""
    assert set(GIVEN) == set(ACTIONS) == {kind.__name__ for kind in get_args(Action)}
    for name, given in GIVEN.items():
        assert list(given) == [field.name for field in attrs.fields(ACTIONS[name])], name
    arguments = [name for name in inspect.signature(Fault).parameters if name not in {"route", "actions"}]
    assert list(MATCH) == arguments == list(Match.__annotations__)


@pytest.mark.parametrize("name", GIVEN)
def test_actions_are_read_as_if_a_program_had_made_them(name):
    """And written as they were read, without what is the default."""
    written = {"route": route_of(name), "actions": [{"type": name, **GIVEN[name]}]}
    fault = parse_fault(written)
    made = Answer(**GIVEN[name]["fields"]) if name == "Answer" else None
    assert made in (None, fault.actions[0])
    for field in attrs.fields(ACTIONS[name]):
        assert getattr(fault.actions[0], field.name) != field.default
    assert fault_json(fault) == written
    assert parse_fault(json.loads(json.dumps(fault_json(fault)))).actions == fault.actions


def test_actions_are_of_the_types_that_programs_use():
    texts = [
        (Script(["a"]), {"type": "Script", "statuses": ["a"]}),
        (Body(b"\xff\x00"), {"type": "Body", "content": {"base64": "/wA="}}),
        (Body("é".encode()), {"type": "Body", "content": "é"}),
        (Fail(None), {"type": "Fail", "error": None}),
        (Fail("why"), {"type": "Fail", "error": "why"}),
        (Result((1,)), {"type": "Result", "data": [1]}),
        (Latency(1), {"type": "Latency", "ms": 1}),
        (Status(429), {"type": "Status", "status": 429}),
    ]
    for action, written in texts:
        assert parse_fault({"route": "submit", "actions": [written]}).actions == (action,)


def test_arguments_of_a_fault_are_read_and_written():
    written = {"route": "submit", "actions": [{"type": "Stuck"}], **MATCH}
    fault = parse_fault(written)
    assert (fault.nth, fault.window_s, fault.bill, fault.seed) == ((1, 3), (0, 2.5), True, 7)
    assert fault_json(fault) == written
    assert fault_json(Fault("poll", Cut(1), nth=2)) == {
        "route": "poll", "actions": [{"type": "Cut", "at_byte": 1}], "nth": [2],
    }  # fmt: skip
    assert parse_fault({"route": "poll", "actions": [{"type": "Garbage"}], "nth": 2, "bill": None}).nth == (2,)


def test_all_problems_are_named_with_their_places():
    text = """[
        {"route": "polls", "actions": []},
        {"route": "poll", "actions": [{"type": "Statu"}, {"type": "Status", "status": "502", "bodi": 1}, 7],
         "nth": [0]},
        {"route": "poll", "actions": [{"type": "Drip"}], "times": true, "probability": 2, "window_s": [1]},
        "fault",
        {"route": "poll", "actions": [{"type": "Fail"}]},
        {"route": "poll", "actions": [{"type": "Status", "status": 42}]},
        {"route": "submit", "actions": [{"type": "Stuck"}], "prompt": "("},
        {"route": "submit", "actions": [{"type": "Reset", "at": "nowhere"},
                                        {"type": "Body", "content": {"base64": "?"}}]},
        {"actions": [{"type": "Status", "status": 500, "headers": {"a": 1}}], "hits": 3},
        {"route": "submit", "actions": [{"type": "Fail", "error": 5}, {"type": "Cut", "at_byte": 1.5}]}
    ]"""
    with pytest.raises(InvalidFaults) as caught:
        parse_faults(text)
    places = [problem.partition(": ")[0] for problem in caught.value.problems]
    assert places == [
        "faults[0].route", "faults[0].actions",
        "faults[1].actions[0].type", "faults[1].actions[1].bodi", "faults[1].actions[1].status",
        "faults[1].actions[2].type", "faults[1].nth",
        "faults[2].actions[0].bytes_per_s", "faults[2].times", "faults[2].window_s", "faults[2].probability",
        "faults[3]", "faults[4]", "faults[5].actions[0]", "faults[6]",
        "faults[7].actions[0].at", "faults[7].actions[1].content.base64",
        "faults[8].hits", "faults[8].route", "faults[8].actions[0].headers",
        "faults[9].actions[0].error", "faults[9].actions[1].at_byte",
    ]  # fmt: skip
    words = dict(problem.split(": ", 1) for problem in caught.value.problems)
    assert words["faults[0].route"] == f'must be one of {", ".join(ROUTES)}, not "polls"'
    assert words["faults[1].actions[1].status"] == 'must be a whole number, not "502"'
    assert words["faults[2].times"] == "must be a whole number or null, not true"
    assert words["faults[2].window_s"] == "must be a list of 2 numbers or null, not [1]"
    assert words["faults[8].actions[0].headers"] == 'must be an object whose values are text, not {"a":1}'
    assert words["faults[9].actions[0].error"] == "must be text or an object or null, not 5"
    assert words["faults[4]"].startswith("task actions belong to the routes")


VALUES = (
    None,
    True,
    -1,
    1.5,
    1e308,
    2**63,
    "",
    "x",
    "\x00",
    [],
    [None],
    [[]],
    ["a"],
    [2, 1],
    {},
    {"a": None},
    {"": ""},
)


@pytest.mark.parametrize("name", MATCH)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_arguments_of_any_type_are_read_or_refused(name, value):
    """Never anything else: a hostile file gets a message, and not a traceback."""
    with suppress(InvalidFaults):
        parse_faults(json.dumps([{"route": "submit", "actions": [{"type": "Stuck"}], name: value}]))


@pytest.mark.parametrize("depth", [100, 300, 1000])
@pytest.mark.parametrize(
    "fault",
    ['{"route": %s}', '{"actions": [{"type": %s}]}', '{"actions": [{"type": "Drip", "bytes_per_s": %s}]}'],
)
def test_deep_values_are_refused(fault, depth):
    with pytest.raises(InvalidFaults, match="must be"):
        parse_faults(f"[{fault % ('[' * depth + ']' * depth)}]")


def test_many_problems_are_not_all_named():
    """A large file of something else is not read to its end."""
    with pytest.raises(InvalidFaults) as caught:
        parse_faults(json.dumps([{"route": "polls"}] * 10_000))
    assert len(caught.value.problems) < 200
    assert caught.value.problems[-1] == "faults[50] to faults[9999] were not read"


@pytest.mark.parametrize(("text", "words"), [("[", "not valid JSON"), ("{}", "must be a list"), ("\x00", "not valid")])
def test_what_is_no_list_of_faults_is_refused(text, words):
    with pytest.raises(InvalidFaults, match=words):
        parse_faults(text)
    assert parse_faults("[]") == []


@pytest.mark.parametrize(
    "action", [Reset("accept"), HalfClose("accept"), Vanish(), LateVisible(), Redirect("/"), Drip(1)]
)
def test_faults_made_by_programs_are_written(action):
    written = fault_json(Fault("submit", action))
    assert parse_fault(written).actions == (action,)
