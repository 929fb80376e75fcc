"""A task on the command line may bring the number and the name of its pictures."""

import pytest

from lemon_async.cli.references import Reference


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


@pytest.mark.parametrize("label", ["A white cat!", "con", "!!!", "../../etc", "x" * 500, ""])
def test_reference_to_a_task_keeps_the_name_that_its_label_gives(label):
    found = Reference.parse(str(Reference.of("ldtask_1", index=4, label=label)))
    assert (found.task, found.index) == ("ldtask_1", 4)
    assert found == Reference.of("ldtask_1", index=4, label=found.name)
    assert bool(found.name) == bool(label)
