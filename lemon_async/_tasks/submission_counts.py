"""What a session has bought, counted in requests; prices are the service's business."""

from collections import Counter

import attrs

from lemon_async.types import TaskSnapshot

__all__ = ["Account", "Spent"]


@attrs.frozen
class Spent:
    """The paid requests of a session so far.

    Attributes:
        sold: Accepted by the service, with an id or with pictures at once.
        settled: Of those, completed: billed by actual usage.
        released: Of those, failed or cancelled: the service releases or refunds what it had reserved.
        unknown: Sent, and nobody knows whether they were sold (`SubmissionUnknown`); not counted as sold.
    """

    sold: int = 0
    settled: int = 0
    released: int = 0
    unknown: int = 0

    @property
    def open(self) -> int:
        """Sold, and not known to have ended: still running, or given up waiting for."""
        return self.sold - self.settled - self.released


class Account:
    """Counts sales and how they ended; a task that is resumed in the session that bought it counts once."""

    def __init__(self) -> None:
        self._sold = self._settled = self._released = 0
        self._open: Counter[str | None] = Counter()

    def spent(self, unknown: int) -> Spent:
        """Return the count, with the requests whose fate is unknown."""
        return Spent(self._sold, self._settled, self._released, unknown)

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
