"""A session at a glance, as text and for notebooks; the key is in neither."""

from collections import Counter
from collections.abc import Sequence

from lemon_async._display.html import facts_table
from lemon_async._tasks.engine import Engine

__all__ = ["line", "table"]

_MOST_LISTED = 6


def line(engine: Engine) -> str:
    """Return the session of an engine as one line."""
    state = "closed" if engine.life.is_closed else "open"
    return (
        f"<LemonSession {engine.base_url} [{state} | {engine.submissions.under_way} submits | "
        f"{len(engine.poller)} tasks pending, {engine.poller.under_way} polls]>"
    )


def table(engine: Engine) -> str:
    """Return the session of an engine as a piece of HTML."""
    spent = engine.tasks.account.spent(engine.submissions.unknown_count)
    rows = (
        ("base URL", engine.base_url),
        ("state", "closed" if engine.life.is_closed else "open"),
        ("requests per minute", _pace(engine)),
        ("pending tasks", _statuses(engine)),
        *((("oldest of them", _names(engine)),) if len(engine.poller) else ()),
        ("under way", _under_way(engine)),
        ("sold", f"{spent.sold} ({spent.settled} settled, {spent.released} released, {spent.open} open)"),
        ("unknown submissions", spent.unknown),
    )
    return facts_table(rows, title="LemonSession")


def _pace(engine: Engine) -> str:
    budget = engine.rate_limiter.budget
    if budget.configured is not None:
        return f"{budget.requests_per_minute} (given: {budget.configured})"
    known = budget.requests_per_minute
    return "not known yet" if known is None else f"{known} (learned)"


def _statuses(engine: Engine) -> str:
    counts = Counter(task.status for task in engine.poller.pending)
    return _few([f"{number} {status:.40}" for status, number in counts.most_common()]) or "none"


def _names(engine: Engine) -> str:
    """Return what the oldest pending tasks are called: equal requests differ by their ids and labels."""
    return _few([f"{task.id or '':.80}{f' ({task.label})' if task.label else ''}" for task in engine.poller.pending])


def _few(words: Sequence[str]) -> str:
    return ", ".join([*words[:_MOST_LISTED], "…"] if len(words) > _MOST_LISTED else words)


def _under_way(engine: Engine) -> str:
    submits, polls, downloads = engine.submissions.under_way, engine.poller.under_way, engine.tasks._downloads.under_way
    return f"{submits} submits, {polls} polls, {downloads} downloads"
