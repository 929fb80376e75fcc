"""`files` and `models` in a shell."""

import asyncio

import orjson
import pytest
from click.testing import CliRunner

from lemon_async import LemonSession
from lemon_async.cli.commands import cli
from lemon_async.cli.runner import BASE_URL_VARIABLE, KEY_VARIABLE
from lemon_async.emulator import Body, Status

HOSTILE = "\x1b]0;title\x07\u202e\x9b"


def answer(value):
    return Body(orjson.dumps(value), "application/json")


def lines_of(result):
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.splitlines()


@pytest.fixture
def kept(emulator, tmp_path, draw):
    """Upload pictures from another program, and return their ids."""

    async def upload(*names):
        async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
            return [(await session.files.upload(tmp_path / draw(name))).id for name in names]

    return upload


# models


async def test_models_are_one_line_each_with_the_id_first(lemon):
    lines = lines_of(await lemon("models"))
    ids = [line.split(" ")[0] for line in lines]  # as `cut -d' ' -f1` does
    assert {"dall-e-3", "gpt-image-2", "flux-pro"} < set(ids)
    cells = {line.split()[0]: line.split()[1:] for line in lines}
    assert cells["dall-e-2"] == ["openai", "per_image", "generate,edit,variation"]
    assert len({line.index(cells[line.split()[0]][0]) for line in lines[:2]}) == 1


async def test_recommended_models_have_their_rank(lemon):
    lines = lines_of(await lemon("models", "--recommended-for", "image"))
    assert lines[0].split() == ["gpt-image-2", "openai", "per_token", "generate,edit", "#1"]
    assert [line.split()[-1] for line in lines] == [f"#{rank}" for rank in range(1, len(lines) + 1)]


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        (["--provider", "midjourney"], ["midjourney"]),
        (["--provider", "openai", "--tag", "async"], ["gpt-image-2"]),
    ],
)
async def test_models_are_filtered_by_the_service(lemon, emulator, filters, ids):
    assert [line.split()[0] for line in lines_of(await lemon("models", *filters))] == ids
    assert len(emulator.requests) == 1


async def test_list_without_an_entry_says_so(lemon):
    """Without a word, it would look as if the command had not run."""
    for words in (("models", "--category", "nope"), ("models", "--category", "nope", "--json"), ("files", "list")):
        result = await lemon(*words)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "note: the list is empty\n")


async def test_model_list_as_json_is_what_the_service_sent(lemon):
    (line,) = lines_of(await lemon("models", "--provider", "midjourney", "--json"))
    model = orjson.loads(line)
    assert (model["id"], model["object"]) == ("midjourney", "model")
    assert model["lemondata"]["pricing_unit"] == "per_image"


@pytest.mark.parametrize(("words", "lines"), [([], 10), (["--json"], 1)], ids=["people", "programs"])
async def test_model_is_shown_as_json(lemon, words, lines):
    result = await lemon("models", "gpt-image-2", *words)
    assert orjson.loads(result.stdout)["lemondata"]["description"] == "GPT Image 2 on the emulator"
    assert (len(lines_of(result)) >= lines) is True
    assert (len(lines_of(result)) == 1) is (lines == 1)


async def test_model_that_is_unknown_is_refused_by_the_service(lemon):
    result = await lemon("models", "gpt-image-3")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: HTTP 404 model_not_found: ")


@pytest.mark.parametrize("words", [["gpt-image-2", "--tag", "async"], ["two words"], ["..", "--deadline", "5"]])
async def test_models_command_that_is_wrong_sends_nothing(lemon, emulator, words):
    result = await lemon("models", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert emulator.requests == []


def test_models_of_the_emulator_need_no_key_and_no_network():
    result = CliRunner().invoke(cli, ["models", "--emulator"], env={BASE_URL_VARIABLE: "https://never.test"})
    assert any(line.startswith("flux-pro ") for line in lines_of(result))


async def test_models_of_a_hostile_service_drive_no_terminal_and_keep_their_columns(lemon, emulator):
    about = {"pricing_unit": HOSTILE, "agent_preferences": {"image": {"preferred_rank": HOSTILE}}}
    entry = {"id": "a b", "owned_by": f"x\n{HOSTILE}y", "lemondata": about}
    emulator.fault("models", answer({"data": [entry, {"id": "c"}]}))
    lines = lines_of(await lemon("models"))
    assert all(line.isprintable() for line in lines)
    assert [line.split()[0] for line in lines] == ["a_b", "c"]
    assert lines[1].split() == ["c", "-", "-", "-"]


@pytest.mark.parametrize("words", [["x"], ["x", "--json"], ["--json"]], ids=["one", "one line", "list"])
async def test_json_of_a_hostile_service_drives_no_terminal_and_is_whole(lemon, emulator, words):
    entry = {"id": "x", "owned_by": HOSTILE}
    emulator.fault("models", answer({**entry, "data": [entry]}))
    result = await lemon("models", *words)
    assert result.stdout.replace("\n", "").isprintable()
    assert orjson.loads(result.stdout)["owned_by"] == HOSTILE


async def test_answer_that_is_nested_too_deeply_is_an_error_in_words(lemon, emulator):
    emulator.fault("models", Body(b'{"id": "x", "deep": ' + b"[" * 500 + b"]" * 500 + b"}", "application/json"))
    result = await lemon("models", "x")
    assert (result.exit_code, result.stderr) == (1, "error: the response is nested too deeply to be shown\n")


@pytest.mark.parametrize("words", [["models"], ["files", "list"], ["files", "get", "file-1"]], ids=" ".join)
async def test_missing_key_is_one_clear_line(lemon, emulator, words):
    result = await lemon(*words, **{KEY_VARIABLE: None})
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {KEY_VARIABLE}: must be set")
    assert emulator.requests == []


# files


async def test_uploads_are_answered_with_their_ids_in_order(lemon, emulator, draw):
    result = await lemon("files", "upload", draw("b.png"), draw("a.png"), "--model", "dall-e-2")
    first, second = lines_of(result)
    async with LemonSession(emulator.api_key, base_url=emulator.base_url) as session:
        assert [(await session.files.get(file)).filename for file in (first, second)] == ["b.png", "a.png"]


async def test_upload_as_json_is_what_the_service_sent(lemon, draw):
    (line,) = lines_of(await lemon("files", "upload", draw("a.png"), "--json"))
    assert orjson.loads(line)["object"] == "file"


async def test_upload_is_for_a_purpose(lemon, draw):
    (file,) = lines_of(await lemon("files", "upload", draw("a.png"), "--purpose", "user_data"))
    (line,) = lines_of(await lemon("files", "list", "--purpose", "user_data"))
    assert (line.split()[0], line.split()[2]) == (file, "user_data")
    assert (await lemon("files", "list", "--purpose", "vision")).stdout == ""


async def test_all_problems_of_uploads_are_reported_and_nothing_is_sent(lemon, emulator, tmp_path, draw):
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "cat.gif").write_bytes(b"GIF89a\x02\0\x03\0\0\0\0;")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(50 * 1024 * 1024 + 1)
    words = [draw("fine.png"), "none.png", "notes.txt", "cat.gif"]
    result = await lemon("files", "upload", *words, "--model", "\n")
    assert result.exit_code == 2
    shown = [line.removeprefix("  - ").split(": ")[0] for line in result.stderr.splitlines()[1:]]
    assert shown == ["--model", "none.png", "notes.txt", "cat.gif"]
    result = await lemon("files", "upload", "large", "--purpose", "user_data")
    assert result.exit_code == 2
    assert "error: large: has 52,428,801 bytes; at most 52,428,800 are taken" in result.stderr
    result = await lemon("files", "upload", "fine.png", "--purpose", "fun")
    assert result.exit_code == 2
    assert emulator.requests == []


async def test_failed_upload_ends_no_other(lemon, emulator, draw):
    emulator.fault("files", Status(413, message="too\x1blarge"), nth=[1])
    result = await lemon("files", "upload", draw("a.png"), draw("b.png"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: a.png: HTTP 413")
    assert result.stderr.replace("\n", "").isprintable()
    assert result.stdout.startswith("file-")
    assert result.stdout.count("\n") == 1


async def test_files_are_one_line_each_with_the_id_first(lemon, kept):
    ids = await kept("a.png", "my cat.png")
    lines = lines_of(await lemon("files", "list"))
    assert [line.split(" ")[0] for line in lines] == ids[::-1]
    _, size, purpose, created, status, *name = lines[0].split()
    assert (size.isdigit(), purpose, status, name) == (True, "vision", "processed", ["my", "cat.png"])
    assert created[4] == created[7] == "-"
    assert created.endswith("Z")


async def test_files_as_json_are_what_the_service_sent(lemon, kept):
    ids = await kept("a.png", "b.png")
    lines = lines_of(await lemon("files", "list", "--json"))
    assert [orjson.loads(line)["id"] for line in lines] == ids[::-1]


async def test_files_of_a_hostile_service_drive_no_terminal_and_keep_their_columns(lemon, emulator):
    entries = [{"id": "file-1", "created_at": 10**12 - 1, "filename": f"{HOSTILE}\n/etc"}, {"id": "file-2"}]
    emulator.fault("files", answer({"data": entries}))
    lines = lines_of(await lemon("files", "list"))
    assert all(line.isprintable() for line in lines)
    assert [line.split() for line in lines] == [["file-1", "-", "-", "-", "-", "]0;title", "/etc"], ["file-2", *"----"]]


@pytest.mark.parametrize("words", [[], ["--json"]], ids=["people", "programs"])
async def test_file_is_shown_as_json(lemon, kept, words):
    (file,) = await kept("a.png")
    result = await lemon("files", "get", file, *words)
    assert orjson.loads(result.stdout)["filename"] == "a.png"
    assert (len(lines_of(result)) == 1) is bool(words)


async def test_file_is_saved_under_the_name_that_is_given(lemon, kept, tmp_path):
    (file,) = await kept("a.png")
    result = await lemon("files", "download", file, "-o", "new/copy.png")
    assert lines_of(result) == ["new/copy.png"]
    assert (tmp_path / "new/copy.png").read_bytes() == (tmp_path / "a.png").read_bytes()


async def test_file_in_a_folder_is_named_after_its_id_and_replaces_nothing(lemon, kept, tmp_path):
    """The service's name for it is never a path."""
    (file,) = await kept("a.png")
    (tmp_path / "out").mkdir()
    for name in (f"out/{file}.png", f"out/{file}-2.png"):
        assert lines_of(await lemon("files", "download", file, "-o", "out")) == [name]
        assert (tmp_path / name).read_bytes() == (tmp_path / "a.png").read_bytes()


async def test_file_that_is_refused_leaves_nothing_behind(lemon, tmp_path):
    result = await lemon("files", "download", "file-none", "-o", "copy.png")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: HTTP 404")
    assert list(tmp_path.iterdir()) == []


async def test_all_problems_of_a_download_are_reported_together(lemon, emulator, tmp_path):
    (tmp_path / "file").touch()
    result = await lemon("files", "download", "../x y", "-o", "file/a.png")
    assert result.exit_code == 2
    assert [line.split(":")[0] for line in result.stderr.splitlines()[1:]] == ["  - ID", "  - -o"]
    assert emulator.requests == []


async def test_files_are_deleted_once_each_and_none_ends_another(lemon, emulator, kept):
    first, second = await kept("a.png", "b.png")
    result = await lemon("files", "delete", first, "file-none", second, first)
    assert (result.exit_code, result.stdout) == (1, f"{first}\n{second}\n")
    assert result.stderr.startswith("error: file-none: HTTP 404")
    assert result.stderr.count("\n") == 1
    assert (await lemon("files", "list")).stdout == ""


async def test_one_id_that_cannot_be_one_deletes_nothing(lemon, emulator, kept):
    (file,) = await kept("a.png")
    before = len(emulator.requests)
    result = await lemon("files", "delete", file, "../models", "a b")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "'a b' cannot be an id" in result.stderr
    assert len(emulator.requests) == before


async def test_files_are_found_by_the_address_of_the_environment(emulator, kept):
    (file,) = await kept("a.png")
    environment = {KEY_VARIABLE: emulator.api_key, BASE_URL_VARIABLE: emulator.base_url}
    result = await asyncio.to_thread(CliRunner().invoke, cli, ["files", "list"], env=environment)
    assert lines_of(result)[0].startswith(f"{file} ")
