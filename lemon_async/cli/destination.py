"""Where pictures go: into the file, the folder or under the template that `-o` names, or onto the page of `--sheet`."""

import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import attrs

from lemon_async._formats.pictures import PictureFacts, sniff
from lemon_async._images.atomic_file import AtomicFile, make_folder
from lemon_async._images.image import Image
from lemon_async._images.images import Images
from lemon_async._images.naming import Template, alternatives, checked_folder, checked_target, slug_of, suffix_of
from lemon_async._images.threads import run_within
from lemon_async.errors import ContractError, Problem

__all__ = ["Destination", "prepare_sheet", "sheet_problems"]

_BRACES = re.compile(r"[{}]")
_LONGEST_WORK_S = 180.0
_PAGES = frozenset({".html", ".htm"})


@attrs.frozen
class Destination:
    """What `-o` names, known to be writable.

    Attributes:
        folder: Where pictures go.
        name: What the first one is called, which then replaces a file; others are numbered.
        template: What each is called; without either, it is called by its label. Nothing is replaced.
    """

    folder: Path
    name: str | None = None
    template: Template | None = None

    @classmethod
    def find_problems(cls, output: str, *, jobs: int) -> tuple[Problem, ...]:
        """Return why pictures cannot go there, as far as can be told without making folders."""
        try:
            place = cls._named(output)
            fault = place._fault(output, jobs)
        except ContractError as refusal:
            return tuple(Problem("-o", problem.message) for problem in refusal.problems)
        except OSError as refusal:  # a name too long, a folder that may not be looked into
            fault = f"cannot write to {output!r}: {refusal.strerror or refusal}"
        return (Problem("-o", fault),) if fault else ()

    @classmethod
    def prepare(cls, output: str, *, jobs: int) -> "Destination":
        """Make the folder and try to write to it, before anything is paid.

        Raises:
            ContractError: It cannot be written to, or names one file for several jobs.
        """
        problems = cls.find_problems(output, jobs=jobs)
        if problems:
            raise ContractError(problems=problems)
        place = cls._named(output)
        _make(place.folder, "-o")
        return place

    async def save(self, image: Image, images: Images, *, label: str, index: int, model: str | None = None) -> Path:
        """Save one of the pictures of a job.

        Args:
            image: The picture.
            images: All of its job.
            label: What it is called by in a folder, and the `slug` of a template.
            index: Its place among all pictures of the command, which is the `index` of a template.
            model: What it is made by, unless the answer says so.

        Raises:
            DownloadError, SaveError: As for `Image.save`.
        """
        slug = slug_of(label)

        def names(facts: PictureFacts) -> Iterable[Path]:
            safe_str = images._values(image, facts)
            values = {**safe_str, "index": index, "slug": slug, "model": safe_str["model"] or model}
            return self._names(slug, suffix_of(facts.format), values, number=image.index)

        return await image._save(
            self.folder / (self.name or slug), names, replace=self.name is not None and not image.index
        )

    async def write(self, content: bytes, label: str) -> Path:
        """Save any bytes as `save` saves pictures: whole or not at all.

        Raises:
            OSError: They cannot be written, or not within 180 s.
        """
        facts = sniff(content)
        slug = slug_of(label)
        width, height = (facts.size if facts else None) or (0, 0)
        values = {"slug": slug, "format": facts and facts.format, "width": width, "height": height}
        names = self._names(slug, suffix_of(facts.format) if facts else "", values)
        replace = self.name is not None
        return await run_within(_LONGEST_WORK_S, _write, self.folder, content, names, replace=replace)

    @classmethod
    def _named(cls, output: str) -> Self:
        """Return what a text names.

        Raises:
            ContractError: It cannot be the name of anything.
        """
        is_folder = output.endswith("/") or Path(output).is_dir()
        folder, rest = _split(checked_folder(output) if is_folder else Path(output))
        if is_folder and rest:
            advice = f"names a folder by fields: name the file in it, too, as in {output + '{slug}'!r}"
            raise ContractError.of("-o", advice)
        if is_folder:
            return cls(folder)
        if rest:
            return cls(folder, template=Template(rest))
        return cls(folder.parent, checked_target(output).name)

    def _fault(self, output: str, jobs: int) -> str | None:
        if self.name is not None:
            if jobs > 1:
                ways = f"a folder, as in {output + '/'!r}, or a template, as in '{{index}}-{{slug}}'"
                return f"{output!r} is one file for {jobs} pictures; name {ways}"
            fault = _fault_of_file(self.folder / self.name)
            if fault:
                return f"{output!r} {fault}"
        return _fault_of_place(self.folder)

    def _names(self, slug: str, suffix: str, values: Mapping[str, Any], *, number: int = 0) -> Iterable[Path]:
        """Return the names that a picture may have, the wanted one first."""
        if self.template is not None:
            name, is_numbered = self.template.fill(**values) + suffix, self.template.is_numbered
        else:
            name, is_numbered = self.name or slug + suffix, False
        # The third picture of a job begins at `NAME-3`: which is which does not depend on who is saved first.
        return alternatives(self.folder / name, 1 if is_numbered else number + 1)


def sheet_problems(sheet: str | None, output: str) -> tuple[Problem, ...]:
    """Return why there cannot be a page of that name, as far as can be told without making folders."""
    if sheet is None:
        return ()
    try:
        path = checked_target(sheet)
        fault = _fault_of_file(path)
        if path.suffix.lower() not in _PAGES:
            fault = "must be the name of a page, as in 'sheet.html'"
        elif path.absolute() == Path(output).absolute():
            fault = "is where the picture goes"
        fault = f"{fault}: {sheet!r}" if fault else _fault_of_place(path.parent)
    except ContractError as refusal:
        return tuple(Problem("--sheet", problem.message) for problem in refusal.problems)
    except OSError as refusal:
        fault = f"cannot write to {sheet!r}: {refusal.strerror or refusal}"
    return (Problem("--sheet", fault),) if fault else ()


def prepare_sheet(sheet: str) -> Path:
    """Make the folder of a page and try to write to it, before anything is paid.

    Raises:
        ContractError: It cannot be written to.
    """
    _make(Path(sheet).parent, "--sheet")
    return Path(sheet)


def _split(path: Path) -> tuple[Path, str]:
    """Return the beginning of a path that is without fields, or exists, and the template that follows."""
    known = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    for number, part in enumerate(parts):
        if _BRACES.search(part) and not (known / part).is_dir():
            return known, "/".join(parts[number:])
        known /= part
    return known, ""


def _make(folder: Path, option: str) -> None:
    try:
        make_folder(folder)
        fault = _fault_of_writing(folder)
    except OSError as refusal:
        fault = refusal.strerror or str(refusal)
    if fault:
        raise ContractError.of(option, f"cannot write to {str(folder)!r}: {fault}")


def _fault_of_file(path: Path) -> str | None:
    if path.is_dir():
        return "is a folder"
    if path.is_symlink():
        return "is a symbolic link, which is neither followed nor replaced"
    return "is neither a file nor a folder" if path.exists() and not path.is_file() else None


def _fault_of_place(folder: Path) -> str | None:
    nearest = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
    fault = _fault_of_writing(nearest)
    return f"cannot write to {str(folder)!r}: {fault}" if fault else None


def _fault_of_writing(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as refusal:
        return refusal.strerror or str(refusal)


def _write(folder: Path, content: bytes, names: Iterable[Path], *, replace: bool) -> Path:
    draft = AtomicFile(folder, makes_folder=True)
    try:
        draft.write(content)
        return draft.publish(names, replace=replace)
    finally:
        draft.discard()
