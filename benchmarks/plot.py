"""``python -m benchmarks.plot ROWS.json FIGURE.svg``: what matching costs, against N.

ROWS.json is what ``rllib_lpdm.benchmark matching processor --json ROWS.json`` has written.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from benchmarks.kernels import ROWS, WIDTHS, case
from rllib_lpdm.analysis.drawing import INK, SERIES, STYLE

# Of each line the benchmark, the side of its rows, the colour and the dash.
LINES: Final = {
    "torch": ("matching", "reference", SERIES[0], "-"),
    "compiled loops": ("processor", "figure", SERIES[1], "-"),
    "the processor's limit": ("processor", "reference", INK, ":"),
}


def draw(microseconds: Mapping[tuple[str, str, str], float], path: Path) -> None:
    """A panel for every width, with a line for every implementation.

    Args:
        microseconds: by benchmark, case, and "figure" or "reference".
        path: of the file to write.
    """
    with mpl.rc_context({**STYLE, "svg.hashsalt": path.stem}):
        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        panels = figure.subplots(1, len(WIDTHS), sharey=True)
        for axes, width in zip(panels, WIDTHS, strict=True):
            for label, (benchmark, side, color, dash) in LINES.items():
                times = [1e-6 * microseconds[benchmark, case(count, width), side] for count in ROWS]
                axes.loglog(
                    ROWS, times, color=color, linestyle=dash, marker=".", markersize=4, label=label
                )
            axes.set_title(f"{width} units")
            axes.set_xlabel("rows N")
            axes.set_xticks(ROWS, [str(count) for count in ROWS])
            axes.minorticks_off()
        panels[0].set_ylabel("time of one layer")
        panels[0].yaxis.set_major_formatter(EngFormatter("s"))
        panels[0].legend(fontsize=7)
        figure.savefig(path, metadata={"Date": None})


def main(arguments: list[str]) -> None:
    """Draws the rows of one file into another."""
    source, path = map(Path, arguments)
    rows = json.loads(source.read_text())
    microseconds = {
        (row["benchmark"], row["case"], side): row[side]
        for row in rows
        for side in ("figure", "reference")
    }
    draw(microseconds, path)


if __name__ == "__main__":
    main(sys.argv[1:])
