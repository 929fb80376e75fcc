"""Write a recorded request as a program: a curl command for a POSIX shell, and Python with `lemon_async`.

Both read the key from `LEMONDATA_API_KEY`. Files were not kept: both name those that the client named, in the folder in
which the program is run.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from lemon_async._web.host_header import is_loopback
from lemon_async.emulator.http.recordings import Recording

KEY_VARIABLE = "LEMONDATA_API_KEY"

# The keyword arguments of the client; a test compares them with its own. Other fields go into `extra`.
ARGUMENTS = (
    "model", "n", "size", "response_format", "user", "aspect_ratio", "resolution", "quality", "async_", "background",
    "output_format", "output_compression", "compression", "moderation", "partial_images", "style",
)  # fmt: skip
_SOURCES = ("image_url", "image_urls", "images")
_UNSAFE = re.compile(r"[^\w. -]+")
# Control characters: in a form, nothing can stand for them.
_KEYS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNNAMEABLE = re.compile(r"[^\w.\[\]-]")
_PROGRAM = """import asyncio

from lemon_async import LemonSession


async def main() -> None:
    async with LemonSession({arguments}) as lemon:  # the key is in {variable}
{body}
        for index, image in enumerate(images):
            await image.save(f"picture-{{index}}")


asyncio.run(main())
"""
_INDENT = " " * 8
_STREAM = """        async with lemon.stream(
{lines}        ) as stream:
            async for image in stream:
                print(image)
        images = stream.images"""


def curl_poll(origin: str, path: str) -> str:
    """Return a poll as a command."""
    return _command(origin, path)


def python_poll(origin: str, task_id: str) -> str:
    """Return a poll as a program, which waits for the task."""
    return _program(origin, f"{_INDENT}images = await lemon.task({task_id!r})")


def curl(origin: str, path: str, recording: Recording) -> str | None:
    """Return a request as a command; None if it cannot be written as one."""
    fields = recording.read_fields()
    if fields is None or not recording.is_whole:
        return None
    if not recording.is_form:
        return _command(origin, path, "-H 'Content-Type: application/json'", f"--data-raw {_quoted(fields)}")
    texts = {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in fields.items()}
    names = [*texts, *(name for name, _ in recording.files)]
    if any(_UNNAMEABLE.search(name) for name in names) or any(_KEYS.search(text) for text in texts.values()):
        return None
    files = (shlex.join(["--form", f'{name}=@"./{safe_name(file)}"']) for name, file in recording.files)
    return _command(
        origin, path, *files, *(shlex.join(["--form-string", f"{name}={text}"]) for name, text in texts.items())
    )


def _command(origin: str, path: str, *options: str) -> str:
    url = shlex.quote(f"{origin}{quote(path)}")
    return " \\\n  ".join([f"curl -sS --globoff {url}", f'-H "Authorization: Bearer ${KEY_VARIABLE}"', *options])


def _quoted(fields: Mapping[str, Any]) -> str:
    """Return JSON as a word of a command, without characters that a terminal would take for keys when it is pasted."""
    text = orjson.dumps(fields).decode()
    return shlex.quote("".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text))


def safe_name(file: str) -> str:
    """Return a file name that is one in every shell and leads out of no folder."""
    name = _UNSAFE.sub("_", re.split(r"[/\\]", file)[-1]).strip()
    return name if name.strip(".") else "upload"


def python(origin: str, recording: Recording, *, is_checked: bool = True) -> str | None:
    """Return a request as a program; None if the client has no call for it.

    Without `is_checked`, the client sends it even if it contradicts the documentation.
    """
    fields = recording.read_fields()
    if fields is None or not recording.is_whole:
        return None
    is_stream = fields.pop("stream", None) is True
    images, masks = _images(recording, fields)
    first = fields.pop("prompt", None)
    if recording.endpoint == "vary":
        first, images = images[0] if len(images) == 1 else None, []
    if not isinstance(first, str):
        return None
    arguments = [repr(first), *_arguments(images, masks, fields), *([] if is_checked else ["check_contracts=False"])]
    lines = "".join(f"{_INDENT}    {argument},\n" for argument in arguments)
    return _program(origin, _STREAM.format(lines=lines) if is_stream else _call(recording.endpoint, lines))


def _call(endpoint: str, lines: str) -> str:
    method = {"submit": "generate", "edit": "edit", "vary": "create_variation"}[endpoint]
    return f"{_INDENT}images = await lemon.{method}(\n{lines}{_INDENT})"


def _images(recording: Recording, fields: dict[str, Any]) -> tuple[list[Any], list[str]]:
    """Return the sources and masks of an edit, and remove them from its fields."""
    files = [(name.partition("[")[0], safe_name(file)) for name, file in recording.files]
    found: list[Any] = [file for name, file in files if name == "image"]
    for name in _SOURCES if recording.endpoint == "edit" else ():
        value = fields.pop(name, None)
        entries = value if isinstance(value, list) else [] if value is None else [value]
        found += [entry if name == "images" or _is_web(entry) else {"image_url": entry} for entry in entries]
    return found, [file for name, file in files if name == "mask"]


def _is_web(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def _arguments(images: Sequence[Any], masks: Sequence[str], fields: Mapping[str, Any]) -> Iterator[str]:
    if images:
        yield f"image={(images[0] if len(images) == 1 else images)!r}"
    if masks:
        yield f"mask={masks[0]!r}"
    known = {"async_" if name == "async" else name: value for name, value in fields.items() if value is not None}
    yield from (f"{name}={value!r}" for name, value in known.items() if name in ARGUMENTS)
    extra = {name: value for name, value in known.items() if name not in ARGUMENTS}
    if extra:
        yield f"extra={extra!r}"


def _program(origin: str, body: str) -> str:
    host = urlsplit(origin).hostname or ""
    arguments = f"base_url={origin!r}" + ("" if is_loopback(host) else f", allow_http={{{host!r}}}")
    return _PROGRAM.format(arguments=arguments, variable=KEY_VARIABLE, body=body)
