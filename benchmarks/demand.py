"""The price of a poll that follows demand: a lone user, a fast model from nothing, and many tasks, in virtual time."""

import random
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.charge import Charge, charge_at, charge_schedule, every, most_per_minute, peer_ages
from benchmarks.optimum import DISTRIBUTIONS
from lemon_async._pace.budget import LOWEST_TIER_RPM, RequestBudget
from lemon_async._pace.poll_price import HIGHEST_PRICE_S, price_s
from lemon_async._pace.schedule import PollPolicy, Schedule

__all__ = ["NAMES", "fast_model", "lone_user", "many_tasks", "missed"]

NAMES = ("lognormal 45 s, sigma 0.35", "lognormal 45 s, sigma 0.15")
# What a session knows of the account. An unknown limit counts as the lowest one; with 1,000 rpm the account is idle.
ACCOUNTS_RPM = {"1,000 rpm": 1000.0, "60 rpm, or unknown": LOWEST_TIER_RPM}
PATIENT = PollPolicy(deadline_s=1e9)
FAST_S, FAST_SIGMA, FAST_JOBS = 3.0, 0.2, (1, 5, 10)
JOBS, RPM = 100, 1000
PENDING = (1, 3, 10, 30, 100, 1000)
BARS = {
    "ours, 1,000 rpm": {"polls": 45, "lag_mean_s": 0.6, "lag_p95_s": 1.5},
    "ours, 60 rpm, or unknown": {"lag_mean_s": 1.2, "most_polls_in_a_minute": 30},
    "first jobs of a fast model": {"lag_mean_s": 1.0},
}
LASTS_S, SETTLED_S = 900.0, 300.0


def _figures(charges: Sequence[Charge]) -> dict[str, float]:
    """Return the figures of all jobs together."""
    polls = [number for charge in charges for number in charge.polls]
    lags_s = [lag_s for charge in charges for lag_s in charge.lags_s]
    return {
        "polls": round(statistics.mean(polls), 1),
        "lag_mean_s": round(statistics.mean(lags_s), 2),
        "lag_p95_s": round(statistics.quantiles(lags_s, n=20)[-1], 2),
        "most_polls_in_a_minute": max(charge.most_per_minute for charge in charges),
    }


def lone_user(name: str, runs: int) -> dict[str, dict[str, float]]:
    """Return the figures of one job after the other, from nothing, and of the first job alone, beside fixed loops."""
    samples = [_jobs(name, seed) for seed in range(runs)]
    firsts = [[job] for jobs in samples for job in jobs[:20]]
    found = {f"ours, {account}": _ours(samples, rpm) for account, rpm in ACCOUNTS_RPM.items()}
    found |= {f"ours, {account}, first job": _ours(firsts, rpm) for account, rpm in ACCOUNTS_RPM.items()}
    loops = {f"every {gap_s:g} s": every(gap_s) for gap_s in (1.0, 3.0)} | peer_ages()
    return found | {loop: _figures([charge_at(ages, jobs) for jobs in samples]) for loop, ages in loops.items()}


def _jobs(name: str, seed: int) -> list[float]:
    rng = random.Random(seed)  # noqa: S311 - a simulation
    return [DISTRIBUTIONS[name].sample(rng) for _ in range(JOBS)]


def _ours(samples: Sequence[Sequence[float]], room_rpm: float) -> dict[str, float]:
    return _figures([charge_schedule(PATIENT, jobs, room_rpm=room_rpm) for jobs in samples])


def fast_model(runs: int) -> dict[str, dict[str, float]]:
    """Return the mean lag of the first jobs of a model that takes 3 s, of which nothing is known, at 1,000 rpm."""
    found: dict[str, dict[str, float]] = {}
    for name, sigma in (("always 3 s", 0.0), (f"lognormal 3 s, sigma {FAST_SIGMA:g}", FAST_SIGMA)):
        rng = random.Random(7)  # noqa: S311 - a simulation
        for number in FAST_JOBS:
            samples = [[FAST_S * rng.lognormvariate(0, sigma) for _ in range(number)] for _ in range(20 * runs)]
            lags_s = [lag_s for jobs in samples for lag_s in charge_schedule(PATIENT, jobs, room_rpm=RPM).lags_s]
            found.setdefault(name, {})[f"first {number}"] = round(statistics.mean(lags_s), 2)
    return found


def many_tasks() -> dict[str, dict[str, float]]:
    """Return price, polls and lag for numbers of pending tasks at 1,000 rpm; each that ends is replaced."""
    return {f"{pending} pending": _many(pending) for pending in PENDING}


class _Crowd:
    """Tasks of one account, and the times of their polls."""

    def __init__(self, pending: int) -> None:
        self.now = 0.0
        self.polls: list[float] = []
        self.lags_s: list[float] = []
        self._rng = random.Random(pending)  # noqa: S311 - a simulation
        self._schedule: Schedule[int] = Schedule(PATIENT)
        self._budget = RequestBudget(RPM)
        self._over: list[float] = []
        self._unsent = pending

    def step(self) -> None:
        """Send what may be sent now, submits first, and move to the next time at which something may."""
        budget, now = self._budget, self.now
        self._schedule.room_rpm = budget.room_rpm(now)
        while self._unsent and budget.available(now):
            self._submit()
        for number in self._schedule.decide(now, slots=budget.available(now)).polls:
            self._poll(number)
        planned = self._schedule.decide(now, slots=0)
        times = [] if planned.wake_at is None else [planned.wake_at]
        times += [budget.next_at(now)] if self._unsent or planned.waiting else []
        self.now = max(now, min(times))

    def _submit(self) -> None:
        self._budget.consume(self.now)
        self._unsent -= 1
        self._schedule.add(len(self._over), self.now, model="m")
        self._over.append(self.now + DISTRIBUTIONS[NAMES[0]].sample(self._rng))

    def _poll(self, number: int) -> None:
        self._budget.consume(self.now)
        self.polls.append(self.now)
        if self._over[number] > self.now:
            self._schedule.seen(number, self.now)
            return
        self._schedule.ended(number, self.now, is_success=True)
        self._unsent += 1
        if self.now > SETTLED_S:
            self.lags_s.append(self.now - self._over[number])


def _many(pending: int) -> dict[str, float]:
    crowd = _Crowd(pending)
    while crowd.now < LASTS_S:
        crowd.step()
    settled = [at for at in crowd.polls if at > SETTLED_S]
    return {
        "price_s": round(price_s(pending, RPM), 3),
        "polls_per_minute": round(len(settled) / (LASTS_S - SETTLED_S) * 60),
        "most_polls_in_a_minute": most_per_minute(crowd.polls),
        "lag_mean_s": round(statistics.mean(crowd.lags_s), 2),
    }


def missed(lone: dict[str, dict[str, dict[str, float]]], others: dict[str, Any]) -> list[str]:
    """Return descriptions of the figures that miss their limits."""
    found = [
        f"{name}, {client}: {figure} {clients[client][figure]} (bar {bar})"
        for name, clients in lone.items()
        for client, bars in BARS.items()
        for figure, bar in bars.items()
        if client in clients and clients[client][figure] > bar
    ]
    bar = BARS["first jobs of a fast model"]["lag_mean_s"]
    fast = others["fast_model"].items()
    found += [f"{name}: {lags} (bar {bar})" for name, lags in fast if max(lags.values()) > bar]
    for name, figures in others["many_tasks"].items():
        if figures["price_s"] < HIGHEST_PRICE_S and figures["most_polls_in_a_minute"] > RPM / 2:
            found.append(f"{name}: {figures['most_polls_in_a_minute']} polls in a minute, more than half of the room")
    return found
