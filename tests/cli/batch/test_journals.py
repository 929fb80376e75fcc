"""A journal from the shell: what is in it, and what its owner decides."""

import json
import os

import pytest

from journals import new_row
from lemon_async.batch.opening import open_journal
from lemon_async.batch.records import Change
from lemon_async.batch.states import State, Transition

STATES = [state.value for state in State]


async def states_of(path):
    async with open_journal(path) as journal:
        return {row.key: row.state.value for row in await journal.rows()}


# status


async def test_status_counts_every_state(batch, journal):
    """A row whose request was under way when its process ended is doubtful."""
    name = await journal(a="done", b="done", c="sold", d="dead", e="refused", f="failed", g="new", h="intent")
    result = await batch("status", name, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "new": 1,
        "intent": 0,
        "sold": 1,
        "done": 2,
        "refused": 1,
        "doubtful": 1,
        "failed": 1,
        "dead": 1,
        "rows": 8,
        "spending": {"spent": 0.12, "reserved": 0.04, "doubtful": 0.04, "refunded": 0.04, "unpriced": 0},
        "running": None,
    }


async def test_status_is_a_table_for_people(batch, journal):
    result = await batch("status", await journal(a="done", b="doubtful"))
    cells = dict(line.split() for line in result.stdout.splitlines())
    assert cells == {
        **dict.fromkeys(STATES, "0"), "done": "1", "doubtful": "1", "rows": "2", "spent_usd": "0.04",
        "reserved_usd": "0.00", "doubtful_usd": "0.04", "refunded_usd": "0.00", "unpriced": "0", "running": "no",
    }  # fmt: skip


async def test_status_of_a_running_batch_names_its_process(batch, journal, tmp_path):
    """It reads the status file: nothing else may open the journal."""
    name = await journal(a="done", b="new")
    async with open_journal(tmp_path / name):
        result, table = await batch("status", name, "--json"), await batch("status", name)
    assert (result.exit_code, result.stderr) == (0, "")
    status = json.loads(result.stdout)
    assert (status["done"], status["new"], status["sold"], status["rows"]) == (1, 1, 0, 2)
    assert status["running"]["pid"] == os.getpid()
    assert table.stdout.endswith(f"running       process {os.getpid()} on {status['running']['host']}\n")


async def test_running_batch_is_left_alone(batch, journal, tmp_path):
    name = await journal(a="dead")
    async with open_journal(tmp_path / name):
        result = await batch("retry", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "this process has it open already" in result.stderr  # the command runs in a thread here
    assert await states_of(name) == {"a": "dead"}


@pytest.mark.parametrize(
    "words",
    ["status none.db", "doubtful none.db", "resolve none.db a --not-sold", "retry none.db", "export none.db out"],
)
async def test_journal_that_is_missing_is_not_made(batch, tmp_path, words):
    result = await batch(*words.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: JOURNAL: there is no file 'none.db'")
    assert list(tmp_path.iterdir()) == []


async def test_url_of_another_database_is_refused_without_its_password(batch, tmp_path):
    result = await batch("status", "postgresql+psycopg://me:hunter2@db.test/shop")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "'postgresql+psycopg://…': it must be a path, or begin with postgresql://" in result.stderr
    assert "hunter2" not in result.stderr
    assert list(tmp_path.iterdir()) == []


async def test_file_that_is_no_journal_is_named(batch, tmp_path):
    (tmp_path / "rows.csv").write_text("prompt\na cat\n" * 100)
    result = await batch("status", "rows.csv")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "rows.csv" in result.stderr


# doubtful


async def test_doubtful_rows_are_listed_with_what_is_needed_to_find_them(batch, journal):
    name = await journal(**{"a": "done", "big cat": "doubtful", "c": "doubtful"})
    result = await batch("doubtful", name, "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "key": "big cat", "fingerprint": "f1e2", "price_usd": 0.04, "model": "flux-pro", "prompt": "a cat",
        "error": "no response",
    }  # fmt: skip
    assert second["key"] == "c"
    lines = (await batch("doubtful", name)).stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["'big cat'", "c"]
    assert all(line.endswith("  0.04  f1e2  a cat") for line in lines)


async def test_journal_without_doubtful_rows_lists_none(batch, journal):
    result = await batch("doubtful", await journal(a="done"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no row is doubtful\n")


# resolve


@pytest.mark.parametrize(
    ("options", "state", "words"),
    [
        (["--not-sold"], "new", "the next `batch run` buys 1 row\n"),
        (["--buy-again"], "new", "the next `batch run` buys 1 row again; the money in doubt stays counted as spent\n"),
        (["--task", "ldtask_7"], "sold", "the next `batch run` waits for the task of 1 row and saves its pictures\n"),
    ],
    ids=["not sold", "buy again", "task"],
)
async def test_doubtful_row_goes_where_its_owner_says(batch, journal, options, state, words):
    name = await journal(a="doubtful", b="doubtful")
    result = await batch("resolve", name, "a", *options)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a\n", words)
    assert await states_of(name) == {"a": state, "b": "doubtful"}
    if state == "sold":
        async with open_journal(name) as opened:
            assert (await opened.find("a")).task == "ldtask_7"


async def test_money_of_a_row_that_is_bought_again_stays_spent(batch, journal):
    name = await journal(a="doubtful", b="doubtful")
    await batch("resolve", name, "a", "--buy-again")
    await batch("resolve", name, "b", "--not-sold")
    assert json.loads((await batch("status", name, "--json")).stdout)["spending"]["spent"] == 0.04


async def test_keys_are_read_from_stdin(batch, journal):
    name = await journal(a="doubtful", b="doubtful", c="doubtful")
    result = await batch("resolve", name, "-", "--not-sold", input="a\nc\n")
    assert (result.exit_code, result.stdout) == (0, "a\nc\n")
    assert await states_of(name) == {"a": "new", "b": "doubtful", "c": "new"}


async def test_nothing_is_resolved_unless_all_can_be(batch, journal):
    name = await journal(a="doubtful", b="done")
    result = await batch("resolve", name, "a", "b", "c", "--not-sold")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: 2 problems, nothing was written:\n"
        "  - KEY: row 'b' is done, not doubtful\n"
        "  - KEY: there is no row 'c'\n"
    )
    assert await states_of(name) == {"a": "doubtful", "b": "done"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "Give exactly one of --task, --not-sold and --buy-again."),
        (["a", "--not-sold", "--buy-again"], "Give exactly one of"),
        (["a", "b", "--task", "ldtask_1"], "--task is for one KEY."),
        (["-", "--task", "ldtask_1"], "--task is for one KEY."),
        (["a", "--task", "two words"], "--task: neither a task id nor a resume token"),
        (["a", "--task", "lemon1.AAAA"], "--task: neither a task id nor a resume token"),
        (["a", "--task", "https://x.example/v1/tasks/t1"], "--task: neither a task id nor a resume token"),
        (["a", "--task", ""], "--task: neither a task id nor a resume token"),
        (["--not-sold"], "Missing argument 'KEY...'"),
    ],
)
async def test_wrong_decision_is_refused(batch, journal, words, message):
    name = await journal(a="doubtful", b="doubtful")
    result = await batch("resolve", name, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert await states_of(name) == {"a": "doubtful", "b": "doubtful"}


@pytest.mark.parametrize("state", ["sold", "done", "dead"])
async def test_task_of_another_row_is_refused(batch, journal, state):
    """Both rows would have the same pictures."""
    name = await journal(a="doubtful", b=state)
    result = await batch("resolve", name, "a", "--task", "ldtask_1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--task: ldtask_1 is the task of row 'b', which is {state}" in result.stderr
    assert await states_of(name) == {"a": "doubtful", "b": state}


# retry


async def test_dead_rows_are_taken_up_again(batch, journal):
    """Refused ones would be refused again, and failed ones are repeated without being asked."""
    name = await journal(a="dead", b="refused", c="failed", d="done", e="dead")
    result = await batch("retry", name)
    assert (result.exit_code, result.stdout) == (0, "a\ne\n")
    assert result.stderr == "the next `batch run` buys 2 rows again\n"
    assert await states_of(name) == {"a": "new", "b": "refused", "c": "failed", "d": "done", "e": "new"}


async def test_named_rows_are_taken_up_again(batch, journal):
    name = await journal(a="dead", b="refused", c="failed", d="done")
    result = await batch("retry", name, "b", "c")
    assert (result.exit_code, result.stdout) == (0, "b\nc\n")
    result = await batch("retry", name, "d")
    assert (result.exit_code, result.stderr) == (
        2, "error: KEY: row 'd' is done, not dead, refused or failed (nothing was written)\n"
    )  # fmt: skip
    assert await states_of(name) == {"a": "dead", "b": "new", "c": "new", "d": "done"}


async def test_without_dead_rows_there_is_nothing_to_retry(batch, journal):
    result = await batch("retry", await journal(a="done"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no row is dead\n")


# export


async def test_export_is_a_folder_for_training(batch, tmp_path):
    """Pictures that are gone are named, and have an exit code."""
    (tmp_path / "rows.csv").write_text("sku,prompt,mood\na,a cat,good\nb,a dog,bad\n")
    await batch("run", "rows.csv", "--journal", "run.db", "--key", "sku", "-o", "out/", "--emulator")
    result = await batch("export", "run.db", "set")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "set\n", "")
    lines = (tmp_path / "set/train/metadata.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["mood"] for line in lines) == ["bad", "good"]
    (tmp_path / "out/b.png").unlink()
    result = await batch("export", "run.db", "set")
    assert (result.exit_code, result.stdout) == (1, "set\n")
    assert result.stderr.startswith("note: ")
    assert "b.png" in result.stderr


async def test_export_as_a_table_has_every_row(batch, journal, tmp_path):
    result = await batch("export", await journal(a="done", b="dead"), "rows.csv", "--format", "csv")
    assert result.stdout == "rows.csv\n"
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 3


# A journal in a database


@pytest.fixture
async def shared(postgres):
    """The URL of a journal with a dead, a doubtful and a refused row, and a password that the server does not ask."""
    url = postgres.new_journal().replace("lemon@", "lemon:hunter2@")
    async with open_journal(url, create=True) as opened:
        await opened.add([new_row(key, model="flux-pro", operation="generate", prompt="a cat") for key in "abc"])
        for key, transition in (("a", Transition.LOSE), ("b", Transition.DOUBT), ("c", Transition.REFUSE)):
            before = [Transition.INTEND, Transition.ACCEPT] if transition is Transition.LOSE else [Transition.INTEND]
            for each in (*before, transition):
                await opened.record(Change(key=key, transition=each, price_usd=0.04, task="ldtask_1"))
    return url


async def test_commands_take_the_url_of_a_journal(batch, shared, tmp_path):
    """Also while it is in use; the password is not printed."""
    async with open_journal(shared) as opened:
        results = [
            await batch("doubtful", shared),
            await batch("resolve", shared, "b", "--not-sold"),
            await batch("retry", shared),
            await batch("export", shared, "rows.csv", "--format", "csv"),
        ]
        await opened.claim("one", limit=1)
        await opened.claim("two", limit=1)
        results += [await batch("status", shared, "--json"), await batch("status", shared)]
    assert [result.exit_code for result in results] == [0] * 6, results
    assert not any("hunter2" in result.output for result in results)
    assert results[0].stdout.startswith("b  ")
    status = json.loads(results[-2].stdout)
    assert (status["new"], status["refused"], status["running"]) == (2, 1, {"runs": 2})
    assert results[-1].stdout.endswith("running       2 at a time\n")
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 4


async def test_a_database_without_tables_is_no_journal(batch, postgres, tmp_path):
    """Nor is one that is not there; no command makes the tables, and errors do not show the password."""
    url = postgres.new_journal().replace("lemon@", "lemon:hunter2@")
    (tmp_path / "rows.csv").write_text("prompt\na cat\n")
    results = [
        await batch("retry", url.replace(f":{postgres.port}", ":1")),
        *[await batch(command, url) for command in ("status", "doubtful", "retry", "watch")],
        await batch("export", url, "out"),
        await batch("run", "--journal", url, "--emulator"),
    ]
    assert [(result.exit_code, result.stdout) for result in results] == [(1, "")] * 6 + [(2, "")], results
    planned = await batch("run", "rows.csv", "--journal", url, "-m", "flux-pro", "--emulator", "--dry-run")
    assert planned.exit_code == 0
    assert not any("hunter2" in result.output for result in [*results, planned])
    assert results[0].stderr.startswith("error: cannot use the journal 'postgresql://127.0.0.1:1/")
    for result in results[1:]:
        assert "there is no journal 'postgresql://127.0.0.1:" in result.stderr
    database, _, schema = url.partition("?schema=")
    assert postgres.execute(f"SELECT to_regnamespace('{schema}') IS NULL", database) == [(True,)]
