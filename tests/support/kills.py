"""Kill batches, run them again, and check with the emulator's ledger what they have bought."""

import asyncio
import base64
import csv
import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import attrs
from PIL import Image

from lemon_async.batch import Spending, State, open_journal
from lemon_async.emulator import Emulator, Result

CHILD = Path(__file__).with_name("batch_child.py")
OWN_SUFFIXES = {".db", ".csv", ".db-wal", ".status"}
README = Path(__file__).parents[2] / "README.md"


@attrs.define
class Ended:
    """How a process ended: its exit status (negative: the signal that killed it), and what it printed."""

    status: int
    report: dict

    @property
    def is_killed(self):
        return self.status == -signal.SIGKILL


class Processes:
    """Start processes of `batch_child`, one after the other."""

    def __init__(self):
        command = [sys.executable, str(CHILD)]
        self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    async def start(self, do, **arguments):
        """Start a process, and return its id."""
        self._server.stdin.write(json.dumps({"do": do, **arguments}, default=str) + "\n")
        return (await self.read())["child"]

    async def read(self):
        """Return the next object that is printed."""
        return json.loads(await asyncio.to_thread(self._server.stdout.readline))

    async def ended(self):
        """Wait for the end of the process."""
        report = {}
        while "status" not in (line := await self.read()):
            report |= line
        return Ended(line["status"], report)

    async def run(self, do, **arguments):
        """Run a process to its end."""
        await self.start(do, **arguments)
        return await self.ended()

    async def run_killed(self, after_s, do, **arguments):
        """Run a process, and kill it if it has not ended after so many seconds."""
        pid = await self.start(do, **arguments)
        ending = asyncio.create_task(self.ended())
        if (await asyncio.wait([ending], timeout=after_s))[0]:
            return await ending
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return await ending

    async def kill(self, pid):
        """Kill a process that was started, and wait for its end."""
        os.kill(pid, signal.SIGKILL)
        return await self.ended()

    def close(self):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


def address_of(emulator):
    return {"key": emulator.api_key, "base_url": emulator.base_url}


@attrs.frozen
class Sales:
    """What the service sold for the rows of a batch.

    Attributes:
        sold: How often each row was sold, by its key.
        kept: The same, less what was released.
        held_usd: What was billed or is reserved.
        most_held_usd: The highest value of that at any time.
    """

    sold: Counter
    kept: Counter
    held_usd: float
    most_held_usd: float

    @classmethod
    def of(cls, emulator, keys):
        """Read the ledger; `keys` maps prompts to keys, or holds prompts that are keys."""
        keys = keys if isinstance(keys, dict) else {prompt: prompt for prompt in keys}
        entries = [entry for entry in emulator.ledger.entries if entry.job in keys]
        sold = Counter(keys[entry.job] for entry in entries if entry.kind == "reserve")
        released = Counter(keys[entry.job] for entry in entries if entry.kind == "release")
        held = most = 0.0
        amounts = Counter()
        for entry in entries:
            job = entry.task_id or entry.job
            amount = 0.0 if entry.kind == "release" else entry.amount_usd
            held += amount - amounts[job]
            amounts[job] = amount
            most = max(most, held)
        return cls(sold, sold - released, held, most)


@attrs.frozen
class Books:
    """What a journal says: its rows by key, their number by state, and the sums of money."""

    rows: dict
    counts: Counter
    spending: Spending

    @classmethod
    async def of(cls, path):
        """Read a journal that no process has open."""
        rows = {}
        async with open_journal(path, create=True) as journal:
            while found := await journal.rows(after=len(rows) - 1):
                rows |= {row.key: row for row in found}
            return cls(rows, Counter(row.state for row in rows.values()), await journal.spending())


def check_sales(sales, books):
    """Each row was sold at most once, apart from refunds, and each sale is known."""
    assert max(sales.kept.values(), default=0) <= 1, f"sold twice: {sales.kept - Counter(list(sales.kept))}"
    known = {State.DONE, State.DOUBTFUL, State.DEAD}
    lost = [key for key in sales.kept if books.rows[key].state not in known and not books.rows[key].task]
    assert not lost, f"sold and forgotten: {lost}"
    invented = [row.key for row in books.rows.values() if row.state is State.DONE and not sales.kept[row.key]]
    assert not invented, f"done and never sold: {invented}"


def check_money(sales, books, cap_usd=None):
    """The journal's sums cover the ledger's, and both are within the cap; prices must be those of the service."""
    committed = books.spending.committed
    assert sales.held_usd <= committed + 1e-6, (sales.held_usd, books.spending)
    if not books.counts[State.DOUBTFUL]:
        assert abs(sales.held_usd - committed) < 1e-6, (sales.held_usd, books.spending)
    if cap_usd is not None:
        assert max(committed, sales.most_held_usd) <= cap_usd + 1e-6, (committed, sales.most_held_usd)


async def check_files(emulator, books, folder):
    """The pictures in the folder of a journal are those of its finished rows, one each.

    There may also be one of a row that is dead: its inline response was saved, and the process killed before it could
    be recorded.
    """
    made = await pictures_made(emulator, books.rows)
    owners = {}
    for row in books.rows.values():
        assert bool(row.pictures) is (row.state is State.DONE), row
        for picture in row.pictures:
            content = (folder / picture.path).read_bytes()
            Image.open(io.BytesIO(content)).load()
            digest = hashlib.sha256(content).hexdigest()
            assert (digest, len(content)) == (picture.sha256, picture.size_bytes), row
            assert digest in made.get(row.key, {digest}), f"the picture of another row: {row}"
            assert owners.setdefault(folder / picture.path, row.key) == row.key, f"two rows have one file: {row}"
    files = {path for path in folder.rglob("*.*") if not path.name.startswith(".") and path.suffix not in OWN_SUFFIXES}
    extra = [path for path in files - owners.keys() if not is_of_dead_row(path, books)]
    assert owners.keys() <= files, f"missing files: {owners.keys() - files}"
    assert not extra, f"files of no row: {extra}"


def is_of_dead_row(path, books):
    row = books.rows.get(path.stem)
    return row is not None and row.state is State.DEAD and row.task is None


async def pictures_made(emulator, prompts):
    """Return the SHA-256 digests of the pictures that were drawn for each prompt."""
    digests = {}
    for task in emulator._store.tasks.values():
        is_drawn = task.spec.job in prompts and not task.find(Result)
        for index in range(task.spec.n if is_drawn else 0):
            picture = attrs.evolve(task.spec.picture, index=index, seed=emulator._store.seed)
            content = await emulator._renderer.draw(picture)
            digests.setdefault(task.spec.job, set()).add(hashlib.sha256(content).hexdigest())
    return digests


@attrs.define
class Totals:
    """What came of batches that were killed and run again until they ended.

    Attributes:
        rows: Number of rows.
        kills: Number of kills.
        posts: Number of paid requests that could be in flight at the kills, at most.
        sold: Number of jobs that the service sold.
        twice: Number of rows that were sold more than once; checked, so it is 0.
        lost: Number of rows that were sold and forgotten; likewise.
        doubtful: Number of rows that ended as doubtful.
        dead: Number of rows whose inline response was lost.
        parts: Number of hidden unfinished files that were left.
    """

    rows: int = 0
    kills: int = 0
    posts: int = 0
    sold: int = 0
    twice: int = 0
    lost: int = 0
    doubtful: int = 0
    dead: int = 0
    parts: int = 0

    def add(self, sales, books, folder):
        """Add a batch that has ended."""
        self.rows += len(books.rows)
        self.sold += sales.sold.total()
        self.doubtful += books.counts[State.DOUBTFUL]
        self.dead += books.counts[State.DEAD]
        self.parts += len(list(folder.rglob(".*.part")))
        assert self.doubtful <= self.posts, self

    def __add__(self, other):
        return Totals(*map(sum, zip(attrs.astuple(self), attrs.astuple(other), strict=True)))


class Batches:
    """Run batches in processes that are killed, check what is left at the end of each, and add it up.

    Args:
        processes: Where to run them.
        emulator: The service; its ledger is the oracle.
        folder: Where journals and pictures go.
        new_journal: Returns the address of a new journal; by default they are files.
        options: Options of `LemonSession.batch`.
    """

    def __init__(self, processes, emulator, folder, new_journal=None, **options):
        self.totals = Totals()
        self._processes = processes
        self._emulator = emulator
        self._folder = Path(folder)
        self._new_journal = new_journal
        self._options = {"model": "flux-pro", "size": "256x256", "in_flight": 50, **options}
        self._number = 0

    def new(self, rows):
        """Return the arguments of a new batch; its keys are prompts that no other batch has."""
        folder = self._folder / f"batch{self._number}"
        folder.mkdir()
        names = [f"b{self._number}-{row}" for row in range(rows)]
        self._number += 1
        return {
            "service": address_of(self._emulator),
            "journal": self._new_journal() if self._new_journal else str(folder / "run.db"),
            "rows": [{"id": name, "prompt": name} for name in names],
            "key": "id",
            "save": str(folder / "out" / "{key}"),
            **self._options,
        }

    async def edges_of(self, batch):
        """Run the batch to its end, and return the edges it crosses."""
        ended = await self._end(batch, is_counting=True)
        return ended.report["edges"]

    async def kill_at_edges(self, batch, *edges):
        """Kill the batch at each of these edges, one after the other, and then run it to its end."""
        for edge in edges:
            self._count(await self._processes.run("run", **batch, kill_at=edge), batch)
        await self._end(batch)

    async def kill_at_random(self, batch, dice, most_s):
        """Kill the batch at random moments, each time a little later, until it ends before the next one."""
        while True:
            ended = await self._processes.run_killed(dice.uniform(0.0, most_s), "run", **batch)
            if not ended.is_killed:
                break
            self._count(ended, batch)
            most_s *= 1.1  # on a machine that is busy enough, it would never end
        self._check_end(ended)
        await self.check(batch)

    async def _end(self, batch, **options):
        ended = await self._processes.run("run", **batch, **options)
        self._check_end(ended)
        await self.check(batch)
        return ended

    def _check_end(self, ended):
        assert (ended.status, ended.report.get("error")) == (0, None), ended

    def _count(self, ended, batch):
        assert ended.is_killed or not ended.status, ended
        self.totals.kills += ended.is_killed
        self.totals.posts += ended.is_killed * min(len(batch["rows"]), batch["in_flight"])

    async def check(self, batch):
        """Raise `AssertionError` if a row was sold twice or lost, or a file is wrong; otherwise add to the totals."""
        folder = Path(batch["save"]).parents[1]
        books = await Books.of(batch["journal"])
        sales = Sales.of(self._emulator, {row["id"] for row in batch["rows"]})
        check_sales(sales, books)
        check_money(sales, books, batch.get("budget_usd"))
        await check_files(self._emulator, books, folder)
        self.totals.add(sales, books, folder)
        assert books.counts.keys() <= {State.DONE, State.DOUBTFUL, State.DEAD}, books.counts


def readme_example():
    """Return the code of README's section on batches."""
    return re.search(r"^### Batch\n.*?^```python\n(.*?)^```", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)[1]


def write_products(path, rows):
    """Write the table of README's example, and return the key of each prompt."""
    dice = random.Random(rows)
    keys = {f"product {number} on a table": f"A{number:04}" for number in range(rows)}
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sku", "category", "model", "size", "prompt"])
        for prompt, key in keys.items():
            choices = ["shoes", "bags"], ["flux-pro", "ideogram-v3"], ["1024x1024", "1024x1792"]
            table.writerow([key, *map(dice.choice, choices), prompt])
    return keys


async def kill_example(processes, folder, *, rows, picture, kills=2):
    """Kill README's example so often, after equal shares of its sales, run it to its end, and check it."""
    totals = Totals()
    keys = write_products(folder / "products.csv", rows)
    async with Emulator(speed=600, durations=30.0) as emulator:
        emulator.fault("submit", Result([{"b64_json": base64.b64encode(picture).decode()}]))
        example = {"service": address_of(emulator), "folder": folder, "code": readme_example()}
        for share in range(1, kills + 1):
            pid = await processes.start("example", **example)
            while len(emulator._store.ledger.entries) < 2 * rows * share / (kills + 1):
                await asyncio.sleep(0.002)
            assert (await processes.kill(pid)).is_killed
            totals.kills += 1
            totals.posts += 200
        ended = await processes.run("example", **example)
        assert ended.status == 0, ended
        books, sales = await Books.of(folder / "shop.db"), Sales.of(emulator, keys)
        check_sales(sales, books)
        check_money(sales, books, 200)
        await check_files(emulator, books, folder)
    totals.add(sales, books, folder)
    assert books.counts.keys() <= {State.DONE, State.DOUBTFUL}
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"shoes", "bags"}
    return totals
