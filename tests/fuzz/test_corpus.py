"""The seeds of the fuzz targets, and inputs that once failed, are replayed."""

import runpy
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent
TARGETS = runpy.run_path(str(FUZZ / "targets.py"))["TARGETS"]


def test_every_target_has_seeds_and_all_seeds_have_a_target():
    assert {path.name for path in (FUZZ / "corpus").iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_of_a_target_hold(name):
    for seed in sorted((FUZZ / "corpus" / name).iterdir()):
        TARGETS[name](seed.read_bytes())
