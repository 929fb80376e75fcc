"""Putting a file into place so that nobody ever sees half of it."""

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from io import FileIO
from itertools import chain
from pathlib import Path

__all__ = ["AtomicFile", "make_folder", "publish"]

_MOST_PIECES = 512
_MOST_NEW_FOLDERS = 64
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
# What file systems and systems without hard links answer; Windows says EINVAL for those of memory cards.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
_IN_THE_WAY = (
    (stat.S_ISDIR, IsADirectoryError, errno.EISDIR, "is a folder: name a file in it"),
    (stat.S_ISLNK, OSError, errno.ELOOP, "is a symbolic link, which is neither followed nor replaced"),
)


class AtomicFile:
    """A file on its way to its name.

    It is made with the first write, and lies hidden in the folder where it is going to be, with the mode that the umask
    makes of 0666. Methods block, unless they say that they do not, so call them in a thread. They exclude each other,
    except that a draft can be discarded while another call hangs: that one tidies up when it comes back.

    Args:
        folder: Where it is going to be.
        makes_folder: Whether that is made if it is missing.
    """

    def __init__(self, folder: Path, *, makes_folder: bool = False) -> None:
        self.size_bytes: int = 0
        self._folder = folder
        self._makes_folder = makes_folder
        self._path = folder / f".lemon-async.{secrets.token_hex(8)}.part"
        self._file: FileIO | None = None
        self._is_over = False
        self._lock = threading.Lock()

    def write(self, *pieces: bytes) -> None:
        """Append these bytes.

        Raises:
            OSError: The folder is missing or not writable, there is no room, or the disk is broken.
        """
        with self._turn():
            number = self._opened().fileno()
            rest = [view for piece in pieces if (view := memoryview(piece))]
            while rest:
                self._check()
                written = _write(number, rest[:_MOST_PIECES])
                self.size_bytes += written
                while rest and written >= len(rest[0]):
                    written -= len(rest.pop(0))
                if written:
                    rest[0] = rest[0][written:]

    def restart(self) -> None:
        """Forget what was written."""
        with self._turn():
            file = self._opened()
            file.seek(0)
            file.truncate()
            self.size_bytes = 0

    def publish(self, candidates: Iterable[Path], *, replace: bool) -> Path:
        """Bring the file to the disk, give it the first name that can be had, and return that.

        Args:
            candidates: Names in the folder of the draft, or all in one below it, which is made if folders are.
            replace: Whether the first of them is taken even if a file has it already; otherwise one that exists,
                whatever it is, stays as it is, and the next is tried.

        Raises:
            OSError: No name can be had, or the disk is full or broken. The draft is still there to be discarded.
        """
        with self._turn():
            file = self._opened()
            if not file.closed:
                os.fsync(file.fileno())
                file.close()
            self._check()
            candidates = iter(candidates)
            wanted = next(candidates)
            if wanted.parent != self._folder:
                self._make_way(wanted.parent)
            path = _replace(self._path, wanted) if replace else _add(self._path, chain([wanted], candidates))
            _sync_folder(path.parent)
        return path

    @property
    def is_busy(self) -> bool:
        """Whether a call is under way; once the draft is abandoned, that call discards it when it ends."""
        return self._lock.locked()

    def abandon(self) -> bool:
        """Have nothing more written, and return whether there may be a file to be discarded; does not block."""
        self._is_over = True
        return self._file is not None or self.is_busy

    def discard(self) -> None:
        """Remove the file, unless it was published, and write nothing more; does nothing the second time.

        It does not wait for a call that is under way, which may hang: that one leaves no file either.
        """
        self._is_over = True
        with contextlib.suppress(OSError):  # Windows removes no open file
            self._path.unlink(missing_ok=True)
        self._clear()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Exclude the others, and tidy up behind what was discarded meanwhile."""
        try:
            with self._lock:
                yield
        finally:
            if self._is_over:  # asked without the lock: whoever says so from now on finds it free
                self._clear()

    def _clear(self) -> None:
        """Close and remove the file, or leave that to the call that is under way."""
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
        """Raise an `OSError` if it is over."""
        if self._is_over:
            raise OSError(errno.EBADF, "was discarded", str(self._folder))

    def _make_way(self, folder: Path) -> None:
        """Make a folder below that of the draft.

        Raises:
            OSError: It cannot be made, or a symbolic link leads elsewhere.
        """
        for place in (folder, *folder.parents):
            if place == self._folder:
                break
            if place.is_symlink():
                raise OSError(errno.ELOOP, "is a symbolic link, which is not followed", str(place))
        if self._makes_folder:
            make_folder(folder)

    def _opened(self) -> FileIO:
        """Return the file, made by now.

        Raises:
            OSError: It cannot be.
        """
        self._check()
        if self._file is None:
            try:
                if self._makes_folder:
                    make_folder(self._folder)
                self._file = FileIO(os.open(self._path, _FLAGS, 0o666), "r+")
            except OSError as failure:  # in terms of what the caller knows
                raise _about(self._folder, failure) from None
        return self._file


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing; blocks.

    Raises:
        OSError: It cannot be made, or too many are missing: that is a mistake, or an attack, and not easily undone.
    """
    missing: list[Path] = []
    place = folder
    while True:
        try:
            place.mkdir()
        except FileNotFoundError:
            if len(missing) == _MOST_NEW_FOLDERS:
                words = f"lies in more than {_MOST_NEW_FOLDERS} folders that do not exist"
                raise OSError(errno.ENAMETOOLONG, words, str(folder)) from None
            missing.append(place)
            place = place.parent
        except OSError:
            if not place.is_dir():
                raise
            break
        else:
            break
    for place in reversed(missing):
        place.mkdir(exist_ok=True)


def publish(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write `content` to `path`, all of it or nothing; blocks, so call it in a thread.

    Raises:
        OSError: When the folder is missing, full or not writable, or when a folder, a symbolic link, a device or a
            pipe has that name, or any file without `replace`; what stands there is then untouched.
    """
    if replace:
        _check_replaceable(path)
    draft = AtomicFile(path.parent)
    try:
        draft.write(content)
        draft.publish((path,), replace=replace)
    except OSError as failure:
        raise _about(path, failure) from None
    finally:
        draft.discard()


def _write(number: int, pieces: Sequence[memoryview]) -> int:
    """Write in as few steps as can be: after each, a thread waits for the interpreter's lock."""
    return os.writev(number, pieces) if hasattr(os, "writev") else os.write(number, pieces[0])


def _replace(draft: Path, path: Path) -> Path:
    _check_replaceable(path)
    try:
        draft.replace(path)
    except OSError as failure:
        raise _about(path, failure) from None
    return path


def _add(draft: Path, candidates: Iterable[Path]) -> Path:
    path = draft
    for path in candidates:
        try:
            _rename_to_new(draft, path)
        except FileExistsError:
            continue
        except OSError as failure:
            raise _about(path, failure) from None
        return path
    raise FileExistsError(errno.EEXIST, "exists already", str(path))


def _rename_to_new(draft: Path, path: Path) -> None:
    """Rename, in a way that fails when `path` exists.

    Without hard links this takes two steps, of which the first makes an empty file: a process that is killed between
    them leaves that behind.

    Raises:
        FileExistsError: It does.
    """
    if os.name == "nt":
        draft.rename(path)  # there, that is what it does
        return
    try:
        os.link(draft, path)
    except OSError as failure:
        if failure.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # the name is ours
        try:
            draft.replace(path)
        except OSError:
            _remove_empty(path)
            raise
    else:
        draft.unlink()


def _remove_empty(path: Path) -> None:
    """Give a name back, unless somebody has put bytes there meanwhile."""
    with contextlib.suppress(OSError):
        if not path.lstat().st_size:
            path.unlink()


def _check_replaceable(path: Path) -> None:
    """Raise an `OSError` if anything but a file has this name."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    for stands_there, kind, code, words in _IN_THE_WAY:
        if stands_there(mode):
            raise kind(code, words, str(path))
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "is something else than a file", str(path))


def _sync_folder(folder: Path) -> None:
    """Bring a name to the disk, where folders can be synced at all; the bytes are there already."""
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _about(path: Path, failure: OSError) -> OSError:
    """Return a failure in terms of what the caller knows."""
    return OSError(failure.errno, failure.strerror, str(path))
