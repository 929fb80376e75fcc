"""`lemon-async batch run`: rows are bought at most once, whatever happens to the command."""

import asyncio
import json
import signal

import pytest

from commands import Command
from lemon_async import LemonSession
from lemon_async.cli import runner
from lemon_async.cli.batch.run import read_prices, template_of
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE
from lemon_async.emulator import Emulator, Fail, Reset, Status, Stuck
from servers import free_port

ROWS = "sku,prompt,kind\na,a cat,pets\nb,a dog,pets\nc,a fox,wild\n"


@pytest.fixture(autouse=True)
def rows(tmp_path):
    """A file of three rows in the current folder."""
    (tmp_path / "rows.csv").write_text(ROWS)


@pytest.fixture
def run(lemon):
    """Run a batch of `rows.csv` in `run.db`; further options are arguments."""

    async def run(*words, source=("rows.csv",), journal="run.db"):
        return await lemon("batch", "run", *source, "--journal", journal, *words)

    return run


@pytest.fixture
def status(batch):
    """Return what `batch status --json` prints, without the states of no rows."""

    async def read():
        found = json.loads((await batch("status", "run.db", "--json")).stdout)
        return {name: value for name, value in found.items() if value and name not in {"rows", "spending"}}

    return read


USUAL = ("--key", "sku", "-m", "flux-pro")


# What it does


async def test_each_row_is_saved_where_its_columns_say(run, emulator, tmp_path, pictures):
    result = await run(*USUAL, "-o", "out/{kind}/{sku}")
    assert result.exit_code == 0, result.stderr
    names = ["out/pets/a.png", "out/pets/b.png", "out/wild/c.png"]
    assert sorted(result.stdout.splitlines()) == pictures(tmp_path) == names
    assert result.stderr.startswith("rows: 3 done\nmoney: ")
    assert emulator.ledger.sold == {"a cat": 1, "a dog": 1, "a fox": 1}


async def test_same_command_again_buys_nothing(run, emulator, tmp_path, pictures):
    """Nor does the journal alone. Without `-o`, pictures are named after their keys in this folder."""
    await run(*USUAL)
    for source in (["rows.csv"], []):
        result = await run(*USUAL, source=source)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr.startswith("rows: 3 done\n")
    assert pictures(tmp_path) == ["a.png", "b.png", "c.png"]
    assert emulator.ledger.sold == {"a cat": 1, "a dog": 1, "a fox": 1}


async def test_rows_are_bought_with_a_journal_in_a_database(run, batch, emulator, postgres, tmp_path, pictures):
    """Pictures have absolute paths; what to type next has no password."""
    emulator.fault("submit", Reset("request_end"), prompt="dog", times=1)
    url = postgres.new_journal().replace("lemon@", "lemon:hunter2@")
    result = await run(*USUAL, "-o", "out/{sku}", "--sheet", "sheet.html", journal=url)
    assert (result.exit_code, pictures(tmp_path)) == (3, ["out/a.png", "out/c.png"])
    assert f"lemon-async batch doubtful '{url.replace(':hunter2', '')}'" in result.stderr
    await batch("resolve", url, "b", "--not-sold")
    again = await run(journal=url, source=())
    assert (again.exit_code, again.stdout) == (0, f"{tmp_path}/out/b.png\n")
    exported = await batch("export", url, "set")
    assert (exported.exit_code, exported.stderr) == (0, "")
    assert not any("hunter2" in each.output for each in (result, again, exported))
    assert "hunter2" not in (tmp_path / "sheet.html").read_text()


async def test_json_has_a_line_for_each_row(run, emulator):
    emulator.fault("submit", Status(400, error={"code": "content_policy_violation"}), prompt="dog")
    result = await run(*USUAL, "-o", "out/", "--json")
    lines = {each["key"]: each for each in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 1
    assert lines["a"]["task_id"].startswith("ldtask_")
    assert lines["b"]["error"].pop("message")
    assert lines["b"] == {
        "key": "b", "status": "refused", "paths": [], "prompt": "a dog", "model": "flux-pro", "task_id": None,
        "attempt": 0, "cost_usd": None, "price_usd": None, "columns": {"sku": "b", "kind": "pets"},
        "error": {"type": "BadRequest", "code": "content_policy_violation"},
    }  # fmt: skip
    assert [lines[key]["paths"] for key in "ac"] == [["out/a.png"], ["out/c.png"]]


async def test_rows_come_from_stdin_as_json_lines(batch, emulator, tmp_path, pictures):
    """Without a column of keys, a row is its content."""
    lines = b'{"prompt": "a cat", "model": "dall-e-2", "n": 2}\n\n{"prompt": "a dog"}\n'
    words = ["run", "-", "--journal", "run.db", "-o", "{slug}", "--base-url", emulator.base_url]
    result = await batch(*words, input=lines, env={KEY_VARIABLE: emulator.api_key})
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path) == ["a-cat-2.png", "a-cat.png", "a-dog.png"]
    assert emulator.ledger.sold == {"a cat": 1, "a dog": 1}


async def test_several_models_are_bought_for_each_row(run, emulator):
    result = await run(*USUAL, "-m", "dall-e-2", "--json", "-o", "out/")
    found = sorted((each["key"], each["model"]) for each in map(json.loads, result.stdout.splitlines()))
    assert found == [(f"{key}:{model}", model) for key in "abc" for model in ("dall-e-2", "flux-pro")]


async def test_options_are_the_defaults_of_columns(run, tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,size,n\na,256x256,\nb,,1\n")
    result = await run("-m", "dall-e-2", "--size", "512x512", "--n", "2", "--json", "-o", "out/")
    assert result.exit_code == 0, result.stderr
    lines = {each["prompt"]: each for each in map(json.loads, result.stdout.splitlines())}
    assert {prompt: len(each["paths"]) for prompt, each in lines.items()} == {"a": 2, "b": 1}


async def test_rows_with_a_picture_are_edits(run, emulator, tmp_path, draw):
    draw("cat.png")
    (tmp_path / "rows.csv").write_text("prompt,image\na hat,\na tie,dog.png\n")
    result = await run("-m", "dall-e-2", "-i", "cat.png")
    assert result.stderr.startswith("error: line 3, image[0]: cannot read 'dog.png'")
    draw("dog.png")
    result = await run("-m", "dall-e-2", "-i", "cat.png")
    assert result.exit_code == 0, result.stderr
    assert [seen.route for seen in emulator.requests if seen.route != "cdn"] == ["edit", "edit"]


async def test_sheet_shows_all_rows(run, tmp_path):
    result = await run(*USUAL, "-o", "out/", "--sheet", "pages/sheet.html")
    assert result.exit_code == 0
    assert result.stderr.endswith("sheet: pages/sheet.html\n")
    assert "a fox" in (tmp_path / "pages/sheet.html").read_text()


async def test_built_in_emulator_goes_on_with_its_journal(batch, tmp_path, pictures, monkeypatch):
    """It listens where it did before: a journal belongs to one address."""
    free = free_port()  # one that the system chooses could become that of a connection between the runs
    monkeypatch.setattr(runner, "Emulator", lambda *, port, **options: Emulator(port=port or free, **options))
    for _ in range(2):
        words = ["run", "rows.csv", "--journal", "run.db", *USUAL, "-o", "out/", "--emulator"]
        result = await batch(*words)
        assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path) == ["out/a.png", "out/b.png", "out/c.png"]


# Before anything is bought


async def test_dry_run_tells_the_price_without_key_or_journal(batch, tmp_path):
    words = ["run", "rows.csv", "--journal", "run.db", *USUAL, "--dry-run", "--price-usd", "0.04"]
    result = await batch(*words)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "3 rows for $0.12" in result.stdout
    plan = json.loads((await batch(*words, "--json")).stdout)
    assert (plan["rows"], plan["new"], plan["to_buy"], plan["price_usd"]) == (3, 3, 3, 0.12)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


async def test_built_in_emulator_cannot_listen_where_another_program_does(run, batch, emulator):
    """A journal of an emulator that was started by itself."""
    await run()
    result = await batch("run", "rows.csv", "--journal", "run.db", *USUAL, "--emulator")
    assert result.exit_code == 2
    assert f"--emulator: the rows of the journal are for {emulator.base_url}, where another program" in result.stderr


async def test_dry_run_after_a_run_buys_the_rest(run, emulator, tmp_path):
    await run(*USUAL, "-o", "out/")
    (tmp_path / "rows.csv").write_text(ROWS + "d,a bird,wild\n")
    result = await run(*USUAL, "--dry-run", "--json")
    plan = json.loads(result.stdout)
    assert (plan["rows"], plan["new"], plan["known"], plan["to_buy"]) == (4, 1, {"done": 3}, 1)
    assert len(emulator.ledger.sold) == 3


async def test_dry_run_with_problems_has_exit_code_2(batch, tmp_path):
    """Problems of rows name columns, not options."""
    (tmp_path / "rows.csv").write_text("prompt,siez,aspect_ratio\na cat,big,wide\n")
    result = await batch("run", "rows.csv", "--journal", "run.db", "--dry-run")
    assert result.exit_code == 2
    assert "'siez': is not a field; did you mean 'size'?" in result.stdout
    (tmp_path / "rows.csv").write_text("prompt,aspect_ratio\na cat,wide\n")
    result = await batch("run", "rows.csv", "--journal", "run.db", "-m", "flux-pro", "--dry-run", "--json")
    assert result.exit_code == 2
    assert [each["field"] for each in json.loads(result.stdout)["problems"]] == ["line 2, aspect_ratio"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["-o", "cat.png"], "-o: 'cat.png' is one file for all rows; name a folder, as in 'cat.png/', or a template"),
        (["-o", "-"], "-o: '-' is one file for all rows"),
        (["-o", "{nonsense}"], "-o: contains the unknown field 'nonsense'"),
        (["--price-usd", "cheap"], "--price-usd: must be USD or MODEL=USD, not 'cheap'"),
        (["--price-usd", "-1"], "--price-usd: "),
        (
            ["--price-usd", "1", "--price-usd", "a=2"],
            "--price-usd: is one number for all models, or MODEL=USD for each",
        ),
        (["--budget-usd", "1"], "--price-usd"),
        (["--budget-usd", "-1", "--price-usd", "1"], "--budget-usd: "),
        (["--extra", "nonsense"], "--extra: must be NAME=VALUE"),
        (["--sheet", "sheet.pdf"], "--sheet: must be the name of a page"),
        (["--key", "nonsense"], "nonsense: there is no such column"),
        (["--size", "big"], "line 2, size: "),
        (["--n", "0"], "line 2, n: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_problem_is_reported_before_anything_is_sent(run, emulator, words, problem):
    result = await run("-m", "flux-pro", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr
    assert "money:" not in result.stderr
    assert emulator.requests == []


async def test_changed_row_under_a_known_key_is_refused(run, emulator, tmp_path):
    await run(*USUAL, "-o", "out/")
    (tmp_path / "rows.csv").write_text(ROWS.replace("a dog", "a big dog"))
    result = await run(*USUAL, "-o", "out/")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "row 'b': is in the journal with other content" in result.stderr
    assert "a big dog" not in emulator.ledger.sold


async def test_without_rows_and_journal_there_is_nothing_to_run(run, tmp_path):
    result = await run(source=())
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ROWS: is missing, and there is no journal 'run.db' to continue")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


async def test_run_without_a_key_names_the_variable(batch, emulator):
    result = await batch("run", "rows.csv", "--journal", "run.db")
    assert result.exit_code == 2
    assert f"{KEY_VARIABLE}: must be set, or add --emulator" in result.stderr


@pytest.mark.parametrize(
    ("output", "template"),
    [("out/", "out/{key}"), (".", "./{key}"), ("/", "/{key}"), ("{sku}", "{sku}"), ("out", None), ("a.png", None)],
)
def test_output_is_a_folder_or_a_template(output, template):
    assert template_of(output) == template


def test_folder_that_exists_may_have_braces(tmp_path):
    (tmp_path / "{a}").mkdir()
    assert template_of("{a}") == "{{a}}/{key}"


@pytest.mark.parametrize(
    ("words", "price", "number"),
    [
        ([], None, 0),
        (["0.04"], 0.04, 0),
        (["a=1", "b=0.5"], {"a": 1.0, "b": 0.5}, 0),
        (["a=b=1"], {"a=b": 1.0}, 0),
        (["x", "a="], None, 2),
        (["1", "a=2"], 1.0, 1),
    ],
)
def test_prices_are_one_number_or_one_for_each_model(words, price, number):
    found, problems = read_prices(words)
    assert (found, len(problems)) == (price, number)


# How it ends


async def test_budget_pauses_the_batch(run, status, emulator):
    """The rest stays new, and a larger budget continues it."""
    result = await run(*USUAL, "-o", "out/", "--budget-usd", "0.1", "--price-usd", "0.05")
    assert result.exit_code == 1
    assert "raise --budget-usd" in result.stderr
    assert "not finished; run the same command again to continue" in result.stderr
    assert await status() == {"done": 2, "new": 1}
    result = await run(*USUAL, "-o", "out/", "--budget-usd", "1", "--price-usd", "0.05")
    assert result.exit_code == 0, result.stderr
    assert sum(emulator.ledger.sold.values()) == 3


async def test_refusals_of_the_account_pause_the_batch(run, status, emulator, tmp_path, monkeypatch):
    monkeypatch.setattr("lemon_async._tasks.map.PROBE_S", 600)  # a busy machine may take longer for three refusals
    emulator.fault("submit", Status(401), times=1000)
    (tmp_path / "rows.csv").write_text("prompt\n" + "".join(f"cat {number}\n" for number in range(200)))
    result = await run("-m", "flux-pro", "-o", "out/")
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(emulator.requests) == 3
    assert await status() == {"new": 200}


async def test_unknown_outcome_is_doubtful_and_never_sent_again_by_itself(run, status, batch, emulator):
    emulator.fault("submit", Reset("request_end"), prompt="dog", times=1)
    for _ in range(2):
        result = await run(*USUAL, "-o", "out/")
        assert result.exit_code == 3
        assert "1 row may have been sold and is not sent again by itself: b\n" in result.stderr
        assert "lemon-async batch doubtful run.db\n" in result.stderr
    assert await status() == {"done": 2, "doubtful": 1}
    assert (await batch("resolve", "run.db", "b", "--not-sold")).exit_code == 0
    assert (await run(*USUAL, "-o", "out/")).exit_code == 0
    assert await status() == {"done": 3}


async def test_task_found_in_the_account_is_saved_under_its_row(run, batch, emulator, tmp_path, pictures):
    emulator.fault("submit", Reset("request_end"), prompt="dog", times=1)
    assert (await run(*USUAL, "-o", "out/")).exit_code == 3
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        task = await session.submit("a dog", model="flux-pro")
    assert (await batch("resolve", "run.db", "b", "--task", task.id)).exit_code == 0
    result = await run(*USUAL, "-o", "out/")
    assert (result.exit_code, result.stdout) == (0, "out/b.png\n"), result.stderr
    assert pictures(tmp_path) == ["out/a.png", "out/b.png", "out/c.png"]


async def test_unfinished_task_has_an_exit_code_of_its_own(run, status, emulator, tmp_path):
    (tmp_path / "rows.csv").write_text("sku,prompt\nb,a dog\n")
    emulator.fault("submit", Stuck())
    result = await run(*USUAL, "-o", "out/", "--deadline", "0.05", *QUICK)
    assert result.exit_code == 4
    assert "1 row is not finished; run the same command again to continue; it buys nothing twice" in result.stderr
    assert await status() == {"sold": 1}


async def test_failing_row_is_bought_as_often_as_attempts_say(run, status, batch, emulator):
    emulator.fault("submit", Fail(), prompt="dog")
    result = await run(*USUAL, "-o", "out/", "--attempts", "2")
    assert result.exit_code == 1
    assert "1 row is dead, without pictures; to buy again: lemon-async batch retry run.db\n" in result.stderr
    assert await status() == {"done": 2, "dead": 1}
    assert emulator.ledger.sold["a dog"] == 2
    assert (await batch("retry", "run.db")).stdout == "b\n"
    await run(*USUAL, "-o", "out/", "--attempts", "1")
    assert emulator.ledger.sold["a dog"] == 3


# As a process


WORDS = ["batch", "run", "rows.csv", "--journal", "run.db", *USUAL, "-o", "out/"]
QUICK = ["--poll-min-gap", "0.01", "--poll-max-gap", "0.02"]


async def start(emulator, *words):
    environment = {KEY_VARIABLE: emulator.api_key, BASE_URL_VARIABLE: emulator.base_url}
    return await Command.start(*WORDS, *QUICK, *words, **environment)


async def until_sold(emulator, number):
    async with asyncio.timeout(60):
        while sum(emulator.ledger.sold.values()) < number:
            await asyncio.sleep(0.005)


async def test_interrupted_batch_goes_on_with_the_same_command(emulator, interruptible, run):
    emulator.fault("submit", Stuck(), times=3)
    command = await start(emulator)
    await until_sold(emulator, 3)
    assert await command.interrupt(signal.SIGTERM) == (143, "")
    assert command.stderr.startswith("interrupted; waiting for responses to paid requests")
    assert "3 rows are not finished; run the same command again to continue; it buys nothing twice\n" in command.stderr
    assert "Traceback" not in command.stderr
    result = await run(*USUAL, "-o", "out/", "--deadline", "0.2", *QUICK)
    assert result.exit_code == 4
    assert emulator.ledger.sold == {"a cat": 1, "a dog": 1, "a fox": 1}


async def test_killed_batch_goes_on_with_the_same_command(emulator, run, status, tmp_path):
    """Whatever the moment: each row is paid once, and is saved or doubtful."""
    (tmp_path / "rows.csv").write_text("sku,prompt\n" + "".join(f"{n},cat {n}\n" for n in range(30)))
    command = await start(emulator, "--in-flight", "8")
    await until_sold(emulator, 10)
    command.process.kill()
    await command.end()
    result = await run(*USUAL, "-o", "out/", *QUICK)
    assert result.exit_code in {0, 3}, result.stderr
    found = await status()
    assert found["done"] + found.get("doubtful", 0) == 30
    assert len(list((tmp_path / "out").glob("*.png"))) == found["done"]
    assert set(emulator.ledger.sold.values()) == {1}


async def test_second_runner_is_refused_and_names_the_first(emulator, run, interruptible):
    emulator.fault("submit", Stuck(), times=3)
    first = await start(emulator)
    await until_sold(emulator, 3)
    second = await run(*USUAL)
    assert (second.exit_code, second.stdout) == (1, "")
    assert f"process {first.process.pid} " in second.stderr
    assert (await first.interrupt())[0] == 130
    assert sum(emulator.ledger.sold.values()) == 3


async def test_reader_that_exits_ends_the_buying(emulator, tmp_path):
    """`lemon-async batch run ... | head -1`."""
    (tmp_path / "rows.csv").write_text("sku,prompt\n" + "".join(f"{n},cat {n}\n" for n in range(60)))
    command = await start(emulator, "--in-flight", "1", "--json")
    async with asyncio.timeout(60):
        assert (await command.process.stdout.readline()).startswith(b"{")
        command.process.stdout._transport.close()
        stderr = (await command.process.stderr.read()).decode()
        assert await command.process.wait() == 141
    assert stderr.startswith(
        "note: stdout was closed: nothing more is submitted; run the same command again to continue\n"
    )
    assert sum(emulator.ledger.sold.values()) < 60
