"""Which requests a fault acts on, and whether they are billed."""

import pytest

from lemon_async.emulator import (
    Blackhole,
    Body,
    Cut,
    Drip,
    Expire,
    Fail,
    Fault,
    Garbage,
    HalfClose,
    Latency,
    Redirect,
    Reset,
    Script,
    Status,
    Stuck,
)
from lemon_async.emulator.http.faults import RequestFacts, take_fault

NO_NUMBERS = ({"nth": "2"}, {"nth": ["x"]}, {"nth": 2.5}, {"times": "x"})
CAT = RequestFacts("submit", "flux-pro", "a white cat", "sk-1")


def hits(fault, count, facts=CAT, now=0.0):
    return [take_fault([fault], fault.stage, facts, now) is fault for _ in range(count)]


def test_fault_hits_only_requests_that_match():
    rows = [
        ({}, True),
        ({"model": "flux-pro"}, True),
        ({"model": "midjourney"}, False),
        ({"prompt": r"\bcat$"}, True),
        ({"prompt": "dog"}, False),
        ({"key": "sk-1"}, True),
        ({"key": "sk-2"}, False),
        ({"window_s": (0, 1)}, True),
        ({"window_s": (1, 2)}, False),
        ({"probability": 0.0}, False),
        ({"times": 0}, False),
    ]
    for match, is_hit in rows:
        assert hits(Fault("submit", Status(500), **match), 1) == [is_hit], match
    assert hits(Fault("poll", Status(500)), 1) == [False]


def test_task_actions_belong_to_submits_and_edits():
    for route in ("submit", "edit"):
        assert Fault(route, Stuck()).task_script == (Stuck(),)
    with pytest.raises(ValueError, match="'submit' and 'edit'"):
        Fault("files", Stuck())


def test_only_links_expire():
    """Elsewhere it would only count its hits; the message says what to write."""
    assert Fault("cdn", Expire()).is_billed is False
    with pytest.raises(
        ValueError, match=r"Expire\(\) acts on the route 'cdn' only, not on 'poll': write Status\(410\)"
    ):
        Fault("poll", [Latency(1), Expire()])


def test_prompt_never_matches_a_request_without_one():
    assert hits(Fault("poll", Status(500), prompt="cat"), 1, RequestFacts("poll")) == [False]


def test_nth_counts_matching_requests_from_one():
    fault = Fault("submit", Status(500), nth={2, 4}, model="flux-pro")
    take_fault([fault], "request", RequestFacts("submit", "midjourney"), 0)
    assert hits(fault, 5) == [False, True, False, True, False]
    assert fault.hits == 2


def test_times_limits_the_hits():
    assert hits(Fault("submit", Status(500), times=2), 4) == [True, True, False, False]


def test_coin_falls_the_same_way_in_every_run():
    def run(seed):
        return hits(Fault("submit", Status(500), probability=0.5, seed=seed), 50)

    assert run(1) == run(1) != run(2)
    assert 10 < sum(run(1)) < 40


def test_latency_draws_do_not_disturb_the_coin():
    """The number of delays drawn does not decide which requests are hit."""
    plain = Fault("submit", Latency(1, 1), probability=0.5)
    other = Fault("submit", Latency(1, 1), probability=0.5)
    other.latency_s()
    assert hits(plain, 50) == hits(other, 50)


def test_first_fault_that_is_due_acts_and_all_count():
    first = Fault("submit", Status(429), times=1)
    second = Fault("submit", Status(500), nth=[2])
    faults = [first, second]
    assert [take_fault(faults, "request", CAT, 0) for _ in range(3)] == [first, second, None]
    assert (first.hits, second.hits) == (1, 1)


def test_fault_keeps_its_hits_while_another_one_acts():
    """Two faults with `times=1` act one after the other."""
    faults = [Fault("submit", Status(429), times=1), Fault("submit", Status(500), times=1)]
    assert [take_fault(faults, "request", CAT, 0) for _ in range(3)] == [*faults, None]


def test_accept_faults_count_connections_of_any_route():
    fault = Fault("cdn", Reset("accept"), nth=[2])
    assert hits(fault, 3, RequestFacts()) == [False, True, False]


def test_latency_stays_within_its_jitter_and_above_zero():
    fault = Fault("submit", Latency(10, jitter_ms=20))
    draws = [fault.latency_s() for _ in range(200)]
    assert min(draws) == 0.0
    assert 0.02 < max(draws) <= 0.03
    assert Fault("submit", Status(500)).latency_s() == 0.0


def test_billing_follows_from_the_action():
    rows = [
        (Reset("accept"), False),
        (Reset("request_head"), False),
        (HalfClose("request_body"), False),
        (Status(502), False),
        (Status(200, "html"), False),
        (Redirect("/"), False),
        (Reset("request_end"), True),
        (HalfClose("response_head"), True),
        (Reset("response_body"), True),
        (Cut(3), True),
        (Drip(10), True),
        (Latency(1), True),
        (Blackhole(), True),
        (Garbage(), True),
        (Fail(), True),
        (Body(b"x"), True),
    ]
    for action, is_billed in rows:
        assert Fault("submit", action).is_billed == is_billed, action
    assert Fault("submit", Status(502), bill=True).is_billed
    assert not Fault("submit", Reset("response_head"), bill=False).is_billed


def test_parts_that_cannot_work_together_are_refused():
    rows = [
        ("nowhere", Status(500), {}, "route must be one of"),
        ("submit", (), {}, "at least one action"),
        ("poll", Script(["pending"]), {}, "task actions belong"),
        ("submit", Status(500), {"prompt": "("}, "not a regular expression"),
        ("submit", (Latency(1), Reset("accept")), {}, "only action"),
        ("submit", Reset("request_body"), {"bill": True}, "never billed"),
        ("submit", Reset("accept"), {"model": "m", "key": "k"}, ": model, key"),
        ("submit", HalfClose("request_head"), {"key": "k"}, ": key"),
        ("submit", Reset("request_body"), {"prompt": "p"}, ": prompt"),
        *(("cdn", Status(404), match, "must be a") for match in NO_NUMBERS),
    ]
    for route, actions, match, words in rows:
        with pytest.raises(ValueError, match=words):
            Fault(route, actions, **match)


def test_request_body_fault_may_match_the_key():
    assert Fault("submit", Reset("request_body"), key="k").stage == "request_body"


def test_nth_may_be_one_number():
    fault = Fault("cdn", Status(404), nth=2)
    assert [fault.register(RequestFacts(route="cdn"), 0.0) for _ in range(3)] == [False, True, False]
