"""The tables of the page: what their fields show, and what they sort by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rllib_lpdm.analysis.aggregates import Aggregate
from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.groups import Place
from rllib_lpdm.analysis.statistics import Estimate
from rllib_lpdm.analysis.summary import Report
from rllib_lpdm.analysis.tables import (
    CLAIM_HEADS,
    claim_texts,
    number,
    ratio,
    score_records,
    starred,
)

DASH = "\N{EN DASH}"


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
class Headline:
    """Every algorithm's methods in a few figures.

    Attributes:
        normalised: whether they are over several environments; else they are the scores of one.
        heads: of its columns, after the method.
        rows: by algorithm.
    """

    normalised: bool
    heads: Sequence[str]
    rows: Mapping[str, Sequence[Sequence[Entry]]]


def headline(report: Report) -> Headline:
    """How high and where the methods end; how they compare where there are seeds enough."""
    normalised = len({place.environment for place in report.groups}) > 1
    figures = {
        (row.algorithm, row.series): [
            _starred(_estimate(row.interquartile_mean), row.finished),
            _estimate(row.end_score),
        ]
        for row in report.aggregates
    }
    if not normalised:
        figures = {
            (score.place.algorithm, score.series): [
                _starred(_entry(score.measures.max_score, ".1f"), score.finished),
                _entry(score.end_score, ".1f"),
            ]
            for score in report.scores
        }
    heads = ["Max score", "End score"]
    if any(row.compares for row in report.aggregates):
        heads.append(f"Better than {report.baseline}")
        for row in report.aggregates:
            if (row.algorithm, row.series) in figures:
                improvement = _improvement(row, report.baseline)
                figures[row.algorithm, row.series].append(improvement)
    rows: dict[str, list[list[Entry]]] = {}
    for (algorithm, series), entries in figures.items():
        rows.setdefault(algorithm, []).append([Entry(series.label), *entries])
    return Headline(normalised, heads, rows)


def score_table(report: Report, first: Mapping[tuple[Place, Series], str]) -> Table:
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
    columns = [  # but for those that say nothing, as of variants, or that all is finished
        column
        for column in columns
        if any(
            value not in ("", "yes") and value == value
            for value in (record.get(column[0], "") for record in records)
        )
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


def aggregate_table(report: Report) -> Table:
    heads = [
        ("Algorithm", ""),
        ("Method", ""),
        ("Runs", ""),
        ("Strata", "environments; pairs of environment and algorithm where those are pooled"),
        ("Interquartile mean", "of normalised scores"),
        ("End score", "interquartile mean of normalised end scores"),
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
    return [
        Entry(row.algorithm),
        Entry(row.series.label),
        Entry(str(sum(row.runs)), sum(row.runs), title=" + ".join(map(str, row.runs))),
        Entry(str(len(row.runs)), len(row.runs)),
        _starred(_estimate(row.interquartile_mean), row.finished),
        _estimate(row.end_score),
        _estimate(row.median),
        _estimate(row.optimality_gap),
        _improvement(row, baseline),
    ]


def _improvement(row: Aggregate, baseline: str) -> Entry:
    """The probability of it; strong where seeds are enough and the interval leaves 0.5 out."""
    if row.improvement is None:
        return Entry(DASH, float("nan"), title=f"no other runs of {baseline} to compare with")
    _, low, high = map(float, row.improvement)
    return replace(_estimate(row.improvement), strong=row.compares and not low <= 0.5 <= high)


def _starred(entry: Entry, finished: bool) -> Entry:
    return replace(entry, text=starred(entry.text, finished))


def _estimate(estimate: Estimate) -> Entry:
    """A figure and its interval."""
    value, low, high = map(float, estimate)
    if not np.isfinite(low):
        return Entry(
            f"{value:.2f}", value, DASH, title="no interval: a single seed in a stratum gives none"
        )
    return Entry(f"{value:.2f}", value, f"{low:.2f}{DASH}{high:.2f}")


def claim_table(report: Report) -> Table:
    heads = [(head, "") for head in CLAIM_HEADS]
    rows = [[Entry(text) for text in claim_texts(found)] for found in report.claims]
    return Table("The paper's claims", heads, rows)


def speed_table(report: Report) -> Table:
    varied = any(speed.series.variant for speed in report.speeds)
    heads = ["Environment", "Algorithm", "Method", "Time a run", "Steps/s", "Ratio"]
    whys = {"Ratio": f"steps/s to those of {report.baseline}", "Steps/s": "environment steps"}
    rows = [
        [
            Entry(speed.place.environment),
            Entry(speed.place.algorithm),
            Entry(speed.series.label if varied else speed.series.method),
            _starred(
                Entry(_duration(speed.hours), speed.hours),
                report.groups[speed.place][speed.series].finished,
            ),
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
