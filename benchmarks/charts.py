"""Draw horizontal bar charts with matplotlib, which is imported on first use."""

from collections.abc import Container, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

_COLOUR, _GREY = "#2166ac", "#bdbdbd"


@attrs.frozen
class Panel:
    """One part of a chart."""

    _axes: Any

    def bars(
        self, title: str, values: Mapping[str, float], *, grey: Container[str] = (), bar: float | None = None
    ) -> None:
        """Draw one bar for each value, the first at the top, and a dashed line at the limit to meet."""
        colours = [_GREY if name in grey else _COLOUR for name in values]
        height = min(0.15 * len(values), 0.75)
        drawn = self._axes.barh(list(values), list(values.values()), height=height, color=colours)
        self._axes.bar_label(drawn, labels=[_words(value) for value in values.values()], padding=4)
        if bar is not None:
            self._axes.axvline(bar, color="#b2182b", linestyle="--", linewidth=1)
            self._axes.annotate(f" bar {bar:,g}", (bar, 1.0), xycoords=("data", "axes fraction"), color="#b2182b")
        self._axes.set_title(title, loc="left", fontsize=11, pad=16 if bar is not None else 8)
        self._axes.invert_yaxis()
        self._axes.margins(x=0.14)
        self._axes.spines[["top", "right", "bottom"]].set_visible(False)
        self._axes.tick_params(left=False, bottom=False, labelbottom=False)


def _words(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


@contextmanager
def panels(path: Path, number: int) -> Generator[list[Panel], None, None]:
    """Return this many panels to draw on, and write them to a PNG at the end of the block."""
    import matplotlib as mpl  # noqa: PLC0415 - only charts need it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    drawing, axes = plt.subplots(number, 1, figsize=(9, 2.6 * number), squeeze=False)
    yield [Panel(each) for each in axes[:, 0]]
    drawing.tight_layout()
    drawing.savefig(path, dpi=110)
    plt.close(drawing)
