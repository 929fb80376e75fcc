"""Where pictures go, and what may be printed."""

import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import click
import orjson

from lemon_async.api.errors import ContractError, Problem
from lemon_async.api.pictures import sniff
from lemon_async.client.image import Image
from lemon_async.client.publish import publish
from lemon_async.client.threads import finish_in_thread

__all__ = ["Destination", "aligned", "json_text", "plain", "say"]

_LONGEST_SLUG = 48


def plain(text: object) -> str:
    """Return text without control characters: what a server says must not drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in str(text))


def say(text: object) -> None:
    """Print a line to stdout; what its encoding does not have is escaped, not an error."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(plain(text).encode(encoding, "backslashreplace").decode(encoding))


def json_text(value: object, *, is_indented: bool = False) -> str:
    """Return JSON that is safe to print and still says the same: control characters are escaped.

    Raises:
        RecursionError: It is nested too deeply to be written.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if is_indented else 0).decode()
    except TypeError:
        raise RecursionError("the answer is nested too deeply to be shown") from None
    # What is not printable stands inside of strings, but for the line breaks of the indentation.
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def aligned(rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table whose columns people can read and `awk` can count.

    White space within a cell is replaced, and what is missing is a dash; the last column is what it is.
    """
    table = [[*(_cell(cell) for cell in row[:-1]), " ".join(plain(row[-1]).split())] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cell(value: object) -> str:
    return "_".join(plain("" if value is None else value).split()) or "-"


def _escaped(character: str) -> str:
    """Two escapes stand for one character beyond the first 65,536 (RFC 8259, section 7)."""
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


@attrs.define
class Destination:
    """The file or folder that `-o` names, known to be writable."""

    folder: Path
    stem: str | None
    suffix: str
    _numbers: dict[str, int] = attrs.field(factory=dict[str, int])
    _taken: set[Path] = attrs.field(factory=set[Path])

    @classmethod
    def find_problems(cls, output: str, *, jobs: int) -> tuple[Problem, ...]:
        """Return why pictures cannot go there, as far as can be told without making folders."""
        try:
            fault = _fault_of(output, jobs)
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
        folder, path = _folder(output), Path(output)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fault = _fault_of_writing(folder)
        except OSError as refusal:
            fault = refusal.strerror or str(refusal)
        if fault:
            raise ContractError(problems=(Problem("-o", f"cannot write to {str(folder)!r}: {fault}"),))
        return cls(folder, None if _is_folder(output) else path.stem, path.suffix)

    async def save(self, image: Image, label: str) -> Path:
        """Save a picture under the file's name, or in the folder under a free name made from `label`."""
        await image.read()
        suffix = f".{image.format}" if self.stem is None else self.suffix
        return await image.save(self._name(self.stem or _slug(label), suffix))

    async def write(self, content: bytes, label: str) -> Path:
        """Save any bytes as `save` saves pictures: whole or not at all."""
        facts = sniff(content)
        kind = f".{facts.format}" if facts else ""
        path = self._name(self.stem or _slug(label), kind if self.stem is None else self.suffix)
        await finish_in_thread(publish, path, content)
        return path

    def _name(self, stem: str, suffix: str) -> Path:
        """Return a name that no picture has; only a file that was named outright is replaced."""
        while True:
            number = self._numbers[stem] = self._numbers.get(stem, 0) + 1
            path = self.folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
            # Two labels can lead to one name, "cat-2", before either picture is on the disk.
            is_free = path not in self._taken and not path.exists()
            if is_free or (self.stem is not None and number == 1):
                self._taken.add(path)
                return path


def _slug(label: str) -> str:
    return re.sub(r"\W+", "-", label.lower()).strip("-")[:_LONGEST_SLUG].strip("-") or "image"


def _fault_of(output: str, jobs: int) -> str | None:
    path = Path(output)
    if jobs > 1 and not _is_folder(output):
        return f"{output!r} is one file for {jobs} pictures; name a folder, as in {output + '/'!r}"
    if path.exists() and not (path.is_file() or path.is_dir()):
        return f"{output!r} is neither a file nor a folder"
    folder = _folder(output)
    nearest = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
    fault = _fault_of_writing(nearest)
    return f"cannot write to {str(folder)!r}: {fault}" if fault else None


def _is_folder(output: str) -> bool:
    return output.endswith("/") or Path(output).is_dir()


def _folder(output: str) -> Path:
    return Path(output) if _is_folder(output) else Path(output).parent


def _fault_of_writing(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as refusal:
        return refusal.strerror or str(refusal)
