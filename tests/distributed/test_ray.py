"""Batches on Ray survive the deaths of workers and of the driver: nothing is sold twice, and nothing is forgotten."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import uuid
import warnings
from collections import Counter
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from batches import rows
from lemon_async import ContractError, PollPolicy
from lemon_async.batch import State, open_journal
from lemon_async.distributed import LemonGenerator, run_batch
from lemon_async.emulator import Emulator
from lemon_async.errors import JournalError

pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("default"),  # those of Ray
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'lemon-async[ray]'"),
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
]

RECIPE = Path(__file__).parents[1] / "recipes" / "on_ray.py"
MARK = "LEMON_ASYNC_TEST"
POLLING = PollPolicy(min_gap_s=0.05, max_gap_s=0.2)
OPTIONS = {"model": "flux-pro", "size": "256x256", "polling": POLLING, "requests_per_minute": 60_000, "key": "id"}


@pytest.fixture(scope="module")
def cluster():
    """A Ray of the tests, whose processes are known by a variable in their environment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = import_module("ray")
        import_module("ray.data")
    mark = uuid.uuid4().hex
    own = {MARK: mark, "LEMONDATA_API_KEY": Emulator().api_key, "RAY_AUTH_MODE": "disabled"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    options = {"num_cpus": 4, "include_dashboard": False, "object_store_memory": 80 * 1024 * 1024}
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # paths of sockets are short
    ray.init(**options, log_to_driver=False, logging_level="error", _temp_dir=str(folder))
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield Cluster(ray, mark, folder)
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


class Cluster:
    """The processes of a Ray."""

    def __init__(self, ray, mark, folder):
        self.ray, self.folder = ray, folder
        self._mark = f"{MARK}={mark}".encode()

    def workers(self):
        """Return the ids of the processes of actors that run our code."""
        return [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if self._title(folder).startswith((b"ray::Worker", b"ray::MapWorker")) and self._is_ours(folder)
        ]

    def kill_one(self):
        """Kill a worker; return whether there was one."""
        for pid in self.workers()[:1]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def _title(self, folder):
        try:
            return (folder / "cmdline").read_bytes()
        except OSError:
            return b""

    def _is_ours(self, folder):
        try:
            return self._mark in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            return False

    async def kill(self, times, emulator, running, every):
        """Kill a worker so often, each time after some more rows are sold; return how often that was possible."""
        kills, next_at = 0, every
        while kills < times and not running.done():
            await asyncio.sleep(0.01)
            if sold_of(emulator).total() >= next_at and self.kill_one():
                kills += 1
                next_at = sold_of(emulator).total() + every
        return kills


@pytest.fixture
async def service():
    """An emulator whose jobs take a tenth of a second."""
    async with Emulator(speed=300, durations=30.0) as running:
        yield running


def sold_of(emulator):
    return Counter(entry.job for entry in emulator.ledger.entries if entry.kind == "reserve")


async def states_of(url):
    async with open_journal(url) as journal:
        found = {}
        while page := await journal.rows(after=len(found) - 1):
            found |= {row.key: row.state for row in page}
        return found


def figures(name, emulator, states, kills):
    """Check that nothing was sold twice or forgotten, and print the figures."""
    sold = sold_of(emulator)
    counts = Counter(map(str, states.values()))
    twice = sum(number > 1 for number in sold.values())
    sys.stdout.write(f"{name}: {len(states)} rows, {kills} kills, {sold.total()} sold, {twice} twice, {dict(counts)}\n")
    assert twice == 0
    assert counts.keys() <= {"done", "doubtful"}
    done = {key for key, state in states.items() if state is State.DONE}
    assert {f"r{prompt.removeprefix('prompt ')}" for prompt in sold} >= done
    assert counts["done"] <= sold.total() <= len(states)
    return counts


async def test_killed_workers_and_a_cancelled_driver_sell_nothing_twice(cluster, service, postgres, tmp_path):
    """Two workers, three kills, a driver that is cancelled, and a second call that ends it."""
    url, given = postgres.new_database(), rows(200)
    options = {**OPTIONS, "journal": url, "save": str(tmp_path / "{key}"), "base_url": service.base_url, "workers": 2}
    options |= {"in_flight": 8, "actor_options": {"num_cpus": 1}}
    running = asyncio.ensure_future(run_batch(given, **options))
    kills = await cluster.kill(3, service, running, 20)
    while sold_of(service).total() < 130 and not running.done():
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    states = Counter((await states_of(url)).values())
    assert kills == 3
    assert states[State.INTENT] == 0
    assert cluster.ray.is_initialized()
    summary = await run_batch(given, **options)
    counts = figures("run_batch", service, await states_of(url), kills)
    assert {str(state): number for state, number in summary.counts.items() if number} == counts
    assert sum(summary.failures.values()) == counts["doubtful"] <= 3 * 8
    assert len([*tmp_path.glob("*.png")]) == counts["done"]
    assert summary.restarts == 0


async def test_ray_data_may_retry_as_often_as_it_likes(cluster, service, postgres, tmp_path):
    """With its default of infinite retries and six kills; every row comes back once, in the state of the journal."""
    url, given = postgres.new_database(), rows(240)
    options = {**OPTIONS, "journal": url, "save": str(tmp_path / "{key}"), "base_url": service.base_url}
    data = cluster.ray.data.from_items(given).repartition(6)
    data = data.map_batches(
        LemonGenerator,
        fn_constructor_kwargs={**options, "in_flight": 4},
        compute=cluster.ray.data.ActorPoolStrategy(size=2),
        batch_size=20,
    )
    running = asyncio.ensure_future(asyncio.to_thread(data.take_all))
    kills = await cluster.kill(6, service, running, 15)
    results = {row["id"]: row for row in await running}
    states = await states_of(url)
    counts = figures("Ray Data", service, states, kills)
    assert kills == 6
    assert {key: row["status"] for key, row in results.items()} == {key: str(state) for key, state in states.items()}
    for row in results.values():
        assert all(Path(path).is_file() for path in row["paths"])
        assert bool(row["paths"]) is (row["error"] is None) is (row["status"] == "done")
    assert counts["doubtful"] <= 6 * 16


async def test_the_recipe_buys_a_catalogue_with_a_shared_limit(cluster, service, postgres, tmp_path, monkeypatch):
    """Its constants are replaced; workers share the limit through the database, too."""
    monkeypatch.setenv("LEMONDATA_BASE_URL", service.base_url)
    products = tmp_path / "products.csv"
    products.write_text("sku,category,prompt\nA1,boats,a red boat\nA2,boats,a blue boat\nB1,hats,a hat\n")
    code = RECIPE.read_text(encoding="utf-8")
    url = postgres.new_database()
    for old, new in {
        '"postgresql://lemon@db.internal/shop"': repr(url),
        '"redis://limits.internal"': repr(url),
        '"/mnt/shop"': repr(str(tmp_path / "shop")),
        "WORKERS = 8": "WORKERS = 2",
        "progress=True": "progress=False",
    }.items():
        assert old in code
        code = code.replace(old, new)
    names = {"__name__": "recipe"}
    exec(compile(code, RECIPE.name, "exec"), names)
    summary = await names["buy"](str(products))
    assert summary.counts[State.DONE] == 3
    assert service.ledger.sold == {"a red boat": 1, "a blue boat": 1, "a hat": 1}
    shop = tmp_path / "shop"
    assert {path.relative_to(shop).as_posix() for path in shop.rglob("*.png")} == {
        "boats/A1.png",
        "boats/A2.png",
        "hats/B1.png",
    }


async def test_workers_without_key_or_folder_are_named_before_anything_is_sold(cluster, service, postgres, tmp_path):
    """The environment of a worker may be another than the driver's; an error says on which machine it is."""
    options = {**OPTIONS, "journal": postgres.new_database(), "save": str(tmp_path / "{key}"), "workers": 1}
    options |= {"base_url": service.base_url}
    bare = {"runtime_env": {"env_vars": {"LEMONDATA_API_KEY": ""}}}
    with pytest.raises(ContractError, match=r"LEMONDATA_API_KEY.*\(worker on .*, process \d+\)"):
        await run_batch(rows(2), **options, actor_options=bare)
    for mark in tmp_path.glob(".lemon-async-*"):
        mark.unlink()
    with pytest.raises(JournalError, match=r"is not the one that its other runs use.*"):
        await run_batch(rows(2), **options)
    assert not service.ledger.entries


def test_the_key_is_in_no_file_of_ray(cluster):
    """Neither in its logs nor in what it keeps; this test comes last."""
    key, folder = os.environ["LEMONDATA_API_KEY"].encode(), cluster.folder
    paths = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    assert len(paths) > 10
    for path in paths:
        with suppress(FileNotFoundError):  # Ray goes on, and removes files
            assert not path.is_file() or key not in path.read_bytes(), path
