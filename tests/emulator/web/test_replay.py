"""Requests written as programs, which run as they are printed."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import orjson
import pytest

import lemon_async
from lemon_async.emulator.http.recordings import Recording
from lemon_async.emulator.web.replay import ARGUMENTS, KEY_VARIABLE, curl, python, safe_name
from lemon_async.requests import GenerateFields

KEYS = "\x1b[0m\x7f\x9b"
NASTY = (
    "it's \"$(id)\" `id` \\ !! %s {x} é 猫 \u2028\u200d\n\t-d @/etc/passwd; rm -rf ~ '' <img src=x onerror=alert(1)>"
)

needs_curl = pytest.mark.skipif(not shutil.which("curl") or not shutil.which("sh"), reason="needs curl and a shell")


@pytest.fixture
def run(emu, tmp_path):
    """Run a program that finds the key in its environment; return its output."""
    path = str(Path(lemon_async.__file__).parent.parent)
    environment = {**os.environ, KEY_VARIABLE: emu.api_key, "PYTHONPATH": path, "LC_ALL": "C.UTF-8"}
    environment.pop("LEMONDATA_BASE_URL", None)

    async def run_it(*words):
        process = await asyncio.create_subprocess_exec(
            *words, cwd=tmp_path, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        assert (process.returncode, err.decode()) == (0, "")
        return out

    return run_it


@pytest.fixture
async def details(emu, page):
    """What the page shows of the last request."""

    async def fetch():
        found = await page.get(f"/_page/requests/{emu.requests[-1].number}")
        assert emu.api_key not in str(found)
        return found

    return fetch


BODIES = [
    {"prompt": NASTY + KEYS, "model": "flux-pro", "size": "512x512"},
    {"prompt": "two", "model": "dall-e-2", "n": 2, "user": "-me", "response_format": "b64_json"},
    {"prompt": "task", "model": "gpt-image-2", "async": True, "output_format": "webp", "seed": 7},
]


@needs_curl
@pytest.mark.parametrize("body", BODIES, ids=["nasty", "inline", "task"])
async def test_the_curl_command_sends_the_same_request(emu, client, details, run, body):
    assert (await client.submit(**body)).status == 200
    first = await details()
    assert first["body"] == body
    answer = orjson.loads(await run("sh", "-c", first["curl"]))
    assert answer.get("status", "completed") in {"pending", "completed"}
    assert (await details())["body"] == body
    assert list(emu.ledger.sold.values()) == [2]


@pytest.mark.parametrize("body", BODIES, ids=["nasty", "inline", "task"])
async def test_the_python_program_makes_the_same_pictures(emu, client, details, run, tmp_path, body):
    await client.submit(**body)
    first = await details()
    await run(sys.executable, "-c", first["python"])
    assert list(emu.ledger.sold.values()) == [2]
    assert len(list(tmp_path.iterdir())) == body.get("n", 1)
    again = [request for request in emu.requests if request.route == "submit"][-1]
    assert again.number != first["number"]
    assert emu._handler.recordings.find(again.number).read_fields() == body


async def send_edit(client, file):
    await client.send_form(
        "/v1/images/edits", [("image", file), ("mask", file)], prompt=NASTY, model="gpt-image-2", n=2
    )


@needs_curl
async def test_a_form_is_replayed_with_the_files_of_the_folder(emu, client, details, run, tmp_path, picture):
    """Both programs; the files keep their names."""
    file = picture((16, 16), "RGBA")
    (tmp_path / "picture.png").write_bytes(file)
    await send_edit(client, file)
    first = await details()
    assert first["body"]["files"] == [{"name": name, "filename": "picture.png"} for name in ("image", "mask")]
    await run("sh", "-c", first["curl"])
    assert (await details())["body"] == first["body"]
    await run(sys.executable, "-c", first["python"])
    assert list(emu.ledger.sold.values()) == [3]


async def test_a_variation_and_a_stream_are_replayed(emu, client, details, run, tmp_path, picture):
    (tmp_path / "picture.png").write_bytes(picture())
    await client.edit(None, picture(), path="/v1/images/variations", model="dall-e-2")
    await run(sys.executable, "-c", (await details())["python"])
    await client.submit("a stream", model="gpt-image-2", stream=True, partial_images=1)
    await run(sys.executable, "-c", (await details())["python"])
    assert emu.ledger.sold == {"variation": 2, "a stream": 2}


@needs_curl
async def test_a_poll_is_replayed(emu, client, details, run, tmp_path):
    task = await client.submit(model="flux-pro")
    await client.poll(task)
    found = await details()
    assert orjson.loads(await run("sh", "-c", found["curl"]))["status"] == "completed"
    await run(sys.executable, "-c", found["python"])
    assert (tmp_path / "picture-0.png").exists()
    assert emu.ledger.sold == {"a cat": 1}


async def test_a_refused_request_is_sent_again_all_the_same(client, details):
    """The client would refuse it itself."""
    await client.submit(model="flux-pro", style="vivid")
    assert "check_contracts=False" in (await details())["python"]


def recording(**options):
    fields = options.pop("fields", {"prompt": "p"})
    return Recording(**{"endpoint": "submit", "model": None, "prompt": None, "fields": orjson.dumps(fields), **options})


def test_sources_by_address_are_arguments():
    fields = {"prompt": "p", "images": [{"file_id": "file-1"}, {"image_url": "https://a"}]}
    assert f"image={fields['images']!r}" in python("http://127.0.0.1:1", recording(endpoint="edit", fields=fields))
    for given, argument in (
        ({"image_url": "https://a/b.png"}, "image='https://a/b.png'"),
        ({"image_urls": ["data:,x"]}, "image={'image_url': 'data:,x'}"),
    ):
        program = python("http://127.0.0.1:1", recording(endpoint="edit", fields={"prompt": "p", **given}))
        assert argument in program
        compile(program, "program", "exec")


def test_another_machine_is_allowed_by_name():
    assert "allow_http={'192.168.1.2'}" in python("http://192.168.1.2:80", recording())
    assert "allow_http" not in python("http://[::1]:80", recording())


@pytest.mark.parametrize(
    "given",
    [
        recording(fields=None),
        recording(is_whole=False),
        recording(is_form=True, fields={"a=b": "c"}),
        recording(is_form=True, fields={"a": "b\0"}),
        recording(is_form=True, fields={"a": "\x1b[201~\x03rm -rf ~\n"}),
        recording(is_form=True, files=(("image;type=x", "a.png"),)),
    ],
    ids=["large", "cut", "name", "NUL", "keys", "file"],
)
def test_what_no_command_can_send_has_none(given):
    assert curl("http://127.0.0.1:1", "/v1/images/generations", given) is None


@pytest.mark.parametrize(
    "given", [recording(is_whole=False), recording(fields={"prompt": 7}), recording(endpoint="vary")]
)
def test_what_the_client_cannot_send_has_no_program(given):
    assert python("http://127.0.0.1:1", given) is None


def test_a_pasted_program_presses_no_keys():
    """A terminal would take control characters for keys, and an end of pasting for the user's own."""
    keys = "\x1b[201~\x03\x7f\x9b\u202e\u2028"
    for program in (curl("http://127.0.0.1:1", "/x", recording(fields={"prompt": keys})),
                    python("http://127.0.0.1:1", recording(fields={"prompt": keys}))):  # fmt: skip
        assert all(each.isprintable() or each == "\n" for each in program)


def test_file_names_lead_nowhere_else():
    names = {
        "a cat.png": "a cat.png",
        "../../etc/passwd": "passwd",
        "C:\\x\\é.png": "é.png",
        'a";rm -rf ~;".png': "a_rm -rf _.png",
        "..": "upload",
        "": "upload",
        "-": "-",
        "a\r\nb": "a_b",
    }
    assert {name: safe_name(name) for name in names} == names


def test_arguments_are_those_of_the_client():
    assert set(ARGUMENTS) == set(GenerateFields.__annotations__) - {"label", "extra"}
