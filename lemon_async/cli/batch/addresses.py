"""The journal that a command names: a file, or a URL that may have a password, which nothing may print."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from lemon_async.types import Problem

__all__ = ["file_problems", "is_url", "may_exist", "title_of", "without_password"]

_URL = re.compile(r"\s*[A-Za-z][\w+.-]+://")


def is_url(journal: str) -> bool:
    """Return whether a journal is in a database; of which kind is found out when it is opened."""
    return _URL.match(journal) is not None


def may_exist(journal: str) -> bool:
    """Return whether there may be such a journal; a database is not asked."""
    return is_url(journal) or Path(journal).exists()


def file_problems(journal: str) -> Iterator[Problem]:
    """Yield why a file cannot be a journal, without opening it; a database is not asked."""
    path = Path(journal)
    if is_url(journal):
        return
    if not path.is_file():
        yield Problem("JOURNAL", f"there is no file {journal!r}")
    elif not path.stat().st_size:
        yield Problem("JOURNAL", f"{journal!r} is an empty file")


def without_password(journal: str) -> str:
    """Return what to type to name a journal again; a URL without its password, which libpq finds elsewhere."""
    if not is_url(journal):
        return journal
    parts = urlsplit(journal)
    login, _, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    options = [(name, value) for name, value in parse_qsl(parts.query) if "password" not in name]
    place = f"{user}@{host}" if user else host
    return urlunsplit((parts.scheme, place, parts.path, urlencode(options, safe="/,"), ""))


def title_of(journal: str) -> str:
    """Return a title for a page of a journal."""
    return Path(urlsplit(journal).path if is_url(journal) else journal).stem
