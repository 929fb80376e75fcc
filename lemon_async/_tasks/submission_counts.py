"""What a session has bought, counted in requests; prices are the service's business."""

from collections import Counter

from lemon_async.types import SubmissionCounts, TaskSnapshot

__all__ = ["Account"]


class Account:
    """Counts sales and how they ended; a task that is resumed in the session that bought it counts once."""

    def __init__(self) -> None:
        self._sold = self._settled = self._released = 0
        self._open: Counter[str | None] = Counter()

    def spent(self, unknown: int) -> SubmissionCounts:
        """Return the count, with the requests whose fate is unknown."""
        return SubmissionCounts(self._sold, self._settled, self._released, unknown)

    def sold(self, snapshot: TaskSnapshot) -> None:
        """Take note of an accepted request."""
        self._sold += 1
        if snapshot.is_done:
            self._close(snapshot)
        else:
            self._open[snapshot.task_id] += 1

    def ended(self, snapshot: TaskSnapshot) -> None:
        """Take note of the last that is known of a task; one that was bought elsewhere does not count."""
        if snapshot.is_done and self._open[snapshot.task_id]:
            self._open[snapshot.task_id] -= 1
            if not self._open[snapshot.task_id]:
                del self._open[snapshot.task_id]
            self._close(snapshot)

    def _close(self, snapshot: TaskSnapshot) -> None:
        if snapshot.status == "completed":
            self._settled += 1
        else:
            self._released += 1
