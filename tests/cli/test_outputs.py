"""The output options: file names, JSON lines, a contact sheet, a progress bar."""

import asyncio
import sys

import orjson
import pytest
from click.testing import CliRunner

from lemon_async import LemonSession
from lemon_async.cli.commands import cli
from lemon_async.emulator import Expire, Fail, Status

FIELDS = [
    "index", "prompt", "model", "path", "format", "width", "height",
    "task_id", "seconds", "url", "revised_prompt", "usage",
]  # fmt: skip


def records(result):
    found = [orjson.loads(line) for line in result.stdout.splitlines()]
    return {record["index"]: record for record in found}


@pytest.fixture
def old_task(emulator, all_settled):
    """Submit a task that is over when the command polls it."""

    async def make():
        async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
            task = await session.submit("the old prompt", model="midjourney")
        await all_settled(emulator)
        return task

    return make


# Templates


async def test_template_numbers_pictures_in_the_order_of_the_prompts(lemon, tmp_path, pictures):
    """In whichever order they end, with several for each prompt."""
    words = ["-m", "dall-e-2", "--n", "2", "--size", "256x256", "-o", "out/{index:03}-{slug}"]
    result = await lemon("generate", "a cat", "a dog", *words)
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path / "out") == ["000-a-cat.png", "001-a-cat.png", "002-a-dog.png", "003-a-dog.png"]
    assert sorted(result.stdout.split()) == pictures(tmp_path)


async def test_template_of_an_edit_and_of_a_task(lemon, draw, old_task):
    result = await lemon("edit", "a hat", "-i", draw("cat.png"), "-o", "{index}-{model}.png")
    assert result.stdout == "0-dall-e-2.png\n", result.stderr
    task = await old_task()
    result = await lemon("task", task.id, "-o", "{task_id}-{model}-{slug}")
    assert result.stdout == f"{task.id}-midjourney-the-old-prompt.png\n", result.stderr


async def test_file_that_is_downloaded_has_no_fields_for_a_template(lemon, emulator):
    result = await lemon("files", "download", "file-1", "-o", "{slug}")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: -o: must be a file or a folder, without fields: '{slug}'")
    assert emulator.requests == []


async def test_invalid_template_is_reported_with_everything_else_and_nothing_is_sent(lemon, emulator, tmp_path):
    result = await lemon("generate", "a cat", "a dog", "--n", "11", "-o", "out/{nope}", "--sheet", "out")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: 3 problems, nothing was sent:\n")
    assert "\n  - -o: contains the unknown field 'nope'; the fields are {index}, " in result.stderr
    assert "\n  - --sheet: must be the name of a page" in result.stderr
    assert emulator.requests == []
    assert list(tmp_path.iterdir()) == []


async def test_picture_that_cannot_be_fetched_keeps_no_other_from_being_saved(lemon, emulator, tmp_path, pictures):
    emulator.fault("cdn", Expire(), nth=[1])
    result = await lemon("generate", "a cat", "-m", "dall-e-2", "--n", "3", "--size", "256x256", "-o", "out/")
    assert result.exit_code == 1
    assert len(pictures(tmp_path)) == 2
    assert result.stderr.count("error: a cat: could not fetch ") == 1
    assert result.stderr.count("the picture is paid for; its link") == 1


# JSON


async def test_json_has_the_facts_of_each_picture(lemon, emulator):
    result = await lemon("generate", "a cat", "a dog", "-o", "{index}", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = records(result)
    assert [list(found[index]) for index in (0, 1)] == [FIELDS, FIELDS]
    assert [found[index]["prompt"] for index in (0, 1)] == ["a cat", "a dog"]
    assert {record["model"] for record in found.values()} == {"dall-e-3"}
    assert [(found[0][name]) for name in ("path", "format", "width", "height")] == ["0.png", "png", 1024, 1024]
    assert found[0]["url"].startswith(emulator.base_url)


async def test_json_has_failures_and_so_has_stderr(lemon, emulator):
    emulator.fault("submit", Status(402, message="br\x1boke"), prompt="broke")
    result = await lemon("generate", "broke", "fine", "-o", "out/", "--json")
    assert result.exit_code == 1
    assert result.stdout.replace("\n", "").isprintable()
    found = records(result)
    assert found[1]["path"] == "out/fine.png"
    assert found[0]["error"].pop("message").startswith("HTTP 402 insufficient_balance: br")
    assert found[0] == {
        "index": 0,
        "prompt": "broke",
        "model": "dall-e-3",
        "error": {"type": "InsufficientBalance", "code": "insufficient_balance"},
        "task_id": None,
        "resume_token": None,
        "url": None,
    }
    assert result.stderr.startswith("error: broke: HTTP 402")


async def test_json_of_a_resumed_task(lemon, old_task):
    task = await old_task()
    record = records(await lemon("task", task.id, "--json"))[0]
    assert (record["prompt"], record["task_id"], record["path"]) == (None, task.id, "the-old-prompt.png")


async def test_json_of_a_task_that_failed_says_how_to_resume_it(lemon, emulator, old_task):
    emulator.fault("submit", Fail("moderated"))
    task = await old_task()
    result = await lemon("task", task.id, "--json")
    assert (result.exit_code, result.stderr) == (1, f"error: task {task.id} failed: moderated\n")
    record = records(result)[0]
    assert (record["error"]["type"], record["task_id"]) == ("TaskFailed", task.id)
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        assert session.task(record["resume_token"]).id == task.id


async def test_wrong_command_prints_no_json(lemon):
    result = await lemon("generate", "", "--json")
    assert (result.exit_code, result.stdout) == (2, "")


# The page


async def test_sheet_shows_pictures_and_failures_and_its_path_is_no_result(lemon, emulator, tmp_path):
    emulator.fault("submit", Status(400, message="<script>alert(1)</script>"), prompt="bad")
    result = await lemon("generate", "a cat", "bad", "-o", "out/", "--sheet", "out/sheet.html")
    assert (result.exit_code, result.stdout) == (1, "out/a-cat.png\n"), result.stderr
    assert result.stderr.endswith("sheet: out/sheet.html\n")
    html = (tmp_path / "out" / "sheet.html").read_text()
    assert 'href="a-cat.png"' in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html


async def test_sheet_shows_a_picture_that_cannot_be_fetched_with_the_reason(lemon, emulator, tmp_path):
    emulator.fault("cdn", Expire())
    result = await lemon("generate", "a cat", "--sheet", "new/sheet.html")
    assert result.exit_code == 1
    assert "could not be fetched" in (tmp_path / "new" / "sheet.html").read_text()


# Prompts


async def test_prompts_come_from_a_file_and_from_the_command(lemon, emulator, tmp_path, pictures):
    (tmp_path / "prompts.txt").write_text("a dog\n\n  a fox  \n")
    result = await lemon("generate", "a cat", "--prompts", "prompts.txt", "-o", "{index}-{slug}")
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path) == ["0-a-cat.png", "1-a-dog.png", "2-a-fox.png"]
    assert emulator.ledger.sold == {"a cat": 1, "a dog": 1, "a fox": 1}


async def test_prompts_of_an_edit_come_from_stdin(emulator, tmp_path, draw, pictures):
    words = ["edit", "--prompts", "-", "-i", draw("cat.png"), "-o", "out/", "--emulator"]
    result = await asyncio.to_thread(CliRunner().invoke, cli, words, input="a hat\na scarf\n")
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path / "out") == ["a-hat.png", "a-scarf.png"]


async def test_prompts_that_cannot_be_read_are_reported_with_everything_else(lemon, emulator):
    result = await lemon("generate", "--prompts", "none.txt", "--n", "11", "-o", "{nope}")
    assert result.exit_code == 2
    fields = [line.split(": ")[0] for line in result.stderr.splitlines()]
    assert fields == ["error", "  - --prompts", "  - --n", "  - -o"]
    assert emulator.requests == []


@pytest.mark.parametrize("words", [["generate"], ["edit", "-i", "cat.png"]], ids=["generate", "edit"])
async def test_command_without_a_prompt_shows_how_it_is_used(lemon, emulator, words):
    result = await lemon(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert "Missing argument 'PROMPT...', or --prompts FILE." in result.stderr


@pytest.mark.parametrize("number", ["0", "many"])
async def test_number_of_jobs_in_flight_is_at_least_one(lemon, emulator, number):
    result = await lemon("generate", "a cat", "--in-flight", number)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


async def test_jobs_run_one_after_the_other_if_asked(lemon, emulator):
    result = await lemon("generate", "a", "b", "c", "-o", "out/", "--in-flight", "1")
    assert result.stdout.split() == ["out/a.png", "out/b.png", "out/c.png"], result.stderr


# Words and terminals


async def test_words_after_two_dashes_are_prompts(lemon, emulator):
    result = await lemon("generate", "--", "--no-progress")
    assert result.stdout == "no-progress.png\n", result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("words", [[], ["--no-progress"]], ids=" ".join)
async def test_terminal_shows_path_and_bar(emulator, in_terminal, words):
    code, screen = await in_terminal("generate", "a cat", "--emulator", *words)
    assert code == 0
    assert b"a-cat.png\r\n" in screen
    assert (b"0/1 [" in screen) == (not words)
