"""Remove the hidden files that killed runs of a batch have left in the folder of its pictures.

A hidden file has the mark of the journal, which no other journal has, in its name. If no run of the journal holds rows,
nothing writes to the files with this mark that are older than this run. That is known of a journal in a file only,
which one process at a time has open: other processes may begin a run of a shared one at any moment.
"""

import asyncio
import hashlib
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path

from lemon_async._images.atomic_file import remove_parts
from lemon_async.batch.journal import Journal
from lemon_async.batch.running.saving import split_template

__all__ = ["remove_leftovers"]

_ID = "journal_id"
_COARSE_S = 1.0  # file systems round the times of files
_WITHIN_S = 30.0  # a server of files may hang


async def remove_leftovers(journal: Journal, template: str) -> str:
    """Remove what killed runs have left, and return the mark for the files of this run; empty if there is none.

    Raises:
        JournalError: The journal cannot be read or written.
    """
    if journal.folder is None:
        return ""
    before = time.time() - _COARSE_S
    mark = await _mark_of(journal)
    if not await journal.runs():
        folder = Path(split_template(template)[0])
        with suppress(OSError, TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(remove_parts, folder, mark, before), _WITHIN_S)
    return mark


async def _mark_of(journal: Journal) -> str:
    """Return what differs between any two journals, also between a journal and its copy elsewhere."""
    known = await journal.read_note(_ID)
    if known is None:
        known = uuid.uuid4().hex
        await journal.write_note(_ID, known)
    text = f"{known}\0{socket.gethostname()}\0{journal.name}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
