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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import demand
from benchmarks.charge import LONGEST_S, Charge, charge_at, charge_schedule, every, fixed_ages
from benchmarks.optimum import DISTRIBUTIONS, Distribution, best_ages
from benchmarks.progress import progress
from lemon_async._pace.schedule import PollPolicy, Schedule

RUNS = 11
RUNS_OF_EQUAL_LAG = 31  # the search for the price that gives a lag is noisy
COLD_JOBS, WARM_JOBS = 30, 70
PRICES_S = (0.5, 3.0)
BARS = {"warm": 1.10, "cold": 1.25, "polls at the lag of 3 s, sigma 0.35": 0.6, "sigma 0.15": 0.35, "decision": 2.0}
SIZES = (1_000, 100_000)
HALVINGS = 6  # to 0.007 s
DECISIONS, ROUNDS = 3_000, 9


def jobs_of(distribution: Distribution, seed: int) -> list[float]:
    """Return the durations of one run."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    return [distribution.sample(rng) for _ in range(COLD_JOBS + WARM_JOBS)]


def _median_figures(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}


def compare(distribution: Distribution, poll_cost_s: float, runs: int) -> dict[str, dict[str, float]]:
    """Return the figures of each policy for one distribution, each with its cost relative to the optimum's."""
    policy = PollPolicy(poll_cost_s=poll_cost_s, deadline_s=10 * LONGEST_S)
    best = [*best_ages(distribution, poll_cost_s), LONGEST_S]
    rows: dict[str, list[dict[str, float]]] = {}

    def note(name: str, charge: Charge, optimum: Charge) -> None:
        ratio = charge.cost_s(poll_cost_s) / optimum.cost_s(poll_cost_s)
        rows.setdefault(name, []).append({**charge.figures(poll_cost_s), "to_optimum": ratio})

    for seed in range(runs):
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


def polls_at_the_lag_of(gap_s: float, distribution: Distribution, runs: int) -> dict[str, float]:
    """Return the fewest polls with which the schedule has no more mean lag than a fixed gap."""
    ages = every(gap_s)
    low, high = 0.05, 0.5
    best = _beside(ages, distribution, low, runs)
    for _ in range(HALVINGS):
        poll_cost_s = (low + high) / 2
        figures = _beside(ages, distribution, poll_cost_s, runs)
        if figures["lag_mean_s"] <= figures["fixed_lag_mean_s"]:
            low, best = poll_cost_s, figures
        else:
            high = poll_cost_s
    return best


def _beside(ages: Sequence[float], distribution: Distribution, poll_cost_s: float, runs: int) -> dict[str, float]:
    policy = PollPolicy(poll_cost_s=poll_cost_s, deadline_s=10 * LONGEST_S)
    rows = []
    for seed in range(runs):
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
        made, started = 0, time.process_time()
        while made < polls:
            decision = self.schedule.decide(self.now, slots=slots)
            for number in decision.polls:
                self._respond(number)
            made += len(decision.polls)
            if not decision.waiting:
                self.now = max(self.now, decision.wake_at or 0.0)
        return (time.process_time() - started) / made * 1e6

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


def run(quick: bool = False) -> dict[str, Any]:
    """Return the figures of all policies, of demand, and the time per decision."""
    runs, equal_runs, sizes = (1, 1, (1_000,)) if quick else (RUNS, RUNS_OF_EQUAL_LAG, SIZES)
    equal = {name: partial(polls_at_the_lag_of, 3.0, DISTRIBUTIONS[name], equal_runs) for name in demand.NAMES}
    parts: list[tuple[str, str, Callable[[], Any]]] = [
        *(
            (f"price {price_s:g} s", name, partial(compare, each, price_s, runs))
            for price_s in PRICES_S
            for name, each in DISTRIBUTIONS.items()
        ),
        *(("lone_user", name, partial(demand.lone_user, name, runs)) for name in demand.NAMES),
        ("demand", "fast_model", partial(demand.fast_model, runs)),
        ("demand", "many_tasks", demand.many_tasks),
        *(("at_the_mean_lag_of_fixed_3_s", name, part) for name, part in equal.items()),
        *(("decision_us", f"{size} pending", partial(decision_us, size)) for size in sizes),
    ]
    found: dict[str, dict[str, Any]] = {}
    for group, name, part in progress("pace", parts):
        found.setdefault(group, {})[name] = part()
    costs = {f"price {price_s:g} s": found.pop(f"price {price_s:g} s") for price_s in PRICES_S}
    small, large = (next(iter(found["decision_us"].values())), [*found["decision_us"].values()][-1])
    return {
        "runs": runs,
        "jobs_per_run": {"cold": COLD_JOBS, "warm": WARM_JOBS},
        "to_optimum": {price: to_optimum(by_distribution) for price, by_distribution in costs.items()},
        "costs": costs,
        **found,
        "decision_ratio": {slots: round(large[slots] / small[slots], 2) for slots in small},
        "bars": BARS,
        "missed": demand.missed(found["lone_user"], found["demand"]),
    }


def to_optimum(by_distribution: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the cost of each policy relative to the optimum: the median of the distributions, and the worst."""
    found = {}
    for policy in next(iter(by_distribution.values())):
        ratios = [policies[policy]["to_optimum"] for policies in by_distribution.values()]
        found[policy] = {"median": round(statistics.median(ratios), 2), "worst": round(max(ratios), 2)}
    return found


def chart(figures: dict[str, Any], path: str | Path) -> None:
    """Draw the cost of each policy relative to the optimum, and what a lone user gets for it, as a PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - only charts need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    drawing, grid = plt.subplot_mosaic([["a", "b"], ["lone", "lone"]], figsize=(11, 8), height_ratios=[1.3, 1])
    grid["b"].sharey(grid["a"])
    for panel, (price, by_distribution) in zip((grid["a"], grid["b"]), figures["costs"].items(), strict=True):
        _draw_costs(panel, by_distribution)
        panel.set_title(f"a poll costs as much as {price.removeprefix('price ')} of waiting", loc="left", fontsize=10)
    grid["b"].tick_params(labelleft=False)
    _draw_lone_user(grid["lone"], figures["lone_user"][demand.NAMES[0]])
    drawing.suptitle("Cost of polls and waiting, relative to the optimum for the known distribution", x=0.01, ha="left")
    label = "cost; one dot per distribution of durations, and a bar and a figure for their median"
    grid["a"].set_xlabel(label, fontsize=9, loc="left")
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)


def _draw_costs(panel: Any, by_distribution: dict[str, dict[str, dict[str, float]]]) -> None:
    names = [name for name in next(iter(by_distribution.values())) if name != "optimum"]
    for row, name in enumerate(names):
        ratios = [policies[name]["to_optimum"] for policies in by_distribution.values()]
        colour = _colour(name)
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
    panel.minorticks_off()
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.4, -0.8)
    panel.grid(axis="x", color="#eeeeee")
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(left=False)


def _draw_lone_user(panel: Any, clients: dict[str, dict[str, float]]) -> None:
    for name, figures in clients.items():
        if not name.endswith("first job"):
            place = (figures["polls"], figures["lag_mean_s"])
            panel.plot(*place, "o", color=_colour(name), markersize=8)
            right = not name.startswith("ours")  # apart from the fixed loop beside it
            beside = {"xytext": (6, 5) if right else (-6, -12), "ha": "left" if right else "right"}
            panel.annotate(name, place, textcoords="offset points", **beside)
    panel.set_xscale("log")
    panel.set_xlim(3, 1500)
    ticks = [5, 10, 20, 50, 100, 200, 500]
    panel.set_xticks(ticks, [f"{tick}" for tick in ticks])
    panel.minorticks_off()
    panel.set_ylim(0, 2)
    panel.grid(color="#eeeeee")
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_xlabel("polls per job", fontsize=9, loc="left")
    panel.set_ylabel("mean wait after its end, s", fontsize=9)
    title = "One job after the other (lognormal 45 s, sigma 0.35), with a price that follows demand"
    panel.set_title(title, loc="left", fontsize=10)


def _colour(name: str) -> str:
    return "#2166ac" if name.startswith("ours") else "#9e9e9e"
