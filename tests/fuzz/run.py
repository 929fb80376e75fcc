"""Fuzz every target for some seconds, two in parallel: `python tests/fuzz/run.py [--seconds 20] [target ...]`.

It uses Atheris (libFuzzer) if that is installed; otherwise Hypothesis mutates the seeds. An input that fails is stored
in `--crashes`; once that is fixed, add it to the seeds in `tests/fuzz/corpus/<target>`, which the suite replays.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
PARALLEL = 2
MAX_BYTES = 4096
GRACE_S = 60
ROOMS = [
    "lemon_async._api",
    "lemon_async._formats",
    "lemon_async._pace",
    "lemon_async._images.naming",
    "lemon_async._api.resume_token",
    "json",
]


def main():
    options = parsed_options()
    if options.alone:
        (name,) = options.targets
        fuzz = with_atheris if find_spec("atheris") else with_hypothesis
        fuzz(name, options.seconds, options.crashes)
        return
    import targets  # noqa: PLC0415 - in a process that fuzzes, atheris has to see this import

    names = options.targets or list(targets.TARGETS)
    with ThreadPoolExecutor(PARALLEL) as pool:
        held = list(pool.map(partial(run_alone, options), names))
    failed = [name for name, is_good in zip(names, held, strict=True) if not is_good]
    sys.exit(f"failed: {', '.join(failed)}" if failed else None)


def parsed_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--crashes", type=Path, default=Path(tempfile.gettempdir()) / "lemon_async_crashes")
    parser.add_argument("--alone", action="store_true", help="fuzz one target in this process")
    return parser.parse_args()


def run_alone(options, name):
    """Fuzz a target in a separate process, and return whether it passed."""
    options.crashes.mkdir(parents=True, exist_ok=True)
    words = [name, "--alone", "--seconds", str(options.seconds), "--crashes", str(options.crashes)]
    command = [sys.executable, __file__, *words]
    run = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, timeout=options.seconds + GRACE_S
    )
    inputs = [line for line in run.stderr.splitlines() if "number_of_executed_units" in line]
    print(f"{name}: {'passed' if run.returncode == 0 else 'FAILED'} {' '.join(inputs)}", flush=True)
    if run.returncode:
        print(run.stdout[-4000:], run.stderr[-4000:], flush=True)
    return run.returncode == 0


def keeping(target, path):
    """Return a target that stores a failing input in a file."""

    def kept(data):
        try:
            target(data)
        except Exception:
            path.write_bytes(data)
            raise

    return kept


def with_atheris(name, seconds, crashes):
    import atheris  # noqa: PLC0415 - not everywhere

    with atheris.instrument_imports(include=ROOMS):
        import targets  # noqa: PLC0415 - instrumented

    with tempfile.TemporaryDirectory() as found:
        flags = [f"-max_total_time={seconds}", f"-max_len={MAX_BYTES}", "-timeout=40", "-print_final_stats=1"]
        flags += [f"-artifact_prefix={crashes / name}-", "-rss_limit_mb=4096"]
        atheris.Setup([name, *flags, found, str(CORPUS / name)], keeping(targets.TARGETS[name], crashes / name))
        atheris.Fuzz()


def with_hypothesis(name, seconds, crashes):
    import targets  # noqa: PLC0415 - as with atheris
    from hypothesis import HealthCheck, given, settings  # noqa: PLC0415 - likewise
    from hypothesis import strategies as st  # noqa: PLC0415

    seeds = sorted(path.read_bytes() for path in (CORPUS / name).iterdir())
    cuts = st.tuples(st.sampled_from(seeds), st.integers(0, MAX_BYTES), st.integers(0, 64), st.binary(max_size=64))
    mutated = cuts.map(lambda cut: cut[0][: cut[1]] + cut[3] + cut[0][cut[1] + cut[2] :])
    target = keeping(targets.TARGETS[name], crashes / name)
    end_at = time.monotonic() + seconds

    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(mutated | st.lists(mutated, max_size=3).map(b"".join) | st.binary(max_size=400))
    def fuzz(data):
        target(data)

    while time.monotonic() < end_at:
        fuzz()


if __name__ == "__main__":
    main()
