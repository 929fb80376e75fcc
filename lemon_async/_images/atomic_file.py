"""Check the names of files, and write files atomically: no reader ever sees half of one."""

import contextlib
import errno
import os
import secrets
import stat
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from io import FileIO
from itertools import chain, islice, takewhile
from os import PathLike, fsencode, fspath
from pathlib import Path

from lemon_async._formats.json_documents import safe_repr
from lemon_async.errors import ContractError

__all__ = [
    "DEVICES",
    "AtomicFile",
    "alternatives",
    "checked_path",
    "checked_target",
    "find_name_fault",
    "format_of",
    "has_suffix",
    "name_error",
    "suffix_of",
    "write_file",
]

_MAX_NEW_FOLDERS = 64
_MAX_NAME_BYTES = 255
_MAX_NUMBERS = 50  # each costs one access to the disk
_SUFFIXES = {"jpeg": ".jpg"}
_FORMATS = {".jpg": "jpeg", **{f".{name}": name for name in ("png", "jpeg", "webp", "gif", "avif")}}
# Windows opens a device for these names, whatever follows the first dot.
DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³"}
)
# They display `exe.png` as `gnp.exe`.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
# Errors of systems without hard links; EINVAL is that of Windows for the file systems of memory cards.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})


class AtomicFile:
    """A hidden file that gets its name once it is complete.

    It is created by the first write, in the folder of its final name, with mode 0666 less the umask. Methods block
    unless they say otherwise, so call them in a thread. They exclude each other, but a file can be discarded while
    another call hangs: that call then cleans up when it returns.

    Args:
        folder: The folder of its final name; created if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f".lemon-async.{secrets.token_hex(8)}.part"
        self._file: FileIO | None = None
        self._is_discarded = False
        self._lock = threading.Lock()

    def write(self, content: bytes, *, is_restart: bool = False) -> None:
        """Append bytes, or with `is_restart` replace all by them.

        Raises:
            OSError: The folder is not writable, or the disk is full or broken.
        """
        with self._exclusive():
            file = self._open()
            if is_restart:
                file.seek(0)
                file.truncate()
            rest = memoryview(content)
            while rest:
                self._check()
                rest = rest[os.write(file.fileno(), rest) :]

    def publish(self, candidates: Iterable[Path], *, replace: bool) -> Path:
        """Sync the file to the disk, give it the first free name, and return that.

        Args:
            candidates: Paths in the folder of this file, or all in one folder below it.
            replace: Whether to take the first candidate even if a file has that name; otherwise, existing files are
                left alone and the next candidate is tried.

        Raises:
            OSError: No name is free, or the disk is full or broken. The file can still be published or discarded.
        """
        with self._exclusive():
            file = self._open()
            if not file.closed:
                os.fsync(file.fileno())
                file.close()
            self._check()
            path = self._folder
            for path in candidates:
                if path.parent != self._folder:
                    self._make_subfolder(path.parent)
                try:
                    (_replace if replace else _rename_to_new)(self._path, path)
                except FileExistsError:
                    if replace:
                        raise
                except OSError as failure:
                    raise _about(path, failure) from None
                else:
                    _sync_folder(path.parent)
                    return path
            raise FileExistsError(errno.EEXIST, "exists already", str(path))

    @property
    def is_busy(self) -> bool:
        """Whether a call is running; if the file is abandoned before it returns, that call discards it."""
        return self._lock.locked()

    def abandon(self) -> bool:
        """Refuse further writes, and return whether there may be a file to discard; does not block."""
        self._is_discarded = True
        return self._file is not None or self.is_busy

    def discard(self) -> None:
        """Remove the file, unless it was published, and refuse further writes; does nothing the second time.

        It does not wait for a running call, which may hang and leaves no file either.
        """
        self._is_discarded = True
        with contextlib.suppress(OSError):  # Windows removes no open file
            self._path.unlink(missing_ok=True)
        self._clear()

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Exclude other calls, and clean up if the file was discarded during the call."""
        try:
            with self._lock:
                yield
        finally:
            if self._is_discarded:  # read without the lock: if it is set later, the lock is free by then
                self._clear()

    def _clear(self) -> None:
        """Close and remove the file, or leave that to a running call."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(OSError):
                if self._file is not None:
                    self._file.close()
                self._path.unlink(missing_ok=True)
        finally:
            self._lock.release()

    def _check(self) -> None:
        """Raise an `OSError` if the file was discarded."""
        if self._is_discarded:
            raise OSError(errno.EBADF, "was discarded", str(self._folder))

    def _make_subfolder(self, folder: Path) -> None:
        """Create a folder below that of the file.

        Raises:
            OSError: It cannot be created, or a symbolic link leads elsewhere.
        """
        for place in (folder, *folder.parents):
            if place == self._folder:
                break
            if place.is_symlink():
                raise OSError(errno.ELOOP, "is a symbolic link, which is not followed", str(place))
        _make_folder(folder)

    def _open(self) -> FileIO:
        """Return the open file.

        Raises:
            OSError: It cannot be created.
        """
        self._check()
        if self._file is None:
            try:
                _make_folder(self._folder)
                self._file = FileIO(os.open(self._path, _FLAGS, 0o666), "r+")
            except OSError as failure:  # about a path that the caller knows
                raise _about(self._folder, failure) from None
        return self._file


def suffix_of(picture_format: str) -> str:
    """Return the suffix for files of this format, including the dot."""
    return _SUFFIXES.get(picture_format, f".{picture_format}")


def format_of(path: Path) -> str | None:
    """Return the format that a suffix names, if any."""
    return _FORMATS.get(path.suffix.lower())


def has_suffix(path: Path) -> bool:
    """Return whether a name has a suffix; the `.5` of `gpt-image-1.5` is not one."""
    return path.suffix[1:2].isalpha()


def checked_target(path: str | PathLike[str], suffix: str = "") -> Path:
    """Return the path of a file, if its name means a file on every system.

    Args:
        path: The user's path.
        suffix: End of the message, which names the picture.

    Raises:
        ContractError: It names no file.
    """
    target = checked_path(path, "path", suffix)
    fault = find_name_fault(target.name)
    if fault is not None:
        raise name_error("path", f"{fault}: {safe_repr(str(target))}", suffix)
    return target


def alternatives(path: Path, first: int = 1) -> Iterator[Path]:
    """Yield `path`, `path-2` and so on, for names that may be taken; after 50 of these, random names.

    Args:
        path: The preferred name.
        first: The number to begin with.
    """
    for number in range(first, first + _MAX_NUMBERS):
        yield path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
    for _ in range(_MAX_NUMBERS):
        yield path.with_name(f"{path.stem}-{secrets.token_hex(4)}{path.suffix}")


def checked_path(path: object, field: str, suffix: str = "") -> Path:
    """Return a path that can be passed to the system.

    Raises:
        ContractError: It cannot.
    """
    try:
        text: object = fspath(path)  # type: ignore[call-overload]  # other types raise, which is the check
    except Exception as error:
        raise name_error(field, f"must be a path, not {safe_repr(path)}", suffix) from error
    if not isinstance(text, str):
        raise name_error(field, f"must be a path, not {safe_repr(path)}", suffix)
    if "\0" in text:
        raise name_error(field, f"must not hold a NUL character: {safe_repr(text)}", suffix)
    try:
        fsencode(text)
    except UnicodeEncodeError:
        raise name_error(field, f"must not hold a lone surrogate: {safe_repr(text)}", suffix) from None
    return Path(text)


def find_name_fault(name: str) -> str | None:
    """Return why a name does not mean a file on every system."""
    if not name.strip(". "):  # Windows drops those at the end
        return "must name a file"
    if any(c in _REORDERING or unicodedata.category(c) in {"Cc", "Cs"} for c in name):
        return "must not hold control characters, nor any that change the direction of text"
    if name.split(".", maxsplit=1)[0].rstrip().upper() in DEVICES:
        return "is the name of a device on Windows"
    if len(name.encode()) > _MAX_NAME_BYTES:
        return f"is longer than {_MAX_NAME_BYTES} bytes"
    return None


def name_error(field: str, advice: str, suffix: str = "") -> ContractError:
    return ContractError.of(field, f"{advice}{suffix}", undone="written")


def write_file(path: Path, content: bytes, *, replace: bool = True, alternatives: Iterable[Path] = ()) -> Path:
    """Write `content` to `path` atomically, and return the path; blocks, so call it in a thread.

    Args:
        path: Where to write; missing folders are created.
        content: The bytes.
        replace: Whether to replace a file of that name.
        alternatives: Other paths to try in turn, without `replace`.

    Raises:
        OSError: The folder is full or not writable, or a folder, symbolic link, device or pipe has that name, or
            without `replace` any file. The existing file is unchanged.
    """
    file = AtomicFile(path.parent)
    try:
        file.write(content)
        return file.publish(chain([path], alternatives), replace=replace)
    except OSError as failure:
        raise _about(path, failure) from None
    finally:
        file.discard()


def _make_folder(folder: Path) -> None:
    """Create a folder and its missing parents.

    Raises:
        OSError: It cannot be created, or more than 64 folders are missing, which must be a mistake or an attack.
    """
    missing = takewhile(lambda place: not place.exists(), (folder, *folder.parents))
    if len(list(islice(missing, _MAX_NEW_FOLDERS + 1))) > _MAX_NEW_FOLDERS:
        words = f"lies in more than {_MAX_NEW_FOLDERS} folders that do not exist"
        raise OSError(errno.ENAMETOOLONG, words, str(folder))
    folder.mkdir(parents=True, exist_ok=True)


def _replace(hidden: Path, path: Path) -> None:
    """Rename, but replace nothing but a regular file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder: name a file in it", str(path))
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "is a symbolic link, which is neither followed nor replaced", str(path))
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "is not a regular file", str(path))
    hidden.replace(path)


def _rename_to_new(hidden: Path, path: Path) -> None:
    """Rename, but fail if `path` exists.

    Without hard links this takes two steps, of which the first creates an empty file: a process that is killed between
    them leaves that file behind.

    Raises:
        FileExistsError: `path` exists.
    """
    if os.name == "nt":
        hidden.rename(path)  # on Windows, `rename` fails if the target exists
        return
    try:
        os.link(hidden, path)
    except OSError as failure:
        if failure.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # reserves the name
        try:
            hidden.replace(path)
        except OSError:
            _remove_empty(path)
            raise
    else:
        hidden.unlink()


def _remove_empty(path: Path) -> None:
    """Remove a reserved name, unless another process has written to it."""
    with contextlib.suppress(OSError):
        if not path.lstat().st_size:
            path.unlink()


def _sync_folder(folder: Path) -> None:
    """Sync a folder to the disk, if the system can; the bytes are there already."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _about(path: Path, failure: OSError) -> OSError:
    """Return the same error about a path that the caller knows."""
    return OSError(failure.errno, failure.strerror, str(path))
