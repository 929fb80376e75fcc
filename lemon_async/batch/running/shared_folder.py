"""The folder of the pictures of a journal that several machines share.

Problem: a relative path means another folder in every process, and a folder that is not mounted is an empty folder.

Design: the first run writes the absolute template into the journal; a run that gives the same words means the same
folder, wherever it was started. And it leaves a file there that is named after the journal: a run that does not find it
looks at another folder, and stops before anything is bought.
"""

import asyncio
import os
from pathlib import Path

from lemon_async.batch.journal import Journal
from lemon_async.batch.running.saving import split_template
from lemon_async.errors import JournalError

__all__ = ["join_folder", "shared_template"]

_GIVEN = "save as given"
_ID = "journal_id"
_WITHIN_S = 30.0  # a server of files may hang


async def shared_template(journal: Journal, save: str | None, known: str | None) -> str:
    """Return the absolute template of file names.

    Args:
        journal: A journal whose paths are absolute.
        save: What the run gives, or `None` for that of the last run.
        known: The absolute template of the last run, if there was one.
    """
    if known is not None and save in {None, known, await journal.read_note(_GIVEN)}:
        return known
    return os.path.join(os.getcwd(), save or "{key}")  # noqa: PTH109, PTH118 - `Path` would take dots out of it


async def join_folder(journal: Journal, template: str, *, save: str | None, is_new: bool) -> None:
    """Mark the folder of a new template as that of the journal; check the mark for a template that others use.

    Raises:
        JournalError: The folder is not the one that the others use, or cannot be written.
    """
    folder = Path(split_template(template)[0])
    mark = folder / f".lemon-async-{await journal.read_note(_ID)}"
    try:
        if is_new:
            await asyncio.wait_for(asyncio.to_thread(_leave, mark), _WITHIN_S)
            await journal.write_note(_GIVEN, save or template)
        elif not await asyncio.wait_for(asyncio.to_thread(mark.is_file), _WITHIN_S):
            raise JournalError(message=_ELSEWHERE.format(name=journal.name, folder=folder, mark=mark.name))
    except OSError as failure:
        reason = failure.strerror or str(failure) or f"it has not responded within {_WITHIN_S:g} s"
        words = f"cannot use the folder {str(folder)!r} of the pictures: {reason}"
        raise JournalError(message=words) from failure


_ELSEWHERE = (
    "cannot use the journal {name!r}: the folder of its pictures, {folder}, is not the one that its other runs use, "
    "because the file {mark} is missing there; mount the shared folder, or give another `save` to continue elsewhere"
)


def _leave(mark: Path) -> None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
