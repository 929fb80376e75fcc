"""The work of `batch watch`: serve a page of a batch until interrupted, or print its summary once."""

import asyncio
import socket
import webbrowser
from contextlib import AsyncExitStack

from lemon_async._web.host_header import AllowedHosts, is_loopback
from lemon_async._web.pages import Pages
from lemon_async._web.server import PageServer
from lemon_async._web.summaries import Summaries
from lemon_async.batch import BatchView, watch_journal
from lemon_async.cli.batch.addresses import file_problems, without_password
from lemon_async.cli.batch.picture_list import PictureList
from lemon_async.cli.batch.watched_batch import WatchedBatch
from lemon_async.cli.console import print_note, print_status
from lemon_async.cli.runner import raise_problems, run_command
from lemon_async.cli.stdout import json_text, print_line
from lemon_async.errors import ContractError, JournalError

__all__ = ["make_pages", "watch"]


def watch(journal: str, *, host: str, port: int, is_opened: bool, as_json: bool) -> None:
    """Run `batch watch`."""

    async def work() -> int:
        raise_problems(await asyncio.to_thread(lambda: [*file_problems(journal)]))
        async with watch_journal(journal) as view:
            batch = WatchedBatch(view, without_password(journal))
            pictures = PictureList(view, without_password(journal))
            try:
                if as_json:
                    return await _print_once(batch)
                await _check(view)
                await _serve(make_pages(batch, pictures, host), host, port, is_opened=is_opened)
            finally:
                pictures.close()
        return 0

    run_command(work)


async def _check(view: BatchView) -> None:
    """Read the journal once; one that is being opened or closed can be watched.

    Raises:
        JournalError: It is missing, damaged or no journal.
    """
    try:
        await view.summary()
    except JournalError as error:
        if error.owner is None:
            raise


async def _print_once(batch: WatchedBatch) -> int:
    """Print the summary, and return an exit code."""
    summary = await batch.read()
    print_line(json_text(summary))
    if summary["problem"]:
        print_status(f"error: {summary['problem']}")
    return int(summary["problem"] is not None)


def make_pages(batch: WatchedBatch, pictures: PictureList, host: str) -> Pages:
    """Return the page of a batch."""

    async def read() -> object:
        summary = await batch.read()
        pictures.version = batch.version
        return summary

    return Pages(
        page="batch.html",
        hosts=AllowedHosts(host, ()),
        endpoints={
            "GET /_page/pictures": pictures.show,
            "GET /_page/thumbs/{id}/{index}": pictures.thumbnail,
            "GET /_page/files/{id}/{index}": pictures.whole,
        },
        summaries=Summaries(read=read),
    )


async def _serve(pages: Pages, host: str, port: int, *, is_opened: bool) -> None:
    """Serve the page until this is cancelled.

    Raises:
        ContractError: It cannot listen there.
    """
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(PageServer(pages, host, port))
        except OSError as fault:
            words = f"cannot listen on {host}:{port}: {fault.strerror or fault}"
            option = "--host" if isinstance(fault, socket.gaierror) else "--port"
            raise ContractError.of(option, words, undone="started") from None
        print_line(server.url)
        print_status("serving the page of the batch, read-only; Ctrl-C ends it, and not the batch")
        if not is_loopback(host):
            print_note("other machines can see the pictures and prompts: there is no password")
        if is_opened:
            await asyncio.to_thread(webbrowser.open, server.url)
        await asyncio.Event().wait()
