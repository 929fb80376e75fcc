"""`generate`, `edit` and `task` in a shell."""

import asyncio
import shlex
from itertools import chain

import orjson
import pytest
from click.testing import CliRunner

from lemon_async import LemonSession
from lemon_async.cli.commands import cli
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE
from lemon_async.emulator import Emulator, Reset, Status, Stuck


@pytest.fixture
async def bodies():
    """A service that responds to every paid request with a picture and records the bodies."""
    seen = []
    answer = b'{"data": [{"b64_json": "R0lGODlhAgADAAAAADs="}]}'

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        seen.append(orjson.loads(await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))))
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield seen
    server.close()
    await server.wait_closed()


# generate


async def test_picture_is_saved_in_this_folder_and_its_path_printed(lemon, emulator, tmp_path, pictures):
    result = await lemon("generate", "A white cat!")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "a-white-cat.png\n", "")
    assert pictures(tmp_path) == ["a-white-cat.png"]
    assert emulator.ledger.settled == {"A white cat!": 1}


async def test_several_prompts_go_into_a_folder_under_free_names(lemon, emulator, tmp_path, pictures):
    result = await lemon("generate", "a cat", "a cat", "a dog", "-o", "new/folder/")
    assert result.exit_code == 0
    assert pictures(tmp_path) == [f"new/folder/{name}.png" for name in ("a-cat-2", "a-cat", "a-dog")]
    assert sorted(result.stdout.split()) == pictures(tmp_path)
    assert emulator.ledger.sold == {"a cat": 2, "a dog": 1}


async def test_several_pictures_of_a_prompt_are_numbered_after_the_file(lemon, tmp_path, pictures):
    result = await lemon("generate", "a cat", "-m", "dall-e-2", "--n", "2", "-o", "out/cat.png")
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path) == ["out/cat-2.png", "out/cat.png"]


async def test_command_with_wrong_arguments_shows_how_it_is_used(lemon, emulator):
    for words in (["generate"], ["generate", "a cat", "--sise", "1"], ["generate", "a cat", "--n", "many"], ["task"]):
        result = await lemon(*words)
        assert result.exit_code == 2
        assert result.stderr.startswith("Usage: ")
    assert emulator.requests == []


async def test_problems_of_all_prompts_are_reported_once_and_nothing_is_sent(lemon, emulator, tmp_path):
    words = ["-m", "dall-e-3", "--n", "11", "--style", "loud", "-o", "new/"]
    result = await lemon("generate", "a cat", "a dog", "", *words)
    assert result.exit_code == 2
    assert result.stderr == (
        "error: 3 problems, nothing was sent:\n"
        "  - --n: must be a whole number from 1 to 10\n"
        "  - --style: DALL-E 3 takes vivid, natural, not 'loud'\n"
        "  - PROMPT: must be text and not empty\n"
    )
    assert emulator.requests == []
    assert list(tmp_path.iterdir()) == []


async def test_checks_can_be_switched_off_and_the_service_refuses(lemon, emulator):
    result = await lemon("generate", "a cat", "--style", "loud", "--no-check")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: a cat: HTTP 400")
    assert "style" in result.stderr
    assert len(emulator.requests) == 1


async def test_options_are_fields_and_nothing_else_is_sent(bodies):
    options = {
        "-m": "gpt-image-2",
        "--n": "1",
        "--size": "auto",
        "--quality": "low",
        "--background": "opaque",
        "--output-format": "webp",
        "--output-compression": "90",
        "--moderation": "low",
        "--partial-images": "0",
        "--user": "me",
    }
    words = ["generate", "cat", "--base-url", bodies.pop(), "--async", *chain(*options.items())]
    result = await asyncio.to_thread(CliRunner().invoke, cli, words, env={KEY_VARIABLE: "sk-x"})
    assert (result.exit_code, result.stdout) == (0, "cat.gif\n"), result.stderr
    assert bodies == [
        {
            "prompt": "cat",
            "model": "gpt-image-2",
            "n": 1,
            "size": "auto",
            "quality": "low",
            "async": True,
            "background": "opaque",
            "output_format": "webp",
            "output_compression": 90,
            "moderation": "low",
            "partial_images": 0,
            "user": "me",
        }
    ]


async def test_all_problems_of_a_command_are_reported_together():
    """Problems of key, URL and deadline are reported together with those of the request."""
    words = ["generate", "", "--base-url", "http://api.test", "--deadline", "0", "--extra", "=5"]
    result = await asyncio.to_thread(CliRunner().invoke, cli, words)
    assert result.exit_code == 2
    assert [line.split(":")[0] for line in result.stderr.splitlines()[1:]] == [
        f"  - {field}" for field in ("--extra", "PROMPT", KEY_VARIABLE, "--deadline", "--base-url")
    ]


async def test_prompt_alone_sends_nothing_but_the_prompt(bodies):
    """The service has its own defaults."""
    words = ["generate", "cat", "--base-url", bodies.pop()]
    assert (await asyncio.to_thread(CliRunner().invoke, cli, words, env={KEY_VARIABLE: "sk-x"})).exit_code == 0
    assert bodies == [{"prompt": "cat"}]


async def test_fields_of_tomorrow_are_json_or_text(bodies):
    words = ["generate", "cat", "--base-url", bodies.pop()]
    for pair in ("seed=5", "tags=[1, null]", "mood=bright", "note=a=b", "empty="):
        words += ["--extra", pair]
    result = await asyncio.to_thread(CliRunner().invoke, cli, words, env={KEY_VARIABLE: "sk-x"})
    assert result.exit_code == 0, result.stderr
    assert bodies == [{"prompt": "cat", "seed": 5, "tags": [1, None], "mood": "bright", "note": "a=b", "empty": ""}]


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("seed", "--extra: must be NAME=VALUE, not 'seed'"),
        ("=5", "--extra: must be NAME=VALUE, not '=5'"),
        ("size=1x1", "--extra: 'size' is a separate field; pass it as --size"),
    ],
)
async def test_extra_that_is_no_field_is_refused(lemon, emulator, pair, words):
    result = await lemon("generate", "a cat", "--extra", pair)
    assert (result.exit_code, result.stderr) == (2, f"error: {words} (nothing was sent)\n")
    assert emulator.requests == []


@pytest.mark.parametrize("output", ["file/", "file/cat.png"])
async def test_place_that_cannot_be_written_to_is_refused_before_anything_is_paid(lemon, emulator, tmp_path, output):
    (tmp_path / "file").touch()
    result = await lemon("generate", "a cat", "-o", output)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: -o: cannot write to 'file")
    assert emulator.requests == []


async def test_one_file_for_several_prompts_is_refused_before_anything_is_paid(lemon, emulator):
    result = await lemon("generate", "a cat", "a dog", "-o", "cat.png")
    assert result.exit_code == 2
    assert "name a folder, as in 'cat.png/'" in result.stderr
    assert emulator.requests == []


@pytest.mark.parametrize("command", ["generate", "task"])
@pytest.mark.parametrize("environment", [{}, {KEY_VARIABLE: ""}], ids=["unset", "empty"])
async def test_missing_key_is_one_clear_line_and_never_the_emulator(lemon, emulator, command, environment):
    """The emulator has to be requested with `--emulator`."""
    result = await lemon(command, "ldtask_1", **{KEY_VARIABLE: None, **environment})
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {KEY_VARIABLE}: must be set")
    assert result.stderr.count("\n") == 1
    assert emulator.requests == []


async def test_advice_for_a_missing_key_works():
    """The suggested option needs no key, and is suggested only for commands that have it."""
    for words, has_option in ((["generate", "a cat"], True), (["models"], True), (["task", "ldtask_1"], False)):
        result = await asyncio.to_thread(CliRunner().invoke, cli, words)
        assert ("add --emulator" in result.stderr) is has_option
        if has_option:
            result = await asyncio.to_thread(CliRunner().invoke, cli, [*words, "--emulator"])
            assert result.exit_code == 0, result.stderr


async def test_address_that_cannot_work_is_refused(lemon, emulator):
    result = await lemon("generate", "a cat", "--base-url", "http://api.test")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --base-url: must use https")


async def test_plain_http_needs_a_host_that_is_named(tmp_path):
    """An emulator elsewhere, such as in another container; its links are followed, too."""
    async with Emulator(speed=6000, durations=30.0, api_key="sk-emulator-remote") as emulator:
        address = emulator.base_url.replace("127.0.0.1", "0.0.0.0")  # this machine, but no loopback address
        words = ["generate", "a cat", "-m", "flux-pro", "--base-url", f"{address}/v1"]
        words += ["--poll-min-gap", "0.01", "--poll-max-gap", "0.02"]
        environment = {KEY_VARIABLE: emulator.api_key}
        refused = await asyncio.to_thread(CliRunner().invoke, cli, words, env=environment)
        assert refused.exit_code == 2
        assert "--allow-http 0.0.0.0 (nothing" in refused.stderr
        words += ["--allow-http", "0.0.0.0", "--poll-min-gap", "0.01", "--poll-max-gap", "0.02"]
        result = await asyncio.to_thread(CliRunner().invoke, cli, words, env=environment)
    assert result.exit_code == 0, result.stderr
    assert len(list(tmp_path.iterdir())) == 1


async def test_deadline_that_cannot_work_is_refused(lemon, emulator):
    result = await lemon("generate", "a cat", "--deadline", "-1")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --deadline: must be a finite number above 0, not -1.0")
    assert emulator.requests == []


async def test_refusal_of_the_service_is_printed_without_control_characters(lemon, emulator):
    emulator.fault("submit", Status(402, message="\x1b[31mBroke\x07\u202e", error={"hint": "Top\rup\x1b[0m."}))
    result = await lemon("generate", "a cat")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: a cat: HTTP 402 insufficient_balance: [31mBroke; Top up [0m;")
    assert result.stderr.replace("\n", "").isprintable()


async def test_wrong_key_is_refused_by_the_service_and_not_shown(lemon):
    result = await lemon("generate", "a cat", **{KEY_VARIABLE: "sk-wrong-0123456789"})
    assert result.exit_code == 1
    assert "HTTP 401 invalid_api_key" in result.stderr
    assert "sk-wrong" not in result.output


async def test_wrong_key_is_found_out_with_the_first_prompts(lemon, emulator, tmp_path, monkeypatch):
    monkeypatch.setattr("lemon_async._tasks.map.PROBE_S", 600)  # a busy machine may take longer for three refusals
    (tmp_path / "prompts.txt").write_text("".join(f"a cat {number}\n" for number in range(1000)))
    result = await lemon("generate", "--prompts", "prompts.txt", **{KEY_VARIABLE: "sk-wrong-0123456789"})
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[-1].startswith("error: 997 of 1,000 prompts were not submitted (the first is 'a cat 3'): HTTP 401 inv")
    assert len(lines) == 4
    assert len(emulator.requests) == 3


async def test_unknown_outcome_has_an_exit_code_of_its_own(lemon, emulator):
    emulator.fault("submit", Reset("request_end"))
    result = await lemon("generate", "a cat")
    assert result.exit_code == 3
    assert "its outcome is unknown" in result.stderr
    assert emulator.ledger.sold == {"a cat": 1}


async def test_unfinished_task_is_resumed_by_the_printed_command(lemon, emulator, tmp_path, pictures):
    """It is paid for once, and saved under the name from the first command."""
    emulator.fault("poll", Status(502, "html"))
    result = await lemon("generate", "a cat", "-m", "flux-pro", "-o", "my cats/cat.png", "--deadline", "0.05")
    assert result.exit_code == 4
    emulator.clear_faults()
    words = shlex.split(result.stderr.split("to resume it: ")[1])
    assert words[:4] == ["lemon-async", "task", "-o", "my cats/cat.png"]
    result = await lemon(*words[1:])
    assert (result.exit_code, result.stdout) == (0, "my cats/cat.png\n")
    assert pictures(tmp_path) == ["my cats/cat.png"]
    assert emulator.ledger.sold == {"a cat": 1}


async def test_address_of_the_environment_is_not_repeated_in_the_advice(emulator):
    """The printed command runs in the same environment."""
    emulator.fault("submit", Stuck())
    words = ["generate", "a cat", "-m", "flux-pro", "--deadline", "0.05"]
    environment = {KEY_VARIABLE: emulator.api_key, BASE_URL_VARIABLE: emulator.base_url}
    result = await asyncio.to_thread(CliRunner().invoke, cli, words, env=environment)
    assert "to resume it: lemon-async task -o . ldtask_" in result.stderr


@pytest.mark.parametrize("model", ["dall-e-3", "flux-pro"])
def test_emulator_needs_no_key_and_no_network(tmp_path, model, pictures):
    words = ["generate", "a cat", "a dog", "--emulator", "-m", model, "--size", "1024x1024"]
    result = CliRunner().invoke(cli, words, env={BASE_URL_VARIABLE: "https://never.test"})
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path) == ["a-cat.png", "a-dog.png"]


def test_unfinished_task_of_an_emulator_is_printed_without_a_command():
    """The emulator ends with the command, and so does the task."""
    words = ["generate", "a cat", "--emulator", "-m", "flux-pro", "--deadline", "0.05"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 4
    assert "is not finished" in result.stderr
    assert "pick it up" not in result.stderr


# edit


async def test_edit_of_files_is_saved_and_paid_once(lemon, emulator, tmp_path, draw):
    words = ["-i", draw("a.png"), "-i", draw("b.png"), "--mask", draw("mask.png"), "-m", "gpt-image-2"]
    result = await lemon("edit", "add a red hat", *words, "-o", "out/")
    assert (result.exit_code, result.stdout) == (0, "out/add-a-red-hat.png\n"), result.stderr
    assert emulator.ledger.settled == {"add a red hat": 1}
    assert (emulator.requests[0].route, emulator.requests[0].path) == ("edit", "/v1/images/edits")


async def test_each_prompt_edits_the_same_pictures(lemon, emulator, tmp_path, draw, pictures):
    result = await lemon("edit", "a hat", "a scarf", "-i", draw("cat.png"), "-o", "out/")
    assert result.exit_code == 0, result.stderr
    assert pictures(tmp_path / "out") == ["a-hat.png", "a-scarf.png"]
    assert emulator.ledger.sold == {"a hat": 1, "a scarf": 1}


async def test_edit_starts_from_an_uploaded_file(lemon, emulator, draw):
    """What `files upload` prints is what `-i` takes."""
    uploaded = await lemon("files", "upload", draw("cat.png"))
    result = await lemon("edit", "a hat", "-i", uploaded.stdout.strip(), "-m", "gpt-image-2", "-o", "hat.png")
    assert (result.exit_code, result.stdout) == (0, "hat.png\n"), result.stderr


async def test_options_of_an_edit_are_fields_and_nothing_else_is_sent(bodies):
    """URLs are sent as they are, in the order given."""
    options = ["--quality", "low", "--compression", "80", "--partial-images", "0", "--extra", "seed=5"]
    addresses = ["-i", "https://example.com/a.png", "-i", "https://example.com/b.png"]
    words = ["edit", "a hat", "--base-url", bodies.pop(), "-m", "gpt-image-2", "--async", *options, *addresses]
    result = await asyncio.to_thread(CliRunner().invoke, cli, words, env={KEY_VARIABLE: "sk-x"})
    assert (result.exit_code, result.stdout) == (0, "a-hat.gif\n"), result.stderr
    assert bodies == [
        {
            "prompt": "a hat",
            "model": "gpt-image-2",
            "image_urls": ["https://example.com/a.png", "https://example.com/b.png"],
            "quality": "low",
            "compression": 80,
            "partial_images": 0,
            "async": True,
            "seed": 5,
        }
    ]


async def test_all_problems_of_an_edit_are_reported_and_nothing_is_sent(emulator, tmp_path, draw):
    """Pictures, mask, fields, output, key and settings; each problem once for several prompts."""
    words = ["-i", "none.png", "-i", "http://localhost/a.png", "--mask", draw("mask.jpg", mode="RGB")]
    words += ["-m", "gpt-image-2", "--n", "0", "--extra", "seed", "-o", "cat.png", "--deadline", "-1"]
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["edit", "a hat", "a scarf", *words], env={})
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    fields = [line.removeprefix("  - ").split(": ")[0] for line in lines[1:]]
    assert lines[0] == f"error: {len(fields)} problems, nothing was sent:"
    assert set(fields) == {
        "--extra", "--n", "--image 1", "--image 2", "--image", "--mask", "-o", KEY_VARIABLE, "--deadline"
    }  # fmt: skip
    assert len(set(lines)) == len(lines)
    assert [path.name for path in tmp_path.iterdir()] == ["mask.jpg"]


async def test_edit_that_would_overwrite_its_own_source_sends_nothing(lemon, emulator, tmp_path, draw):
    """The same file by any name; `cat` becomes `cat.png`."""
    words = ["edit", "a hat", "-i", draw("cat.png"), "--mask", draw("mask.png"), "-o"]
    before = (tmp_path / "cat.png").read_bytes()
    for output, option in (("cat.png", "--image 1"), ("cat", "--image 1"), (str(tmp_path / "mask.png"), "--mask")):
        result = await lemon(*words, output)
        assert result.exit_code == 2
        problem = f"error: -o: {output!r} would overwrite {option}: name another file (nothing was sent)\n"
        assert result.stderr == problem
    assert emulator.requests == []
    assert (tmp_path / "cat.png").read_bytes() == before


async def test_edit_without_a_picture_shows_how_it_is_used(lemon, emulator):
    result = await lemon("edit", "a hat")
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert "'-i' / '--image'" in result.stderr
    assert emulator.requests == []


async def test_picture_that_cannot_be_read_is_reported_once_even_without_checks(lemon, emulator):
    result = await lemon("edit", "a hat", "a scarf", "-i", "none.png", "--no-check", "-o", "out/")
    assert result.exit_code == 2
    assert result.stderr == ("error: --image 1: cannot read 'none.png': No such file or directory (nothing was sent)\n")
    assert emulator.requests == []


async def test_edit_without_checks_is_refused_by_the_service(lemon, emulator, draw):
    result = await lemon("edit", "a hat", "-i", draw("cat.png"), "-m", "dall-e-3", "--no-check")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: a hat: HTTP 400")
    assert [seen.route for seen in emulator.requests] == ["edit"]


async def test_unknown_outcome_of_an_edit_has_an_exit_code_of_its_own(lemon, emulator, draw):
    emulator.fault("edit", Reset("request_end"))
    result = await lemon("edit", "a hat", "-i", draw("cat.png"))
    assert result.exit_code == 3
    assert emulator.ledger.sold == {"a hat": 1}


async def test_unfinished_edit_is_resumed_by_the_printed_command(lemon, emulator, draw):
    emulator.fault("poll", Status(502, "html"))
    words = ["-i", draw("cat.png"), "-m", "gpt-image-2", "--async", "-o", "hat.png"]
    result = await lemon("edit", "a hat", *words, "--deadline", "0.02")
    assert result.exit_code == 4, result.stderr
    emulator.clear_faults()
    result = await lemon(*shlex.split(result.stderr.split("to resume it: ")[1])[1:])
    assert (result.exit_code, result.stdout) == (0, "hat.png\n")
    assert emulator.ledger.sold == {"a hat": 1}


def test_edit_on_the_emulator_needs_no_key_and_no_network(draw):
    words = ["edit", "a hat", "-i", draw("cat.png"), "-m", "gpt-image-2", "--emulator", "-o", "hat.png"]
    result = CliRunner().invoke(cli, words, env={BASE_URL_VARIABLE: "https://never.test"})
    assert (result.exit_code, result.stdout) == (0, "hat.png\n"), result.stderr


# task


@pytest.mark.parametrize("reference", [lambda task: task.id, lambda task: task.resume_token()], ids=["id", "token"])
async def test_task_is_resumed_by_id_or_token_and_paid_once(
    lemon, emulator, tmp_path, reference, pictures, all_settled
):
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        task = await session.submit("the old prompt", model="midjourney")
    await all_settled(emulator)
    result = await lemon("task", reference(task), "-o", "out/")
    assert (result.exit_code, result.stdout) == (0, "out/the-old-prompt.png\n"), result.stderr
    assert "accepted" not in result.stderr
    assert pictures(tmp_path) == ["out/the-old-prompt.png"]
    assert emulator.ledger.sold == {"the old prompt": 1}


async def test_malformed_reference_is_refused(lemon, emulator):
    result = await lemon("task", "two words")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: task 'two words': is neither a task id nor a resume token")
    assert emulator.requests == []


async def test_unknown_task_is_polled_until_the_deadline(lemon):
    """It may be replication lag; the exit code means "not finished", not "lost"."""
    async with Emulator() as slow:  # a fast one soon knows for sure
        environment = {KEY_VARIABLE: slow.api_key, BASE_URL_VARIABLE: slow.base_url}
        result = await lemon("task", "ldtask_unknown", "--deadline", "0.05", **environment)
    assert result.exit_code == 4
    assert result.stderr.startswith("error: task ldtask_unknown is not finished")


@pytest.mark.parametrize("name", ["rows.csv", "ROWS.CSV", "my rows.jsonl", "rows.parquet"])
@pytest.mark.parametrize("command", ["generate", "edit -i cat.png"])
async def test_file_of_rows_is_not_bought_line_by_line(lemon, emulator, tmp_path, command, name):
    """Its header would be a prompt."""
    (tmp_path / name).write_text("sku,prompt\n1,a cat\n")
    result = await lemon(*command.split(), "--prompts", name)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --prompts: ")
    *_, advice, _ = result.stderr.split("`")
    assert shlex.split(advice)[:5] == ["lemon-async", "batch", "run", name, "--journal"]
    assert emulator.requests == []
