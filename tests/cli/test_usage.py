"""The command as a user types it: each line runs in a separate process."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lemon_async.cli.runner import KEY_VARIABLE

COMMANDS = [
    "generate", "edit", "task", "models", "files", "emulator",
    "batch", "batch run", "batch status", "batch doubtful", "batch resolve", "batch retry", "batch export",
    "files upload", "files list", "files get", "files download", "files delete",
]  # fmt: skip
# The work of the others begins without any word.
NEED_WORDS = ["", *(words for words in COMMANDS if words not in {"models", "emulator", "files list"})]

# Imports once, then forks for every line: an interpreter for each would take the tests half a minute.
DRIVER = """
import gc, json, os, signal, sys, tempfile
import lemon_async.cli.batch.journals, lemon_async.cli.batch.run
import lemon_async.cli.catalog, lemon_async.cli.commands, lemon_async.cli.emulator, lemon_async.cli.generate
from lemon_async.cli import main
gc.freeze()  # a child then ends sooner
for line in sys.stdin:
    words, environment, folder = json.loads(line)
    out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
    child = os.fork()
    if not child:
        signal.alarm(60)
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        for file, descriptor in (out, 1), (err, 2):
            os.dup2(file.fileno(), descriptor)
            file.close()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["lemon-async", *words]
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)  # the interpreter's own end takes five times as long as the rest
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    shown = []
    for file in (out, err):
        with file:
            file.seek(0)
            shown.append(file.read())
    print(json.dumps([code, *shown]), flush=True)
"""


@pytest.fixture(scope="module")
def driver():
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    ) as process:
        yield process


@pytest.fixture
def typed_with(driver):
    """Run command lines, each with an environment; return exit code, stdout and stderr of each."""

    def run(*lines):
        found = []
        for words, environment in lines:
            print(json.dumps([words, {**os.environ, **environment}, str(Path.cwd())]), file=driver.stdin, flush=True)
            found.append(json.loads(driver.stdout.readline()))
        return found

    return run


@pytest.fixture
def typed(typed_with):
    """Run command lines in one environment."""
    return lambda *lines, **environment: typed_with(*((line, environment) for line in lines))


@pytest.fixture
def completed(typed_with):
    """Complete command lines; return the completions of each."""

    def run(*lines):
        environments = [
            {**COMPLETE, "COMP_WORDS": line, "COMP_CWORD": str(len(shlex.split(f"{line}.")) - 1)} for line in lines
        ]
        found = typed_with(*(([], environment) for environment in environments))
        assert [(code, err) for code, _, err in found] == [(0, "")] * len(lines)
        return [out.split() for _, out, _ in found]

    return run


COMPLETE = {"_LEMON_ASYNC_COMPLETE": "bash_complete"}


def test_command_without_arguments_shows_its_usage(typed):
    """Exit code 2, no traceback, and nothing on stdout that a script could take for a result."""
    for words, (code, out, err) in zip(NEED_WORDS, typed(*map(str.split, NEED_WORDS)), strict=True):
        assert (code, out) == (2, ""), err
        assert err.startswith(f"Usage: {' '.join(['lemon-async', *words.split()])} ")
        assert "Traceback" not in err


def test_bare_command_that_needs_no_words_says_what_is_missing(typed):
    for code, out, err in typed(["models"], ["files", "list"]):
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {KEY_VARIABLE}: must be set")


def test_every_command_has_help(typed):
    lines = [[*words.split(), "--help"] for words in ["", *COMMANDS]]
    for (*words, _), (code, out, err) in zip(lines, typed(*lines), strict=True):
        assert (code, err) == (0, "")
        assert out.startswith(f"Usage: {' '.join(['lemon-async', *words])} ")


def test_unknown_option_is_named(typed):
    lines = [[*words.split(), option] for words in COMMANDS for option in ("--nonsense", "-Z")]
    for words, (code, out, err) in zip(lines, typed(*lines), strict=True):
        assert (code, out) == (2, "")
        assert f"No such option '{words[-1]}'" in err


def test_option_without_its_value_is_named(typed):
    lines = [
        *([command, option] for command in ("generate", "edit", "task") for option in ("-o", "--sheet", "--deadline")),
        *([command, option] for command in ("generate", "edit") for option in ("-m", "--prompts", "--size", "--extra")),
        *([["edit", "-i"], ["edit", "--mask"], ["models", "--tag"], ["emulator", "--port"]]),
        *(["files", command, "--base-url"] for command in ("upload", "list", "get", "download", "delete")),
    ]
    for words, (code, out, err) in zip(lines, typed(*lines), strict=True):
        assert (code, out) == (2, "")
        assert f"Option '{words[-1]}' requires an argument" in err


def test_wrong_words_are_named_and_nothing_is_sent(typed, tmp_path):
    (tmp_path / "blank.txt").write_text("\n")
    lines = {
        ("generate", ""): "error: PROMPT: must be text and not empty",
        ("generate", " ", "-m", "flux-pro"): "error: PROMPT: must be text and not empty",
        ("generate", "--prompts", "none.txt"): "error: --prompts: cannot read 'none.txt'",
        ("generate", "--prompts", "blank.txt"): "error: --prompts: there is no prompt in 'blank.txt'",
        ("generate", "a cat", "--n", "two"): "'two' is not a valid integer",
        ("edit", "a hat"): "Missing option '-i' / '--image'",
        ("edit", "a hat", "-i", "none.png"): "cannot read 'none.png'",
        ("edit", "-i", "none.png"): "Missing argument 'PROMPT...', or --prompts FILE",
        ("task", ""): "neither a task id nor a resume token",
        ("models", "a", "b"): "Got unexpected extra argument (b)",
        ("emulator", "a"): "Got unexpected extra argument (a)",
        ("draw",): "No such command 'draw'",
        ("files", "draw"): "No such command 'draw'",
    }
    found = typed(*lines, **{KEY_VARIABLE: "sk-x", "LEMONDATA_BASE_URL": "http://127.0.0.1:9"})
    for words, (code, out, err) in zip(lines.values(), found, strict=True):
        assert (code, out) == (2, ""), err
        assert words in err


def test_last_of_two_equal_options_holds(typed, tmp_path):
    ((code, out, err),) = typed(["generate", "cat", "-o", "a/", "-o", "b/", "--json", "--json", "--emulator"])
    assert (code, err) == (0, "")
    assert json.loads(out)["path"] == "b/cat.png"


# Completion


def test_help_says_how_completion_is_switched_on(typed_with):
    (code, out, _), (_, script, _) = typed_with((["--help"], {}), ([], {"_LEMON_ASYNC_COMPLETE": "zsh_source"}))
    assert code == 0
    assert 'eval "$(_LEMON_ASYNC_COMPLETE=zsh_source lemon-async)"' in out
    assert "compdef _lemon_async_completion lemon-async" in script


def test_commands_and_options_complete(completed):
    commands, generate, quiet, bare, after_words = completed(
        "lemon-async ", "lemon-async gen", "lemon-async generate --no-p", "lemon-async edit --m", "lemon-async task x -"
    )
    names = ["batch", "edit", "emulator", "files", "generate", "models", "task"]
    assert commands == [f"plain,{name}" for name in names]
    assert generate == ["plain,generate"]
    assert quiet == ["plain,--no-progress"]
    assert sorted(bare) == ["plain,--mask", "plain,--model", "plain,--moderation"]
    assert {"plain,--deadline", "plain,-o"} <= set(after_words)


def test_options_that_take_files_complete_files(completed):
    """The shell lists them itself."""
    lines = [
        "generate -o ", "generate 'a cat' -o ", "task ldtask_1 -o out/", "generate --sheet ", "edit --prompts ",
        "generate 'a cat' --prompts pro", "edit --image ", "edit -i a.png -i ", "edit --mask ",
        "batch run ", "batch run --journal ", "batch status ", "batch export run.db ",
        "files upload ", "files upload a.png b", "files download file-1 -o ", "emulator --api-key-file ",
    ]  # fmt: skip
    found = completed(*(f"lemon-async {line}" for line in lines))
    assert found == [[f"file,{line.rpartition(' ')[2]}"] for line in lines]


def test_closed_values_complete(completed):
    """The values of the model given before, or else of all models."""
    lines = {
        "generate --quality ": ["standard", "hd", "auto", "low", "medium", "high"],
        "generate -m dall-e-3 --quality ": ["standard", "hd"],
        "generate --model gpt-image-2 'a cat' --quality h": ["high"],
        "generate -m dall-e-3 --size 1": ["1024x1024", "1792x1024", "1024x1792"],
        "batch run rows.csv -m gpt-image-2 -m dall-e-3 --quality ": ["standard", "hd"],
        "batch export run.db out --format ": ["imagefolder", "webdataset", "csv", "jsonl", "parquet"],
        "edit --size ": ["256x256", "512x512", "1024x1024"],
        "generate --output-format ": ["png", "jpeg", "webp"],
        "generate --response-format ": ["url", "b64_json"],
        "generate --resolution ": ["1k", "2k", "4k"],
        "generate -m dall": ["dall-e-3", "dall-e-2"],
        "edit -m dall": ["dall-e-2"],
        "models mid": ["midjourney"],
        "files upload -m dall": ["dall-e-2"],
        "generate a-prompt": [],
        "generate --user ": [],
    }
    found = completed(*(f"lemon-async {line}" for line in lines))
    assert found == [[f"plain,{value}" for value in values] for values in lines.values()]
