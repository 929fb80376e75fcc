"""The start of the command: names, help, missing extras, and how little is loaded before a command runs."""

import os
import subprocess
import sys
from importlib.metadata import version

import click
import pytest

from lemon_async.cli import main
from lemon_async.cli.commands import cli

DECLARATIONS = ("batch", "batch.commands", "commands", "fields", "options")


def run(*words, **options):
    return subprocess.run(
        [sys.executable, "-W", "error", *words], capture_output=True, text=True, timeout=120, check=False, **options
    )


def test_module_is_the_command():
    """`python -m lemon_async` is `lemon-async`, under that name."""
    done = run("-m", "lemon_async", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"lemon-async, version {version('lemon-async')}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_commands(flag, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["anything", flag])
    with pytest.raises(SystemExit) as caught:
        main()
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert shown.startswith("Usage: lemon-async [OPTIONS] COMMAND")
    assert all(name in shown for name in ("generate", "edit", "task", "batch", "models", "files", "emulator"))


@pytest.mark.parametrize(("name", "words"), [("click", ["--help"]), ("tqdm", ["models", "--emulator"])])
def test_missing_extra_is_named_with_the_command_that_installs_it(tmp_path, name, words):
    """Without the extra, the script is installed and its dependencies are not."""
    (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('not here', name={name!r})")
    done = run("-m", "lemon_async", *words, env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"lemon-async: {name} is not installed: pip install 'lemon-async[cli]'\n"


def test_missing_pillow_is_named_with_the_command_that_installs_it(tmp_path):
    """The emulator draws, and drawing is another extra: no command can start one."""
    (tmp_path / "PIL.py").write_text("raise ModuleNotFoundError('not here', name='PIL')")
    commands = [["emulator"], ["generate", "a cat", "--emulator"], ["models", "--emulator"]]
    program = f"""
import sys
from lemon_async.cli import main
for words in {commands}:
    sys.argv = ["lemon-async", *words]
    try:
        main()
    except SystemExit as end:
        print(end.code)
"""
    done = run("-c", program, env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1\n" * len(commands))
    line = "error: the emulator needs Pillow: pip install 'lemon-async[emulator]'\n"
    assert done.stderr == line * len(commands)


def test_no_secret_is_taken_from_a_command_line():
    """Other users of the machine could see it, and the shell's history stores it."""
    options = [
        (option.opts, option.metavar)
        for group in (cli, cli.commands["batch"], cli.commands["files"])
        for command in group.commands.values()
        for option in command.params
        if isinstance(option, click.Option)
        and any("key" in name or "secret" in name or "token" in name for name in option.opts)
    ]
    assert options == [(["--api-key-file"], "FILE"), (["--key"], "COLUMN")]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("--version", 0),
        ("--help", 0),
        ("generate --help", 0),
        ("batch run --help", 0),
        ("", 2),
        ("nothing", 2),
        ("generate", 2),
        ("edit -i cat.png", 2),
        ("models flux-pro --tag fast", 2),
        ("batch run --journal run.db --in-flight none", 2),
        ("batch resolve run.db key", 2),
    ],
)
def test_help_version_and_usage_errors_load_nothing_slow(words, code):
    """Neither the library nor an event loop, and nothing of the package but the declarations of commands."""
    assert_nothing_slow_is_loaded(words, code)


def test_completion_loads_nothing_slow():
    """The shell runs the command at each press of the key."""
    shell = {"_LEMON_ASYNC_COMPLETE": "bash_complete", "COMP_WORDS": "lemon-async generate -m fl", "COMP_CWORD": "3"}
    assert "flux-pro" in assert_nothing_slow_is_loaded("", 0, env={**os.environ, **shell})


def assert_nothing_slow_is_loaded(words, code, **options):
    """Run the command in a new interpreter, and return what it printed."""
    program = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        f"sys.argv = ['lemon-async', *{words.split()!r}]\n"
        "from lemon_async.cli import main\n"
        "main()"
    )
    done = run("-c", program, **options)
    loaded = set(done.stderr.split())
    assert done.returncode == code, done.stderr
    assert not loaded & {"aiohttp", "asyncio", "attr", "attrs", "logging", "orjson", "tqdm", "yarl"}
    assert {name for name in loaded if name.startswith("lemon_async.")} == {
        "lemon_async._version", "lemon_async.cli", *(f"lemon_async.cli.{name}" for name in DECLARATIONS)
    }  # fmt: skip
    return done.stdout
