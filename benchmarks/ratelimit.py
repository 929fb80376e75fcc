"""Simulate 1,000 jobs under a request limit, known or unknown to the client, in virtual time.

Durations are lognormal, with a median of 45 s and a sigma of 0.35; a request takes 20-120 ms each way. The figures are
compared with two clairvoyant bounds, which know every duration and need one submit and one poll per job, without
latency.

* `paced` sends evenly at the limit, as a client must that does not know how much of the limit is already used. The
  limits to meet are shares of it.
* `greedy` also knows the server's window and uses it up immediately, including the full one at the start. That saves a
  minute: of 33 minutes at 60 rpm, of less than three at 1,000 rpm.

At 1,000 rpm, 1,000 jobs end within a few minutes; `sustained` runs 5,000.
"""

import math
import random
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from benchmarks.progress import progress
from benchmarks.service import Clairvoyant, NaiveClient, PacedClient, World
from benchmarks.windows import WINDOWS

JOBS = 1000
SUSTAINED_JOBS = 5000
SEEDS = 5
MEDIAN_S, SIGMA = 45.0, 0.35
IN_FLIGHT = {60: 200, 1000: 1000}
KNOWLEDGE: dict[str, dict[str, Any]] = {
    "known": {"reads_headers": False},
    "unknown": {"reads_headers": False},
    "unknown, headers": {"reads_headers": True},
    "unknown, no Retry-After": {"reads_headers": False, "reads_retry_after": False},
}
BARS = {
    "known": {"share_of_bound": 0.97, "share_429": 0.0},
    "unknown": {"share_of_bound": 0.90, "share_429_later": 0.02},
}

Figures = dict[str, float]
Player = Callable[[World], object]


@attrs.frozen
class Case:
    """A limit, a kind of window, and a number of jobs."""

    rpm: int
    window: str
    jobs: int = JOBS

    def play(self, player: Player, seed: int) -> World:
        """Return the world after one run."""
        chance = random.Random(seed)  # noqa: S311 - a seeded simulation
        durations = [chance.lognormvariate(math.log(MEDIAN_S), SIGMA) for _ in range(self.jobs)]
        world = World(WINDOWS[self.window](self.rpm, chance.uniform(0.0, 60.0)), durations, seed)
        player(world)
        world.run()
        return world


def measure(case: Case, player: Player, seeds: int) -> Figures:
    """Return the medians over several runs."""
    runs = [_figures(case.play(player, seed)) for seed in range(seeds)]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _figures(world: World) -> Figures:
    sent = world.sent
    return {
        "pictures_per_minute": len(world.seen_at) / max(world.seen_at) * 60.0,
        "number_429": sent["429"],
        "share_429": sent["429"] / max(sent["all"], 1),
        "share_429_later": sent["late_429"] / max(sent["late"], 1),
        "polls_per_job": sent["poll"] / len(world.seen_at),
    }


def players_of(case: Case) -> dict[str, Player]:
    """Return the clients of a case, and those that give its bounds."""
    in_flight = IN_FLIGHT[case.rpm]
    players: dict[str, Player] = {
        "paced": partial(Clairvoyant, in_flight=in_flight, gap_s=60.0 / case.rpm),
        "greedy": partial(Clairvoyant, in_flight=in_flight, gap_s=0.0),
    }
    for name in BARS if case.jobs > JOBS else KNOWLEDGE:
        limit = case.rpm if name == "known" else None
        players[name] = partial(PacedClient, in_flight=in_flight, limit=limit, **KNOWLEDGE[name])
    return players if case.jobs > JOBS else {**players, "naive": partial(NaiveClient, in_flight=in_flight)}


def cases_of(quick: bool) -> dict[str, Case]:
    """Return the cases by name, the long ones first."""
    most = max(IN_FLIGHT)
    long = {f"{most} rpm, {window}, sustained": Case(most, window, SUSTAINED_JOBS) for window in WINDOWS}
    short = {f"{rpm} rpm, {window}": Case(rpm, window) for rpm in IN_FLIGHT for window in WINDOWS}
    return short if quick else {**long, **short}


def compared(measured: dict[str, Figures]) -> dict[str, Any]:
    """Return the figures of every client in one case, with their shares of the bounds."""
    bounds = {name: measured.pop(name)["pictures_per_minute"] for name in ("paced", "greedy")}
    found: dict[str, Any] = {"bounds_per_minute": {name: round(value, 2) for name, value in bounds.items()}}
    for name, figures in measured.items():
        figures["share_of_bound"] = figures["pictures_per_minute"] / bounds["paced"]
        figures["share_of_greedy"] = figures["pictures_per_minute"] / bounds["greedy"]
        found[name] = {key: round(value, 4) for key, value in figures.items()}
    return found


def run(quick: bool = False) -> dict[str, Any]:
    """Return the figures of all cases, and those that miss their limits; simulations run in a process per core."""
    seeds = 1 if quick else SEEDS
    with ProcessPoolExecutor() as pool:
        measures = {
            (name, client): pool.submit(measure, case, player, seeds)
            for name, case in cases_of(quick).items()
            for client, player in players_of(case).items()
        }
        found: dict[str, dict[str, Figures]] = {}
        for name, client in progress("ratelimit", list(measures)):
            found.setdefault(name, {})[client] = measures[name, client].result()
    figures = {name: compared(clients) for name, clients in found.items()}
    return {
        "jobs": JOBS,
        "seeds": seeds,
        "bars": BARS,
        "missed": missed(figures),
        "worst": worst(figures),
        **figures,
    }


def worst(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the worst of each figure that has a limit, with a limit that is known and with one that is not."""
    found: dict[str, dict[str, float]] = {}
    for knowledge, bars in BARS.items():
        names = [name for name in KNOWLEDGE if (name == "known") is (knowledge == "known")]
        rows = [clients[name] for clients in figures.values() for name in names if name in clients]
        found[knowledge] = {bar: (min if bar == "share_of_bound" else max)(row[bar] for row in rows) for bar in bars}
    return found


def missed(figures: dict[str, Any]) -> list[str]:
    """Return descriptions of the figures that miss their limits."""
    found = []
    for case, clients in figures.items():
        for client in clients.keys() & KNOWLEDGE.keys():
            for name, bar in BARS["known" if client == "known" else "unknown"].items():
                value = clients[client][name]
                is_met = value >= bar if name == "share_of_bound" else value <= bar
                found += [] if is_met else [f"{case}, {client}: {name} {value} (bar {bar})"]
    return sorted(found)


def chart(figures: dict[str, Any], path: Path) -> None:
    """Draw the share of the bound and of refusals, by case and client, as a PNG."""
    import matplotlib as mpl  # noqa: PLC0415 - only charts need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    cases = [name for name in figures if " rpm, " in name and "sustained" not in name]
    clients = [*KNOWLEDGE, "naive"]
    colours = dict(zip(clients, ["#1b7837", "#2166ac", "#67a9cf", "#b2abd2", "#bdbdbd"], strict=True))
    drawing, panels = plt.subplots(2, 1, figsize=(11, 7.5), sharex=True)
    titles = {
        "share_of_bound": "Pictures per minute, % of an evenly sending clairvoyant (above 100: initial burst)",
        "share_429": "Refused with 429, % of all requests",
    }
    for panel, (name, title) in zip(panels, titles.items(), strict=True):
        for offset, client in enumerate(clients):
            places = [index + (offset - 2) * 0.16 for index in range(len(cases))]
            values = [100 * figures[case][client][name] for case in cases]
            bars = panel.bar(places, values, 0.15, label=client, color=colours[client])
            panel.bar_label(bars, fmt=lambda value: f"{value:.1f}" if 0 < value < 1 else f"{value:.0f}", fontsize=7)
        panel.set_title(title, loc="left", fontsize=11)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(y=0.12)
    panels[0].legend(ncols=len(clients), loc="upper center", bbox_to_anchor=(0.5, 1.28), frameon=False)
    panels[1].set_xticks(range(len(cases)), cases)
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)
