"""Tables of scores: for the terminal, as CSV, and laid out as in the paper (Markdown, LaTeX)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from rllib_lpdm.analysis.aggregates import Aggregate
from rllib_lpdm.analysis.cells import CellResult, Series
from rllib_lpdm.analysis.claims import LOCOMOTION, Finding
from rllib_lpdm.analysis.groups import Place, Score, Speed, grouped
from rllib_lpdm.analysis.statistics import end_score, measures
from rllib_lpdm.schema.messages import inert

Record = dict[str, str | float]

WIDTH = 4  # environments side by side, as in the paper
MEASURES = ("Max score", "Rel. spread", "Iterations", "End score")


UNFINISHED = "*"


def starred(text: str, finished: bool) -> str:
    """A figure's text, with an asterisk where its runs have not finished."""
    return text if finished else text + UNFINISHED


def score_table(cells: Sequence[CellResult]) -> str:
    """Max score, and the end score in brackets, of every method side by side.

    Args:
        cells: any cells; seeds of one configuration are averaged.

    Returns:
        Lines of text, one per environment, algorithm and variant. An asterisk marks the max score
        of runs that have not finished; a last line says so.
    """
    groups = grouped(cells)
    methods = list(dict.fromkeys(series.method for row in groups.values() for series in row))
    lines = [["environment", "algorithm", "", *methods]]
    for place, row in groups.items():
        for variant in dict.fromkeys(series.variant for series in row):
            found = (row.get(Series(method, variant)) for method in methods)
            texts = [
                starred(f"{measures(group.scores).max_score:.1f}", group.finished)
                + f" ({end_score(group.returns):.1f})"
                if group
                else "-"
                for group in found
            ]
            lines.append([*place, variant, *texts])
    if not any(line[2] for line in lines):
        lines = [line[:2] + line[3:] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    texts = [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    if not all(group.finished for row in groups.values() for group in row.values()):
        texts.append(f"{UNFINISHED} of runs that have not finished, so far")
    return "\n".join(texts)


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
        paper, theirs, less = score.paper, score.paper_ratios, score.differences
        record |= {
            "paper_max_score": paper.max_score,
            "paper_max_score_ratio": theirs.max_score,
            "max_score_difference": less.max_score,
            "paper_relative_spread_percent": paper.relative_spread,
            "paper_relative_spread_ratio": theirs.relative_spread,
            "relative_spread_difference": less.relative_spread,
            "paper_iterations": paper.iterations,
            "paper_iterations_ratio": theirs.iterations,
            "iterations_difference": less.iterations,
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
        for name in ("interquartile_mean", "end_score", "median", "optimality_gap", "improvement"):
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


def claim_records(found: Sequence[Finding]) -> list[Record]:
    """The claims as flat records."""
    return [
        {
            "claim": row.claim.text,
            "method": row.claim.method,
            "other": row.claim.other,
            "environments": " ".join(row.environments),
            "places": row.places,
            "seeds": row.seeds,
            "level": row.claim.level,
            "probability": float(row.probability.value),
            "probability_low": float(row.probability.low),
            "probability_high": float(row.probability.high),
            "verdict": row.verdict,
            "seeds_needed": math.nan if row.needs is None else row.needs,
        }
        for row in found
    ]


CLAIM_HEADS = ("Claim", "Runs of", "Places", "Seeds", "Probability", "Level", "Verdict")


def claim_texts(found: Finding) -> list[str]:
    """A claim's line in a table."""
    value, low, high = map(float, found.probability)
    interval = f" ({low:.2f} to {high:.2f})" if math.isfinite(low) else ""
    needs = f", about {found.needs} seeds would tell" if found.needs else ""
    claim = found.claim
    return [
        claim.text,
        f"{claim.method}, {claim.other}",
        f"{found.places} of {', '.join(found.environments)}",
        str(found.seeds),
        starred(f"{value:.2f}", found.finished) + interval,
        f"{claim.level:g}",
        found.verdict + needs,
    ]


def claims_markdown(found: Sequence[Finding]) -> str:
    """The claims in Markdown."""
    rows = [
        CLAIM_HEADS,
        ["---"] * len(CLAIM_HEADS),
        *(map(_in_markdown, claim_texts(f)) for f in found),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def csv_text(records: Sequence[Record]) -> str:
    """Records as CSV; a field without a figure is empty, and none is a spreadsheet's formula."""
    rows = [{name: inert(value) for name, value in record.items()} for record in records]
    return str(pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


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

    Its four locomotion tasks (v4) stand in a block of their own, the last.

    With the paper's numbers every method it has gets two more lines, those numbers and ours less
    the paper's.
    """
    environments: dict[str, list[Score]] = {}
    for score in scores:
        environments.setdefault(score.place.environment, []).append(score)
    algorithms = {
        name: n for n, name in enumerate(dict.fromkeys(s.place.algorithm for s in scores))
    }
    blocks = []
    for locomotion in (False, True):
        names = [name for name in environments if (name in LOCOMOTION) is locomotion]
        for start in range(0, len(names), WIDTH):
            side_by_side = names[start : start + WIDTH]
            here = [score for name in side_by_side for score in environments[name]]
            here.sort(key=lambda score: algorithms[score.place.algorithm])
            blocks.append(Block(side_by_side, list(_lines(here, side_by_side, with_paper))))
    return blocks


def _lines(here: Sequence[Score], environments: Sequence[str], with_paper: bool) -> Iterator[Line]:
    table = {(score.place, score.series): score for score in here}
    rows: dict[str, dict[Series, None]] = {}
    for place, series in table:
        rows.setdefault(place.algorithm, {})[series] = None
    for algorithm, row in rows.items():
        title = algorithm
        for series in row:
            scores = [table.get((Place(e, algorithm), series)) for e in environments]
            yield Line(title, series.label, [_ours(score) for score in scores])
            title = ""
            if with_paper and any(score and _has_paper(score) for score in scores):
                yield Line("", "paper", [_paper(score) for score in scores])
                differences = [_difference(score) for score in scores]
                if differences != [NO_FIGURES] * len(scores):
                    yield Line("", "difference", differences)


NO_FIGURES = [("", "")] * len(MEASURES)


def _ours(score: Score | None) -> list[tuple[str, str]]:
    if score is None:
        return NO_FIGURES
    m, r = score.measures, score.ratios
    return [
        (starred(number(m.max_score), score.finished), ratio(r.max_score)),
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
    if score is None or not math.isfinite(score.differences.max_score):
        return NO_FIGURES
    forms = ("+.1f", "+.2f", "+.0f")
    figures = zip(score.differences, forms, strict=True)
    return [*((number(value, form), "") for value, form in figures), ("", "")]


def markdown(scores: Sequence[Score], with_paper: bool = False) -> str:
    """The paper's layout in Markdown, a table per block of environments."""
    tables = []
    for block in paper_layout(scores, with_paper):
        frame = _frame(block)
        heads = [f"{environment} {measure.lower()}".strip() for environment, measure in frame]
        rows = [heads, ["---", "---", *["---:"] * (len(heads) - 2)], *frame.to_numpy()]
        tables.append("\n".join(f"| {' | '.join(map(_in_markdown, row))} |" for row in rows))
    return "\n\n".join(tables) + "\n"


def latex(scores: Sequence[Score], with_paper: bool = False) -> str:
    """The paper's layout in LaTeX, a tabular per block of environments; needs ``booktabs``."""
    return "\n".join(map(_tabular, paper_layout(scores, with_paper)))


def _tabular(block: Block) -> str:
    frame = _frame(block)
    text: str = (
        frame.style.format(escape="latex")
        .format_index(escape="latex", axis="columns")
        .hide(axis="index")
        .to_latex(hrules=True, column_format="ll" + "r" * (frame.shape[1] - 2), multicol_align="c")
    )
    ends = range(2 + len(MEASURES), frame.shape[1] + 1, len(MEASURES))
    rules = " ".join(f"\\cmidrule(lr){{{end - len(MEASURES) + 1}-{end}}}" for end in ends)
    return text.replace("\\\\\n", f"\\\\\n{rules}\n", 1)  # below the environments


def _frame(block: Block) -> pd.DataFrame:
    """A block's texts below pairs of environment and measure."""
    heads = [("", "Algorithm"), ("", "Method"), *product(block.environments, MEASURES)]
    rows = [
        [
            line.algorithm,
            line.label,
            *(f"{a} ({b})" if b else a for cell in line.cells for a, b in cell),
        ]
        for line in block.lines
    ]
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(heads))


def _in_markdown(text: str) -> str:
    for character in "\\|*_<`[&~":
        text = text.replace(character, "\\" + character)
    return text
