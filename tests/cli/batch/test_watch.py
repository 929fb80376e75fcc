"""`lemon-async batch watch` in a process of its own, beside real runs in others."""

import asyncio
import json
import os
import re
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest

from commands import Command
from journal_owner import kill, owning_process
from journals import accept, intend, new_rows
from lemon_async.batch import State, open_journal
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE
from lemon_async.emulator import Status

USUAL = ("--journal", "run.db", "--key", "sku", "-m", "flux-pro", "--no-progress", "-o", "out/{sku}")


class Page:
    """The page of a batch as a browser sees it."""

    def __init__(self, command, url, http):
        self.command = command
        self.url = url
        self._http = http

    async def get(self, path, **options):
        """Return status, headers and body."""
        async with self._http.get(self.url.rstrip("/") + path, **options) as answer:
            return answer.status, answer.headers, await answer.read()

    async def pictures(self, **query):
        """Return the first page of the list by the keys of its rows."""
        _, _, body = await self.get("/_page/pictures", params=query)
        return {item["key"]: item for item in json.loads(body)["items"]}

    async def until(self, condition):
        """Follow the stream until a summary meets the condition, and return it."""
        async with asyncio.timeout(60), self._http.get(self.url + "_page/events") as stream:
            async for line in stream.content:
                if line.startswith(b"data:") and condition(summary := json.loads(line[5:])):
                    return summary
        return pytest.fail("the stream has ended")


@pytest.fixture
def watching():
    """Watch `run.db` in a process."""

    @asynccontextmanager
    async def watching(*words):
        command = await Command.start("batch", "watch", *(words or ["run.db"]))
        try:
            async with asyncio.timeout(60), aiohttp.ClientSession() as http:
                url = (await command.process.stdout.readline()).decode().strip()
                yield Page(command, url, http)
        finally:
            if command.process.returncode is None:
                await command.interrupt()

    return watching


@pytest.fixture
def buy(emulator, tmp_path):
    """Start `batch run` for rows in a process."""

    async def buy(*keys):
        lines = "".join(f"{key},a picture of {key}\n" for key in keys)
        (tmp_path / "rows.csv").write_text(f"sku,prompt\n{lines}")
        key = {KEY_VARIABLE: emulator.api_key, BASE_URL_VARIABLE: emulator.base_url}
        return await Command.start("batch", "run", "rows.csv", *USUAL, **key)

    return buy


async def test_run_is_watched_through_its_kill_and_its_end(watching, buy, emulator, tmp_path, journal):
    """The page never changes the journal, and never keeps a run from starting."""
    await journal()
    emulator.fault("poll", Status(503), prompt="picture of stuck")
    async with watching() as page:
        run = await buy("a", "b", "stuck")
        summary = await page.until(lambda summary: (summary["counts"]["done"], summary["counts"]["sold"]) == (2, 1))
        assert summary["is_running"]
        assert summary["owner"]["pid"] == run.process.pid
        pictures = await page.pictures()
        status, headers, thumbnail = await page.get(pictures["a"]["images"][0]["thumb"])
        assert (status, headers["Content-Type"], thumbnail[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
        status, headers, whole = await page.get(pictures["a"]["images"][0]["full"])
        assert (status, headers["X-Content-Type-Options"]) == (200, "nosniff")
        assert whole == (tmp_path / "out" / "a.png").read_bytes()

        run.process.kill()
        await run.process.wait()
        summary = await page.until(lambda summary: not summary["is_running"])
        assert (summary["counts"]["done"], summary["counts"]["sold"], summary["owner"]) == (2, 1, None)
        assert {key: item["state"] for key, item in (await page.pictures()).items()} == {"a": "done", "b": "done"}
        assert [*await page.pictures(state="sold")] == ["stuck"]

        emulator.clear_faults()
        run = await buy("a", "b", "stuck")
        summary = await page.until(lambda summary: summary["counts"]["done"] == 3)
        assert (await run.end())[0] == 0, run.stderr
        summary = await page.until(lambda summary: not summary["is_running"])
        assert (summary["problem"], summary["advice"]) == (None, [])
        assert set(emulator.ledger.sold.values()) == {1}
        code, _ = await page.command.interrupt()
    assert code == 130
    assert "read-only; Ctrl-C ends it" in page.command.stderr


async def test_journal_that_is_removed_and_comes_back_is_followed(watching, journal, tmp_path):
    """The page says so, and keeps what it has seen."""
    await journal(a="done")
    async with watching() as page:
        await page.until(lambda summary: summary["counts"]["done"])
        (tmp_path / "run.db").unlink()
        summary = await page.until(lambda summary: summary["problem"])
        assert "there is no file" in summary["problem"]
        assert summary["counts"]["done"] == 1
        (tmp_path / "run.db").write_bytes(b"something else" * 999)
        await page.until(lambda summary: "not a journal" in (summary["problem"] or ""))
        (tmp_path / "run.db").unlink()
        await journal(a="done", b="dead")
        summary = await page.until(lambda summary: summary["counts"]["dead"])  # it grows row by row
        assert (summary["problem"], summary["counts"]["dead"]) == (None, 1)


async def test_rows_in_doubt_after_a_kill_are_shown_with_what_to_do(watching, tmp_path):
    """The journal itself is not changed: that is left to the next run."""
    async with owning_process(tmp_path / "run.db") as owner:
        await kill(owner)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    async with watching() as page:
        summary = await page.until(lambda summary: summary["doubtful"])
        assert [row["key"] for row in summary["doubtful"]] == ["k1"]
        assert "then decide: lemon-async batch resolve run.db KEY..." in summary["advice"][2]
        assert "--not-sold k1" in (await page.pictures())["k1"]["advice"][1]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


async def test_journal_in_a_database_is_watched(watching, postgres):
    """Beside others that use it."""
    address = postgres.new_journal()
    async with open_journal(address, create=True) as journal:
        await journal.add(new_rows(3))
        async with watching(address) as page:
            assert (await page.until(lambda summary: summary["counts"]["new"] == 3))["owner"] is None
            for change in (intend("k0"), accept("k0")):
                await journal.record(change)
            await page.until(lambda summary: summary["counts"]["sold"])
            assert [*await page.pictures(state="sold")] == ["k0"]
            assert (await journal.counts())[State.NEW] == 2


@pytest.mark.parametrize("content", [b"no journal", bytes(5000), b"SQLite format 3\0" + bytes(5000)])
async def test_file_that_is_no_journal_is_refused(batch, tmp_path, content):
    """Instead of being served on a page that says so; it is not changed."""
    (tmp_path / "notes.txt").write_bytes(content)
    result = await batch("watch", "notes.txt")
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.match(r"error: cannot use the journal '.*notes\.txt': ", result.stderr)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [content]


async def test_journal_that_is_being_opened_is_watched(watching, tmp_path, journal):
    """Its process has begun a log, and serves no rows yet."""
    await journal(a="new")
    (wal := tmp_path / "run.db-wal").touch()
    os.utime(wal, times=(time.time() + 3600,) * 2)
    async with watching() as page:
        await page.until(lambda summary: "does not show its rows" in (summary["problem"] or ""))
        wal.unlink()
        await page.until(lambda summary: summary["counts"]["new"])


async def test_summary_is_printed_once_as_json(batch, journal):
    result = await batch("watch", await journal(a="done", b="refused"), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    summary = json.loads(result.stdout)
    assert (summary["counts"]["done"], summary["failures"][0]["keys"]) == (1, ["b"])


@pytest.mark.parametrize(
    ("words", "code", "message"), [(("none.db",), 2, "none.db"), (("run.db", "--json"), 1, "not a journal")]
)
async def test_file_that_cannot_be_watched_is_an_error(batch, tmp_path, words, code, message):
    """Of the command line, if there is none."""
    (tmp_path / "run.db").write_bytes(b"something else" * 999)
    result = await batch("watch", *words)
    assert result.exit_code == code
    assert message in result.stderr


async def test_port_that_is_taken_is_an_error(batch, journal):
    name = await journal(a="new")
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await batch("watch", name, "--port", str(port))
    server.close()
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr


async def test_page_is_for_this_machine_unless_told_otherwise(watching, journal):
    """A name that was rebound to this address is refused, and who listens for all is warned."""
    await journal(a="new")
    async with watching() as page:
        assert page.url.startswith("http://127.0.0.1:")
        assert (await page.get("/"))[0] == 200
        assert (await page.get("/", headers={"Host": "evil.example"}))[0] == 421
    async with watching("run.db", "--host", "0.0.0.0") as page:
        await page.command.wait_for("there is no password")
