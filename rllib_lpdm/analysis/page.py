"""One self-contained HTML page of a report."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rllib_lpdm.analysis.cells import CellResult
from rllib_lpdm.analysis.drawing import Picture
from rllib_lpdm.analysis.page_cells import list_cells, machine, time_text
from rllib_lpdm.analysis.page_tables import (
    DASH,
    aggregate_table,
    claim_table,
    headline,
    score_table,
    speed_table,
)
from rllib_lpdm.analysis.search_tables import search_tables
from rllib_lpdm.analysis.statistics import CONFIDENCE, END, ENOUGH, RESAMPLES, SMOOTHING
from rllib_lpdm.analysis.summary import APPENDICES, Report
from rllib_lpdm.analysis.tables import MEASURES, paper_layout
from rllib_lpdm.schema.messages import counted, figure

CURVES = "learning_curves"  # the picture that comes first
AGGREGATES = "aggregates"  # the picture that their table stands under
LONG_NOTE = 240  # characters; a longer one is folded
FEW = 40  # cells that are listed without being folded


def render_page(report: Report, pictures: Sequence[Picture]) -> str:
    """The report as one HTML file, which needs nothing else but the files that it links to.

    Args:
        report: see :func:`~rllib_lpdm.analysis.summary.analyse`.
        pictures: in the order of the page, but that learning curves stand before all tables. The
            table of aggregates stands under the one whose anchor is ``aggregates``.
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
    groups, first = list_cells(report)
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
        headline=headline(report),
        notes=[_folded(note) for note in report.notes],
        not_finished=[cell for cell in cells if cell.status != "finished"],
        blocks=paper_layout(report.scores, report.with_paper),
        unfinished=not all(score.finished for score in report.scores),
        with_paper=any(np.isfinite(score.paper.max_score) for score in report.scores)
        and report.with_paper,
        differences=any(np.isfinite(score.differences.max_score) for score in report.scores),
        measures=MEASURES,
        scores=score_table(report, first),
        curves=[_laid_out(picture) for picture in pictures if picture.anchor == CURVES],
        pictures=[_laid_out(picture) for picture in pictures if picture.anchor != CURVES],
        aggregates=aggregate_table(report),
        claims=claim_table(report),
        searched=search_tables(report),
        speeds=speed_table(report),
        groups=groups,
        ENOUGH=ENOUGH,
        number_of_cells=len(cells),
        few=FEW,
        environment_anchors={group.title: group.anchor for group in groups},
        by_stem=_by_stem,
        counted=counted,
        figure=figure,
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
        ("First started", time_text(run.started for run in runs)),
        ("Last finished", time_text((run.finished for run in runs), last=True)),
        ("Versions", ", ".join(_versions(cells))),
        ("Git commit", ", ".join(sorted({(run.git_commit or "unknown")[:12] for run in runs}))),
        ("Hardware", "; ".join(sorted({machine(run.hardware) for run in runs}))),
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


def _versions(cells: Sequence[CellResult]) -> Iterator[str]:
    for name in dict.fromkeys(name for cell in cells for name in cell.run.versions):
        found = dict.fromkeys(str(cell.run.versions.get(name, DASH)) for cell in cells)
        yield f"{name} {' / '.join(found)}"


def _folded(note: str) -> tuple[str, str]:
    """A note; a long one as its beginning and the rest."""
    if len(note) <= LONG_NOTE:
        return note, ""
    head, _, rest = note.partition(": ")
    return (head, rest) if len(head) <= LONG_NOTE else (note[:LONG_NOTE] + "…", note)


def _laid_out(picture: Picture) -> dict[str, Any]:
    """A picture whose panels all have the same versions, each as SVG or None."""
    versions = list(dict.fromkeys(name for panel in picture.panels for name in panel.versions))
    panels = [
        (
            panel.title,
            [
                Markup(panel.versions[name] + panel.wide.get(name, ""))
                if name in panel.versions
                else None
                for name in versions
            ],
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
