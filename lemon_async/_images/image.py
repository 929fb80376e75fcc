"""One image of a result: read, stream, save and show it, wherever its bytes are.

    received as               read()                      save(path)
    base64 in the response    from memory                 from memory, which is then freed
    a link                    downloaded, and kept        downloaded straight into the file
    either, after read()      from memory                 from memory, which is kept
    either, after save()      from that file              from that file

An image that came as both is taken from memory, or from its link if the bytes in memory are damaged.
"""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Self, TypeVar

import anyio
import attrs

from lemon_async._api.urls import redact
from lemon_async._formats.json_documents import safe_str
from lemon_async._formats.pictures import PictureFacts, find_picture_fault, sniff
from lemon_async._http.log_facts import about_job
from lemon_async._images.atomic_file import AtomicFile, alternatives, checked_target, format_of, has_suffix, suffix_of
from lemon_async._images.renewable_urls import RenewableUrls, ResultAccess, TaskRef
from lemon_async._images.threads import NotFinished, run_within, start_thread
from lemon_async.errors import DownloadError, SaveError, SessionError
from lemon_async.types import ImageData, ResumableTask

if TYPE_CHECKING:
    from lemon_async._display.bundle import Bundle, Shown

__all__ = ["Image"]

logger: logging.Logger = logging.getLogger("lemon_async")

_INLINE = "the base64 text of the response"
_CHUNK_BYTES = 256 * 1024
_CLEANUP_S = 5.0
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

T = TypeVar("T")


class _SavedFile(NamedTuple):
    """A file that an image was written to, and how to recognise it unchanged."""

    path: Path
    size_bytes: int
    stamp: tuple[int, ...]

    @classmethod
    def at(cls, path: Path) -> Self | None:
        """Return the file just written to `path`; `None` if it is gone already. Blocks."""
        absolute = path.absolute()  # the working directory may change
        try:
            status = absolute.stat()
        except OSError:
            return None
        return cls(absolute, status.st_size, _stamp_of(status))

    def read(self) -> bytes | None:
        """Return its bytes, or `None` if it is gone or was changed; blocks."""
        try:
            descriptor = os.open(self.path, _OPEN_FLAGS)
            with open(descriptor, "rb") as file:  # noqa: PTH123 - opening a pipe by its path would block forever
                return file.read() if _stamp_of(os.fstat(descriptor)) == self.stamp else None
        except OSError:
            return None


def _stamp_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class Image:
    """One image of a result: a link that expires, or bytes that came with the response.

    Notebooks display it; one that is still only a link, as long as the link is valid.

    Attributes:
        data: The entry of the response, as the service sent it.
        index: Its position in the response, from 0.
        prompt: The prompt it was made from; `None` for a task resumed from a token without it.
    """

    __slots__ = (
        "_access", "_content", "_facts", "_lock", "_position", "_ref", "_saved", "_urls", "data", "index", "prompt",
    )  # fmt: skip

    def __init__(
        self,
        data: ImageData,
        access: ResultAccess,
        *,
        index: int = 0,
        urls: RenewableUrls | None = None,
        ref: TaskRef | None = None,
        prompt: str | None = None,
    ) -> None:
        self.data: ImageData = data
        self.index: int = index
        self.prompt: str | None = prompt
        self._access = access
        self._urls = urls or RenewableUrls(access, [data], ref)
        self._position = index if urls else 0
        self._ref = ref
        self._lock = asyncio.Lock()
        self._content: bytes | None = None
        self._saved: _SavedFile | None = None
        self._facts: PictureFacts | None = None

    @property
    def url(self) -> str | None:
        """The link, valid for some hours; `None` if the bytes came with the response."""
        return self._urls.link(self._position)

    @property
    def path(self) -> Path | None:
        """The absolute path of the file it was last saved to; `None` before."""
        return self._saved.path if self._saved else None

    @property
    def revised_prompt(self) -> str | None:
        """The prompt that the model really used. The service's text: escape it before you display it."""
        return self.data.revised_prompt

    @property
    def format(self) -> str | None:
        """`png`, `jpeg`, `webp`, `gif` or `avif`, read from the bytes; `None` until they have arrived."""
        facts = self._known_facts()
        return facts.format if facts else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, read from the bytes; `None` until they have arrived."""
        facts = self._known_facts()
        return facts.size if facts else None

    async def read(self) -> bytes:
        """Return the bytes of the image, and keep them for the next call.

        An expired link is renewed once, by asking its task. Spends nothing. Cancelling stops the download; a later
        call starts it again.

        Raises:
            DownloadError: The link is refused, expired or broken, or the bytes are not a complete image. It carries
                the task.
            SessionError: The image is still only a link, and the session is closed.
        """
        async with self._lock:  # concurrent readers share one download
            if self._content is None:
                self._content = await self._bytes()
                self._facts = sniff(self._content)
            return self._content

    async def save(self, path: str | PathLike[str], *, replace: bool = True) -> Path:
        """Write the image to `path` and return the file's path. Saves are atomic.

        Missing folders are created; a name without a suffix gets that of the format (`.png .jpg .webp .gif .avif`).
        Any other suffix is kept; if it is that of another format, a warning is logged.
        The bytes go straight to the file: they stay in memory only if `read` was called, and later calls of `read`
        take them from the file as long as it is unchanged. Download and writing take at most `Timeouts.download_s`
        together, and so does flushing the file to the disk.

        Spends nothing. Cancelling leaves no file, unless the bytes were already here and writing had begun: then the
        file is completed first if that takes at most 5 s.

        Args:
            path: The name of a file. A symbolic link of that name is neither followed nor replaced.
            replace: Replace a file of that name; otherwise the image goes to `NAME-2`, `NAME-3` and so on.

        Raises:
            DownloadError, SessionError: As for `read`.
            ContractError: `path` does not name a file.
            SaveError: The disk is full, read-only or hangs (`errno.ETIMEDOUT`), or a folder or symbolic link has that
                name. The image can still be read, or saved elsewhere.
        """
        target = checked_target(path, f", for picture {self.index + 1}")
        if not has_suffix(target) and await self._check_path(Path.is_dir, target):
            raise self._save_error(target, IsADirectoryError(errno.EISDIR, "is a folder: name a file in it"))

        def names(facts: PictureFacts) -> Iterable[Path]:
            named = target if has_suffix(target) else target.with_name(target.name + suffix_of(facts.format))
            return [named] if replace else alternatives(named)

        path = await self._save(target, names, replace=replace)
        if self._facts is not None and format_of(path) not in {None, self._facts.format}:
            words = "%r is %s, which is what the service sent; without a suffix, the file gets the right one"
            logger.warning(words, str(path), self._facts.format.upper(), extra=about_job(task_id=self._task_id))
        return path

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the image as they arrive, for instance into a web response; nothing is kept.

        A broken connection is resumed. `format` is known from the first chunk on, but only the end shows that the
        image is complete: discard what was yielded before a `DownloadError`. Everything takes at most
        `Timeouts.download_s`, including the time between two chunks. Spends nothing. Cancelling, or leaving the loop,
        stops the download.

        Raises:
            DownloadError, SessionError: As for `read`.
        """
        content = await self._local_bytes()
        if content is not None:
            for start in range(0, len(content), _CHUNK_BYTES):
                yield content[start : start + _CHUNK_BYTES]
            return
        try:
            first, rest = await self._urls.use(self._position, self._begin_stream)
            self._facts = self._facts or sniff(first)
            async with aclosing(rest):
                yield first
                async for chunk in rest:
                    yield chunk
        except (DownloadError, SessionError) as failure:
            raise self._with_task(failure) from failure.__cause__

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Image belongs to its session: pickle what `read()` returns, or its `data`")

    async def _save(self, target: Path, names: Callable[[PictureFacts], Iterable[Path]], *, replace: bool) -> Path:
        """Write the image into the folder of `target`, under the first of `names` that is free."""
        async with self._lock:
            file = AtomicFile(target.parent)

            def publish(content: bytes | None, facts: PictureFacts) -> tuple[Path, _SavedFile | None]:
                if content is not None:
                    file.write(content)
                path = file.publish(names(facts), replace=replace)
                return path, _SavedFile.at(path)

            try:
                content = await self._local_bytes()
                facts = sniff(content) if content else None
                if facts is None:
                    save = partial(self._access.downloads.save, file=file, task_id=self._task_id)
                    facts = await self._download(save)
                # Written and published by one thread call: a thousand saves that wait for a thread open no file.
                path, saved = await run_within(self._access.downloads.total_s, publish, content, facts)
            except BaseException as failure:
                await _discard(file)
                if isinstance(failure, OSError | ValueError):  # ValueError: the system cannot even look up the name
                    raise self._save_error(target, failure) from failure
                raise
            self._facts, self._saved = facts, saved
            if self.data.inline is not None and self._saved is not None:
                self.data.inline.drop()
            if saved is not None and self._access.emitter is not None:
                self._access.emitter.saved(str(saved.path), size_bytes=saved.size_bytes, task_id=self._task_id)
            return path

    async def _check_path(self, check: Callable[[Path], bool], path: Path) -> bool:
        """Return what a check such as `Path.is_dir` returns.

        Raises:
            SaveError: The disk does not respond in time.
        """
        try:
            return await run_within(self._access.downloads.total_s, check, path)
        except OSError as failure:
            raise self._save_error(path, failure) from failure

    async def _bytes(self) -> bytes:
        """Return the bytes without keeping them, unless they were kept before."""
        content = await self._local_bytes()
        if content is None:
            content = await self._download(partial(self._access.downloads.fetch, task_id=self._task_id))
        return content

    async def _local_bytes(self) -> bytes | None:
        """Return the bytes from memory or from the saved file; `None` if they must be downloaded.

        Raises:
            DownloadError: They are damaged, or the saved file was changed, and there is no link.
        """
        if self._content is not None:
            return self._content
        place, fault = _INLINE, "there is neither a picture nor a link"
        if self._saved is not None:
            place, fault = str(self._saved.path), "it was saved there, and the file is gone or was changed since"
            try:
                content = await run_within(self._access.downloads.total_s, self._saved.read)
            except NotFinished as timeout:
                content, fault = None, f"it was saved there, and {timeout.strerror}"
            if content is not None:
                return content
        inline = self.data.inline
        if inline is not None and inline.content is not None:
            content = inline.content
            damage = await asyncio.to_thread(find_picture_fault, content)
            if damage is None:
                return content
            fault = damage
        elif inline is not None and inline.fault is not None:
            fault = f"it is not base64 ({inline.fault})"
        if self.url:
            return None
        raise self._with_task(DownloadError(url=place, reason=fault))

    async def _download(self, act: Callable[[str], Awaitable[T]]) -> T:
        try:
            return await self._urls.use(self._position, act)
        except (DownloadError, SessionError) as failure:
            raise self._with_task(failure) from failure.__cause__

    async def _begin_stream(self, url: str) -> tuple[bytes, AsyncGenerator[bytes, None]]:
        chunks = self._access.downloads.stream(url, task_id=self._task_id)
        return await anext(chunks, b""), chunks

    def _with_task(self, failure: DownloadError | SessionError) -> DownloadError | SessionError:
        """Return the failure with the task and the index of this image."""
        if isinstance(failure, DownloadError):
            return attrs.evolve(failure, task=self._task(), index=self.index)
        return attrs.evolve(failure, task=self._task())

    @property
    def _task_id(self) -> str | None:
        return self._ref.id if self._ref else None

    def _task(self) -> ResumableTask | None:
        return self._ref.task if self._ref else None

    def _save_error(self, target: Path, failure: OSError | ValueError) -> SaveError:
        number = failure.errno if isinstance(failure, OSError) else None
        reason = (failure.strerror if isinstance(failure, OSError) else None) or safe_str(failure)
        if number == errno.ENAMETOOLONG:
            reason += ": choose a shorter path"
        elif isinstance(failure, NotFinished):
            reason += ": `read()` still returns the picture, and it can be saved elsewhere"
        return SaveError(path=str(target), reason=reason, errno=number, index=self.index, task=self._task())

    def _known_facts(self) -> PictureFacts | None:
        if self._facts is None:
            content = self._bytes_in_memory()
            self._facts = sniff(content) if content else None
        return self._facts

    def _bytes_in_memory(self) -> bytes | None:
        if self._content is not None or self.data.inline is None:
            return self._content
        return self.data.inline.content

    def _shown(self, max_bytes: int) -> "Shown":
        """Return what to display, without downloading anything or reading a file that is too large to embed."""
        from lemon_async._display.bundle import Shown  # noqa: PLC0415 - for notebooks

        saved = self._saved if self._saved and self._saved.size_bytes <= max_bytes else None
        return Shown(
            content=self._bytes_in_memory() or (saved.read() if saved else None),
            url=self.url if self.url and self._access.downloads.can_follow(self.url) else None,
            format=self.format,
            size=self.size,
            prompt=self.prompt,
            revised_prompt=self.revised_prompt,
            label=repr(self),
        )

    def _repr_mimebundle_(self, **_: object) -> "Bundle":
        from lemon_async._display.bundle import MAX_EMBEDDED_BYTES, picture_bundle  # noqa: PLC0415 - for notebooks

        return picture_bundle(self._shown(MAX_EMBEDDED_BYTES))

    def __repr__(self) -> str:
        facts = self._known_facts()
        size = f" {facts.size[0]}x{facts.size[1]}" if facts and facts.size else ""
        place = str(self.path) if self.path else redact(self.url) if self.url else _INLINE
        return f"<Image {facts.format if facts else 'not read yet'}{size} from {place}>"


async def _discard(file: AtomicFile) -> None:
    """Discard a file and wait for that, unless the disk is busy with it: then it may hang."""
    if not file.abandon():
        return
    may_hang = file.is_busy
    discarding = start_thread(file.discard)  # its own thread: a busy pool or a second cancel must not prevent it
    if not may_hang:
        # In a cancelled scope of anyio every await is cancelled: without the shield, the file would stay.
        with anyio.move_on_after(_CLEANUP_S, shield=True):
            await asyncio.wrap_future(discarding)
