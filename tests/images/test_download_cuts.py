"""A picture that breaks off anywhere, however it is framed, is never saved."""

import gzip
import io
import random

import pytest
from PIL import Image

from lemon_async import DownloadError
from lemon_async._images.atomic_file import AtomicFile

CUTS = 60
SIDES = (48, 36)


def draw(kind):
    file = io.BytesIO()
    Image.effect_noise(SIDES, 80).convert("RGB").save(file, kind)
    return file.getvalue()


PICTURES = {kind: draw(kind) for kind in ("PNG", "JPEG", "WEBP")}


def with_length(content, at):
    return b"Content-Length: %d\r\n\r\n" % len(content) + content[:at]


def chunked(content, at):
    """The last chunk is missing, or the first one breaks off."""
    sent = b"%x\r\n%s\r\n" % (at, content[:at]) if at % 2 and at else b"%x\r\n%s" % (len(content), content[:at])
    return b"Transfer-Encoding: chunked\r\n\r\n" + sent


def up_to_the_close(content, at):
    return b"\r\n" + content[:at]


def packed(content, at):
    """With a Content-Encoding that was not requested."""
    zipped = gzip.compress(content, 1)
    return (
        b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped)
        + zipped[: at * len(zipped) // len(content)]
    )


async def save(downloads, url, path):
    draft = AtomicFile(path.parent)
    try:
        facts = await downloads.save(url, draft)
        draft.publish([path], replace=True)
    finally:
        draft.discard()
    return facts


FRAMINGS = [with_length, chunked, up_to_the_close, packed]


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("frame", FRAMINGS)
async def test_picture_that_is_cut_is_never_saved(open_downloads, serve, tmp_path, frame, kind):
    """Sixty cuts at random bytes; the server repeats each for every attempt."""
    content = PICTURES[kind]
    chance = random.Random(f"{frame.__name__} {kind}")
    cuts = [0, 1, len(content) - 1, *(chance.randrange(len(content)) for _ in range(CUTS - 3))]
    downloads = open_downloads(pause_s=0)

    async def answer(reader, writer):
        """Each connection serves one cut after another, until it breaks."""
        at = int(server.heads[-1].split()[1][1:])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n" + frame(content, at))

    server = await serve(answer)
    for at in cuts:
        with pytest.raises(DownloadError):
            await save(downloads, f"{server.origin}/{at}", tmp_path / "cat.png")
        assert list(tmp_path.iterdir()) == []
    assert len(server.heads) == CUTS * (1 if frame is packed else 3)


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("frame", [with_length, chunked, up_to_the_close])
async def test_same_picture_uncut_is_saved(downloads, serve, tmp_path, frame, kind):
    """The cut is refused, not the framing."""
    content = PICTURES[kind]
    body = frame(content, len(content)) + (b"" if len(content) % 2 else b"\r\n") + b"0\r\n\r\n"
    body = body if frame is chunked else frame(content, len(content))
    server = await serve(b"HTTP/1.1 200 OK\r\n" + body)
    facts = await save(downloads, server.origin, tmp_path / "cat")
    assert (facts.format, facts.size) == (kind.lower(), SIDES)
    assert (tmp_path / "cat").read_bytes() == content
