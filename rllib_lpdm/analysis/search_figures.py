"""The figures of a search: scores over each setting, and the best of a few tries."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.drawing import INK, MUTED, Draw, Palette, Picture, make_picture
from rllib_lpdm.analysis.search_summary import best_of, drawn_scores
from rllib_lpdm.results.search_record import SearchedCell, SearchRecord, StudyRecord

Points = list[tuple[StudyRecord, int, int, SearchedCell]]  # study, configuration, rung, its cell


def search_pictures(record: SearchRecord, folder: Path) -> list[Picture]:
    """The figures of a search, in the page's order."""
    points: Points = [
        (study, each.number, each.rung, cell)
        for study in record.studies
        for each in study.configurations
        for cell in each.cells
        if cell.score is not None
    ]
    if not points:
        return []
    palette = Palette([Series(m) for m in dict.fromkeys(cell.method for *_, cell in points)])
    pictures = [_settings(record, points, palette, folder)]
    return [*pictures, *_best_of(record, palette, folder)]


def _settings(record: SearchRecord, points: Points, palette: Palette, folder: Path) -> Picture:
    versions: dict[str, dict[str, Draw]] = {}
    for name, dimension in record.space.items():
        for place in dict.fromkeys((cell.environment, cell.algorithm) for *_, cell in points):
            own = [
                point
                for point in points
                if (point[3].environment, point[3].algorithm) == place
                and name in point[0].configurations[-1].values
            ]
            if own:
                versions.setdefault(name, {})[", ".join(place)] = partial(
                    _draw_setting,
                    points=own,
                    name=name,
                    scale="log" if "log" in dimension else "linear",
                    palette=palette,
                )
    marks = [
        Line2D([], [], color=MUTED, marker="*", linestyle="", label="winner"),
        Line2D([], [], color=MUTED, marker="s", linestyle="", label="default", fillstyle="none"),
    ]
    return make_picture(
        folder,
        "searched_settings",
        "Searched settings",
        "A point is a run: its score over one of the settings, whatever the others were. Stars are "
        "the winners, squares the settings as they stood where those are in the range. Faint: left "
        "by halving before the end, so that the score is of fewer iterations.",
        palette,
        versions,
        handles=marks,
    )


def _draw_setting(axes: Axes, points: Points, name: str, scale: str, palette: Palette) -> None:
    values = [study.configurations[number].values.get(name) for study, number, _, _ in points]
    numbers = all(_is_number(value) for value in values if value is not None)
    choices = [] if numbers else sorted({_text(value) for value in values})
    last = max(rung for *_, rung, _ in points)
    alike: dict[tuple[str, str, float], list[tuple[float, float]]] = {}
    for (study, number, rung, cell), value in zip(points, values, strict=True):
        if numbers and value is None:
            continue  # a default that is no number
        x = float(value) if numbers and value is not None else choices.index(_text(value))
        alpha = 0.8 if rung == last else 0.25
        mark = "*" if number == study.winner else "s" if number == 0 else "o"
        alike.setdefault((cell.method, mark, alpha), []).append((x, cell.score or 0.0))
    for (method, mark, alpha), places in alike.items():
        color = palette.line(Series(method))["color"]
        xs, ys = zip(*places, strict=True)
        axes.scatter(
            xs,
            ys,
            s={"*": 60, "s": 22, "o": 9}[mark],
            marker=mark,
            facecolors="none" if mark == "s" else color,
            edgecolors=INK if mark == "*" else color,
            linewidths=0.6,
            alpha=alpha,
            zorder=3 if mark == "*" else 2,
        )
    if numbers:
        axes.set_xscale(scale)
        axes.xaxis.set_major_formatter("{x:g}")  # a logarithm's own is a formula
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xticks(range(len(choices)), choices)
        axes.set_xlim(-0.5, len(choices) - 0.5)
    axes.set_xlabel(name)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: object) -> str:
    return "none" if value is None else str(value)[:20]


def _best_of(record: SearchRecord, palette: Palette, folder: Path) -> Sequence[Picture]:
    panels: dict[str, Draw] = {}
    drawn = [(study, drawn_scores(record, study)) for study in record.studies]
    drawn = [
        (study, scores) for study, scores in drawn if len(scores) > 1 and "method" in study.each
    ]
    for where in dict.fromkeys(_where(study) for study, _ in drawn):
        curves = [(study.each["method"], s) for study, s in drawn if _where(study) == where]
        panels[where] = partial(_draw_best_of, curves=curves, palette=palette)
    if not panels:
        return []
    return [
        make_picture(
            folder,
            "best_of_k",
            "Best of k configurations",
            "The score to be expected of the best of k configurations drawn at random from "
            "those tried (Dodge et al. 2019), and between what it is with a probability of 95 %: "
            "how good a method is for those who try a few settings. The default is not among them.",
            palette,
            {"": panels},
        )
    ]


def _where(study: StudyRecord) -> str:
    return ", ".join(v for name, v in study.each.items() if name != "method") or "all"


def _draw_best_of(axes: Axes, curves: Sequence[tuple[str, np.ndarray]], palette: Palette) -> None:
    for method, scores in curves:
        style, found = palette.line(Series(method)), best_of(scores)
        tries = np.arange(1, len(scores) + 1)
        axes.plot(tries, found.expected, **style)
        axes.fill_between(
            tries, found.low, found.high, color=style["color"], alpha=0.12, linewidth=0
        )
    axes.set_xlabel("configurations tried")
    axes.margins(x=0.01)
