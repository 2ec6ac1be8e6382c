"""The tables of a search: as flat records for CSV, and for the page."""

import math
from collections.abc import Sequence

from rllib_lpdm.analysis.page_tables import DASH, Entry, Table
from rllib_lpdm.analysis.search_summary import Gain, Sensitivity, share_near_the_best, winner_of
from rllib_lpdm.analysis.summary import Report
from rllib_lpdm.analysis.tables import Record
from rllib_lpdm.results.search_record import SearchRecord


def study_records(record: SearchRecord) -> list[Record]:
    """A line for every winner."""
    return [
        {
            **study.each,
            "configurations": len(study.configurations),
            "seeds": len(record.seeds),
            "winner": winner_of(study).name,
            "score": _number(winner_of(study).score),
            "margin": _number(study.margin),
            "over_default": _number(study.over_default),
            "noise": study.noise,
            "tied": len(study.tied),
            "near_the_best": share_near_the_best(study),
            "env_steps": sum(c.env_steps for e in study.configurations for c in e.cells),
            "cpu_hours": math.fsum(c.cpu_hours for e in study.configurations for c in e.cells),
            **{name: str(value) for name, value in winner_of(study).values.items()},
        }
        for study in record.studies
    ]


def sensitivity_records(found: Sequence[Sensitivity]) -> list[Record]:
    """A line for every algorithm and method."""
    return [
        {
            "algorithm": row.algorithm,
            "method": row.method,
            "environments": len(row.environments),
            "tuned": row.tuned,
            "shared": row.shared,
            "phi": row.phi,
            "settings": row.settings,
            "effective_settings": math.nan if row.effective is None else row.effective,
        }
        for row in found
    ]


def gain_records(found: Sequence[Gain]) -> list[Record]:
    """A line for every environment, algorithm and method."""
    return [
        {
            "environment": row.place.environment,
            "algorithm": row.place.algorithm,
            "method": row.method,
            "seeds": row.seeds,
            "reference": row.reference,
            "tuned": row.tuned,
            "difference": float(row.difference.value),
            "difference_low": float(row.difference.low),
            "difference_high": float(row.difference.high),
        }
        for row in found
    ]


def search_tables(report: Report) -> list[tuple[Table, str]]:
    """The tables of the page that have rows, each with the name of its file."""
    tables = [
        (gain_table(report.gains), "tuned.csv"),
        (sensitivity_table(report.sensitivities), "sensitivity.csv"),
    ]
    if report.search:
        tables.insert(1, (study_table(report.search), "search.csv"))
    return [(table, file) for table, file in tables if table.rows]


def study_table(record: SearchRecord) -> Table:
    heads = [
        ("Search", "one winner each"),
        ("Winner", "configuration"),
        ("Score", "on the tuning seeds"),
        ("Over the default", "on the tuning seeds; none where halving left the default"),
        ("Margin", "to the next best; negative where a tie went to the one nearer the default"),
        ("Tied", "configurations within noise of the best"),
        ("Near the best", "share of the configurations within 10 % of the best score"),
        ("Settings", "of the winner"),
    ]
    rows = [
        [
            Entry(study.label),
            Entry(winner_of(study).name + (" (default)" if study.winner == 0 else "")),
            _entry(winner_of(study).score, ".4g"),
            _entry(study.over_default, "+.3g"),
            _entry(study.margin, "+.3g"),
            _entry(len(study.tied), "d"),
            _entry(share_near_the_best(study), ".0%"),
            Entry(", ".join(f"{name} {_said(v)}" for name, v in winner_of(study).values.items())),
        ]
        for study in record.studies
    ]
    return Table("What was chosen", heads, rows)


def sensitivity_table(found: Sequence[Sensitivity]) -> Table:
    heads = [
        ("Algorithm", ""),
        ("Method", ""),
        ("Environments", ""),
        ("Own", "mean normalised score with each environment's own best settings"),
        ("Shared", "that of the best settings that all share"),
        ("Φ", "sensitivity: the gain of own settings over shared ones"),
        (
            "Effective settings",
            "to be each environment's own for 95 % of the best, of all searched",
        ),
    ]
    rows = [
        [
            Entry(row.algorithm),
            Entry(row.method),
            _entry(len(row.environments), "d"),
            _entry(row.tuned, ".2f"),
            _entry(row.shared, ".2f"),
            _entry(row.phi, ".2f"),
            Entry(
                DASH if row.effective is None else f"{row.effective} of {row.settings}",
                math.nan if row.effective is None else row.effective,
            ),
        ]
        for row in found
    ]
    return Table("Sensitivity to settings", heads, rows)


def gain_table(found: Sequence[Gain]) -> Table:
    heads = [
        ("Environment", ""),
        ("Algorithm", ""),
        ("Method", ""),
        ("Seeds", "that both have"),
        ("Default", "mean over seeds of each run's max score"),
        ("Tuned", "the same"),
        ("Difference", "on the same seeds"),
    ]
    rows = []
    for row in found:
        value, low, high = map(float, row.difference)
        interval = f"{low:+.1f} to {high:+.1f}" if math.isfinite(low) else DASH
        rows.append(
            [
                Entry(row.place.environment),
                Entry(row.place.algorithm),
                Entry(row.method),
                _entry(row.seeds, "d"),
                _entry(row.reference, ".1f"),
                _entry(row.tuned, ".1f"),
                Entry(f"{value:+.1f}", value, interval),
            ]
        )
    return Table("Tuned settings beside the default", heads, rows)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _entry(value: float | None, form: str) -> Entry:
    if value is None or math.isnan(value):
        return Entry(DASH, math.nan)
    return Entry(format(value, form).replace("%", " %"), float(value))


def _said(value: object) -> str:
    return "none" if value is None else str(value)
