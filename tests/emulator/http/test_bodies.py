"""Request bodies: types, fields, files and their limits."""

import asyncio
import io

import aiohttp
import pytest

from lemon_async.emulator import Reset
from lemon_async.emulator.http.bodies import (
    MAX_FILE_BYTES,
    MAX_FORM_BYTES,
    MAX_HEAD_BYTES,
    MAX_TEXT_BYTES,
    MAX_TEXT_FIELDS,
    _BoundedLines,
    _parse_text,
    _read_form,
)
from lemon_async.emulator.service_errors import ServiceError

EDITS = "/v1/images/edits"
JSON = {"Content-Type": "application/json"}
BOUNDARY = "multipart/form-data; boundary=b"
PART = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'


def code(answer):
    return answer.status, answer.json["error"]["code"], answer.json["error"].get("param")


# Types


async def test_edit_that_is_neither_json_nor_a_form_is_refused(client):
    types = ("text/plain", "application/x-www-form-urlencoded", "multipart/mixed")
    for headers in ({}, *({"Content-Type": content_type} for content_type in types)):
        answer = await client.ask("POST", EDITS, data=b"{}", headers=headers)
        assert code(answer) == (400, "invalid_request_error", None)


async def test_variations_and_files_take_forms_only(client):
    for path in ("/v1/images/variations", "/v1/files"):
        answer = await client.ask("POST", path, json={})
        assert answer.status == 400
        assert answer.json["error"]["message"] == "The body must be multipart/form-data."


async def test_malformed_form_is_refused(client):
    rows = [
        ("multipart/form-data", b"--b--\r\n"),
        (BOUNDARY, b""),
        (BOUNDARY, b"no boundary at all"),
        (BOUNDARY, b"--b\r\n"),
        (BOUNDARY, b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n"),
        (BOUNDARY, b"--b\r\n\r\na part without a name\r\n--b--\r\n"),
        (BOUNDARY, b"--b\r\nContent-Disposition: ;;;=\r\n\r\nx\r\n--b--\r\n"),
        (BOUNDARY, PART.format("prompt", "cut off").encode()[:-2]),
        (BOUNDARY, PART.format("image", "cut off").encode()[:-2]),
        (BOUNDARY, PART.format("prompt", "\udcff").encode("utf-8", "surrogateescape") + b"--b--\r\n"),
        (BOUNDARY, b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n--b--\r\n"),
        (BOUNDARY, b"--b\r\nX: " + b"x" * 20_000 + b"\r\n\r\nx\r\n--b--\r\n"),
    ]
    for content_type, body in rows:
        answer = await client.ask("POST", EDITS, data=body, headers={"Content-Type": content_type})
        assert code(answer) == (400, "invalid_request_error", None), body


async def test_json_of_an_edit_has_the_same_limit(client):
    answer = await client.ask("POST", EDITS, data=io.BytesIO(b" " * (2**20 + 1)), headers=JSON)
    assert answer.status == 413


# Fields


def test_text_is_converted_by_the_name_of_its_field():
    rows = [
        ("n", "3", 3),
        ("n", "-1", -1),
        ("n", "3.0", "3.0"),
        ("n", "٣", "٣"),
        ("n", "9" * 5000, "9" * 5000),
        ("async", "true", True),
        ("async", "False", False),
        ("async", "1", "1"),
        ("user", "3", "3"),
        ("prompt", "true", "true"),
    ]
    for name, text, value in rows:
        assert (type(_parse_text(name, text)), _parse_text(name, text)) == (type(value), value)


async def test_text_that_cannot_be_converted_is_refused_by_validation(client, picture):
    answer = await client.edit("p", picture(), model="gpt-image-2", n="many", **{"async": "perhaps"})
    rows = [(row["field"], row["message"]) for row in answer.json["validation_errors"]]
    assert rows == [("n", "must be an integer from 1 to 10"), ("async", "must be a boolean")]


async def test_unknown_fields_of_a_form_are_ignored(client, picture):
    assert (await client.edit("p", picture(), model="gpt-image-2", novelty="1")).status == 200


async def test_long_text_field_is_refused_and_named(client, picture):
    fits, exceeds = "x" * MAX_TEXT_BYTES, "x" * (MAX_TEXT_BYTES + 1)
    assert (await client.edit("p", picture(), model="gpt-image-2", user=fits)).status == 200
    answer = await client.edit("p", picture(), model="gpt-image-2", user=exceeds)
    assert code(answer) == (413, "payload_too_large", "user")


async def test_flood_of_text_fields_is_refused(client, picture):
    answer = await client.edit("p", picture(), **{f"f{number}": "x" for number in range(64)})
    assert answer.status == 413


async def send_parts(client, *parts, path=EDITS):
    """Post a form from its raw parts."""
    body = b"".join(part if isinstance(part, bytes) else part.encode() for part in (*parts, b"--b--\r\n"))
    return await client.ask("POST", path, data=io.BytesIO(body), headers={"Content-Type": BOUNDARY})


async def test_flood_of_fields_of_one_name_is_refused(client):
    """Parts are counted, not names."""
    most = await send_parts(client, *[PART.format("user", "x")] * MAX_TEXT_FIELDS)
    assert code(most) == (400, "invalid_request_error", "prompt")
    flood = await send_parts(client, *[PART.format("user", "x")] * (MAX_TEXT_FIELDS + 1))
    assert code(flood) == (413, "payload_too_large", "user")


async def test_long_preamble_is_refused(client):
    for length, message in ((MAX_HEAD_BYTES // 2, "prompt: is required"), (MAX_HEAD_BYTES, "The body is not a valid")):
        answer = await send_parts(client, "\r\n" * (length // 2), PART.format("user", "x"))
        assert answer.status == 400
        assert answer.json["error"]["message"].startswith(message)


async def test_long_header_block_of_any_part_is_refused(client):
    """Each line is within the limit of a line."""
    for count, message in ((1, "prompt: is required"), (3, "The body is not a valid form")):
        second = PART.format("b", "x").replace("\r\n", "\r\n" + ("X: " + "x" * 7_000 + "\r\n") * count, 1)
        answer = await send_parts(client, PART.format("a", "x"), second)
        assert answer.status == 400
        assert answer.json["error"]["message"].startswith(message)


class Blank:
    """An endless body of empty lines; counts those that were read."""

    def __init__(self):
        self.lines = 0

    async def readline(self):
        self.lines += 1
        return b"\r\n"


async def test_endless_preamble_is_read_up_to_its_limit():
    body = Blank()
    with pytest.raises(ValueError, match=f"more than {MAX_HEAD_BYTES} bytes"):
        await aiohttp.MultipartReader({"Content-Type": BOUNDARY}, _BoundedLines(body)).next()
    assert body.lines == MAX_HEAD_BYTES // 2 + 1


@pytest.mark.parametrize("disposition", ['name="{}"', 'name="{}"; filename="a.png"'])
@pytest.mark.parametrize("name", [b"a" * 8_000, b"\xff" * 8_000])
async def test_long_or_unreadable_name_of_a_field_is_quoted_in_part(client, disposition, name):
    part = PART.replace('name="{}"', disposition).encode().split(b"{}")
    files = [PART.format("image", "x")] * 17
    answer = await send_parts(client, *files, part[0], name, part[1], b"x" * (MAX_TEXT_BYTES + 1), part[2])
    assert answer.status in {400, 413}
    assert len(answer.json["error"]["param"]) == 80
    assert len(answer.json["error"]["message"]) < 160


async def test_long_line_in_place_of_a_boundary_is_quoted_in_part(client):
    answer = await send_parts(client, PART.format("user", "x"), "--b" + "x" * 7_000 + "\r\n")
    assert answer.status == 400
    assert len(answer.raw) < 300


async def test_undecodable_name_of_a_file_is_replaced(client, picture):
    file = b'--b\r\nContent-Disposition: form-data; name="file"; filename="\xff.png"\r\n\r\n' + picture() + b"\r\n"
    answer = await send_parts(client, PART.format("purpose", "vision"), file, path="/v1/files")
    assert (answer.status, answer.json["filename"]) == (200, "?.png")


# Files


async def test_file_above_50_mebibytes_is_refused_while_it_arrives(client):
    for size, refusal in (
        (MAX_FILE_BYTES, (400, "invalid_request_error", "image")),
        (MAX_FILE_BYTES + 1, (413, "payload_too_large", "image")),
    ):
        assert code(await client.edit("p", io.BytesIO(bytes(size)))) == refusal


async def test_eighteenth_file_is_refused(client, picture):
    answer = await client.edit("p", *[picture()] * 18)
    assert code(answer) == (400, "too_many_images", "image")


async def test_announced_length_above_the_limit_is_refused_unread(emu, until):
    """The response arrives although no byte of the body was sent."""
    reader, writer = await asyncio.open_connection(*emu.base_url.removeprefix("http://").split(":"))
    lines = (
        f"POST {EDITS} HTTP/1.1",
        f"Host: {emu.base_url.removeprefix('http://')}",
        f"Authorization: Bearer {emu.api_key}",
        f"Content-Type: {BOUNDARY}",
        f"Content-Length: {MAX_FORM_BYTES + 1}",
        "\r\n",
    )
    writer.write("\r\n".join(lines).encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.transport.abort()
    await until(lambda: emu.connections == 0)


class Endless:
    """A request of which more bytes have arrived than a form may have."""

    def __init__(self):
        self.headers = {"Content-Type": BOUNDARY}
        self.content = self
        self.total_bytes = MAX_FORM_BYTES + 1

    async def readline(self):
        return b"--b--\r\n"

    async def iter_any(self):
        yield b"x"


async def test_body_of_unannounced_length_is_counted_to_its_end():
    with pytest.raises(ServiceError) as refused:
        await _read_form(Endless(), [])
    assert refused.value.status == 413


async def test_connection_is_reused_after_a_form(emu, client, picture):
    """The next request line is looked up, although bytes follow the last boundary of the form."""

    async def chunks():
        yield PART.format("prompt", "p").encode() + PART.format("model", "gpt-image-2").encode()
        yield b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + picture() + b"\r\n--b--\r\n"
        yield b"bytes after the last boundary"

    assert (await client.ask("POST", EDITS, data=chunks(), headers={"Content-Type": BOUNDARY})).status == 200
    emu.fault("models", Reset("request_head"))
    with pytest.raises(aiohttp.ClientError):
        await client.ask("GET", "/v1/models")
    assert [seen.route for seen in emu.requests] == ["edit"]


async def test_several_images_are_accepted_under_each_usual_name(client, picture):
    for names in (("image", "image"), ("image[]", "image[]"), ("image[0]", "image[1]")):
        files = [(name, picture()) for name in names]
        answer = await client.send_form(EDITS, files, prompt="p", model="grok-imagine-image", n="1")
        assert answer.status == 200
        too_many = await client.send_form(EDITS, files * 2, prompt="p", model="grok-imagine-image")
        assert code(too_many) == (400, "too_many_images", "image")


async def test_client_that_disconnects_during_an_upload_leaves_no_open_file(emu, client, until):
    """Temporary files are closed with the handler; a warning about an open one would fail this test."""

    async def never_ending():
        yield PART.format("image", "x" * 2**21).encode()[:-2]
        await asyncio.get_running_loop().create_future()

    timeout = aiohttp.ClientTimeout(total=0.05)
    with pytest.raises(TimeoutError):
        await client.ask("POST", EDITS, data=never_ending(), headers={"Content-Type": BOUNDARY}, timeout=timeout)
    await until(lambda: emu.connections == 0)
    assert not emu.ledger.sold
