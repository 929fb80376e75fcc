"""The command's README: its examples run, and its tables name every command, option and field."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import lemon_async.cli
from lemon_async.cli.commands import cli
from lemon_async.cli.fields import FIELDS

README = Path(lemon_async.cli.__file__).with_name("README.md").read_text(encoding="utf-8")
EXAMPLES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]


@pytest.mark.parametrize("line", EXAMPLES)
def test_example_runs(line, tmp_path, draw):
    """In this process, unless the line needs a shell."""
    draw("cat.png")
    draw("mask.png")
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    (tmp_path / "rows.csv").write_text("sku,prompt\na,one\nb,two\n")
    program, *words = shlex.split(line)
    assert program == "lemon-async"
    if ">" in words:
        subprocess.run(line.replace(program, f"{sys.executable} -m lemon_async"), shell=True, check=True)
        assert (tmp_path / words[-1]).read_bytes().startswith(b"\x89PNG")
    else:
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out/sheet.html").exists() is ("--sheet" in words)


def test_readme_names_every_command_and_option():
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", README))
    fields = {field.flag for field in FIELDS}
    groups = [cli, cli.commands["batch"], cli.commands["files"]]
    for name, command in (item for group in groups for item in group.commands.items()):
        assert name in README
        for option in (each for each in command.params if isinstance(each, click.Option)):
            assert set(option.opts) <= named | fields
