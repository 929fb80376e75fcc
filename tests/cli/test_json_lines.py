"""The JSON lines for pictures and failures."""

from pathlib import Path

import pytest

from lemon_async import DownloadError, EditRequest, GenerateRequest, SubmissionUnknown, TaskTimeout
from lemon_async.cli.json_lines import failure_record, picture_record
from lemon_async.cli.stdout import json_text
from lemon_async.errors import BadRequest, TaskFailed

REQUEST = GenerateRequest("a cat", model="flux-pro")


class Task:
    id = "ldtask_1"

    def resume_token(self):
        return "token"


async def test_picture_has_all_known_facts(connect, tmp_path):
    async with connect() as session:
        images = await session.generate(REQUEST)
        path = await images[0].save(tmp_path / "cat.png")
        record = picture_record(images[0], images, REQUEST, index=7, path=path)
    assert record.pop("seconds") > 0
    assert record == {
        "index": 7,
        "prompt": "a cat",
        "model": "flux-pro",
        "path": str(path),
        "format": "png",
        "width": 1024,
        "height": 1024,
        "task_id": images.task_id,
        "url": images[0].url,
        "revised_prompt": images[0].revised_prompt,
        "usage": images.usage,
    }


async def test_picture_of_a_resumed_task_has_no_prompt(connect, tmp_path):
    async with connect() as session:
        token = (await session.submit(REQUEST)).resume_token()
    async with connect() as session:
        images = await session.task(token)
        path = await images[0].save(tmp_path / "cat.png")
        record = picture_record(images[0], images, None, index=0, path=path)
    assert (record["prompt"], record["seconds"], record["task_id"]) == (None, None, images.task_id)


async def test_path_that_is_not_text_is_printable(connect, tmp_path):
    """A file name can hold any bytes; those that are not UTF-8 are replaced."""
    async with connect() as session:
        images = await session.generate("a cat")
        record = picture_record(images[0], images, REQUEST, index=0, path=Path("a\udcff.png"))
    assert record["path"] == "a\N{REPLACEMENT CHARACTER}.png"
    assert json_text(record)


@pytest.mark.parametrize(
    ("error", "facts", "token"),
    [
        (
            TaskFailed(reason="moderated", code="moderation", task=Task()),
            {"type": "TaskFailed", "message": "task ldtask_1 failed: moderated (moderation)", "code": "moderation"},
            "token",
        ),
        (
            TaskTimeout(reason="time is up", task=Task()),
            {
                "type": "TaskTimeout",
                "message": "task ldtask_1 is not finished: time is up. It may still finish and be billed",
                "code": None,
            },
            "token",
        ),
        (
            SubmissionUnknown(request=None, fingerprint="f", reason="r"),
            {"type": "SubmissionUnknown", "message": str(SubmissionUnknown(request=None, fingerprint="f", reason="r"))},
            None,
        ),
        (KeyError(), {"type": "KeyError", "message": "KeyError", "code": None}, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_failure_has_what_it_takes_to_resume(error, facts, token):
    assert failure_record(error, REQUEST, index=3) == {
        "index": 3,
        "prompt": "a cat",
        "model": "flux-pro",
        "error": {"code": None, **facts},
        "task_id": token and "ldtask_1",
        "resume_token": token,
        "url": None,
    }


def test_failure_has_the_code_of_the_service_and_the_default_model():
    error = BadRequest(status=400, message="no", code="bad_size")
    record = failure_record(error, EditRequest("a hat", image="cat.png"), index=0)
    assert (record["error"]["code"], record["model"]) == ("bad_size", "dall-e-2")


def test_picture_that_was_not_saved_has_its_link():
    error = DownloadError(url="https://cdn.test/1", reason="cut", task=Task(), index=1)
    record = failure_record(error, None, index=4, url="https://cdn.test/1?key")
    assert (record["url"], record["task_id"], record["resume_token"]) == ("https://cdn.test/1?key", "ldtask_1", "token")
    assert (record["prompt"], record["model"]) == (None, None)
