"""Show the state of a session: one line of text, and a table for notebooks."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs

from lemon_async._display.html import Markup, facts_table
from lemon_async._formats.json_documents import safe_str
from lemon_async.types import SubmissionCounts

__all__ = ["SessionState", "session_line", "session_table", "task_table"]

_MAX_LISTED = 6


@attrs.frozen(kw_only=True)
class SessionState:
    """What there is to show of a session; it has no field for the key.

    Attributes:
        tasks: Status, id and label of each pending task, oldest first.
        requests_per_minute: The rate limit, if it is known.
        is_limit_given: Whether the user set it; otherwise it was learned.
        shared_limit: The store of a rate limit that is shared, without credentials.
    """

    base_url: str
    is_closed: bool
    tasks: Sequence[tuple[str, str | None, str | None]]
    submits: int
    polls: int
    downloads: int
    counts: SubmissionCounts
    requests_per_minute: int | None
    is_limit_given: bool
    shared_limit: str | None = None

    @property
    def word(self) -> str:
        """`open` or `closed`."""
        return "closed" if self.is_closed else "open"


def session_line(state: SessionState) -> str:
    """Return the `repr` of a session."""
    shared = f" | limit shared through {state.shared_limit}" if state.shared_limit else ""
    return (
        f"<LemonSession {state.base_url} [{state.word} | {state.submits} submits | {len(state.tasks)} tasks pending, "
        f"{state.polls} polls{shared}]>"
    )


def session_table(state: SessionState) -> Markup:
    """Return a session as an HTML table."""
    statuses = Counter(status for status, _, _ in state.tasks).most_common()
    # Equal requests differ by their ids and labels only.
    names = [f"{name or '':.80}{f' ({label})' if label else ''}" for _, name, label in state.tasks[: _MAX_LISTED + 1]]
    counts = state.counts
    limit = f"{state.requests_per_minute} ({'given' if state.is_limit_given else 'learned'})"
    shared = (("shared through", state.shared_limit),) if state.shared_limit else ()
    rows = (
        ("base URL", state.base_url),
        ("state", state.word),
        ("requests per minute", "not known yet" if state.requests_per_minute is None else limit),
        *shared,
        ("pending tasks", _first([f"{number} {status:.40}" for status, number in statuses]) or "none"),
        *((("oldest of them", _first(names)),) if names else ()),
        ("in flight", f"{state.submits} submits, {state.polls} polls, {state.downloads} downloads"),
        ("sold", f"{counts.sold} ({counts.settled} settled, {counts.released} released, {counts.open} open)"),
        ("unknown submissions", counts.unknown),
    )
    return facts_table(rows, title="LemonSession")


def task_table(
    task: Any, *, age_s: float | None, model: str | None, prompt: str | None, error: Exception | None
) -> Markup:
    """Return an `ImageTask` as an HTML table."""
    facts = {
        "id": task.id or "answered inline",
        "label": task.label,
        "status": task.status,
        "progress": None if task.done() else task.progress,
        "seconds": None if task.seconds is None else f"{task.seconds:.1f}",
        "age": None if age_s is None else f"{age_s:.0f} s",
        "model": model,
        "prompt": prompt,
        "error": None if error is None else f"{type(error).__name__}: {safe_str(error)}",
    }
    return facts_table(((name, value) for name, value in facts.items() if value is not None), title="ImageTask")


def _first(words: Sequence[str]) -> str:
    return ", ".join([*words[:_MAX_LISTED], "…"] if len(words) > _MAX_LISTED else words)
