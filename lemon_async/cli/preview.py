"""Small pictures in the terminal, where it can show them; never a byte of them into a pipe."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TextIO

import attrs
from tqdm import tqdm

from lemon_async._display.terminal import PROTOCOLS, detect, iterm2, kitty, preview
from lemon_async._formats.pictures import sniff
from lemon_async._formats.safe_text import safe_str
from lemon_async.cli.console import note

__all__ = ["AUTO", "Preview"]

AUTO = "auto"
_EDGE = 320


@attrs.define
class Preview:
    """A terminal that shows pictures.

    Attributes:
        protocol: How it wants them; see `show.terminal`.
        terminal: What they are written to.
    """

    protocol: str
    terminal: TextIO
    _is_told: bool = attrs.field(default=False, init=False)
    _is_gone: bool = attrs.field(default=False, init=False)

    @classmethod
    def find(cls, wish: str | None, environ: Mapping[str, str]) -> Self | None:
        """Return how to show pictures; `None` if nobody wishes to see any, or where they would not be seen.

        Args:
            wish: A protocol, or `auto` for that of the terminal.
            environ: Environment variables, which tell what the terminal is.
        """
        terminal = next((stream for stream in (sys.stdout, sys.stderr) if _is_terminal(stream)), None)
        if wish is None or terminal is None:
            return None
        protocol = detect(environ) if wish == AUTO else wish
        if protocol is None:
            note(f"this terminal is not known to show pictures; to try: --preview {', '.join(PROTOCOLS)}")
            return None
        return cls(protocol, terminal)

    async def drawn(self, path: Path) -> str | None:
        """Return what makes the terminal show a picture, drawn in a thread; `None` when it cannot, which is noted."""
        if self._is_gone:
            return None
        try:
            codes, advice = await asyncio.to_thread(_drawn, path, self.protocol)
        except (OSError, ValueError) as fault:
            note(f"no preview of {path}: {safe_str(fault)}")
            return None
        if advice and not self._is_told:
            self._is_told = True
            note(advice)
        return codes

    def show(self, codes: str) -> None:
        """Write it, around the progress bar; to a terminal that went away, nothing more."""
        if self._is_gone:
            return
        try:
            tqdm.write(codes, file=self.terminal)
            self.terminal.flush()
        except (OSError, ValueError) as fault:
            self._is_gone = True
            note(f"no more previews: {fault}")


def _drawn(path: Path, protocol: str) -> tuple[str | None, str]:
    content = path.read_bytes()
    codes = preview(content, protocol, edge=_EDGE)
    if codes is not None:
        return codes, ""
    facts = sniff(content)
    as_it_is = {"kitty": kitty, "iterm2": iterm2}.get(protocol)
    if as_it_is is not None and facts is not None and facts.format == "png":
        return as_it_is(content), ""
    return None, "to preview these pictures takes Pillow: pip install 'lemon-async[emulator]'"


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False
