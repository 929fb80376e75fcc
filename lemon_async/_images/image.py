"""A picture of a result: where its bytes are, and how they get to whoever wants them.

    what came                 read()                      save(path)
    base64 in the answer      from memory                 from memory, which then lets go of it
    a link                    fetched, and kept           fetched straight into the file
    either, after read()      from memory                 from memory, which keeps it
    either, after save()      from that file              from that file

A picture that came as both is taken from memory, and from its link if what is in memory is damaged.
"""

import asyncio
import errno
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from os import PathLike
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

import anyio
import attrs

from lemon_async._api.urls import redact
from lemon_async._display.bundle import MAX_EMBEDDED_BYTES, Bundle, Shown, picture_bundle
from lemon_async._formats.pictures import PictureFacts, sniff
from lemon_async._formats.safe_text import safe_str
from lemon_async._formats.stream_validator import find_picture_fault
from lemon_async._images.atomic_file import AtomicFile
from lemon_async._images.naming import alternatives, checked_target, has_suffix, suffix_of
from lemon_async._images.renewable_urls import RenewableUrls, Results, TaskRef
from lemon_async._images.saved import Saved
from lemon_async._images.threads import NotFinished, run_within, start_thread
from lemon_async.errors import DownloadError, SaveError, SessionError
from lemon_async.types import ImageData, ResumableTask

__all__ = ["Image"]

_INLINE = "the base64 text of the answer"
_PIECE_BYTES = 256 * 1024
_LONGEST_CLEANING_S = 5.0

P = ParamSpec("P")
T = TypeVar("T")


class Image:
    """One picture of a result: a link that expires, or bytes that came with the answer.

    A notebook shows it; one that is only a link yet, as long as the link is good.

    Attributes:
        data: The entry of the answer, as the service sent it.
        index: Its place in the answer, from 0.
        prompt: What was asked for; `None` for a task that was resumed from a token without it.
        path: Where it was last saved.
    """

    __slots__ = (
        "_content", "_facts", "_links", "_maker", "_place", "_results", "_saved", "_turn", "data", "index", "prompt",
    )  # fmt: skip

    def __init__(
        self,
        data: ImageData,
        results: Results,
        *,
        index: int = 0,
        links: RenewableUrls | None = None,
        maker: TaskRef | None = None,
        prompt: str | None = None,
    ) -> None:
        self.data: ImageData = data
        self.index: int = index
        self.prompt: str | None = prompt
        self._results = results
        self._links = links or RenewableUrls(results, maker, [data])
        self._place = index if links else 0
        self._maker = maker
        self._turn = asyncio.Lock()
        self._content: bytes | None = None
        self._saved: Saved | None = None
        self._facts: PictureFacts | None = None

    @property
    def url(self) -> str | None:
        """The link, good for some hours; `None` when the bytes came with the answer."""
        return self._links.link(self._place)

    @property
    def path(self) -> Path | None:
        """Where it was last saved; `None` before."""
        return self._saved.path if self._saved else None

    @property
    def revised_prompt(self) -> str | None:
        """The prompt that was really used. A stranger's text: escape it before you show it."""
        return self.data.revised_prompt

    @property
    def format(self) -> str | None:
        """`png`, `jpeg`, `webp`, `gif` or `avif`, from the bytes; `None` until they have been here."""
        facts = self._told()
        return facts.format if facts else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, from the bytes; `None` until they have been here."""
        facts = self._told()
        return facts.size if facts else None

    async def read(self) -> bytes:
        """Return the bytes of the picture, and keep them for the next call.

        A link that has expired is renewed by asking its task once. Costs nothing; cancelling stops the download,
        and a later call starts it anew.

        Raises:
            DownloadError: When the link is refused, expired or broken, or when what arrives is not a whole
                picture. It carries the task.
        """
        async with self._turn:  # who reads at the same time gets what the first one fetched
            if self._content is None:
                self._content = await self._bytes()
                self._facts = sniff(self._content)
            return self._content

    async def save(self, path: str | PathLike[str], *, replace: bool = True) -> Path:
        """Write the picture to `path` and return where it is; the file appears whole or not at all.

        Missing folders are made, and a name without a suffix gets that of the bytes (`.png .jpg .webp .gif .avif`).
        The bytes go straight into the file: they are kept in memory only if `read` was called, and from now on `read`
        takes them from there, as long as nobody changes that file. The download with its writing takes at most
        `Timeouts.download_s`, and so does bringing the file to the disk afterwards. Costs nothing; cancelling leaves no
        file behind, except when the bytes were here already and their writing had begun: then it is finished first, if
        that takes no longer than 5 s.

        Args:
            path: A file's name. A symbolic link of that name is neither followed nor replaced.
            replace: Whether a file of that name is replaced; otherwise the picture goes to `NAME-2`, or `NAME-3`.

        Raises:
            DownloadError: As for `read`.
            ContractError: `path` names no file.
            SaveError: The folder is full or not writable, the disk hangs (`errno.ETIMEDOUT`), or a folder or a symbolic
                link has that name; the picture can still be read, or saved elsewhere.
        """
        target = checked_target(path, f"of picture {self.index + 1} ")
        if not has_suffix(target) and await self._is(Path.is_dir, target):
            raise self._not_saved(target, IsADirectoryError(errno.EISDIR, "is a folder: name a file in it"))

        def names(facts: PictureFacts) -> Iterable[Path]:
            named = target if has_suffix(target) else target.with_name(target.name + suffix_of(facts.format))
            return [named] if replace else alternatives(named)

        return await self._save(target, names, replace=replace)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of the picture as they come, for instance into a web response; nothing is kept.

        A connection that breaks is resumed. `format` is known from the first piece on, whether the picture is whole at
        the end only: what was yielded before a `DownloadError` is no picture. All of it takes at most
        `Timeouts.download_s`, the time between two pieces included. Costs nothing; cancelling, or leaving the loop,
        stops the download.

        Raises:
            DownloadError: As for `read`.
        """
        content = await self._here()
        if content is not None:
            for start in range(0, len(content), _PIECE_BYTES):
                yield content[start : start + _PIECE_BYTES]
            return
        try:
            first, rest = await self._links.use(self._place, self._begin)
            self._facts = self._facts or sniff(first)
            async with aclosing(rest):
                yield first
                async for piece in rest:
                    yield piece
        except (DownloadError, SessionError) as failure:
            raise self._named(failure) from failure.__cause__

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Image belongs to its session: pickle what `read()` returns, or its `data`")

    async def _save(self, target: Path, names: Callable[[PictureFacts], Iterable[Path]], *, replace: bool) -> Path:
        """Write the picture into the folder of `target`, under the first of the names that can be had."""
        async with self._turn:
            draft = AtomicFile(target.parent, makes_folder=True)

            def finish(content: bytes | None, facts: PictureFacts) -> tuple[Path, Saved | None]:
                if content is not None:
                    draft.write(content)
                path = draft.publish(names(facts), replace=replace)
                return path, Saved.at(path)

            try:
                content = await self._here()
                facts = sniff(content) if content else None
                if facts is None:
                    facts = await self._linked(lambda url: self._results.save(url, draft))
                # Written and published in one go: of a thousand saves that wait for a thread, none has a file open.
                path, saved = await self._in_time(finish, content, facts)
            except BaseException as failure:
                await _discard(draft)
                if isinstance(failure, OSError | ValueError):  # a name that the system cannot even be asked about
                    raise self._not_saved(target, failure) from failure
                raise
            self._facts, self._saved = facts, saved
            if self.data.inline is not None and self._saved is not None:
                self.data.inline.drop()
            return path

    async def _is(self, kind: Callable[[Path], bool], path: Path) -> bool:
        """Return whether a path is of a kind.

        Raises:
            SaveError: The disk does not answer in time.
        """
        try:
            return await self._in_time(kind, path)
        except OSError as failure:
            raise self._not_saved(path, failure) from failure

    async def _in_time(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what blocking work returns; it has as much time as a download."""
        return await run_within(self._results.download_s, work, *args, **kwargs)

    async def _bytes(self) -> bytes:
        """Return the bytes, and keep them only if they were kept before."""
        content = await self._here()
        return await self._linked(self._results.fetch) if content is None else content

    async def _here(self) -> bytes | None:
        """Return the bytes if they are in memory or in a file of ours; `None` when they have to be fetched.

        Raises:
            DownloadError: They are nowhere: damaged, or in a file that was changed since.
        """
        if self._content is not None:
            return self._content
        place, fault = _INLINE, "there is none, and no link"
        if self._saved is not None:
            place, fault = str(self._saved.path), "it was saved there, and the file is gone or was changed since"
            try:
                content = await self._in_time(self._saved.read)
            except NotFinished as late:
                content, fault = None, f"it was saved there, and {late.strerror}"
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
        raise self._named(DownloadError(url=place, reason=fault))

    async def _linked(self, act: Callable[[str], Awaitable[T]]) -> T:
        try:
            return await self._links.use(self._place, act)
        except (DownloadError, SessionError) as failure:
            raise self._named(failure) from failure.__cause__

    async def _begin(self, url: str) -> tuple[bytes, AsyncGenerator[bytes, None]]:
        pieces = self._results.stream(url)
        return await anext(pieces, b""), pieces

    def _named(self, failure: DownloadError | SessionError) -> DownloadError | SessionError:
        """Return a failure that tells which picture it is about."""
        if isinstance(failure, DownloadError):
            return attrs.evolve(failure, task=self._task(), index=self.index)
        return attrs.evolve(failure, task=self._task())

    def _task(self) -> ResumableTask | None:
        return self._maker.task if self._maker else None

    def _not_saved(self, target: Path, failure: OSError | ValueError) -> SaveError:
        number = failure.errno if isinstance(failure, OSError) else None
        reason = (failure.strerror if isinstance(failure, OSError) else None) or safe_str(failure)
        if number == errno.ENAMETOOLONG:
            reason += ": name a shorter path"
        elif isinstance(failure, NotFinished):
            reason += ": `read()` still returns the picture, and it can be saved elsewhere"
        return SaveError(path=str(target), reason=reason, errno=number, index=self.index, task=self._task())

    def _told(self) -> PictureFacts | None:
        if self._facts is None:
            held = self._held()
            self._facts = sniff(held) if held else None
        return self._facts

    def _held(self) -> bytes | None:
        """Return the bytes if they are in memory."""
        if self._content is not None or self.data.inline is None:
            return self._content
        return self.data.inline.content

    def _shown(self, most_bytes: int = MAX_EMBEDDED_BYTES) -> Shown:
        """Return what there is to be shown, without fetching anything, or reading more than is shown."""
        saved = self._saved if self._saved and self._saved.size_bytes <= most_bytes else None
        return Shown(
            content=self._held() or (saved.read() if saved else None),
            url=self.url if self.url and self._results.can_follow(self.url) else None,
            format=self.format,
            size=self.size,
            prompt=self.prompt,
            revised_prompt=self.revised_prompt,
            label=repr(self),
        )

    def _repr_mimebundle_(self, **_: object) -> Bundle:
        return picture_bundle(self._shown())

    def __repr__(self) -> str:
        facts = self._told()
        size = f" {facts.size[0]}x{facts.size[1]}" if facts and facts.size else ""
        place = str(self.path) if self.path else redact(self.url) if self.url else _INLINE
        return f"<Image {facts.format if facts else 'not read yet'}{size} from {place}>"


async def _discard(draft: AtomicFile) -> None:
    """Remove what there is of a file, and wait for that, unless the disk is busy with it: then it may hang."""
    if not draft.abandon():
        return
    may_hang = draft.is_busy
    discarding = start_thread(draft.discard)  # of its own: neither a busy pool nor a second cancel drops that
    if not may_hang:
        # In a cancelled scope of anyio every await is cancelled: without the shield, the file would stay.
        with anyio.move_on_after(_LONGEST_CLEANING_S, shield=True):
            await asyncio.wrap_future(discarding)
