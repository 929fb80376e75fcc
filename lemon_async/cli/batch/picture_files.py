"""Read the pictures of a journal: only files that it names, and only as they were saved."""

import asyncio
import hashlib
import io
import os
import stat
import warnings
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from lemon_async._web.replies import PageError
from lemon_async.batch import SavedPicture

__all__ = ["PictureFiles", "content_type_of", "shrink"]

_MOST_BYTES = 256 * 2**20
_SIDE = 320
_MOST_PIXELS = 64 * 10**6  # of a file that is decoded whole: a pixel takes four bytes
_MOST_KEPT_BYTES = 32 * 2**20
_AT_A_TIME = 2
File = tuple[bytes, str]
_TYPES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
_BRANDS = {b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic", b"mif1": "image/heif"}


@attrs.define(eq=False)
class PictureFiles:
    """Pictures and their thumbnails, for files in a folder and for absolute paths.

    Two threads read and decode: however many a page asks for, memory and CPU stay bounded, and what it no longer waits
    for is dropped.
    """

    _folder: Path | None
    _thumbnails: OrderedDict[str, File] = attrs.field(factory=OrderedDict[str, File], init=False, repr=False)
    _threads: ThreadPoolExecutor = attrs.field(
        factory=lambda: ThreadPoolExecutor(_AT_A_TIME, "lemon_async pictures"), init=False, repr=False
    )

    async def read(self, picture: SavedPicture) -> File:
        """Return a file and its content type.

        Raises:
            PageError: It is missing, is no longer what was saved, or is no picture.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, picture)

    async def thumbnail(self, picture: SavedPicture) -> File:
        """Return a picture of at most 320 pixels, as `read`; the file itself if Pillow is missing or cannot read it."""
        known = self._thumbnails
        if picture.sha256 not in known:
            loop = asyncio.get_running_loop()
            known[picture.sha256] = await loop.run_in_executor(self._threads, self._shrink, picture)
        known.move_to_end(picture.sha256)
        thumbnail = known[picture.sha256]
        while len(known) > 1 and sum(len(content) for content, _ in known.values()) > _MOST_KEPT_BYTES:
            known.popitem(last=False)
        return thumbnail

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _shrink(self, picture: SavedPicture) -> File:
        content, type_ = self._read(picture)
        return shrink(content) or (content, type_)

    def _read(self, picture: SavedPicture) -> File:
        try:
            content = _read_file(Path(self._folder or "/", picture.path), picture.size_bytes)
        except FileNotFoundError:
            raise PageError(404, f"the file is missing: {picture.path}") from None
        except (OSError, ValueError) as fault:
            raise PageError(404, f"the file cannot be read: {picture.path}: {fault}") from None
        if hashlib.sha256(content).hexdigest() != picture.sha256:
            raise PageError(404, f"the file has changed since it was saved: {picture.path}")
        if (type_ := content_type_of(content)) is None:
            raise PageError(404, f"the file is no picture: {picture.path}")
        return content, type_


def content_type_of(content: bytes) -> str | None:
    """Return the type of a picture by its first bytes; `None` if it is none that a browser only shows."""
    if content[4:8] == b"ftyp":
        return _BRANDS.get(content[8:12])
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((type_ for begin, type_ in _TYPES.items() if content.startswith(begin)), None)


def shrink(content: bytes) -> File | None:
    """Return a thumbnail and its type; `None` if Pillow is missing or cannot read the picture.

    Raises:
        PageError: It is too large to be decoded.
    """
    try:
        from PIL import Image, ImageOps  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            image: Image.Image = Image.open(io.BytesIO(content))
        image.draft("RGB", (_SIDE, _SIDE))  # JPEG is decoded at about this size
        if image.width * image.height > _MOST_PIXELS:
            words = f"too large for a thumbnail: {image.width}x{image.height} pixels"
            raise PageError(413, words)  # noqa: TRY301 - passed on below
        image.thumbnail((_SIDE, _SIDE))
        image = ImageOps.exif_transpose(image)
        is_clear = image.has_transparency_data
        target = io.BytesIO()
        image.convert("RGBA" if is_clear else "RGB").save(target, "PNG" if is_clear else "JPEG")
    except PageError:
        raise
    except Image.DecompressionBombError:
        raise PageError(413, "too large for a thumbnail") from None
    except Exception:  # noqa: BLE001 - each format of Pillow has errors of its own
        return None
    return target.getvalue(), "image/png" if is_clear else "image/jpeg"


def _read_file(path: Path, size: int) -> bytes:
    """Read a plain file of this size; follows no link in the place of the file, and waits for no pipe."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is no plain file")
        if found.st_size != size or size > _MOST_BYTES:
            raise ValueError(f"it has {found.st_size} bytes, and had {size} when it was saved")
        return file.read(size + 1)
