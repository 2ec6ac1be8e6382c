"""One self-contained HTML page of a report."""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rllib_lpdm.analysis.aggregates import Aggregate
from rllib_lpdm.analysis.drawing import Picture
from rllib_lpdm.analysis.report import APPENDICES, Report
from rllib_lpdm.analysis.results import CellResult, Series
from rllib_lpdm.analysis.scores import Place
from rllib_lpdm.analysis.statistics import (
    CONFIDENCE,
    END,
    RESAMPLES,
    SMOOTHING,
    Estimate,
    first_full,
    smoothed,
)
from rllib_lpdm.analysis.tables import MEASURES, number, paper_layout, ratio, score_records

AGGREGATES = "aggregates"  # the picture that their table stands under
DASH = "\N{EN DASH}"
LONGEST = 500  # characters of a setting or an error
LONG_NOTE = 240  # characters; a longer one is folded
FEW = 40  # cells that are listed without being folded


@dataclass(frozen=True)
class Entry:
    """A field of a sortable table.

    Attributes:
        text: what it shows.
        sort: the number it sorts by, nan sorts last; None sorts by the text.
        aside: what follows in small print, say an interval.
        link: a link's target.
        title: an explanation on hover.
        strong: whether it stands out.
    """

    text: str
    sort: float | None = None
    aside: str = ""
    link: str = ""
    title: str = ""
    strong: bool = False

    @property
    def key(self) -> str:
        return str(self.sort) if self.sort == self.sort else ""


@dataclass(frozen=True)
class Table:
    """A sortable table: the label and the explanation of every column, and rows of entries."""

    caption: str
    heads: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Entry]]


@dataclass(frozen=True)
class Cell:
    """A cell as the page lists it."""

    anchor: str
    name: str
    status: str
    score: str
    iterations: str
    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    command: str
    error: str


@dataclass(frozen=True)
class CellGroup:
    """Cells under one heading."""

    anchor: str
    title: str
    cells: Sequence[Cell]


def render_page(report: Report, pictures: Sequence[Picture]) -> str:
    """The report as one HTML file, which needs nothing else but the files that it links to.

    Args:
        report: see :func:`~rllib_lpdm.analysis.report.analyse`.
        pictures: in the order of the page. The table of aggregates stands under the one whose
            anchor is ``aggregates``.
    """
    loader = PackageLoader("rllib_lpdm.analysis", "page_files")
    environment = Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    style, script = (loader.get_source(environment, name)[0] for name in ("page.css", "page.js"))
    if all(picture.anchor != AGGREGATES for picture in pictures):
        pictures = [Picture(AGGREGATES, "Over all environments", "", [], [], []), *pictures]
    groups, first = _cells(report)
    cells = [cell for group in groups for cell in group.cells]
    cpus = {str(cell.run.hardware.get("cpu", "unknown")) for cell in report.results.cells}
    page = environment.get_template("page.html").render(
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        report=report,
        counts=_counts(report),
        facts=_facts(report),
        several_cpus=len(cpus) > 1,
        headline=_headline(report),
        notes=[_folded(note) for note in report.notes],
        not_finished=[cell for cell in cells if cell.status != "finished"],
        blocks=paper_layout(report.scores, report.with_paper),
        measures=MEASURES,
        scores=_score_table(report, first),
        pictures=[_laid_out(picture) for picture in pictures],
        aggregates=_aggregate_table(report),
        speeds=_speed_table(report),
        groups=groups,
        number_of_cells=len(cells),
        few=FEW,
        environment_anchors={group.title: group.anchor for group in groups},
        by_stem=_by_stem,
        AGGREGATES=AGGREGATES,
        DASH=DASH,
        END=f"{END:.0%}".replace("%", " %"),
        RESAMPLES=RESAMPLES,
        SMOOTHING=SMOOTHING,
        CONFIDENCE=f"{CONFIDENCE:.0%}".replace("%", " %"),
    )
    return page.encode("utf-8", "replace").decode()  # JSON may hold what UTF-8 cannot


def _counts(report: Report) -> list[tuple[str, int]]:
    status = Counter(cell.run.status for cell in report.results.cells)
    found, missing = len(report.results.cells), len(report.results.missing)
    return [
        ("planned", found + missing),
        ("finished", status["finished"]),
        ("unfinished", found - status["finished"] - status["failed"]),
        ("failed", status["failed"]),
        ("missing", missing),
    ]


def _facts(report: Report) -> list[tuple[str, str]]:
    """What ran, when and on what."""
    cells = report.results.cells
    runs = [cell.run for cell in cells]
    facts = [
        ("Environments", ", ".join(dict.fromkeys(run.environment for run in runs))),
        ("Algorithms", ", ".join(dict.fromkeys(run.algorithm for run in runs))),
        ("Methods", ", ".join(dict.fromkeys(cell.series.label for cell in cells))),
        ("Seeds", _ranges({run.seed for run in runs})),
        ("Environment steps", f"{sum(_last(cell, 'env_steps') for cell in cells):,.0f}"),
        ("Hours of training", f"{sum(_sum(cell, 'seconds') for cell in cells) / 3600:,.2f}"),
        ("First started", _time(run.started for run in runs)),
        ("Last finished", _time((run.finished for run in runs), last=True)),
        ("Versions", ", ".join(_versions(cells))),
        ("Git commit", ", ".join(sorted({(run.git_commit or "unknown")[:12] for run in runs}))),
        ("Hardware", "; ".join(sorted({_machine(run.hardware) for run in runs}))),
        ("Appendices", "; ".join(APPENDICES.get(name, name) for name in report.appendices)),
    ]
    return [(term, text) for term, text in facts if text]


def _last(cell: CellResult, column: str) -> float:
    values = cell.columns.get(column, np.zeros(1))
    return float(np.nan_to_num(values[-1]))


def _sum(cell: CellResult, column: str) -> float:
    return float(np.nansum(cell.columns.get(column, np.zeros(1))))


def _ranges(numbers: Iterable[int]) -> str:
    """Such as 0–4, 7."""
    ranges: list[list[int]] = []
    for each in sorted(numbers):
        if ranges and each == ranges[-1][-1] + 1:
            ranges[-1][1:] = [each]
        else:
            ranges.append([each])
    return ", ".join(DASH.join(map(str, ends)) for ends in ranges)


def _time(texts: Iterable[str | None], last: bool = False) -> str:
    times = []
    for text in filter(None, texts):
        with suppress(ValueError, OverflowError):
            times.append(datetime.fromisoformat(text).astimezone(UTC))
    if not times:
        return ""
    return (max(times) if last else min(times)).strftime("%Y-%m-%d %H:%M UTC")


def _versions(cells: Sequence[CellResult]) -> Iterator[str]:
    for name in dict.fromkeys(name for cell in cells for name in cell.run.versions):
        found = dict.fromkeys(str(cell.run.versions.get(name, DASH)) for cell in cells)
        yield f"{name} {' / '.join(found)}"


def _machine(hardware: Mapping[str, Any]) -> str:
    gpus = hardware.get("gpus")
    cores = hardware.get("cores")
    parts = [
        hardware.get("cpu", "unknown CPU"),
        f"{cores} cores" if cores else "",
        *(gpus if isinstance(gpus, list) else []),
    ]
    return ", ".join(str(part) for part in parts if part)


def _folded(note: str) -> tuple[str, str]:
    """A note; a long one as its beginning and the rest."""
    if len(note) <= LONG_NOTE:
        return note, ""
    head, _, rest = note.partition(": ")
    return (head, rest) if len(head) <= LONG_NOTE else (note[:LONG_NOTE] + "…", note)


def _score_table(report: Report, first: Mapping[tuple[Place, Series], str]) -> Table:
    columns = [
        ("environment", "Environment", "", ""),
        ("algorithm", "Algorithm", "", ""),
        ("method", "Method", "", "leads to its cells"),
        ("variant", "Variant", "", ""),
        ("seeds", "Seeds", ".0f", "runs that count"),
        ("finished", "Finished", "", "if not, the figures are those so far"),
        ("max_score", "Max score", ".1f", ""),
        ("max_score_ratio", "Ratio", "x", f"max score to that of {report.baseline}"),
        ("relative_spread_percent", "Rel. spread", "%", "none for a single seed"),
        ("relative_spread_ratio", "Ratio", "x", f"relative spread to that of {report.baseline}"),
        ("iterations", "Iterations", ".0f", ""),
        ("iterations_ratio", "Ratio", "x", f"iterations to those of {report.baseline}"),
        ("end_score", "End score", ".1f", ""),
        ("paper_max_score", "Paper's max score", ".1f", ""),
        ("paper_max_score_ratio", "Ratio", "x", f"paper's max score to that of {report.baseline}"),
        ("max_score_difference", "Difference", "+.1f", "ours less the paper's"),
        ("paper_relative_spread_percent", "Paper's rel. spread", "%", ""),
        (
            "paper_relative_spread_ratio",
            "Ratio",
            "x",
            f"paper's relative spread to that of {report.baseline}",
        ),
        ("relative_spread_difference", "Difference", "+.2f", "ours less the paper's, in points"),
        ("paper_iterations", "Paper's iterations", ".0f", ""),
        (
            "paper_iterations_ratio",
            "Ratio",
            "x",
            f"paper's iterations to those of {report.baseline}",
        ),
        ("iterations_difference", "Difference", "+.0f", "ours less the paper's"),
    ]
    records = score_records(report.scores, report.with_paper)
    columns = [  # but for variants, and whether all is finished, where they say nothing
        column
        for column in columns
        if {record.get(column[0], "") for record in records} - {"", "yes"}
    ]
    rows = []
    for score, record in zip(report.scores, records, strict=True):
        link = "#" + first[score.place, score.series]
        rows.append(
            [
                _entry(record[name], form, link if name == "method" else "")
                for name, _, form, _ in columns
            ]
        )
    return Table("Every figure of the table", [(label, why) for _, label, _, why in columns], rows)


def _entry(value: str | float, form: str = "", link: str = "") -> Entry:
    if isinstance(value, str):
        return Entry(value, link=link)
    texts = {"x": ratio(value), "%": number(value, ".2f") + "%"}
    text = texts[form] if form in texts else number(value, form)
    return Entry(text if np.isfinite(value) else DASH, float(value))


def _headline(report: Report) -> dict[str, list[list[Entry]]]:
    """By algorithm: method, interquartile mean and probability of improvement."""
    rows: dict[str, list[list[Entry]]] = {}
    for row in report.aggregates:
        _, method, _, _, middle, _, _, improvement = _aggregate_entries(row, report.baseline)
        rows.setdefault(row.algorithm, []).append([method, middle, improvement])
    return rows


def _aggregate_table(report: Report) -> Table:
    heads = [
        ("Algorithm", ""),
        ("Method", ""),
        ("Runs", ""),
        ("Strata", "environments; pairs of environment and algorithm where those are pooled"),
        ("Interquartile mean", "of normalised scores"),
        ("Median", "of normalised scores"),
        ("Optimality gap", "less is better"),
        (
            f"Better than {report.baseline}",
            "probability that a run is better than one of the baseline",
        ),
    ]
    rows = [_aggregate_entries(row, report.baseline) for row in report.aggregates]
    return Table(
        "The methods over all environments",
        heads,
        rows,
    )


def _aggregate_entries(row: Aggregate, baseline: str) -> list[Entry]:
    improvement = Entry(DASH, float("nan"), title=f"no other runs of {baseline} to compare with")
    if row.improvement is not None:
        improvement = _estimate(row.improvement, level=0.5)
    return [
        Entry(row.algorithm),
        Entry(row.series.label),
        Entry(str(sum(row.runs)), sum(row.runs), title=" + ".join(map(str, row.runs))),
        Entry(str(len(row.runs)), len(row.runs)),
        _estimate(row.interquartile_mean),
        _estimate(row.median),
        _estimate(row.optimality_gap),
        improvement,
    ]


def _estimate(estimate: Estimate, level: float = float("nan")) -> Entry:
    """A figure and its interval; strong where the interval leaves out the level."""
    value, low, high = map(float, estimate)
    if not np.isfinite(low):
        return Entry(
            f"{value:.2f}", value, DASH, title="no interval: a single seed in a stratum gives none"
        )
    return Entry(
        f"{value:.2f}", value, f"{low:.2f}{DASH}{high:.2f}", strong=low > level or high < level
    )


def _speed_table(report: Report) -> Table:
    varied = any(speed.series.variant for speed in report.speeds)
    heads = ["Environment", "Algorithm", "Method", "Time a run", "Steps/s", "Ratio"]
    whys = {"Ratio": f"steps/s to those of {report.baseline}", "Steps/s": "environment steps"}
    rows = [
        [
            Entry(speed.place.environment),
            Entry(speed.place.algorithm),
            Entry(speed.series.label if varied else speed.series.method),
            Entry(_duration(speed.hours), speed.hours),
            _entry(speed.steps_per_second, ",.0f"),
            _entry(speed.ratio, "x"),
        ]
        for speed in report.speeds
    ]
    return Table("Speed of training", [(head, whys.get(head, "")) for head in heads], rows)


def _duration(hours: float) -> str:
    for unit, length in ("h", 1.0), ("min", 1 / 60):
        if hours >= 2 * length:
            return f"{hours / length:,.1f} {unit}"
    return f"{hours * 3600:.1f} s"


def _laid_out(picture: Picture) -> dict[str, Any]:
    """A picture whose panels all have the same versions, each as SVG or None."""
    versions = list(dict.fromkeys(name for panel in picture.panels for name in panel.versions))
    panels = [
        (
            panel.title,
            [Markup(panel.versions[name]) if name in panel.versions else None for name in versions],
        )
        for panel in picture.panels
    ]
    return {"picture": picture, "versions": versions, "panels": panels}


def _by_stem(files: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Suffix and path of files by the rest of their name."""
    found: dict[str, list[tuple[str, str]]] = {}
    for file in files:
        stem, _, suffix = file.rpartition("/")[2].rpartition(".")
        found.setdefault(stem, []).append((suffix, file))
    return found


def _cells(report: Report) -> tuple[list[CellGroup], dict[tuple[Place, Series], str]]:
    """All cells in groups, and the anchor of the first cell of every place and series."""
    taken: set[str] = set()
    found: dict[str, list[Cell]] = {}
    first: dict[tuple[Place, Series], str] = {}
    for cell in report.results.cells:
        anchor = _anchor(f"cell-{cell.run.cell}", taken)
        first.setdefault((Place(cell.run.environment, cell.run.algorithm), cell.series), anchor)
        found.setdefault(cell.run.environment, []).append(_cell(cell, anchor))
    for name, groups in report.appendices.items():
        if name != report.results.name:
            found[APPENDICES.get(name, name)] = [
                _cell(cell, _anchor(f"cell-{name}-{cell.run.cell}", taken))
                for row in groups.values()
                for group in row.values()
                for cell in group.cells
            ]
    listed = [
        CellGroup(_anchor(f"cells-{title}", taken), title, cells) for title, cells in found.items()
    ]
    return listed, first


def _anchor(text: str, taken: set[str]) -> str:
    """An id of plain characters that was not given before."""
    plain = anchor = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    count = 1
    while anchor in taken:
        count += 1
        anchor = f"{plain}-{count}"
    taken.add(anchor)
    return anchor


def _cell(cell: CellResult, anchor: str) -> Cell:
    run, scores = cell.run, smoothed(cell.returns)
    error = (run.error or "").strip() if not cell.finished else ""
    facts = [
        ("seed", str(run.seed)),
        ("last score", number(scores[-1])),
        ("started", _time([run.started])),
        ("finished", _time([run.finished])),
        ("git commit", (run.git_commit or "")[:10]),
        ("machine", _machine(run.hardware) if run.hardware else ""),
    ]
    return Cell(
        anchor=anchor,
        name=run.cell,
        status=run.status,
        score=number(scores[first_full(len(scores)) :].max()),
        iterations=f"{len(scores)} of {_text(run.settings.get('iterations', '?'))[:20]}",
        facts=[(term, text) for term, text in facts if text],
        settings=[(_short(name), _short(_text(value))) for name, value in run.settings.items()],
        command=run.command,
        error=_short(error.splitlines()[-1]) if error else "",
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
