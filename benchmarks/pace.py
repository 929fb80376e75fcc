"""Compare the cost of polling in virtual time: the library's schedule, fixed intervals, and the optimum.

A job is polled until it is over. The cost is `poll_cost_s` per poll, plus the seconds between the job's end and the
poll that finds it. The optimum knows the distribution of durations, polls at the ages that dynamic programming finds,
and is charged for the same jobs. The schedule starts without knowledge (cold: its first 30 jobs) and continues to learn
(warm: the jobs after them). Figures are medians over seeded runs.
"""

import gc
import random
import statistics
import time
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import attrs

from benchmarks.optimum import DISTRIBUTIONS, Distribution, best_ages
from lemon_async._pace.schedule import PollPolicy, Schedule

RUNS = 11
RUNS_OF_EQUAL_LAG = 41  # the search for the price that gives a lag is noisy
COLD_JOBS, WARM_JOBS = 30, 70
PRICES_S = (0.5, 3.0)
FIXED_S = (0.1, 0.5, 1.0, 3.0, 5.0)
LONGEST_S = 2000.0
BARS = {"warm": 1.10, "cold": 1.25, "polls at the lag of 3 s, sigma 0.35": 0.6, "sigma 0.15": 0.35, "decision": 2.0}
SIZES = (1_000, 100_000)
HALVINGS = 10
DECISIONS, ROUNDS = 3_000, 9


@attrs.frozen
class Charge:
    """Number of polls and lag of each job, in order."""

    polls: list[int]
    lags_s: list[float]

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
    return Charge([number + 1 for number in found], [ages[at] - job for at, job in zip(found, jobs, strict=True)])


def charge_schedule(policy: PollPolicy, jobs: Sequence[float], *, apart_s: float | None = None) -> Charge:
    """Return the charge of a new schedule: one job after the other, or started `apart_s` seconds apart."""
    schedule: Schedule[int] = Schedule(policy)
    gaps = [job + policy.max_gap_s if apart_s is None else apart_s for job in jobs]
    starts = [0.0, *accumulate(gaps)]
    polls, lags_s = [0] * len(jobs), [0.0] * len(jobs)
    now, arrived = 0.0, 0
    while arrived < len(jobs) or len(schedule):
        wake_at = schedule.decide(now, slots=0).wake_at
        arrival = starts[arrived] if arrived < len(jobs) else None
        now = min(at for at in (wake_at, arrival) if at is not None)
        if now == arrival:
            schedule.add(arrived, now, model="m")
            arrived += 1
        for number in schedule.decide(now, slots=len(jobs)).polls:
            polls[number] += 1
            over = starts[number] + jobs[number]
            if over > now:
                schedule.seen(number, now)
            else:
                lags_s[number] = now - over
                schedule.ended(number, now, is_success=True)
    return Charge(polls, lags_s)


def fixed_ages() -> dict[str, list[float]]:
    """Return the ages at which common polling loops poll."""
    paces = {f"every {gap_s:g} s": [gap_s] * int(LONGEST_S / gap_s) for gap_s in FIXED_S}
    paces["0.5 * 1.5^n up to 5 s"] = [min(0.5 * 1.5 ** min(number, 9), 5.0) for number in range(int(LONGEST_S / 5))]
    return {name: list(accumulate(gaps)) for name, gaps in paces.items()}


def jobs_of(distribution: Distribution, seed: int) -> list[float]:
    """Return the durations of one run."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    return [distribution.sample(rng) for _ in range(COLD_JOBS + WARM_JOBS)]


def _median_figures(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}


def compare(distribution: Distribution, poll_cost_s: float) -> dict[str, dict[str, float]]:
    """Return the figures of each policy for one distribution, each with its cost relative to the optimum's."""
    policy = PollPolicy(poll_cost_s=poll_cost_s, deadline_s=10 * LONGEST_S)
    best = [*best_ages(distribution, poll_cost_s), LONGEST_S]
    rows: dict[str, list[dict[str, float]]] = {}

    def note(name: str, charge: Charge, optimum: Charge) -> None:
        ratio = charge.cost_s(poll_cost_s) / optimum.cost_s(poll_cost_s)
        rows.setdefault(name, []).append({**charge.figures(poll_cost_s), "to_optimum": ratio})

    for seed in range(RUNS):
        jobs = jobs_of(distribution, seed)
        optimum = charge_at(best, jobs)
        cold, warm = optimum.part(0, COLD_JOBS), optimum.part(COLD_JOBS)
        ours = charge_schedule(policy, jobs)
        note("optimum", warm, warm)
        note("ours, warm", ours.part(COLD_JOBS), warm)
        note("ours, cold", ours.part(0, COLD_JOBS), cold)
        note("ours, cold, all together", charge_schedule(policy, jobs[:COLD_JOBS], apart_s=0.1), cold)
        for name, ages in fixed_ages().items():
            note(name, charge_at(ages, jobs[COLD_JOBS:]), warm)
    return {name: _median_figures(figures) for name, figures in rows.items()}


def polls_at_the_lag_of(gap_s: float, distribution: Distribution) -> dict[str, float]:
    """Return the fewest polls with which the schedule has no more mean lag than a fixed gap."""
    ages = list(accumulate([gap_s] * int(LONGEST_S / gap_s)))
    low, high = 0.05, 0.5
    best = _beside(ages, distribution, low)
    for _ in range(HALVINGS):
        poll_cost_s = (low + high) / 2
        figures = _beside(ages, distribution, poll_cost_s)
        if figures["lag_mean_s"] <= figures["fixed_lag_mean_s"]:
            low, best = poll_cost_s, figures
        else:
            high = poll_cost_s
    return best


def _beside(ages: Sequence[float], distribution: Distribution, poll_cost_s: float) -> dict[str, float]:
    policy = PollPolicy(poll_cost_s=poll_cost_s, deadline_s=10 * LONGEST_S)
    rows = []
    for seed in range(RUNS_OF_EQUAL_LAG):
        jobs = jobs_of(distribution, seed)
        ours = charge_schedule(policy, jobs).part(COLD_JOBS).figures(poll_cost_s)
        fixed = charge_at(ages, jobs[COLD_JOBS:]).figures(poll_cost_s)
        lags = {"lag_mean_s": ours["lag_mean_s"], "fixed_lag_mean_s": fixed["lag_mean_s"]}
        rows.append({"poll_cost_s": poll_cost_s, **lags, "polls_to_fixed": ours["polls"] / fixed["polls"]})
    return _median_figures(rows)


class Crowd:
    """A schedule with a constant number of pending tasks: each that ends is replaced."""

    def __init__(self, size: int) -> None:
        self.schedule: Schedule[int] = Schedule(PollPolicy(deadline_s=1e9))
        self._rng = random.Random(size)  # noqa: S311 - a simulation
        self._over = [0.0] * size
        for number in range(size):
            # On average half over, so that some are always due.
            duration_s = self._draw()
            age_s = self._rng.uniform(0, duration_s)
            self._over[number] = duration_s - age_s
            self.schedule.add(number, 0.0, model="m", age_s=age_s)
        self.now = 0.0

    def _draw(self) -> float:
        return DISTRIBUTIONS["lognormal 45 s, sigma 0.35"].sample(self._rng)

    def poll(self, polls: int, *, slots: int) -> float:
        """Decide and respond until this many polls were made; return the microseconds per poll."""
        made, started = 0, time.perf_counter()
        while made < polls:
            decision = self.schedule.decide(self.now, slots=slots)
            for number in decision.polls:
                self._respond(number)
            made += len(decision.polls)
            if not decision.waiting:
                self.now = max(self.now, decision.wake_at or 0.0)
        return (time.perf_counter() - started) / made * 1e6

    def _respond(self, number: int) -> None:
        if self._over[number] > self.now:
            self.schedule.seen(number, self.now)
        else:
            self.schedule.ended(number, self.now, is_success=True)
            self.schedule.add(number, self.now, model="m")
            self._over[number] = self.now + self._draw()


def decision_us(size: int) -> dict[str, float]:
    """Return the microseconds per poll with this many pending tasks, with ample and with scarce slots.

    The time of a poll includes its share of the decision, and the update of the schedule after its response.
    """
    crowd = Crowd(size)
    crowd.poll(2 * size, slots=size)
    gc.collect()
    gc.disable()
    try:
        ample = statistics.median(crowd.poll(DECISIONS, slots=size) for _ in range(ROUNDS))
        # After half a minute, half of them are due.
        crowd.now += 30
        scarce = statistics.median(crowd.poll(DECISIONS // 20, slots=1) for _ in range(ROUNDS))
    finally:
        gc.enable()
    return {"ample": round(ample, 1), "scarce": round(scarce, 1)}


def run(quick: bool = False) -> dict[str, Any]:  # noqa: ARG001
    """Return the figures of all policies, and the time per decision."""
    costs = {
        f"price {poll_cost_s:g} s": {name: compare(each, poll_cost_s) for name, each in DISTRIBUTIONS.items()}
        for poll_cost_s in PRICES_S
    }
    names = ("lognormal 45 s, sigma 0.35", "lognormal 45 s, sigma 0.15")
    small, large = (decision_us(size) for size in SIZES)
    return {
        "runs": RUNS,
        "jobs_per_run": {"cold": COLD_JOBS, "warm": WARM_JOBS},
        "costs": costs,
        "at_the_mean_lag_of_fixed_3_s": {name: polls_at_the_lag_of(3.0, DISTRIBUTIONS[name]) for name in names},
        "decision_us": {f"{SIZES[0]} pending": small, f"{SIZES[1]} pending": large},
        "decision_ratio": {slots: round(large[slots] / small[slots], 2) for slots in small},
        "bars": BARS,
    }


def chart(figures: dict[str, Any], path: str | Path) -> None:
    """Draw the cost of each policy relative to the optimum, as a PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - only charts need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    drawing, axes = plt.subplots(1, len(figures["costs"]), figsize=(11, 4.4), sharey=True)
    for panel, (price, by_distribution) in zip(axes, figures["costs"].items(), strict=True):
        names = [name for name in next(iter(by_distribution.values())) if name != "optimum"]
        for row, name in enumerate(names):
            ratios = [policies[name]["to_optimum"] for policies in by_distribution.values()]
            colour = "#2166ac" if name.startswith("ours") else "#9e9e9e"
            panel.plot(ratios, [row] * len(ratios), "o", color=colour, alpha=0.35, markersize=7, markeredgewidth=0)
            middle = statistics.median(ratios)
            panel.plot([middle], [row], "|", color=colour, markersize=18, markeredgewidth=2.5)
            label = f"{middle:.2f}x" if middle < 10 else f"{middle:.0f}x"
            panel.annotate(label, (max(ratios), row), xytext=(9, 0), textcoords="offset points", va="center")
        panel.axvline(1, color="#333333", linewidth=1)
        panel.set_xscale("log")
        panel.set_xlim(0.9, 400)
        ticks = [1, 2, 3, 5, 10, 20, 50, 100]
        panel.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
        panel.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.4, -0.8)
        panel.grid(axis="x", color="#eeeeee")
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(left=False)
        panel.set_title(f"a poll costs as much as {price.removeprefix('price ')} of waiting", loc="left", fontsize=10)
    drawing.suptitle("Cost of polls and waiting, relative to the optimum for the known distribution", x=0.01, ha="left")
    drawing.supxlabel(
        "cost; one dot per distribution of durations, and a bar and a figure for their median", fontsize=9
    )
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)
