"""Tables of scores: for the terminal, as CSV, and laid out as in the paper (Markdown, LaTeX)."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rllib_lpdm.analysis.aggregates import Aggregate
from rllib_lpdm.analysis.results import CellResult, Series
from rllib_lpdm.analysis.scores import Place, Score, Speed, grouped
from rllib_lpdm.analysis.statistics import end_score, measures

Record = dict[str, str | float]

WIDTH = 4  # environments side by side, as in the paper
MEASURES = ("Max score", "Rel. spread", "Iterations", "End score")


def score_table(cells: Sequence[CellResult]) -> str:
    """Max score, and the end score in brackets, of every method side by side.

    Args:
        cells: any cells; seeds of one configuration are averaged.

    Returns:
        Lines of text, one per environment, algorithm and variant.
    """
    groups = grouped(cells)
    methods = list(dict.fromkeys(series.method for row in groups.values() for series in row))
    lines = [["environment", "algorithm", "", *methods]]
    for place, row in groups.items():
        for variant in dict.fromkeys(series.variant for series in row):
            found = (row.get(Series(method, variant)) for method in methods)
            texts = [
                f"{measures(group.scores).max_score:.1f} ({end_score(group.returns):.1f})"
                if group
                else "-"
                for group in found
            ]
            lines.append([*place, variant, *texts])
    if not any(line[2] for line in lines):
        lines = [line[:2] + line[3:] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def number(value: float, form: str = ".1f") -> str:
    """A number as text; a dash where there is none."""
    return format(value, form) if math.isfinite(value) else "-"


def ratio(value: float) -> str:
    """A ratio as the paper prints it; empty where there is none."""
    return f"{value:.2f}x" if math.isfinite(value) else ""


def score_records(scores: Sequence[Score], with_paper: bool) -> list[Record]:
    """The scores as one flat record each, with every digit; nan where there is no figure."""
    return [_record(score, with_paper) for score in scores]


def _record(score: Score, with_paper: bool) -> Record:
    record: Record = {
        "environment": score.place.environment,
        "algorithm": score.place.algorithm,
        "method": score.series.method,
        "variant": score.series.variant,
        "seeds": score.seeds,
        "finished": "yes" if score.finished else "no",
        "max_score": score.measures.max_score,
        "max_score_ratio": score.ratios.max_score,
        "relative_spread_percent": score.measures.relative_spread,
        "relative_spread_ratio": score.ratios.relative_spread,
        "iterations": score.measures.iterations,
        "iterations_ratio": score.ratios.iterations,
        "end_score": score.end_score,
    }
    if with_paper:
        paper, theirs, ours = score.paper, score.paper_ratios, score.measures
        record |= {
            "paper_max_score": paper.max_score,
            "paper_max_score_ratio": theirs.max_score,
            "max_score_difference": ours.max_score - paper.max_score,
            "paper_relative_spread_percent": paper.relative_spread,
            "paper_relative_spread_ratio": theirs.relative_spread,
            "relative_spread_difference": ours.relative_spread - paper.relative_spread,
            "paper_iterations": paper.iterations,
            "paper_iterations_ratio": theirs.iterations,
            "iterations_difference": ours.iterations - paper.iterations,
        }
    return record


def aggregate_records(aggregates: Sequence[Aggregate]) -> list[Record]:
    """The aggregates as flat records: every figure with the ends of its interval."""
    records = []
    for row in aggregates:
        record: Record = {
            "algorithm": row.algorithm,
            "method": row.series.method,
            "variant": row.series.variant,
            "strata": len(row.runs),
            "runs": sum(row.runs),
        }
        for name in ("interquartile_mean", "median", "optimality_gap", "improvement"):
            estimate = getattr(row, name) or (math.nan,) * 3
            for part, value in zip(("", "_low", "_high"), estimate, strict=True):
                record[name + part] = float(value)
        records.append(record)
    return records


def speed_records(speeds: Sequence[Speed]) -> list[Record]:
    """Wall clock and speed as flat records."""
    return [
        {
            "environment": row.place.environment,
            "algorithm": row.place.algorithm,
            "method": row.series.method,
            "variant": row.series.variant,
            "hours": row.hours,
            "steps_per_second": row.steps_per_second,
            "steps_per_second_ratio": row.ratio,
        }
        for row in speeds
    ]


def csv_text(records: Sequence[Record]) -> str:
    """Records as CSV; a field without a figure is empty."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: "" if value != value else value for key, value in record.items()})
    return file.getvalue()


@dataclass(frozen=True)
class Line:
    """One line of the paper's layout.

    Attributes:
        algorithm: its name, empty but on the first line of an algorithm.
        label: the method, or what the line adds to the one above.
        cells: by environment, four pairs of a figure and its ratio to the baseline.
    """

    algorithm: str
    label: str
    cells: Sequence[Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Block:
    """Some environments side by side, as the paper lays its table out."""

    environments: Sequence[str]
    lines: Sequence[Line]


def paper_layout(scores: Sequence[Score], with_paper: bool = False) -> list[Block]:
    """The scores as in the paper: environments side by side, algorithms and methods below.

    With the paper's numbers every method it has gets two more lines, those numbers and ours less
    the paper's.
    """
    table = {(score.place, score.series): score for score in scores}
    environments = list(dict.fromkeys(place.environment for place, _ in table))
    blocks = []
    for start in range(0, len(environments), WIDTH):
        side_by_side = environments[start : start + WIDTH]
        blocks.append(Block(side_by_side, list(_lines(table, side_by_side, with_paper))))
    return blocks


def _lines(
    table: dict[tuple[Place, Series], Score], environments: Sequence[str], with_paper: bool
) -> Iterator[Line]:
    here = [key for key in table if key[0].environment in environments]
    for algorithm in dict.fromkeys(place.algorithm for place, _ in table):
        title = algorithm
        for series in dict.fromkeys(s for place, s in here if place.algorithm == algorithm):
            scores = [table.get((Place(e, algorithm), series)) for e in environments]
            yield Line(title, series.label, [_ours(score) for score in scores])
            title = ""
            if with_paper and any(score and _has_paper(score) for score in scores):
                yield Line("", "paper", [_paper(score) for score in scores])
                yield Line("", "difference", [_difference(score) for score in scores])


NO_FIGURES = [("", "")] * len(MEASURES)


def _ours(score: Score | None) -> list[tuple[str, str]]:
    if score is None:
        return NO_FIGURES
    m, r = score.measures, score.ratios
    unfinished = "" if score.finished else "*"
    return [
        (number(m.max_score) + unfinished, ratio(r.max_score)),
        (
            number(m.relative_spread, ".2f") + ("%" if math.isfinite(m.relative_spread) else ""),
            ratio(r.relative_spread),
        ),
        (number(m.iterations, ".0f"), ratio(r.iterations)),
        (number(score.end_score), ""),
    ]


def _has_paper(score: Score) -> bool:
    return math.isfinite(score.paper.max_score)


def _paper(score: Score | None) -> list[tuple[str, str]]:
    if score is None or not _has_paper(score):
        return NO_FIGURES
    m, r = score.paper, score.paper_ratios
    return [
        (number(m.max_score), ratio(r.max_score)),
        (number(m.relative_spread, ".2f") + "%", ratio(r.relative_spread)),
        (number(m.iterations, ".0f"), ratio(r.iterations)),
        ("", ""),
    ]


def _difference(score: Score | None) -> list[tuple[str, str]]:
    if score is None or not _has_paper(score):
        return NO_FIGURES
    ours, theirs = score.measures, score.paper
    return [
        (number(ours.max_score - theirs.max_score, "+.1f"), ""),
        (number(ours.relative_spread - theirs.relative_spread, "+.2f"), ""),
        (number(ours.iterations - theirs.iterations, "+.0f"), ""),
        ("", ""),
    ]


def markdown(scores: Sequence[Score], with_paper: bool = False) -> str:
    """The paper's layout in Markdown, a table per block of environments."""
    tables = []
    for block in paper_layout(scores, with_paper):
        heads = [f"{e} {measure.lower()}" for e in block.environments for measure in MEASURES]
        rows = [["algorithm", "method", *heads], ["---", "---", *["---:"] * len(heads)]]
        for line in block.lines:
            figures = [f"{a} ({b})" if b else a for cell in line.cells for a, b in cell]
            rows.append([line.algorithm, line.label, *figures])
        tables.append("\n".join(f"| {' | '.join(map(_in_markdown, row))} |" for row in rows))
    return "\n\n".join(tables) + "\n"


def latex(scores: Sequence[Score], with_paper: bool = False) -> str:
    """The paper's layout in LaTeX, a tabular per block of environments; needs ``booktabs``."""
    tables = []
    for block in paper_layout(scores, with_paper):
        span = len(MEASURES)
        tabular = [r"\begin{tabular}{ll" + "r" * span * len(block.environments) + "}", r"\toprule"]
        tabular.append(
            " & "
            + "".join(
                rf" & \multicolumn{{{span}}}{{c}}{{{_in_latex(e)}}}" for e in block.environments
            )
            + r" \\"
        )
        tabular.append(
            "".join(
                rf"\cmidrule(lr){{{3 + span * k}-{2 + span * (k + 1)}}}"
                for k in range(len(block.environments))
            )
        )
        tabular.append(" & " + (" & " + " & ".join(MEASURES)) * len(block.environments) + r" \\")
        for line in block.lines:
            if line.algorithm:
                tabular.append(r"\midrule")
            figures = [f"{a} ({b})" if b else a for cell in line.cells for a, b in cell]
            row = " & ".join(_in_latex(text) for text in [line.algorithm, line.label, *figures])
            tabular.append(row + r" \\")
        tables.append("\n".join([*tabular, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(tables) + "\n"


def _in_markdown(text: str) -> str:
    for character in "\\|*_<`[&~":
        text = text.replace(character, "\\" + character)
    return text


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}


def _in_latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
