"""A model of a store of a shared rate limit: the rules of `_http/shared_limit/store.py`, without I/O."""

import attrs

from lemon_async._pace.leases import Lease

LOST_WAIT_S = 60.0


@attrs.define
class LimitState:
    """The state of one account; `now` is the store's clock."""

    interval_s: float
    horizon_s: float
    epoch: float
    due: float
    clear_until: float
    workers: dict[object, float]

    @classmethod
    def create(cls, now, *, interval_s, horizon_s):
        """Return the state that the first `reserve` creates."""
        return cls(interval_s, horizon_s, now, now, now, {})

    def reserve(self, now, slots, *, epoch, owed, worker):
        """Return the lease."""
        if epoch is not None and epoch != repr(self.epoch):
            self.clear_until = max(self.clear_until, self.epoch + LOST_WAIT_S)
        self.workers[worker] = now
        first = max(now, self.due, self.clear_until) + owed * self.interval_s
        granted = slots if first <= now + self.horizon_s else 0
        if granted or owed:
            self.due = first + granted * self.interval_s
        return Lease(
            slots=granted,
            wait_s=first - now,
            spacing_s=self.interval_s,
            epoch=repr(self.epoch),
            workers=sum(seen > now - 60 for seen in self.workers.values()),
        )

    def pause(self, now, seconds):
        """Grant no slot before the pause ends."""
        self.clear_until = max(self.clear_until, now + seconds)
