"""Prompts come from the lines of a file or of stdin; a task may bring the number and the name of its pictures."""

import io
import os
import sys
import threading

import pytest

from lemon_async.cli import arguments
from lemon_async.cli.arguments import Reference, read_lines, slug_of
from lemon_async.types import Problem


def read_prompts(source):
    return read_lines(source, option="--prompts", noun="prompt")


class Stdin:
    def __init__(self, content):
        self.buffer = io.BytesIO(content)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"a cat\na dog\n", ["a cat", "a dog"]),
        (b"a cat\r\n\r\n  \t\r\n  a dog  ", ["a cat", "a dog"]),
        (b"\xef\xbb\xbfeine Katze, gr\xc3\xb6\xc3\x9fer\n", ["eine Katze, größer"]),
        ("one\u2028prompt\x0cfeed\x85".encode(), ["one\u2028prompt\x0cfeed"]),
    ],
    ids=["lines", "Windows", "BOM", "odd ends of lines"],
)
def test_each_line_that_is_not_blank_is_a_prompt(tmp_path, monkeypatch, content, found):
    (tmp_path / "prompts.txt").write_bytes(content)
    assert read_prompts("prompts.txt") == (found, ())
    monkeypatch.setattr(sys, "stdin", Stdin(content))
    assert read_prompts("-") == (found, ())


def test_prompts_are_read_from_a_pipe(tmp_path):
    """As in `--prompts <(make-prompts)`."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"a cat\n",))
    writer.start()
    assert read_prompts("pipe") == (["a cat"], ())
    writer.join()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("none.txt", "cannot read 'none.txt': No such file or directory"),
        (".", "cannot read '.': Is a directory"),
        ("a\0b", "cannot read 'a\\x00b': embedded null byte"),
        ("blank.txt", "there is no prompt in 'blank.txt': write one on each line"),
        ("utf16.txt", "'utf16.txt' is not UTF-8 text, from byte 0 on"),
        ("long.txt", "cannot read 'long.txt': it has more than 0 MB"),
        ("-", "cannot read '-': stdin is closed"),
    ],
)
def test_file_without_prompts_is_a_problem_of_the_command(tmp_path, monkeypatch, source, words):
    monkeypatch.setattr(arguments, "_MAX_BYTES", 20)
    monkeypatch.setattr(sys, "stdin", None)
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "utf16.txt").write_text("a cat", encoding="utf-16")
    (tmp_path / "long.txt").write_text("a cat\n" * 4)
    assert read_prompts(source) == ((), (Problem("--prompts", words),))


@pytest.mark.parametrize(
    ("word", "reference"),
    [
        ("ldtask_1", Reference("ldtask_1")),
        ("ldtask_1:0", Reference("ldtask_1", 0)),
        ("ldtask_1:12:a-cat", Reference("ldtask_1", 12, "a-cat")),
        ("ldtask_1:3:白い猫", Reference("ldtask_1", 3, "白い猫")),
        ("urn:task:1:2:a-cat", Reference("urn:task:1", 2, "a-cat")),
        ("lemon1.eyJ0YXNrX2lkIjoiMSJ9:1:2-cats", Reference("lemon1.eyJ0YXNrX2lkIjoiMSJ9", 1, "2-cats")),
        ("task:a-cat", Reference("task:a-cat")),
        ("task:1:a/b", Reference("task:1:a/b")),
        (":1", Reference(":1")),
        ("", Reference("")),
    ],
)
def test_reference_is_read_and_written(word, reference):
    assert Reference.parse(word) == reference
    assert str(reference) == word


def test_slug_is_a_part_of_a_file_name_and_a_part_of_a_reference():
    labels = {
        "A white cat!": "a-white-cat",
        "白い 猫": "白い-猫",
        "!!!": "",
        "../../etc": "etc",
        "x" * 500: "x" * 48,
        "": "",
    }
    assert {label: slug_of(label) for label in labels} == labels
    for slug in labels.values():
        assert Reference.parse(f"ldtask_1:4:{slug}" if slug else "ldtask_1:4") == Reference("ldtask_1", 4, slug)
