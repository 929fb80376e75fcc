"""The rows of a journal as the pictures of a page: lists with filters, thumbnails and whole files."""

import shlex
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson
from aiohttp import web

from lemon_async._web.replies import PageError, file_reply, json_reply
from lemon_async.batch import BatchView, JournalRow, SavedPicture, State
from lemon_async.cli.batch.picture_files import PictureFiles
from lemon_async.errors import JournalError

__all__ = ["PictureList", "advice_for", "picture_of"]

_PER_PAGE = 60
_PER_READ = 200
_SEARCH_S = 1.5
_MOST_KNOWN = 5000
_MOST_CHARACTERS = 20_000
# A file never changes under its digest, which is in its address.
_KEPT = "private, max-age=86400, immutable"


@attrs.define(eq=False)
class PictureList:
    """The lists and files of a page.

    Attributes:
        view: The journal.
        journal: What to type to name it.
        version: The version of the last summary.
    """

    view: BatchView
    journal: str
    version: int = attrs.field(default=0, init=False)
    _files: PictureFiles = attrs.field(init=False)
    _known: OrderedDict[int, tuple[SavedPicture, ...]] = attrs.field(
        factory=OrderedDict[int, tuple[SavedPicture, ...]], init=False, repr=False
    )

    @_files.default
    def _open_files(self) -> PictureFiles:
        return PictureFiles(self.view.folder)

    async def show(self, request: web.BaseRequest, _args: Mapping[str, str]) -> web.Response:
        """Answer `GET /_page/pictures?state=&q=&before=`.

        Raises:
            PageError: 400 a parameter is wrong; 503 the journal cannot be read now.
        """
        query = request.query
        states, before = _states(query.get("state", "")), _number(query.get("before", ""))
        text = query.get("q", "").casefold()
        try:
            counts = (await self.view.summary()).counts
            rows, last = await self._find(states, before, text)
        except JournalError as fault:
            raise PageError(503, str(fault), {"Retry-After": "1"}) from fault
        self._remember(rows)
        is_whole = before is None and last is None
        total = len(rows) if is_whole else sum(counts[state] for state in states) if not text else None
        items = [picture_of(row, self.journal) for row in rows]
        return json_reply(
            {"items": items, "total": total, "next": None if last is None else str(last), "version": self.version}
        )

    async def thumbnail(self, _request: web.BaseRequest, args: Mapping[str, str]) -> web.Response:
        """Answer `GET /_page/thumbs/{id}/{index}`.

        Raises:
            PageError: There is no such picture, or its file is not what was saved.
        """
        return file_reply(*await self._files.thumbnail(await self._picture(args)), _KEPT)

    async def whole(self, _request: web.BaseRequest, args: Mapping[str, str]) -> web.Response:
        """Answer `GET /_page/files/{id}/{index}`, as `thumbnail`."""
        return file_reply(*await self._files.read(await self._picture(args)))

    def close(self) -> None:
        """Stop reading files."""
        self._files.close()

    async def _find(
        self, states: Sequence[State], before: int | None, text: str
    ) -> tuple[list[JournalRow], int | None]:
        """Return the rows of a page, and the number of the last row that was looked at if there may be more."""
        found: list[JournalRow] = []
        until = time.monotonic() + _SEARCH_S
        limit = _PER_READ if text else _PER_PAGE + 1
        while rows := await self.view.rows(*states, before=before, limit=limit):
            found += [row for row in rows if _is_match(row, text)]
            if len(found) > _PER_PAGE:
                return found[:_PER_PAGE], found[_PER_PAGE - 1].number
            before = rows[-1].number
            if time.monotonic() > until:
                return found, before
        return found, None

    def _remember(self, rows: Sequence[JournalRow]) -> None:
        for row in rows:
            if row.pictures:
                self._known[row.number] = row.pictures
                self._known.move_to_end(row.number)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)

    async def _picture(self, args: Mapping[str, str]) -> SavedPicture:
        number, index = _number(args["id"]), _number(args["index"])
        if number is None or index is None:
            raise PageError(404, "there is no such picture")
        if number not in self._known:
            try:
                self._remember(
                    [row for row in await self.view.rows(before=number + 1, limit=1) if row.number == number]
                )
            except JournalError as fault:
                raise PageError(503, str(fault), {"Retry-After": "1"}) from fault
        pictures = self._known.get(number, ())
        if index >= len(pictures):
            raise PageError(404, "there is no such picture")
        return pictures[index]


def picture_of(row: JournalRow, journal: str) -> dict[str, Any]:
    """Return a row as the page shows it."""
    request = _request(row)
    return {
        "id": str(row.number),
        "key": row.key,
        "prompt": _text(request.get("prompt")),
        "model": _text(request.get("model")),
        "size": _text(request.get("size")),
        "cost_usd": row.price_usd if row.cost_usd is None else row.cost_usd,
        "state": row.state.value,
        "progress": None,
        "seconds": None,
        "created": row.changed_at,
        "error": row.error,
        "task_id": row.task_id,
        "images": [
            {
                "thumb": f"/_page/thumbs/{row.number}/{index}?v={picture.sha256[:16]}",
                "full": f"/_page/files/{row.number}/{index}",
                "width": None,
                "height": None,
                "revised_prompt": None,
            }
            for index, picture in enumerate(row.pictures)
        ],
        "advice": advice_for(row, journal),
    }


def advice_for(row: JournalRow, journal: str) -> list[str]:
    """Return what to do about a row, as lines with the commands to type."""

    def command(name: str, *options: str) -> str:
        key = ["--", row.key] if row.key.startswith("-") else [row.key]
        return shlex.join(["lemon-async", "batch", name, journal, *options, *key])

    if row.state is State.DOUBTFUL:
        return [
            "It may have been sold: look in your account. Sold, as a task: " + command("resolve", "--task", "ID"),
            "Not sold, the next run buys it: " + command("resolve", "--not-sold"),
            "Buy it in any case: " + command("resolve", "--buy-again"),
        ]
    if row.state in {State.REFUSED, State.DEAD}:
        return ["Have the next run buy it again: " + command("retry")]
    return []


def _states(word: str) -> Sequence[State]:
    if not word:  # the others have nothing to show, and come last: they would fill the first page of a running batch
        return [state for state in State if not state.is_open]
    try:
        return [State(word)]
    except ValueError:
        raise PageError(400, f"there is no state {word!r}") from None


def _number(word: str) -> int | None:
    if not word:
        return None
    if not (word.isascii() and word.isdecimal()):
        raise PageError(400, f"not a number: {word!r}")
    return min(int(word[:20]), 2**63 - 2)


def _is_match(row: JournalRow, text: str) -> bool:
    if not text:
        return True
    searched = (row.key, _request(row).get("prompt"), row.error)
    return any(text in str(each or "").casefold() for each in searched)


def _request(row: JournalRow) -> Mapping[str, Any]:
    try:
        request = orjson.loads(row.request)
    except orjson.JSONDecodeError:
        return {}
    return request if isinstance(request, dict) else {}


def _text(value: Any) -> str | None:
    return value[:_MOST_CHARACTERS] if isinstance(value, str) else None
