"""Name the files of pictures: check the user's paths, and fill in templates with untrusted values.

Text from a server never becomes a path: it is reduced to letters, digits and dashes first.
"""

import re
import secrets
import string
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike, fsencode, fspath
from pathlib import Path
from typing import Any

from lemon_async._formats.json_documents import safe_repr
from lemon_async.errors import ContractError

__all__ = ["Template", "alternatives", "checked_folder", "checked_target", "has_suffix", "slug_of", "suffix_of"]

_MAX_NAME_BYTES = 255
_MAX_SLUG = 48
_MAX_SLUG_BYTES = 120
_MAX_NUMBERS = 50  # each costs one access to the disk
_SUFFIXES = {"jpeg": ".jpg"}
_MAX_NUMBER = 10**18
_OWN_SUFFIX = re.compile(r"(?<=[^/])\.(png|jpe?g|webp|gif|avif|\{format\})$", re.IGNORECASE)
# Fill and alignment, zeros, width, grouping, precision, type: none gives a separator, an empty text or a gigabyte.
_SPEC = re.compile(r"([\w .-]?[<>=^])?0?\d{0,2}[,_]?(\.[1-9]\d?)?[bdosxX]?")
# Windows opens a device for these names, whatever follows the first dot.
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³"}
)
# They display `exe.png` as `gnp.exe`.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_EXAMPLES: Mapping[str, Any] = {
    "index": 0,
    "slug": "a-white-cat",
    "model": "flux-pro",
    "task_id": "ldtask_0123",
    "created": 0,
    "format": "png",
    "width": 1024,
    "height": 1024,
}


def suffix_of(picture_format: str) -> str:
    """Return the suffix for files of this format, including the dot."""
    return _SUFFIXES.get(picture_format, f".{picture_format}")


def slug_of(text: object, *, default: str = "image") -> str:
    """Return text as part of a file name: lower-case letters and digits of any script, and dashes; else `default`."""
    words = unicodedata.normalize("NFC", str(text)[: 8 * _MAX_SLUG]).lower()
    slug = re.sub(r"\W+", "-", words).strip("-_")[:_MAX_SLUG]
    slug = slug.encode("utf-8", "ignore")[:_MAX_SLUG_BYTES].decode("utf-8", "ignore").strip("-_")
    if slug.upper() in _DEVICES:
        return f"{default}-{slug}"
    return slug or default


def has_suffix(path: Path) -> bool:
    """Return whether a name has a suffix; the `.5` of `gpt-image-1.5` is none."""
    return path.suffix[1:2].isalpha()


def checked_target(path: str | PathLike[str], whose: str = "") -> Path:
    """Return the path of a file, if its name means a file on every system.

    Args:
        path: The user's path.
        whose: Which picture it is for, for the message.

    Raises:
        ContractError: It names no file.
    """
    target = _path_of(path, "path", whose)
    fault = _find_name_fault(target.name)
    if fault is not None:
        raise _refusal("path", f"{fault}: {safe_repr(str(target))}", whose)
    return target


def checked_folder(folder: str | PathLike[str]) -> Path:
    """Return the path of a folder, which need not exist.

    Raises:
        ContractError: It cannot be a path.
    """
    return _path_of(folder, "folder")


def alternatives(path: Path, first: int = 1) -> Iterator[Path]:
    """Yield `path`, `path-2` and so on, for names that may be taken; after 50 of these, random names.

    Args:
        path: The preferred name.
        first: The number to begin with.
    """
    for number in range(first, first + _MAX_NUMBERS):
        yield path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
    for _ in range(_MAX_NUMBERS):
        yield path.with_name(f"{path.stem}-{secrets.token_hex(4)}{path.suffix}")


class Template:
    """A file name with fields in braces, such as `{index:03}-{slug}`; the suffix comes from the bytes.

    A `/` in the text separates folders, as in `{model}/{index}`; a field never does, whatever its value and format.

    Attributes:
        is_numbered: Whether it gives the pictures of one response different names.

    Raises:
        ContractError: It names no file, or has an unknown field.
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise _refusal("name", f"must be text, not {safe_repr(text)}")
        try:
            pieces = list(string.Formatter().parse(text))
            fault = _find_piece_fault(pieces)
            parts = _OWN_SUFFIX.sub("", text).split("/")  # no accepted format contains a slash
            examples = [] if fault else [part.format_map(_EXAMPLES) for part in parts]
        except (ValueError, TypeError) as odd:
            raise _refusal("name", f"is not a template: {odd}: {safe_repr(text)}") from None
        if not fault and text.startswith("/"):
            fault = "must be relative to its folder"
        fault = fault or next(filter(None, map(_find_part_fault, examples)), None)
        if fault:
            raise _refusal("name", f"{fault}: {safe_repr(text)}")
        self._parts = parts
        self.is_numbered: bool = any(field == "index" for _, field, _, _ in pieces)

    def fill(self, **values: object) -> str:
        """Return the name without a suffix, preceded by its folders.

        Args:
            **values: The fields; texts become slugs, unknown numbers become 0.
        """
        safe = {key: _safe(values.get(key), example) for key, example in _EXAMPLES.items()}
        *folders, name = (part.format_map(safe) for part in self._parts)
        parts = [slug_of(folder) if _find_part_fault(folder) else folder for folder in folders]
        return "/".join([*parts, slug_of(name) if _find_part_fault(f"{name}.jpeg") else name])


def _find_piece_fault(pieces: Iterable[tuple[str, str | None, str | None, str | None]]) -> str | None:
    """Return the fault of a template, given its parsed pieces."""
    for literal, field, spec, conversion in pieces:
        if "\\" in literal:
            return "must separate folders by '/'"
        if field is not None and field not in _EXAMPLES:
            return f"has no field {safe_repr(field)}; there are {', '.join(f'{{{key}}}' for key in _EXAMPLES)}"
        if conversion:
            return f"has a conversion, {safe_repr(f'!{conversion}')}, which names do not take"
        if not _SPEC.fullmatch(spec or ""):
            return f"has a format that names do not take, {safe_repr(spec)}; {{index:03}} and {{slug:.20}} are valid"
    return None


def _path_of(path: object, field: str, whose: str = "") -> Path:
    """Return a path that can be passed to the system.

    Raises:
        ContractError: It cannot.
    """
    try:
        text: object = fspath(path)  # type: ignore[call-overload]  # other types raise, which is the check
    except Exception as odd:
        raise _refusal(field, f"must be a path, not {safe_repr(path)}", whose) from odd
    if not isinstance(text, str):
        raise _refusal(field, f"must be a path, not {safe_repr(path)}", whose)
    if "\0" in text:
        raise _refusal(field, f"must not hold a NUL character: {safe_repr(text)}", whose)
    try:
        fsencode(text)
    except UnicodeEncodeError:
        raise _refusal(field, f"must not hold half a character: {safe_repr(text)}", whose) from None
    return Path(text)


def _safe(value: object, example: object) -> object:
    if isinstance(example, int):
        return value if isinstance(value, int) and abs(value) < _MAX_NUMBER else 0
    return slug_of(value or "", default="none")


def _find_part_fault(name: str) -> str | None:
    """Return why a filled-in part of a template is not a name on every system."""
    if "/" in name or "\\" in name or name[1:2] == ":":
        return "must not name a drive, and no field may fill in a separator"
    return _find_name_fault(name)


def _find_name_fault(name: str) -> str | None:
    """Return why a name does not mean a file on every system."""
    if not name.strip(". "):  # Windows drops those at the end
        return "must name a file"
    if any(c in _REORDERING or unicodedata.category(c) in {"Cc", "Cs"} for c in name):
        return "must not hold control characters, nor any that change the direction of text"
    if name.split(".", maxsplit=1)[0].rstrip().upper() in _DEVICES:
        return "is the name of a device on Windows"
    if len(name.encode()) > _MAX_NAME_BYTES:
        return f"is longer than {_MAX_NAME_BYTES} bytes"
    return None


def _refusal(field: str, advice: str, whose: str = "") -> ContractError:
    return ContractError.of(field, f"{whose}{advice}", undone="written")
