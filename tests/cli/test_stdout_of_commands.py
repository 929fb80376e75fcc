"""stdout gets the bytes of one picture, or lines in its encoding."""

import asyncio
import os
import sys

import orjson
import pytest

from commands import Command
from lemon_async import LemonSession
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE
from lemon_async.cli.stdout import stdout_problems
from lemon_async.emulator import Expire, Script, Status, Stuck

PNG = b"\x89PNG\r\n"


@pytest.fixture
def typed(emulator):
    """Run the command in a separate process; return exit code, stdout as bytes, and stderr.

    With other variables of the environment, it is an interpreter that has just started, and so reads them.
    """

    async def run(*words, stdin=b"", **others):
        environment = {KEY_VARIABLE: emulator.api_key, BASE_URL_VARIABLE: emulator.base_url, **others}
        if others:
            command = await Command.start_program("-m", "lemon_async", *words, **environment)
        else:
            command = await Command.start(*words, **environment)
        async with asyncio.timeout(60):
            out, err = await command.process.communicate(stdin)
        return command.process.returncode, out, err.decode()

    return run


# `-o -`


@pytest.mark.parametrize("model", ["dall-e-3", "gpt-image-2"])
async def test_picture_goes_to_stdout_and_nothing_else_does(typed, emulator, tmp_path, model):
    code, out, err = await typed("generate", "a cat", "-m", model, "-o", "-")
    assert (code, err) == (0, "")
    assert out.startswith(PNG)
    assert out.endswith(b"IEND\xaeB`\x82")
    assert list(tmp_path.iterdir()) == []
    assert emulator.ledger.settled == {"a cat": 1}


async def test_json_goes_to_stderr_where_stdout_has_the_picture(typed):
    code, out, err = await typed("generate", "a cat", "-o", "-", "--json")
    assert (code, out[:6]) == (0, PNG)
    assert orjson.loads(err)["path"] == "-"


async def test_sheet_has_the_picture_that_went_to_stdout(typed, tmp_path):
    code, out, err = await typed("generate", "a cat", "-o", "-", "--sheet", "sheet.html")
    assert (code, out[:6], err) == (0, PNG, "sheet: sheet.html\n")
    assert "data:image/" in (tmp_path / "sheet.html").read_text()


async def test_task_and_file_go_to_stdout(typed, emulator, all_settled):
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        task = await session.submit("a cat", model="midjourney")
        (image,) = await session.generate("a dog", model="dall-e-3")
        stored = await session.files.upload(await image.read())
        content = await image.read()
    await all_settled(emulator)
    code, out, err = await typed("task", task.id, "-o", "-")
    assert (code, out[:6], err) == (0, PNG, "")
    assert await typed("files", "download", stored.id, "-o", "-") == (0, content, "")


@pytest.mark.parametrize(
    "words",
    [["generate", "a", "b"], ["generate", "a", "-m", "dall-e-2", "--n", "2"], ["task", "ldtask_1", "ldtask_2"]],
    ids=["prompts", "pictures", "tasks"],
)
async def test_stdout_takes_one_picture(lemon, emulator, words):
    result = await lemon(*words, "-o", "-")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: -o: '-' takes one picture, not 2 (nothing was sent)\n"
    assert emulator.requests == []


async def test_second_picture_of_a_task_is_saved_as_a_file(typed, emulator, all_settled, pictures, tmp_path):
    """The number of pictures is not known in advance."""
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        task = await session.submit("a cat", model="flux-pro", n=2)
    await all_settled(emulator)
    code, out, err = await typed("task", task.id, "-o", "-")
    assert code == 1
    assert out.count(PNG) == 1
    (name,) = pictures(tmp_path)
    reason = "stdout takes one picture, and this is number 2"
    assert err == f"error: stdout did not take the picture ({reason}): it is saved as {name}\n"


async def test_picture_that_cannot_be_had_leaves_stdout_empty(typed, emulator):
    emulator.fault("cdn", Expire())
    code, out, err = await typed("generate", "a cat", "-o", "-")
    assert (code, out) == (1, b"")
    assert "error: a cat: could not fetch " in err
    emulator.fault("submit", Status(402))
    code, out, err = await typed("generate", "a cat", "-o", "-")
    assert (code, out) == (1, b"")


@pytest.mark.parametrize("form", ["b64_json", "url"])
async def test_picture_that_stdout_does_not_take_is_saved_as_a_file(emulator, pictures, tmp_path, form):
    """As with `lemon-async generate ... -o - | true`: a picture that is paid for is not lost."""
    reader, writer = os.pipe()
    os.close(reader)
    options = ["-m", "dall-e-3", "--response-format", form]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "lemon_async", "generate", "a cat", "-o", "-", *options),
        env={**os.environ, KEY_VARIABLE: emulator.api_key, BASE_URL_VARIABLE: emulator.base_url},
        stdout=writer,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writer)
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode == 1
    assert pictures(tmp_path) == ["a-cat.png"]
    reason = "[Errno 32] Broken pipe"
    assert err.decode() == f"error: a cat: stdout did not take the picture ({reason}): it is saved as a-cat.png\n"


def test_picture_does_not_go_to_a_terminal(monkeypatch):
    """Bytes from a server must not control a terminal."""

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    assert [problem.message for problem in stdout_problems(pictures=1)] == [
        "'-': stdout is a terminal; redirect it to a file or a pipe"
    ]
    monkeypatch.setattr(sys, "stdout", None)
    assert [problem.message for problem in stdout_problems(pictures=1)] == ["'-': stdout is closed"]


# Encodings


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"\\u767d\\u3044\\u732b.png\n"),
        ({"LC_ALL": "C"}, "白い猫.png\n".encode()),
    ],
    ids=["PYTHONIOENCODING", "LC_ALL"],
)
async def test_path_that_the_output_cannot_encode_is_no_error(typed, tmp_path, environment, path):
    assert await typed("generate", "白い猫", **environment) == (0, path, "")
    assert [file.name for file in tmp_path.iterdir()] == ["白い猫.png"]


async def test_failure_that_the_output_cannot_encode_is_told(typed, emulator):
    emulator.fault("submit", Status(402))
    code, out, err = await typed("generate", "猫", PYTHONIOENCODING="ascii")
    assert (code, out) == (1, b"")
    assert err.startswith("error: \\u732b: HTTP 402")


# Tasks


async def test_tasks_are_resumed_together_under_their_numbers_and_names(
    lemon, emulator, tmp_path, pictures, all_settled
):
    """As ids and tokens, in the order given or with explicit numbers and names."""
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        tasks = [await session.submit(prompt, model="flux-pro") for prompt in ("one", "two", "three")]
    await all_settled(emulator)
    words = [f"{tasks[0].id}:7:first", tasks[1].resume_token(), f"{tasks[2].resume_token()}:3"]
    result = await lemon("task", *words, words[1], "-o", "{index}-{slug}")
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path) == ["1-two.png", "3-three.png", "7-first.png"]
    assert "accepted" not in result.stderr
    assert emulator.ledger.sold == {"one": 1, "two": 1, "three": 1}


async def test_tasks_come_from_stdin(typed, emulator, tmp_path, pictures, all_settled):
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        tasks = [await session.submit(prompt, model="flux-pro") for prompt in ("one", "two")]
    await all_settled(emulator)
    lines = f"{tasks[0].id}:4:uno\n\n{tasks[1].id}\n".encode()
    code, _, err = await typed("task", "-", "-o", "{index}-{slug}", stdin=lines)
    assert (code, err) == (0, "")
    assert pictures(tmp_path) == ["1-two.png", "4-uno.png"]


async def test_all_problems_of_tasks_are_reported_together(typed, emulator):
    code, out, err = await typed("task", "two words", "-", "-o", "none.txt/cat.png", "--sheet", "cat.png")
    assert (code, out) == (2, b"")
    assert [line.split(":")[0] for line in err.splitlines()[1:]] == ["  - ID", "  - --sheet", "  - task 'two words'"]
    assert emulator.requests == []


async def test_name_of_a_task_that_is_still_not_finished_is_kept(lemon, emulator):
    emulator.fault("submit", Stuck())
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        task = await session.submit("a cat", model="flux-pro")
    result = await lemon("task", f"{task.id}:7:a-cat", "-o", "out/", "--deadline", "0.05")
    assert result.exit_code == 4
    assert result.stderr.endswith(f"to resume it: lemon-async task -o out/ {task.id}:7:a-cat\n")


# Pace


async def test_requests_per_minute_and_gaps_apply_to_the_command(lemon, emulator, all_settled):
    """Without them, forty polls would take minutes."""
    emulator.fault("submit", Script(("pending",) * 40 + ("completed",)))
    words = ["a cat", "-m", "flux-pro", "--requests-per-minute", "6000", "--poll-min-gap", "0.01"]
    async with asyncio.timeout(60):
        result = await lemon("generate", *words, "--poll-max-gap", "0.02")
    assert result.exit_code == 0, result.stderr
    assert emulator.ledger.settled == {"a cat": 1}


async def test_gaps_that_cannot_be_are_refused(lemon, emulator):
    result = await lemon("task", "ldtask_1", "--poll-min-gap", "5", "--poll-max-gap", "2")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: --poll-max-gap: must not be below --poll-min-gap (5.0) (nothing was sent)\n",
    )
    assert emulator.requests == []
