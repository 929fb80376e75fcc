"""Save pictures where `-o` says: as a file, into a folder or by a template. Check the place of `--sheet`."""

import asyncio
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import attrs

from lemon_async import Images
from lemon_async.cli.arguments import slug_of
from lemon_async.errors import ContractError, PartialSaveError, SaveError
from lemon_async.types import Problem

__all__ = ["Destination", "overwriting_problems", "prepare_sheet", "sheet_problems"]

_BRACES = re.compile(r"[{}]")
_MAX_NEW_FOLDERS = 64
_PAGES = frozenset({".html", ".htm"})


@attrs.frozen
class Destination:
    """The place that `-o` names.

    Attributes:
        folder: Where pictures go.
        name: The name of the first picture, which replaces a file; further ones are numbered.
        template: The names of pictures if there is no `name`. Nothing is replaced.
        has_fields: Whether the user wrote the template.
    """

    folder: Path
    name: str | None = None
    template: str = "{slug}"
    has_fields: bool = False

    @classmethod
    def parse(cls, output: str) -> Self:
        """Return the place that a text names.

        Raises:
            ContractError: It cannot be the name of anything.
        """
        is_folder = output.endswith("/") or Path(output).is_dir()
        folder, template = _split(Path(output))
        if is_folder and template:
            advice = f"names a folder by fields: name the file in it, too, as in {output + '{slug}'!r}"
            raise ContractError.of("-o", advice)
        if is_folder or template:
            place = cls(folder, template=template or "{slug}", has_fields=bool(template))
        else:
            place = cls(folder.parent, folder.name)
        words = place.template if place.name is None else _escaped(place.name)
        problems = Images.validate(place.folder, words)
        if problems:
            raise ContractError(problems=tuple(Problem("-o", problem.message) for problem in problems))
        return place

    @classmethod
    def find_problems(cls, output: str, *, jobs: int) -> tuple[Problem, ...]:
        """Return why pictures cannot go there, as far as that can be found out without making folders."""
        try:
            place = cls.parse(output)
            fault = place._fault(output, jobs)
        except ContractError as error:
            return error.problems
        except OSError as error:  # a name too long, a folder that may not be searched
            fault = f"cannot write to {output!r}: {error.strerror or error}"
        return (Problem("-o", fault),) if fault else ()

    @classmethod
    def prepare(cls, output: str, *, jobs: int) -> Self:
        """Make the folder and try to write to it, before anything is paid for.

        Raises:
            ContractError: It cannot be written to, or is one file for several jobs.
        """
        problems = cls.find_problems(output, jobs=jobs)
        if problems:
            raise ContractError(problems=problems)
        place = cls.parse(output)
        _make(place.folder, "-o")
        return place

    async def save(self, images: Images, *, label: str, index: int, model: str | None) -> Sequence[Path | Exception]:
        """Save the pictures of a job, and return for each where it is, or why it was not saved.

        Args:
            images: The pictures.
            label: The label of the job, for the `slug`; if empty, the library uses the prompt.
            index: The number of the first picture in the command, for the `index`.
            model: For the `model`.
        """
        if self.name is not None:
            path = self.folder / self.name
            numbered = (path.with_stem(f"{path.stem}-{image.index + 1}") for image in images)
            targets = [path, *list(numbered)[1:]]
            saves = (image.save(to, replace=not image.index) for image, to in zip(images, targets, strict=True))
            return [_result(end) for end in await asyncio.gather(*saves, return_exceptions=True)]
        slug = slug_of(label)
        values = {"index": index, "model": images.model or model, **({"slug": slug} if slug else {})}
        try:
            return await images.save(self.folder, self.template, values=values)
        except PartialSaveError as failure:
            return [failure.saved.get(place) or failure.errors[place] for place in range(len(images))]
        except SaveError as failure:
            return [failure] * len(images)

    def _fault(self, output: str, jobs: int) -> str | None:
        if self.name is not None:
            if jobs > 1:
                ways = f"a folder, as in {output + '/'!r}, or a template, as in '{{index}}-{{slug}}'"
                return f"{output!r} is one file for {jobs} pictures; name {ways}"
            fault = _fault_of_file(self.folder / self.name)
            if fault:
                return f"{output!r} {fault}"
        return _fault_of_place(self.folder)


def sheet_problems(sheet: str | None, output: str) -> tuple[Problem, ...]:
    """Return why there cannot be a page of that name, as far as that can be found out without making folders."""
    if sheet is None:
        return ()
    path = Path(sheet)
    problems = Images.validate(path.parent, _escaped(path.name))
    if problems:
        return tuple(Problem("--sheet", problem.message) for problem in problems)
    try:
        fault = _fault_of_file(path)
        if path.suffix.lower() not in _PAGES:
            fault = "must be the name of a page, as in 'sheet.html'"
        elif path.absolute() == Path(output).absolute():
            fault = "is where the picture goes"
        fault = f"{fault}: {sheet!r}" if fault else _fault_of_place(path.parent)
    except OSError as error:
        fault = f"cannot write to {sheet!r}: {error.strerror or error}"
    return (Problem("--sheet", fault),) if fault else ()


def overwriting_problems(output: str, sources: Mapping[str, str]) -> tuple[Problem, ...]:
    """Return a problem for each source, by the name of its option, that is the file of `-o`."""
    return tuple(
        Problem("-o", f"{output!r} would overwrite {option}: name another file")
        for option, source in sources.items()
        if _is_same_file(output, source)
    )


def prepare_sheet(sheet: str) -> Path:
    """Make the folder of a page and try to write to it, before anything is paid for.

    Raises:
        ContractError: It cannot be written to.
    """
    _make(Path(sheet).parent, "--sheet")
    return Path(sheet)


def _is_same_file(output: str, source: str) -> bool:
    path = Path(output)
    try:
        if not path.suffix and not path.exists():  # it gets the suffix of the format
            path = path.with_name(path.name + Path(source).suffix)
        return path.is_file() and path.samefile(source)
    except (OSError, ValueError):  # one of them does not exist, or is a URL
        return False


def _result(end: Path | BaseException) -> Path | Exception:
    if isinstance(end, Path | Exception):
        return end
    raise end


def _escaped(name: str) -> str:
    """Return a template for exactly this name."""
    return name.replace("{", "{{").replace("}", "}}")


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
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)
    except OSError as error:
        advice = f"cannot write to {str(folder)!r}: {error.strerror or error}"
        raise ContractError.of(option, advice) from None


def _fault_of_file(path: Path) -> str | None:
    if path.is_dir():
        return "is a folder"
    if path.is_symlink():
        return "is a symbolic link, which is neither followed nor replaced"
    return "is neither a file nor a folder" if path.exists() and not path.is_file() else None


def _fault_of_place(folder: Path) -> str | None:
    places = enumerate((folder, *folder.parents))
    missing, nearest = next((n, place) for n, place in places if place.exists() or place == place.parent)
    if missing > _MAX_NEW_FOLDERS:
        return f"cannot write to {str(folder)!r}: lies in more than {_MAX_NEW_FOLDERS} folders that do not exist"
    try:
        _try_to_write(nearest)
    except OSError as error:
        return f"cannot write to {str(folder)!r}: {error.strerror or error}"
    return None


def _try_to_write(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder):
        pass
