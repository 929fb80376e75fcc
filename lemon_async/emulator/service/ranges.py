"""Parts of files, as a CDN serves them (RFC 9110, 14): one range of bytes, on condition that the file is the same."""

import re
import zlib
from collections.abc import Mapping

from attrs import evolve

from lemon_async.emulator.http.replies import Reply

_ONE_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII | re.IGNORECASE)


def part_of(file: Reply, headers: Mapping[str, str]) -> Reply:
    """The part of a file that a request asks for.

    Four cases: no range, one that nobody can read, or one of another file (`If-Range`): all of it; one behind the
    end: 416; any other: 206.
    """
    tag = f'"{len(file.body):x}-{zlib.crc32(file.body):08x}"'
    whole = file.plus({"ETag": tag, "Accept-Ranges": "bytes"})
    asked = _ONE_RANGE.fullmatch(headers.get("Range", "").strip())
    if asked is None or headers.get("If-Range", tag).strip() != tag:
        return whole
    size = len(file.body)
    first, end = _bounds(asked, size)
    if asked[2] and int(asked[2]) < int(asked[1]):
        return whole
    if first >= end:
        return evolve(whole, status=416, body=b"").plus({"Content-Range": f"bytes */{size}"})
    part = evolve(whole, status=206, body=file.body[first:end])
    return part.plus({"Content-Range": f"bytes {first}-{end - 1}/{size}"})


def _bounds(asked: re.Match[str], size: int) -> tuple[int, int]:
    first, last, suffix = asked.groups()
    if suffix is not None:
        return max(size - int(suffix), 0), size
    return int(first), min(int(last) + 1, size) if last else size
