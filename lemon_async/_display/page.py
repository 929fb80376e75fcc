"""A contact sheet as one static page: no script, nothing from elsewhere, and a policy that says so to the browser."""

from collections.abc import Iterator, Sequence
from statistics import median

import attrs

from lemon_async._display.html import Markup, escaped
from lemon_async._display.style import SHEET_STYLE, SHEET_STYLE_SOURCE

__all__ = ["Entry", "Fault", "Tile", "page"]

_LONGEST_HEADING = 180
_LONGEST_DENSE = 72
_LONGEST_REVISED = 360
_DENSE_PAGE = 24
_LONGEST_ALT = 500
_MOST_FAULTS_LISTED = 100
_MOST_MODELS_LISTED = 6
_LONG_PAGE = 200
_BAD = ' class="bad"'
_NO_PROMPT = "No prompt is known"
_NOTHING = "<p>There is nothing to show yet.</p>"


@attrs.frozen(kw_only=True)
class Tile:
    """One picture of a job.

    Attributes:
        source: A `data:` address (`Markup`, if this package made it) or a relative one; `None` if it cannot be shown.
        note: Why it cannot be shown, or what else is to be said.
        file: Relative address of the whole picture.
        name: What that file is called.
        facts: Such as its size, in a few words.
    """

    source: str | None = attrs.field(default=None, repr=False)
    note: str | None = None
    file: str | None = None
    name: str | None = None
    facts: str = ""


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
        number: What it is called by; otherwise its place, from 0.
        prompt: What was asked for.
        revised: What was really used, as far as that is something else.
        model: What it was asked of.
        seconds: How long it took.
        cost_usd: What it cost, if the service has told that in dollars.
        facts: More names and values.
        tiles: Its pictures.
        fault: Why there are none.
    """

    number: int | None = None
    prompt: str | None = None
    revised: tuple[str, ...] = ()
    model: str | None = None
    seconds: float | None = None
    cost_usd: float | None = None
    facts: tuple[tuple[str, str], ...] = ()
    tiles: tuple[Tile, ...] = ()
    fault: Fault | None = None


def page(entries: Sequence[Entry], *, title: str) -> str:
    """Return the whole page, in ASCII; blocks for as long as it takes to join what is in it."""
    relative = any(tile.source and not tile.source.startswith("data:") for entry in entries for tile in entry.tiles)
    sources = "data: 'self' file:" if relative else "data:"
    policy = (
        f"default-src 'none'; img-src {sources}; style-src {SHEET_STYLE_SOURCE}; base-uri 'none'; form-action 'none'"
    )
    # One letter beyond ASCII would double the memory of all the pictures around it, an emoji make four times as much.
    is_dense = len(entries) > _DENSE_PAGE
    cards = [_ascii(_card(place, entry, is_dense=is_dense)) for place, entry in enumerate(_numbered(entries), 1)]
    classes = "grid" + " dense" * is_dense + " long" * (len(entries) > _LONG_PAGE)
    grid = [f'<ol class="{classes}" role="list">', *cards, "</ol>"] if cards else [_NOTHING]
    name = _ascii(escaped(title))
    head = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'
        f"<title>{name}</title><style>{SHEET_STYLE}</style></head>\n"
        '<body><a class="skip" href="#pictures">Skip to the pictures</a>\n'
        f'<header><h1 dir="auto">{name}</h1>{_ascii(_summary(entries))}{_faults(_numbered(entries))}</header>\n'
        '<main id="pictures" tabindex="-1">'
    )
    # Joined once: meanwhile no other thread runs.
    return "".join([head, *grid, "</main>\n<footer>Contact sheet by lemon_async</footer></body></html>\n"])


def _numbered(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Give a number to each that has none; one alone needs none."""
    if len(entries) < 2:
        return entries
    return [entry if entry.number is not None else attrs.evolve(entry, number=n) for n, entry in enumerate(entries)]


def _ascii(markup: str) -> str:
    return markup.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _summary(entries: Sequence[Entry]) -> Markup:
    shown = "".join(
        f"<div{_BAD * (name == 'Failed')}><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>"
        for name, value in _totals(entries)
    )
    return Markup(f'<dl class="sum">{shown}</dl>')


def _totals(entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    pictures = [tile for entry in entries for tile in entry.tiles]
    missing = sum(tile.source is None for tile in pictures)
    yield "Pictures", f"{len(pictures):,}" + (f", {missing:,} of them not shown" if missing else "")
    if any(len(entry.tiles) != 1 for entry in entries):
        yield "Jobs", f"{len(entries):,}"
    failed = sum(entry.fault is not None for entry in entries)
    if failed:
        yield "Failed", f"{failed:,}"
    models = list(dict.fromkeys(entry.model for entry in entries if entry.model))
    if models:
        more = f" and {len(models) - _MOST_MODELS_LISTED} more" if len(models) > _MOST_MODELS_LISTED else ""
        yield "Model" if len(models) == 1 else "Models", ", ".join(models[:_MOST_MODELS_LISTED]) + more
    times = [entry.seconds for entry in entries if entry.seconds is not None]
    if times:
        yield "Time" if len(times) == 1 else "Median time", _duration(median(times))
    costs = [entry.cost_usd for entry in entries if entry.cost_usd is not None]
    if costs:
        whole = "" if len(costs) == len(entries) else f" for {len(costs):,} of {len(entries):,} jobs"
        yield "Cost", f"{_dollars(sum(costs))}{whole}"


def _faults(entries: Sequence[Entry]) -> str:
    numbers = [(place, entry.number) for place, entry in enumerate(entries, 1) if entry.fault is not None]
    if not numbers or len(entries) == 1:
        return ""
    links = "".join(f'<li><a href="#job-{place}">{number}</a></li>' for place, number in numbers[:_MOST_FAULTS_LISTED])
    more = f"<li>and {len(numbers) - _MOST_FAULTS_LISTED:,} more</li>" if len(numbers) > _MOST_FAULTS_LISTED else ""
    return f'<nav aria-label="Failed jobs"><span>Failed jobs:</span><ul>{links}{more}</ul></nav>'


def _card(at: int, entry: Entry, *, is_dense: bool) -> str:
    tiles = "".join(
        _tile(tile, entry, place=f"{place} of {len(entry.tiles)}") for place, tile in enumerate(entry.tiles, 1)
    )
    many = ' class="many"' if len(entry.tiles) > 1 else ""
    pictures = f'<div class="pics">{tiles}</div>' if tiles else ""
    fault = _fault(entry.fault) if entry.fault else ""
    number = "" if entry.number is None else f'<p class="no">Job {entry.number}</p>'
    words = _words(at, entry, is_dense=is_dense) + _facts(entry, is_dense=is_dense)
    return (
        f'<li id="job-{at}"{many}><article aria-labelledby="h-{at}">{pictures}{fault}'
        f'<div class="text">{number}{words}</div></article></li>\n'
    )


def _tile(tile: Tile, entry: Entry, *, place: str) -> str:
    if tile.source is None:
        picture = f'<div class="none" dir="auto">{escaped(tile.note or "This picture cannot be shown.")}</div>'
    else:
        alt = (entry.prompt or next(iter(entry.revised), _NO_PROMPT))[:_LONGEST_ALT]
        alt = f"{alt} (picture {place})" if len(entry.tiles) > 1 else alt
        source = tile.source if isinstance(tile.source, Markup) else escaped(tile.source)
        picture = f'<img src="{source}" alt="{escaped(alt)}">'
    if tile.file:
        picture = f'<a href="{escaped(tile.file)}">{picture}</a>'
    notes = (tile.facts, tile.name, tile.note if tile.source else None)
    caption = " · ".join(f"<bdi>{escaped(note)}</bdi>" for note in notes if note)
    return f"<figure>{picture}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"


def _fault(fault: Fault) -> str:
    token = fault.resume_token
    resume = f"<details><summary>Resume token</summary><p><code>{escaped(token)}</code></p></details>" if token else ""
    return (
        f'<div class="fault"><strong>{escaped(fault.kind)}</strong>'
        f'<p dir="auto" lang="">{escaped(fault.reason)}</p>{resume}</div>'
    )


def _words(at: int, entry: Entry, *, is_dense: bool) -> str:
    longest = _LONGEST_DENSE if is_dense else _LONGEST_HEADING
    prompt = entry.prompt or _NO_PROMPT
    lang = ' lang=""' if entry.prompt else ""  # nobody knows which: a screen reader then guesses
    is_long = len(prompt) > longest
    heading = f"{prompt[:longest].rstrip()}…" if is_long else prompt
    words = f'<h2 id="h-{at}" dir="auto"{lang}>{escaped(heading)}</h2>'
    if is_long:
        words += f'<details><summary>Whole prompt</summary><p dir="auto" lang="">{escaped(prompt)}</p></details>'
    return words + "".join(_revision(text, 0 if is_dense else _LONGEST_REVISED) for text in entry.revised)


def _revision(text: str, longest: int) -> str:
    if len(text) <= longest:
        return f'<p class="revised">Revised: <bdi lang="">{escaped(text)}</bdi></p>'
    return f'<details><summary>Revised prompt</summary><p dir="auto" lang="">{escaped(text)}</p></details>'


def _facts(entry: Entry, *, is_dense: bool) -> str:
    shown = _rows(
        (
            ("Model", entry.model or ""),
            ("Time", "" if entry.seconds is None else _duration(entry.seconds)),
            ("Cost", "" if entry.cost_usd is None else _dollars(entry.cost_usd)),
        )
    )
    more = _rows(entry.facts)
    if is_dense and shown + more:
        return f"<details><summary>Facts</summary>{shown}{more}</details>"
    return shown + (f"<details><summary>More facts</summary>{more}</details>" if more else "")


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    shown = "".join(f'<dt>{escaped(name)}</dt><dd dir="auto">{escaped(value)}</dd>' for name, value in rows if value)
    return f'<dl class="facts">{shown}</dl>' if shown else ""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60} s"


def _dollars(amount: float) -> str:
    text = f"{amount:,.6f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"${whole}.{part.ljust(2, '0')}"
