"""Where pictures go, and what may be printed."""

import re
import tempfile
from pathlib import Path

import attrs

from lemon_async.api.errors import ContractError, Problem
from lemon_async.client.image import Image

__all__ = ["Destination", "plain"]

_LONGEST_SLUG = 48


def plain(text: object) -> str:
    """Return text without control characters: what a server says must not drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in str(text))


@attrs.define
class Destination:
    """The file or folder that `-o` names, known to be writable."""

    folder: Path
    stem: str | None
    suffix: str
    _numbers: dict[str, int] = attrs.field(factory=dict[str, int])
    _taken: set[Path] = attrs.field(factory=set[Path])

    @classmethod
    def prepare(cls, output: str, *, jobs: int) -> "Destination":
        """Make the folder and try to write to it, before anything is paid.

        Raises:
            ContractError: It cannot be written to, or names one file for several jobs.
        """
        path = Path(output)
        is_folder = output.endswith("/") or path.is_dir()
        if jobs > 1 and not is_folder:
            raise _refusal(f"{output!r} is one file for {jobs} pictures; name a folder, as in {output + '/'!r}")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise _refusal(f"{output!r} is neither a file nor a folder")
        folder = path if is_folder else path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as fault:
            raise _refusal(f"cannot write to {str(folder)!r}: {fault.strerror or fault}") from None
        return cls(folder, None if is_folder else path.stem, path.suffix)

    async def save(self, image: Image, label: str) -> Path:
        """Save a picture under the file's name, or in the folder under a free name made from `label`."""
        await image.read()
        suffix = f".{image.format}" if self.stem is None else self.suffix
        return await image.save(self._name(self.stem or _slug(label), suffix))

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


def _refusal(message: str) -> ContractError:
    return ContractError(problems=(Problem("-o", message),))
