"""Benchmarks can be run as their page says."""

import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = re.findall(r"`python -m benchmarks ([^`]+)`", (ROOT / "benchmarks" / "README.md").read_text("utf-8"))
NAMES = sorted({word for command in COMMANDS for word in command.split() if not word.startswith("-")})


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_of_the_page_exists(name, monkeypatch):
    """Each name that the page gives to the command is a benchmark, and can be quick."""
    monkeypatch.syspath_prepend(ROOT)
    benchmark = importlib.import_module("benchmarks.__main__").BENCHMARKS[name]
    assert inspect.signature(benchmark.run).parameters["quick"].default is False


def test_figures_and_progress_are_apart():
    """Figures go to stdout as JSON and say whether they are quick; stderr says how far the benchmark is."""
    command = [sys.executable, "-m", "benchmarks", "check", "--quick"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures = json.loads(run.stdout.split("\n", 1)[1])["check"]
    assert figures["is_quick"] is True
    assert figures["check_us"] > 0
    assert re.match(rf"check: 1 of {figures['rounds']}, \d+ s\n", run.stderr)


def test_costs_of_a_transaction_are_possible(monkeypatch):
    """A single sync that took a second must not become a transaction that holds its lock for less than no time."""
    monkeypatch.syspath_prepend(ROOT)
    fitted = importlib.import_module("benchmarks.scale").fitted
    assert fitted(0.002, 0.002 + 49 * 0.0001, 0.0001).hold_s == pytest.approx(0.0018)
    for alone_s, group_s in [(0.0017, 1.28), (0.002, 0.001)]:
        with pytest.raises(RuntimeError, match="the machine was too busy"):
            fitted(alone_s, group_s, 0.0001)
