"""Render a contact sheet as one static page, from the template `sheet.html.jinja` (extra `sheet`).

The page is ASCII: one other letter would double the memory of all the pictures around it, and an emoji take four times
as much.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from statistics import median
from typing import TYPE_CHECKING

import attrs

from lemon_async._display.html import Markup, escaped
from lemon_async.errors import ContractError

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["Entry", "Fault", "Tile", "Total", "load_template", "render_page"]

_MAX_ALT = 500
_MAX_MODELS_LISTED = 6
_NO_PROMPT = "No prompt is known"

Total = tuple[str, str, bool]
"""A name, a value, and whether it is bad news."""


def _plain(text: object) -> str | None:
    """Return text that does not claim to be HTML, as that of template engines does: `str` may return it unchanged."""
    return None if text is None else "".join([str(text)])


@attrs.frozen(kw_only=True)
class Tile:
    """One picture of a job.

    Attributes:
        source: A `data:` address (`Markup`, if this package made it) or a relative one; `None` if it cannot be shown.
        note: Why it cannot be shown, or a remark.
        file: Relative address of the saved picture.
        name: Name of that file.
        facts: Size and format.
    """

    source: str | None = attrs.field(default=None, repr=False)
    note: str | None = None
    file: str | None = None
    name: str | None = None
    facts: str = ""

    @property
    def caption(self) -> list[str]:
        """The lines below the picture, without the note that replaces it if it cannot be shown."""
        return [text for text in (self.facts, self.name, self.note if self.source else None) if text]


@attrs.frozen(kw_only=True)
class Fault:
    """Why a job has no pictures."""

    kind: str
    reason: str
    resume_token: str | None = None


@attrs.frozen(kw_only=True)
class Entry:
    """One job.

    Attributes:
        number: Its number; by default its place, from 0.
        name: The caller's name of it.
        status: What became of it, if the page is to show that.
        prompt: The prompt of the request.
        revised: The prompts that were really used, if they differ.
        model: The model of the request.
        seconds: Duration from submit to result.
        facts: Further names and values.
        tiles: Its pictures.
        fault: Why it has none.
    """

    number: int | None = None
    name: str | None = attrs.field(default=None, converter=_plain)
    status: str | None = None
    prompt: str | None = attrs.field(default=None, converter=_plain)
    revised: tuple[str, ...] = ()
    model: str | None = attrs.field(default=None, converter=_plain)
    seconds: float | None = None
    facts: tuple[tuple[str, str], ...] = ()
    tiles: tuple[Tile, ...] = ()
    fault: Fault | None = None

    @property
    def alt(self) -> str:
        """The alternative text of its pictures."""
        return (self.prompt or next(iter(self.revised), _NO_PROMPT))[:_MAX_ALT]

    @property
    def main_facts(self) -> tuple[tuple[str, str], ...]:
        """The facts that are shown without unfolding them."""
        time = (("Time", _duration(self.seconds)),) if self.seconds is not None else ()
        return ((("Model", self.model),) if self.model else ()) + time


@cache
def load_template() -> "Template":
    """Return the template of the page. Blocks the first time: call it in a thread.

    Raises:
        ContractError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra
    except ImportError:
        advice = "needs Jinja2: pip install 'lemon-async[sheet]'"
        raise ContractError.of("contact_sheet", advice, undone="fetched") from None
    environment = Environment(
        loader=PackageLoader("lemon_async", "_display"),
        autoescape=True,
        finalize=_ascii,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["digest"] = _digest
    environment.globals |= {"no_prompt": _NO_PROMPT, "ellipsis": "\N{HORIZONTAL ELLIPSIS}"}
    return environment.get_template("sheet.html.jinja")


def render_page(entries: Sequence[Entry], *, title: str, totals: Iterable[Total] | None = None) -> str:
    """Return the whole page. Blocks: call it in a thread.

    Args:
        entries: The jobs.
        title: The heading.
        totals: What stands below it; by default what the entries add up to.

    Raises:
        ContractError: Jinja2 is not installed.
    """
    if len(entries) > 1:  # a single one needs no number
        numbered = enumerate(entries)
        entries = [attrs.evolve(entry, number=n) if entry.number is None else entry for n, entry in numbered]
    return load_template().render(
        title=_plain(title),
        entries=entries,
        totals=list(_totals(entries) if totals is None else totals),
        failed=[(place, entry.number) for place, entry in enumerate(entries, 1) if entry.fault],
        has_files=any(not tile.source.startswith("data:") for entry in entries for tile in entry.tiles if tile.source),
    )


def _ascii(value: object) -> object:
    """Escape a value that is not markup already, as ASCII."""
    return value if hasattr(value, "__html__") else Markup(escaped(value).encode("ascii", "xmlcharrefreplace").decode())


def _digest(style: str) -> str:
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _totals(entries: Sequence[Entry]) -> Iterator[Total]:
    pictures = [tile for entry in entries for tile in entry.tiles]
    missing = sum(tile.source is None for tile in pictures)
    yield "Pictures", f"{len(pictures):,}" + (f", {missing:,} of them not shown" if missing else ""), False
    if any(len(entry.tiles) != 1 for entry in entries):
        yield "Jobs", f"{len(entries):,}", False
    failed = sum(entry.fault is not None for entry in entries)
    if failed:
        yield "Failed", f"{failed:,}", True
    models = list(dict.fromkeys(entry.model for entry in entries if entry.model))
    if models:
        more = f" and {len(models) - _MAX_MODELS_LISTED} more" if len(models) > _MAX_MODELS_LISTED else ""
        yield "Model" if len(models) == 1 else "Models", ", ".join(models[:_MAX_MODELS_LISTED]) + more, False
    times = [entry.seconds for entry in entries if entry.seconds is not None]
    if times:
        yield "Time" if len(times) == 1 else "Median time", _duration(median(times)), False


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"
