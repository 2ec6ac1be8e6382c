"""Writes a report: tables, figures and the page."""

from pathlib import Path

from rllib_lpdm.analysis.drawing import Picture
from rllib_lpdm.analysis.figures import (
    aggregates_picture,
    errors_picture,
    learning_curves,
    profiles,
)
from rllib_lpdm.analysis.page import CURVES, render_page
from rllib_lpdm.analysis.search_figures import search_pictures
from rllib_lpdm.analysis.search_tables import gain_records, sensitivity_records, study_records
from rllib_lpdm.analysis.summary import APPENDICES, Report
from rllib_lpdm.analysis.tables import (
    Record,
    aggregate_records,
    claim_records,
    claims_markdown,
    csv_text,
    latex,
    markdown,
    score_records,
    speed_records,
)
from rllib_lpdm.results.storage import write_whole
from rllib_lpdm.schema.messages import UserError


def write(report: Report, output: Path) -> Path:
    """Writes the tables, the figures and the page.

    Args:
        report: what is written.
        output: a folder, made if need be. Files of an earlier report in it are replaced, and so
            are links in their places: whoever can write into the folder names no other file.

    Returns:
        The page.

    Raises:
        UserError: the folder cannot be written, or is a link.
    """
    if output.is_symlink():
        raise UserError(
            f"{output} is a link, and a report does not write through one; delete it, or choose "
            "another folder with --output"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, text in _tables(report).items():
            write_whole(output / name, text.encode())
        page = output / "index.html"
        pictures = _pictures(report, output / "figures")
        write_whole(page, render_page(report, pictures).encode())
    except OSError as error:
        raise UserError(
            f"{output} cannot be written ({error.strerror or error}); choose another folder with "
            "--output"
        ) from None
    return page


def _tables(report: Report) -> dict[str, str]:
    """The text of every table by its file's name."""
    return {
        "table1.csv": csv_text(score_records(report.scores, report.with_paper)),
        "table1.md": markdown(report.scores, report.with_paper),
        "table1.tex": latex(report.scores, report.with_paper),
        "aggregates.csv": csv_text(aggregate_records(report.aggregates)),
        "claims.csv": csv_text(claim_records(report.claims)),
        "claims.md": claims_markdown(report.claims),
        "speed.csv": csv_text(speed_records(report.speeds)),
        **{name: csv_text(records) for name, records in _of_search(report).items() if records},
    }


def _of_search(report: Report) -> dict[str, list[Record]]:
    """The tables of a search and of what it found, none of which most experiments have."""
    return {
        "search.csv": study_records(report.search) if report.search else [],
        "sensitivity.csv": sensitivity_records(report.sensitivities),
        "tuned.csv": gain_records(report.gains),
    }


def _pictures(report: Report, folder: Path) -> list[Picture]:
    """The figures in the page's order."""
    pictures = [learning_curves(report.groups, CURVES, "Learning curves", folder)]
    if report.search:
        pictures += search_pictures(report.search, folder)
    # a single environment's few runs are steps, not a profile
    profiled = [row for row in report.aggregates if row.environments > 1 or row.compares]
    if profiled:
        pictures.append(profiles(profiled, folder))
    if any(min(row.runs) > 1 for row in report.aggregates):  # of a single seed: dots, no intervals
        pictures.append(aggregates_picture(report.aggregates, report.baseline, folder))
    if errors := errors_picture(report.groups, folder):
        pictures.append(errors)
    pictures += [
        learning_curves(groups, name, APPENDICES[name], folder)
        for name, groups in report.appendices.items()
    ]
    return pictures
