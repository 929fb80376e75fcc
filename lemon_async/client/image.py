"""Results: a picture that can be read and saved, and the sequence of them that a job returns."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, overload

import attrs
import pybase64

from lemon_async.api.errors import ContractError, DownloadError, Problem, ResumableTask, SessionMisuse
from lemon_async.api.models import Billing, ImageData, TaskSnapshot
from lemon_async.api.pictures import find_picture_fault, sniff
from lemon_async.api.quoting import quoted
from lemon_async.api.urls import redact
from lemon_async.client.publish import publish
from lemon_async.client.threads import finish_in_thread

__all__ = ["Image", "Images"]

Download = Callable[[str], Awaitable[bytes]]
_HEADER_CHARACTERS = 4096
_INLINE = "the base64 text of the answer"


class Image:
    """One picture of a result: a link that expires, or bytes that came with the answer.

    Attributes:
        data: The entry of the answer, as the service sent it.
    """

    __slots__ = ("_content", "_download", "_task", "data")

    def __init__(self, data: ImageData, download: Download, task: ResumableTask | None = None) -> None:
        self.data: ImageData = data
        self._download = download
        self._task = task
        self._content: bytes | None = None

    @property
    def url(self) -> str | None:
        """The link, good for some hours; `None` when the bytes came with the answer."""
        return self.data.url

    @property
    def revised_prompt(self) -> str | None:
        """The prompt that was really used. A stranger's text: escape it before you show it."""
        return self.data.revised_prompt

    @property
    def format(self) -> str | None:
        """`png`, `jpeg`, `webp`, `gif` or `avif`, from the bytes; `None` while they are not here."""
        facts = sniff(self._head())
        return facts.format if facts else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels, from the bytes; `None` while they are not here."""
        facts = sniff(self._head())
        return facts.size if facts else None

    async def read(self) -> bytes:
        """Return the bytes of the picture, and keep them for the next call.

        Costs nothing; cancelling stops the download, and a later call starts it anew.

        Raises:
            DownloadError: When the link is refused, expired or broken, or when what arrives is not a whole
                picture. It carries the task.
        """
        if self._content is None:
            self._content = await self._fetch()
        return self._content

    async def save(self, path: str | PathLike[str]) -> Path:
        """Write the picture to `path` and return it; the file appears whole or not at all.

        The bytes are not kept in memory. Costs nothing; cancelling leaves no file behind, except when the
        writing had begun: then it is finished first, or goes on by itself if that takes longer than 5 s.

        Raises:
            DownloadError: As for `read`.
            ContractError: `path` names no file.
            OSError: When the folder is missing, full or not writable; the picture can still be read.
        """
        target = _target(path)
        await finish_in_thread(publish, target, await self._bytes())
        return target

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Image belongs to its session: pickle what `read()` returns, or its `data`")

    async def _bytes(self) -> bytes:
        """Return the bytes, and keep them only if they were kept before."""
        return await self._fetch() if self._content is None else self._content

    async def _fetch(self) -> bytes:
        try:
            if self.data.b64_json is not None:
                return await asyncio.to_thread(_decode, self.data.b64_json)
            return await self._download(self.data.url or "")
        except (DownloadError, SessionMisuse) as failure:
            raise attrs.evolve(failure, task=self._task) from failure.__cause__

    def _head(self) -> bytes:
        if self._content is not None:
            return self._content
        if self.data.b64_json is None:
            return b""
        try:
            return pybase64.b64decode(self.data.b64_json[:_HEADER_CHARACTERS])
        except ValueError:
            return b""

    def _place(self) -> str:
        return redact(self.data.url) if self.data.url else _INLINE

    def __repr__(self) -> str:
        facts = sniff(self._head())
        size = f" {facts.size[0]}x{facts.size[1]}" if facts and facts.size else ""
        return f"<Image {facts.format if facts else 'not read yet'}{size} from {self._place()}>"


class Images(Sequence[Image]):
    """The pictures of one job, in the service's order; at least one.

    Attributes:
        created: Unix seconds, as the service tells them.
        usage: Token counts of token-priced models, as they came.
        billing: What the service said about money.
        task_id: `None` when the service answered inline.
    """

    __slots__ = ("_images", "billing", "created", "task_id", "usage")

    def __init__(self, snapshot: TaskSnapshot, download: Download, task: ResumableTask | None = None) -> None:
        self._images = tuple(Image(data, download, task) for data in snapshot.images)
        self.created: int | None = snapshot.created
        self.usage: Mapping[str, Any] | None = snapshot.billing.usage
        self.billing: Billing = snapshot.billing
        self.task_id: str | None = snapshot.task_id if task is None else task.id

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        return self._images[index]

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Image]:
        return iter(self._images)

    def __repr__(self) -> str:
        return f"<Images [{', '.join(map(repr, self._images))}]>"


def _target(path: str | PathLike[str]) -> Path:
    target = Path(path)
    if not target.name or target.name == ".." or "\0" in str(target):
        raise ContractError(problems=(Problem("path", f"must name a file, not {quoted(str(path))}"),))
    return target


def _decode(text: str) -> bytes:
    """Return the picture in a base64 text, or raise `DownloadError`; slow for large ones, so call it in a thread."""
    try:
        content = _bytes_of(text)
    except ValueError as damage:
        raise DownloadError(url=_INLINE, reason=f"it is not base64 ({damage})") from None
    fault = find_picture_fault(content)
    if fault is not None:
        raise DownloadError(url=_INLINE, reason=fault)
    return content


def _bytes_of(text: str) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        # MIME-style line breaks and a lost padding are harmless; anything else shows as a damaged picture.
        compact = "".join(text.split()).rstrip("=")
        return pybase64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
