"""Name the files of pictures by templates, filled in with untrusted values.

Text from a server never becomes a path: it is reduced to letters, digits and dashes first.
"""

import re
import string
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

from lemon_async._formats.json_documents import safe_repr
from lemon_async._images.atomic_file import DEVICES, checked_path, find_name_fault, name_error

__all__ = ["Template", "checked_folder", "slug_of"]

_MAX_SLUG = 48
_MAX_SLUG_BYTES = 120
_MAX_GIVEN_BYTES = 180
_MAX_NUMBER = 10**18
_OWN_SUFFIX = re.compile(r"(?<=[^/])\.(png|jpe?g|webp|gif|avif|\{format\})$", re.IGNORECASE)
# Fill and alignment, zeros, width, grouping, precision, type: none gives a separator, an empty text or a gigabyte.
_SPEC = re.compile(r"([\w .-]?[<>=^])?0?\d{0,2}[,_]?(\.[1-9]\d?)?[bdosxX]?")
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


def slug_of(text: object, *, default: str = "image") -> str:
    """Return text as part of a file name: lower-case letters and digits of any script, and dashes; else `default`."""
    words = unicodedata.normalize("NFC", str(text)[: 8 * _MAX_SLUG]).lower()
    slug = re.sub(r"\W+", "-", words).strip("-_")[:_MAX_SLUG]
    slug = slug.encode("utf-8", "ignore")[:_MAX_SLUG_BYTES].decode("utf-8", "ignore").strip("-_")
    if slug.upper() in DEVICES:
        return f"{default}-{slug}"
    return slug or default


def checked_folder(folder: str | PathLike[str]) -> Path:
    """Return the path of a folder, which need not exist.

    Raises:
        ContractError: It cannot be a path.
    """
    return checked_path(folder, "folder")


class Template:
    """A file name with fields in braces, such as `{index:03}-{slug}`; the suffix comes from the bytes.

    A `/` in the text separates folders, as in `{model}/{index}`; a field never does, whatever its value and format.

    Args:
        text: The template.
        names: Names of further fields, whose values come from the caller and keep their case.

    Attributes:
        is_numbered: Whether it gives the pictures of one response different names.

    Raises:
        ContractError: It names no file, or has an unknown field.
    """

    def __init__(self, text: str, names: Iterable[str] = ()) -> None:
        # `format_map` would look up an attribute or an item of other names.
        self._names = [name for name in names if name not in _EXAMPLES and not set(name) & set(".[]{}!:")]
        if not isinstance(text, str):
            raise name_error("name", f"must be text, not {safe_repr(text)}")
        try:
            pieces = list(string.Formatter().parse(text))
            fault = _find_piece_fault(pieces, [*_EXAMPLES, *self._names])
            parts = _OWN_SUFFIX.sub("", text).split("/")  # no accepted format contains a slash
            known = {**dict.fromkeys(self._names, _Given("a")), **_EXAMPLES}
            examples = [] if fault else [part.format_map(known) for part in parts]
        except (ValueError, TypeError) as error:
            raise name_error("name", f"is not a template: {error}: {safe_repr(text)}") from None
        if not fault and text.startswith("/"):
            fault = "must be relative to its folder"
        fault = fault or next(filter(None, map(_find_part_fault, examples)), None)
        if fault:
            raise name_error("name", f"{fault}: {safe_repr(text)}")
        self._parts = parts
        self.is_numbered: bool = any(field == "index" for _, field, _, _ in pieces)

    def fill(self, **values: object) -> str:
        """Return the name without a suffix, preceded by its folders.

        Args:
            **values: The fields; texts become slugs, unknown numbers become 0.
        """
        safe = {key: _safe(values.get(key), example) for key, example in _EXAMPLES.items()}
        safe |= {name: _Given.of(values.get(name)) for name in self._names}
        *folders, name = (part.format_map(safe) for part in self._parts)
        parts = [slug_of(folder) if _find_part_fault(folder) else folder for folder in folders]
        return "/".join([*parts, slug_of(name) if _find_part_fault(f"{name}.jpeg") else name])


class _Given(str):
    """A value of the caller as part of a file name; formats that only numbers take are ignored, unless it is one."""

    __slots__ = ()

    @classmethod
    def of(cls, value: object) -> Self:
        """Return any value as letters and digits in their own case, dashes and underscores."""
        text = unicodedata.normalize("NFC", "" if value is None else str(value)[: 2 * _MAX_GIVEN_BYTES])
        raw = re.sub(r"[^\w-]+", "-", text).strip("-").encode("utf-8", "ignore")[:_MAX_GIVEN_BYTES]
        name = raw.decode("utf-8", "ignore").strip("-") or "none"
        return cls(f"none-{name}" if name.upper() in DEVICES else name)

    def __format__(self, spec: str) -> str:
        if spec[:1] == "0" or spec[-1:].isalpha() or spec[-1:] in {",", "_"}:
            return format(int(self), spec) if self.isdecimal() else str(self)
        return super().__format__(spec)


def _find_piece_fault(
    pieces: Iterable[tuple[str, str | None, str | None, str | None]], names: Collection[str]
) -> str | None:
    """Return the fault of a template, given its parsed pieces and the names of its fields."""
    for literal, field, spec, conversion in pieces:
        if "\\" in literal:
            return "must separate folders by '/'"
        if field is not None and field not in names:
            fields = ", ".join(f"{{{key}}}" for key in names)
            return f"contains the unknown field {safe_repr(field)}; the fields are {fields}"
        if conversion:
            return f"has a conversion, {safe_repr(f'!{conversion}')}, which names do not take"
        if not _SPEC.fullmatch(spec or ""):
            return f"has a format that names do not take, {safe_repr(spec)}; {{index:03}} and {{slug:.20}} are valid"
    return None


def _safe(value: object, example: object) -> object:
    if isinstance(example, int):
        return value if isinstance(value, int) and abs(value) < _MAX_NUMBER else 0
    return slug_of(value or "", default="none")


def _find_part_fault(name: str) -> str | None:
    """Return why a filled-in part of a template is not a name on every system."""
    if "/" in name or "\\" in name or name[1:2] == ":":
        return "must not name a drive, and no field may fill in a separator"
    return find_name_fault(name)
