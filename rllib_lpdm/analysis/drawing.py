"""How figures look, and how they are saved: files for papers, and panels for the page."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.groups import PLAIN
from rllib_lpdm.results.storage import write_whole

# Colours of the files. The page replaces each by a variable of its style sheet, light or dark.
INK, MUTED, GRID = "#1b1c1e", "#5d6167", "#dcdee1"
SERIES = (
    "#b04510",
    "#0f59d3",
    "#1f9977",
    "#7f68a1",
    "#a18331",
    "#69154b",
    "#17607a",
    "#56534c",
)
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid"} | {
    color: f"--series-{number}" for number, color in enumerate(SERIES, 1)
}
METHODS = ("bp", "lpdm", "lpdm_guided", "frozen", "local_rl", "dfa")  # have the first colours
DASHES = ("-", "-", (0, (5, 1.5)), (0, (1.5, 1.2)))
LETTERS = 8.5  # points, on a panel of the page; at its smallest there they are 11 pixels
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "figure.autolayout": False,  # a user's own engine would lay out again
    "figure.constrained_layout.use": False,
    "text.parse_math": False,  # names are not formulas
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
}
PANEL = 3.2, 2.2  # inches, on the page
WIDE = 9.0, 3.0  # inches, of a panel that has the page's whole width
SMALL = 2.3, 1.6  # inches, in a file of many panels
SPAN = 4  # panels side by side in a file

Draw = Callable[[Axes], None]


@dataclass(frozen=True)
class Panel:
    """One small plot of the page.

    Attributes:
        title: what it shows.
        versions: SVG by the version's name, the only one's being empty.
        wide: the same for a wide screen, where a figure has a single panel; else empty.
    """

    title: str
    versions: Mapping[str, str]
    wide: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        anchor: its name in the page and of its files.
        title: its heading.
        how_to_read: a line on that.
        legend: the series and the number of their colour, from 1.
        panels: its plots.
        files: the same for papers, relative to the page.
    """

    anchor: str
    title: str
    how_to_read: str
    legend: Sequence[tuple[str, int]]
    panels: Sequence[Panel]
    files: Sequence[str]


class Palette:
    """A colour and a dash for every series of a figure; the paper's methods have theirs always.

    Args:
        series: all of the figure.
        dashed: whether they differ by their dashes too.
    """

    def __init__(self, series: Sequence[Series], dashed: bool = True) -> None:
        self._dashes = DASHES if dashed else DASHES[:1]
        places: dict[Series, int] = {}
        for each in series:
            if each.variant in PLAIN and each.method in METHODS:
                places[each] = METHODS.index(each.method)
        free = [place for place in range(len(SERIES)) if place not in places.values()] or [0]
        for number, each in enumerate(each for each in series if each not in places):
            places[each] = free[number % len(free)]
        self._places = {each: places[each] for each in series}

    def line(self, series: Series) -> dict[str, Any]:
        place = self._places[series]
        return {"color": SERIES[place], "linestyle": self._dashes[place % len(self._dashes)]}

    def legend(self) -> list[tuple[str, int]]:
        return [(series.label, place + 1) for series, place in self._places.items()]

    def handles(self) -> list[Line2D]:
        return [Line2D([], [], label=each.label, **self.line(each)) for each in self._places]


def make_picture(
    folder: Path,
    anchor: str,
    title: str,
    how_to_read: str,
    palette: Palette,
    versions: Mapping[str, Mapping[str, Draw]],
    columns: int = SPAN,
    height: float = 1.0,
    handles: Sequence[Line2D] = (),
) -> Picture:
    """Draws every version's panels one by one for the page, and together as files.

    Args:
        folder: where the files go.
        anchor, title, how_to_read: see :class:`Picture`.
        palette: of all its series.
        versions: what draws each panel, by version and panel title.
        columns: panels side by side in the files.
        height: of a panel, in those of an ordinary one.
        handles: what the files' legend shows beside the series.
    """
    svgs: dict[str, dict[str, str]] = {name: {} for draws in versions.values() for name in draws}
    wide: dict[str, str] = {}
    files = []
    with mpl.rc_context(STYLE):
        for version, draws in versions.items():
            for name, draw in draws.items():
                label = ", ".join(filter(None, (title, name, version)))
                svgs[name][version] = _panel(draw, PANEL, height, label)
                if len(svgs) == 1:
                    wide[version] = _panel(draw, WIDE, height, f"{label}, wide")
            stem = re.sub("[^a-z]+", "_", ", ".join(filter(None, (anchor, version))))
            files += _save(folder, stem, draws, palette, columns, height, handles)
    return Picture(
        anchor,
        title,
        how_to_read,
        palette.legend(),
        [Panel(name, of_it, wide) for name, of_it in svgs.items()],
        files,
    )


def _panel(draw: Draw, size: tuple[float, float], height: float, label: str) -> str:
    """One panel as SVG, its letters of the same size in panels of any size."""
    with mpl.rc_context({"font.size": LETTERS}):
        figure = Figure(figsize=(size[0], size[1] * height))
        draw(figure.subplots())
        _lay_out(figure)
        return page_svg(figure, label)


def _save(
    folder: Path,
    stem: str,
    draws: Mapping[str, Draw],
    palette: Palette,
    columns: int,
    height: float,
    handles: Sequence[Line2D],
) -> list[str]:
    """All panels of a figure in one file each of PNG, PDF and SVG."""
    columns = min(columns, len(draws))
    rows = -(-len(draws) // columns)
    handles = [*palette.handles(), *handles]
    longest = max(len(str(handle.get_label())) for handle in handles)
    width = columns * SMALL[0]
    entries = max(1, int(width / (0.55 + 0.07 * longest)))  # side by side; inches of dash, letters
    lines = -(-len(handles) // entries)
    figure = Figure(figsize=(width, rows * SMALL[1] * height + 0.17 + 0.18 * lines))
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes in grid[len(draws) :]:
        axes.remove()
    for axes, (name, draw) in zip(grid, draws.items(), strict=False):
        draw(axes)
        axes.set_title(name, fontsize=7.5)
    figure.legend(handles=handles, loc="outside upper center", ncols=entries)
    _lay_out(figure)
    if folder.is_symlink():  # what it names is not the report's
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = stem
    for suffix, metadata in (("png", {}), ("pdf", {"CreationDate": None}), ("svg", {"Date": None})):
        file = io.BytesIO()
        figure.savefig(file, format=suffix, dpi=200, metadata=metadata)
        write_whole(folder / f"{stem}.{suffix}", file.getvalue())
    return [f"{folder.name}/{stem}.{suffix}" for suffix in ("png", "pdf", "svg")]


def _lay_out(figure: Figure) -> None:
    """Makes room for what stands around the panels: once for all formats of the figure.

    A figure with an engine of its own is drawn a second time whenever it is saved.
    """
    ConstrainedLayoutEngine().execute(figure)


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}"


def page_svg(figure: Figure, label: str) -> str:
    """A figure as SVG to stand in the page: small, in its colours, with names of its own.

    Args:
        figure: drawn in the colours of ``VARIABLES``.
        label: unique in the page; read out in place of the picture.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": label}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub("<[^>]+>", lambda tag: re.sub(r"\d+\.\d{3,}", _shorter, tag[0]), text)
    referred = set(re.findall(r"#([A-Za-z_][\w.-]*)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referred else "", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    escaped = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    view = re.search(r'viewBox="[^"]*"', text)
    start = f'<svg role="img" aria-label="{escaped}" {view[0] if view else ""}'
    start += ' xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return start + text[text.index(">") + 1 :]
