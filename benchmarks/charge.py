"""Charge a way of polling for its polls and for the waiting that it causes, in virtual time.

A job is polled until it is over. Its lag is the time between its end and the poll that finds it; a poll takes no time.
"""

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

import attrs

from lemon_async._pace.budget import LOWEST_TIER_RPM
from lemon_async._pace.schedule import PollPolicy, Schedule

__all__ = ["LONGEST_S", "Charge", "charge_at", "charge_schedule", "every", "fixed_ages", "most_per_minute", "peer_ages"]

LONGEST_S = 2000.0
FIXED_S = (0.1, 0.5, 1.0, 3.0, 5.0)


def most_per_minute(times: Sequence[float]) -> int:
    """Return the most of these times, which are in order, that lie within one minute."""
    return max((number - bisect_right(times, at - 60.0) for number, at in enumerate(times, 1)), default=0)


@attrs.frozen
class Charge:
    """Number of polls and lag of each job, in order, and the most polls in any minute."""

    polls: list[int]
    lags_s: list[float]
    most_per_minute: int = 0

    def cost_s(self, poll_cost_s: float) -> float:
        """Return the total cost at a price per poll."""
        return sum(self.polls) * poll_cost_s + sum(self.lags_s)

    def figures(self, poll_cost_s: float) -> dict[str, float]:
        """Return the means per job, and the 95th percentile of the lag."""
        return {
            "polls": statistics.mean(self.polls),
            "lag_mean_s": statistics.mean(self.lags_s),
            "lag_p95_s": statistics.quantiles(self.lags_s, n=20)[-1],
            "cost_s": self.cost_s(poll_cost_s) / len(self.polls),
        }

    def part(self, start: int, stop: int | None = None) -> "Charge":
        """Return the charge of some of the jobs."""
        return Charge(self.polls[start:stop], self.lags_s[start:stop])


def charge_at(ages: Sequence[float], jobs: Sequence[float]) -> Charge:
    """Return the charge of polling each job at the same ages."""
    found = [min(bisect_left(ages, job), len(ages) - 1) for job in jobs]
    lags_s = [ages[at] - job for at, job in zip(found, jobs, strict=True)]
    return Charge([number + 1 for number in found], lags_s, most_per_minute(ages[: max(found) + 1]))


def charge_schedule(
    policy: PollPolicy, jobs: Sequence[float], *, apart_s: float | None = None, room_rpm: float = LOWEST_TIER_RPM
) -> Charge:
    """Return the charge of a new schedule: one job after the other, or started `apart_s` seconds apart."""
    schedule: Schedule[int] = Schedule(policy)
    schedule.room_rpm = room_rpm
    gaps = [job + policy.max_gap_s if apart_s is None else apart_s for job in jobs]
    starts = [0.0, *accumulate(gaps)]
    polls, lags_s = [0] * len(jobs), [0.0] * len(jobs)
    now, arrived, times = 0.0, 0, []
    while arrived < len(jobs) or len(schedule):
        planned = schedule.decide(now, slots=0)
        arrival = starts[arrived] if arrived < len(jobs) else None
        # A task that waits for a slot gets one now: an answer that came just now has let it go.
        wake_at = now if planned.waiting else planned.wake_at
        now = max(now, min(at for at in (wake_at, arrival) if at is not None))
        if now == arrival:
            schedule.add(arrived, now, model="m")
            arrived += 1
        for number in schedule.decide(now, slots=len(jobs)).polls:
            polls[number] += 1
            times.append(now)
            over = starts[number] + jobs[number]
            if over > now:
                schedule.seen(number, now)
            else:
                lags_s[number] = now - over
                schedule.ended(number, now, is_success=True)
    return Charge(polls, lags_s, most_per_minute(times))


def every(gap_s: float) -> list[float]:
    """Return the ages at which a fixed interval polls."""
    return list(accumulate([gap_s] * int(LONGEST_S / gap_s)))


def fixed_ages() -> dict[str, list[float]]:
    """Return the ages at which common polling loops poll."""
    backoff = [min(0.5 * 1.5 ** min(number, 9), 5.0) for number in range(int(LONGEST_S / 5))]
    return {f"every {gap_s:g} s": every(gap_s) for gap_s in FIXED_S} | {
        "0.5 * 1.5^n up to 5 s": list(accumulate(backoff))
    }


def peer_ages() -> dict[str, list[float]]:
    """Return the ages at which other clients poll by default, according to their sources.

    * fal-client, `client.py`, `AsyncRequestHandle.iter_events`: a poll, then `asyncio.sleep(0.1)`, until it is over. A
      further request for the result is not counted.
    * replicate, `prediction.py`, `Prediction.async_wait`: `asyncio.sleep(0.5)`, then a poll, until it is over.
    """
    return {"fal-client 1.0.3": [0.0, *every(0.1)], "replicate 1.0.7": every(0.5)}
