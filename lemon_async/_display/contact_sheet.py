"""A contact sheet that is done."""

from pathlib import Path

import attrs

from lemon_async._display.bundle import MOST_EMBEDDED_BYTES
from lemon_async._display.html import escaped

__all__ = ["Sheet"]

_FRAME = "width:100%;height:min(80vh,900px);border:1px solid rgba(127,127,127,.4);border-radius:.5em;resize:vertical"
_FRAME += ";box-sizing:border-box;display:block"  # or the border makes the cell scroll


@attrs.frozen
class Sheet:
    """A contact sheet; a notebook shows it in a frame of its own, where nothing runs.

    Attributes:
        html: The whole page.
        path: Where it was written, if it was.
    """

    html: str = attrs.field(repr=False)
    path: Path | None = None

    def _repr_html_(self) -> str:
        if len(self.html) > 2 * MOST_EMBEDDED_BYTES:
            return f"<p>{escaped(self)} is too large for a notebook: open the file in a browser.</p>"
        page = self.html.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")  # quick for megabytes
        return f'<iframe title="Contact sheet" sandbox style="{_FRAME}" srcdoc="{page}"></iframe>'
