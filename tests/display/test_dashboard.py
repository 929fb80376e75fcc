"""A session at a glance: one line, and a table in which everything from the service is text."""

import re

import pytest

from lemon_async._display.dashboard import SessionState, session_line, session_table
from lemon_async.types import SubmissionCounts


def state(**changes):
    defaults = {
        "base_url": "https://api.test",
        "is_closed": False,
        "tasks": (),
        "submits": 0,
        "polls": 0,
        "downloads": 0,
        "counts": SubmissionCounts(),
        "requests_per_minute": None,
        "is_limit_given": False,
    }
    return SessionState(**defaults | changes)


def rows(**changes):
    return dict(re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", session_table(state(**changes)), re.DOTALL))


def test_idle_session():
    assert rows() == {
        "base URL": "https://api.test",
        "state": "open",
        "requests per minute": "not known yet",
        "pending tasks": "none",
        "in flight": "0 submits, 0 polls, 0 downloads",
        "sold": "0 (0 settled, 0 released, 0 open)",
        "unknown submissions": "0",
    }


def test_busy_session():
    tasks = [("pending", "ldtask_1", "sku-17"), ("pending", "ldtask_2", None), ("processing", "ldtask_3", None)]
    counts = SubmissionCounts(sold=5, settled=1, released=1, unknown=2)
    busy = {"tasks": tasks, "submits": 1, "polls": 2, "downloads": 3, "counts": counts, "is_closed": True}
    shown = rows(**busy)
    assert shown["state"] == "closed"
    assert shown["pending tasks"] == "2 pending, 1 processing"
    assert shown["oldest of them"] == "ldtask_1 (sku-17), ldtask_2, ldtask_3"
    assert shown["in flight"] == "1 submits, 2 polls, 3 downloads"
    assert shown["sold"] == "5 (1 settled, 1 released, 3 open)"
    assert shown["unknown submissions"] == "2"
    assert (
        session_line(state(**busy)) == "<LemonSession https://api.test [closed | 1 submits | 3 tasks pending, 2 polls]>"
    )


def test_store_of_a_shared_limit_is_named():
    shared = state(shared_limit="redis://cache.test:6379/0")
    assert session_line(shared).endswith("0 polls | limit shared through redis://cache.test:6379/0]>")
    assert rows(shared_limit="redis://cache.test:6379/0")["shared through"] == "redis://cache.test:6379/0"


@pytest.mark.parametrize(("is_given", "word"), [(True, "60 (given)"), (False, "60 (learned)")])
def test_rate_limit_says_where_it_is_from(is_given, word):
    assert rows(requests_per_minute=60, is_limit_given=is_given)["requests per minute"] == word


def test_words_of_the_service_are_escaped_and_few():
    tasks = [(f"<script>{number}" + "x" * 500, f"t{number}", None) for number in range(20)]
    assert "<script" not in session_table(state(tasks=tasks))
    assert len(rows(tasks=tasks)["pending tasks"]) < 500
    assert rows(tasks=tasks)["oldest of them"] == "t0, t1, t2, t3, t4, t5, …"
