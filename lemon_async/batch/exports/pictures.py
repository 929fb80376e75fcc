"""Datasets of pictures: a folder as Hugging Face reads it, or tar files as WebDataset does.

Both make `train/`, which `datasets.load_dataset` takes for the split of that name. The files are named after the number
and the key of their rows, so two exports of a journal give equal bytes. A picture whose file is missing or differs from
what was saved is left out and reported.
"""

import hashlib
import os
import re
import shutil
import stat
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import attrs
import orjson

from lemon_async._formats.pictures import HEAD_BYTES, sniff
from lemon_async.batch.exports.columns import Columns
from lemon_async.batch.exports.report import Report
from lemon_async.batch.records import JournalRow, SavedPicture

__all__ = ["write_image_folder", "write_web_dataset"]

_ROWS_IN_FOLDER = 1000  # the Hub takes at most 10,000 files in one folder, and a row has at most 10
_MAX_SHARD_BYTES = 10**9
_MAX_SHARD_SAMPLES = 10_000
_MAX_KEY = 60
_NO_NAME = re.compile(r"[^\w-]+")
_SUFFIXES = {"jpeg": "jpg"}


class _Unfit(Exception):
    """The file of a picture cannot be exported."""


def write_image_folder(folder: Path, rows: Iterable[JournalRow], columns: Columns, base: Path, report: Report) -> None:
    """Write the pictures, as hard links where the disk has them, and `metadata.jsonl`. Blocks.

    Args:
        folder: An empty folder.
        rows: Rows in the order of their numbers.
        columns: What was learned from them.
        base: The folder that relative paths of pictures start from.
        report: Is updated.
    """
    with (folder / "metadata.jsonl").open("wb") as metadata:
        for row in rows:
            place = folder / f"{row.number // _ROWS_IN_FOLDER:05d}"
            for stem, picture in _named(row):
                try:
                    file = _link(base / picture.path, picture, place / stem)
                except _Unfit as fault:
                    report.leave_out(row.key, str(fault))
                    continue
                name = f"{place.name}/{file.name}"
                line = {"file_name": name, **columns.of_picture(row), "sha256": picture.sha256}
                metadata.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
                report.pictures += 1
            report.rows += 1
        _sync(metadata)


def write_web_dataset(folder: Path, rows: Iterable[JournalRow], columns: Columns, base: Path, report: Report) -> None:
    """Write tar files of at most about 1 GB: for each picture the file itself and a JSON file of the same name. Blocks.

    See `write_image_folder` for the arguments.
    """
    with ExitStack() as stack:
        shards = _Shards(folder, stack)
        for row in rows:
            for stem, picture in _named(row):
                try:
                    content = _read(base / picture.path, picture)
                except _Unfit as fault:
                    report.leave_out(row.key, str(fault))
                    continue
                facts = orjson.dumps({**columns.of_picture(row), "sha256": picture.sha256})
                shards.add({f"{stem}.{_suffix(content)}": content, f"{stem}.json": facts})
                report.pictures += 1
            report.rows += 1


@attrs.define
class _Shards:
    """Tar files, of which the last one is open."""

    _folder: Path
    _stack: ExitStack
    _tar: tarfile.TarFile | None = None
    _number: int = 0
    _samples: int = 0
    _size_bytes: int = 0

    def add(self, files: Mapping[str, bytes]) -> None:
        """Write the files of one sample."""
        if self._samples >= _MAX_SHARD_SAMPLES or self._size_bytes >= _MAX_SHARD_BYTES:
            self._stack.close()
            self._tar, self._samples, self._size_bytes = None, 0, 0
        if self._tar is None:
            self._tar = self._stack.enter_context(_new_tar(self._folder / f"{self._number:06d}.tar"))
            self._number += 1
        self._samples += 1
        for name, content in files.items():
            entry = tarfile.TarInfo(name)  # without times and owners, so that the bytes depend on the content only
            entry.size = len(content)
            self._tar.addfile(entry, BytesIO(content))
            self._size_bytes += len(content)


@contextmanager
def _new_tar(path: Path) -> Iterator[tarfile.TarFile]:
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            yield tar
        _sync(file)


def _named(row: JournalRow) -> Iterator[tuple[str, SavedPicture]]:
    """Yield a name without dots for each picture of a row; no two in a journal are equal."""
    key = _NO_NAME.sub("-", unicodedata.normalize("NFC", row.key))[:_MAX_KEY].strip("-")
    stem = f"{row.number:07d}-{key}".strip("-")
    for index, picture in enumerate(row.pictures):
        yield stem if len(row.pictures) == 1 else f"{stem}-{index}", picture


def _link(source: Path, picture: SavedPicture, target: Path) -> Path:
    """Make `target` a hard link to a picture, or a copy of it, and return its path with a suffix.

    Raises:
        _Unfit: The picture is missing or has changed.
    """
    _check_size(source, picture)
    try:
        suffix = _suffix(_head(source))
    except OSError as failure:
        raise _Unfit(_reason(source, failure)) from failure
    target = target.with_name(f"{target.name}.{suffix}")
    target.parent.mkdir(exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != picture.sha256:
        target.unlink()
        raise _Unfit(_changed(source))
    return target


def _read(source: Path, picture: SavedPicture) -> bytes:
    """Return the bytes of a picture.

    Raises:
        _Unfit: It is missing or has changed.
    """
    _check_size(source, picture)
    try:
        content = source.read_bytes()
    except OSError as failure:
        raise _Unfit(_reason(source, failure)) from failure
    if hashlib.sha256(content).hexdigest() != picture.sha256:
        raise _Unfit(_changed(source))
    return content


def _check_size(source: Path, picture: SavedPicture) -> None:
    """Raise `_Unfit` unless there is a file of the size that was saved; opening anything else could wait forever."""
    try:
        found = source.stat()
    except OSError as failure:
        raise _Unfit(_reason(source, failure)) from failure
    if not stat.S_ISREG(found.st_mode) or found.st_size != picture.size_bytes:
        raise _Unfit(_changed(source))


def _reason(source: Path, failure: OSError) -> str:
    return f"{str(source)!r} cannot be read: {failure.strerror}"


def _changed(source: Path) -> str:
    return f"{str(source)!r} is not the file that was saved"


def _head(source: Path) -> bytes:
    with source.open("rb") as file:
        return file.read(HEAD_BYTES)


def _suffix(content: bytes) -> str:
    facts = sniff(content)
    return "bin" if facts is None else _SUFFIXES.get(facts.format, facts.format)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
