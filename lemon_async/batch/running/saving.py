"""Save the pictures of a row, and describe the files for the journal.

A row that was sold in an earlier run may find its own file, which was complete before the journal recorded it: a file
of the same content that no other row owns is adopted, and the second copy is removed.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import attrs

from lemon_async._images.images import Images
from lemon_async.batch.prices import model_of
from lemon_async.batch.provenance import Provenance, add_provenance, remove_with_sidecar
from lemon_async.batch.records import SavedPicture
from lemon_async.batch.running.job import Job
from lemon_async.requests import GenerateRequest

__all__ = ["SavedRow", "Saver", "split_template"]

_OWN_FIELDS = frozenset({"index", "model", "task_id", "created", "format", "width", "height"})
_NUMBERED = re.compile(r"(.+)-(\d{1,2})")


def split_template(save: str) -> tuple[str, str]:
    """Split a template of files into its folder, the part without fields, and the name below it."""
    parts = save.split("/")
    fixed = next((index for index, part in enumerate(parts) if "{" in part), len(parts))
    fixed = min(fixed, len(parts) - 1)
    return "/".join(parts[:fixed]) or ("/" if fixed else "."), "/".join(parts[fixed:])


@attrs.frozen
class SavedRow:
    """The files of a row: their paths, their entries in the journal, and what was written into them."""

    paths: tuple[Path, ...] = ()
    pictures: tuple[SavedPicture, ...] = ()
    facts: Provenance | None = None


@attrs.frozen
class Saver:
    """Saves pictures by a template.

    Args:
        template: Folder and file name, such as `out/{key}`.
        root: What the paths in the journal are relative to; `None` if all of them are absolute.
        owner_of: `Journal.owner_of`.
        has_provenance: Whether to write into the files where they come from.
        settle_s: How long whoever saves a file may take to record it.
    """

    template: str
    root: Path | None
    owner_of: Callable[[str], Awaitable[str | None]]
    has_provenance: bool = False
    settle_s: float = 1.0
    _began_ns: int = attrs.field(factory=time.time_ns, init=False)
    _adopted: set[Path] = attrs.field(factory=set[Path], init=False)

    async def save(self, images: Images, job: Job) -> SavedRow:
        """Save the pictures of a row.

        Raises:
            PartialSaveError, SaveError: As for `Images.save`.
            OSError: A file that was just written cannot be read.
        """
        folder, name = split_template(self.template)
        paths = await images.save(folder, name, values=_values(job))
        facts = self._provenance(images, job) if self.has_provenance else None
        pictures = await asyncio.to_thread(self._finish, paths, facts)
        if job.token is None:
            return SavedRow(paths, pictures, facts)
        kept = [await self._adopt(job, path, picture, facts) for path, picture in zip(paths, pictures, strict=True)]
        entries = [attrs.evolve(new, path=self._relative(path)) for path, new in zip(kept, pictures, strict=True)]
        return SavedRow(tuple(kept), tuple(entries), facts)

    async def discard(self, saved: SavedRow) -> None:
        """Remove the files of a row that another run has saved, unless the journal names them."""
        for path, picture in zip(saved.paths, saved.pictures, strict=True):
            if await self.owner_of(picture.path) is None:
                await asyncio.to_thread(remove_with_sidecar, path, saved.facts)

    def _provenance(self, images: Images, job: Job) -> Provenance:
        request = job.request
        is_edit = not isinstance(request, GenerateRequest)
        prompt = getattr(request, "prompt", None)
        return Provenance(prompt=prompt, model=images.model, task_id=images.task_id, key=job.key, is_edit=is_edit)

    def _finish(self, paths: Iterable[Path], facts: Provenance | None) -> tuple[SavedPicture, ...]:
        """Add the provenance of new files, and return their entries in the journal. Blocks."""
        if facts is not None:
            for path in paths:
                add_provenance(path, facts)
        return tuple(map(self.describe, paths))

    def describe(self, path: Path) -> SavedPicture:
        """Return the entry of a file in the journal. Blocks."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return SavedPicture(self._relative(path), file.tell(), digest)

    async def _adopt(self, job: Job, path: Path, picture: SavedPicture, facts: Provenance | None) -> Path:
        """Return the path of a file of an earlier run with the same content, and remove the new one, or return that.

        Several such files are copies of each other: a process was killed when it had saved one more, and had not yet
        removed it. One is kept.
        """
        found = await asyncio.to_thread(lambda: dict(self._twins(job, path, picture)))
        if any(changed_ns >= self._began_ns for changed_ns in found.values()):
            await asyncio.sleep(self.settle_s)  # its owner may be about to record it
        twins = [twin for twin in found if await self._is_free(twin)]
        if not twins:
            return path
        self._adopted.add(twins[0])
        for copy in (path, *reversed(twins[1:])):  # from the highest number: a gap would hide those above it
            await asyncio.to_thread(remove_with_sidecar, copy, facts)
        if facts is not None:  # the earlier run may not have come to that
            await asyncio.to_thread(add_provenance, twins[0], facts)
        return twins[0]

    async def _is_free(self, path: Path) -> bool:
        return path not in self._adopted and await self.owner_of(self._relative(path)) is None

    def _twins(self, job: Job, path: Path, picture: SavedPicture) -> Iterator[tuple[Path, int]]:
        """Yield files that other runs have left, with the time of their last change; they have the same content.

        Their names are those that the new file would have had. Blocks.
        """
        numbered = _NUMBERED.fullmatch(path.stem)
        stem, last = (numbered[1], int(numbered[2])) if numbered else (path.stem, 1)
        for number in range(1, last):
            twin = path.with_name(f"{stem}{'' if number == 1 else f'-{number}'}{path.suffix}")
            if not twin.is_file():
                continue
            status = twin.stat()
            is_likely = status.st_size == picture.size_bytes and status.st_mtime_ns < job.taken_ns
            if is_likely and self.describe(twin).sha256 == picture.sha256:
                yield twin, status.st_mtime_ns

    def _relative(self, path: PurePath) -> str:
        place = Path(path).absolute()
        return str(place.relative_to(self.root) if self.root and place.is_relative_to(self.root) else place)


def _values(job: Job) -> dict[str, Any]:
    """Return the fields of a name; those of the request, too, because a resumed task does not know its prompt."""
    request = job.request
    own: dict[str, Any] = {"model": model_of(request)}
    if prompt := getattr(request, "prompt", None):
        own["slug"] = prompt
    columns = {name: value for name, value in job.columns.items() if name not in _OWN_FIELDS}
    return {**own, **columns, "key": job.key}
