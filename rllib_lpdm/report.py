"""``python -m rllib_lpdm.report RESULTS_DIR``: the paper's tables and figures, and a page.

With ``--distances`` it prints how far the runs are from published scores, and writes nothing.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rllib_lpdm.analysis.cells import read_results
from rllib_lpdm.analysis.output import write
from rllib_lpdm.analysis.published_distances import distances, distances_text
from rllib_lpdm.analysis.summary import analyse
from rllib_lpdm.cli import command, end, program
from rllib_lpdm.results.layout import REPORT_FOLDER
from rllib_lpdm.results.paper import read_table
from rllib_lpdm.results.storage import given_folder, is_remote
from rllib_lpdm.schema.messages import UserError, counted, no_folder, one_line
from rllib_lpdm.schema.search_section import FLOORS

SHOWN = 10  # notes on the terminal; the page has all


@command(OSError)
def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0 where a report was written, even if parts had to be left out of it; 2 where none could be.
    """
    options = _parser().parse_args(arguments)
    return _distances(options) if options.distances else _report(options)


def _report(options: argparse.Namespace) -> int:
    if len(options.results) > 1 or options.published or options.floor is not None:
        raise UserError("several folders, --published and --floor go with --distances")
    (results,) = options.results
    report = analyse(_folder(results), options.baseline, options.paper)
    if options.output is None and "://" in results:
        raise UserError(f"{results}: say with --output where the report goes")
    page = write(report, options.output or Path(results) / REPORT_FOLDER)
    _say([*filter(None, [report.caution]), *report.notes])
    cells, missing = len(report.results.cells), len(report.results.missing)
    print(counted(cells, "cell") + (f", {missing} missing" if missing else ""))
    print(page)
    return 0


def _distances(options: argparse.Namespace) -> int:
    floor = FLOORS["max_score"] if options.floor is None else options.floor
    if not 0 < floor < math.inf:
        raise UserError(f"--floor: {floor:g} percent; give a number above 0")
    try:
        table = read_table(options.published) if options.published else None
    except ValueError as error:
        raise UserError(str(error)) from None
    read = {}
    for name in options.results:
        folder = _folder(name)
        if not folder.is_dir():
            raise UserError(no_folder(folder))
        read[name] = read_results(folder, lambda column: False)
    _say([f"{name}: {note}" for name, results in read.items() for note in results.notes])
    found = distances(read, table, floor)
    if not any(distance for places in found.values() for distance in places.values()):
        which = options.published or "the paper's table"
        raise UserError(f"{which} has no number for any finished run in {', '.join(read)}")
    print(distances_text(found))
    return 0


def _say(notes: Sequence[str]) -> None:
    for note in notes[:SHOWN]:
        print(f"note: {one_line(note, 600)}", file=sys.stderr)
    if len(notes) > SHOWN:
        print(f"and {counted(len(notes) - SHOWN, 'more note')}, in the page", file=sys.stderr)


def _folder(text: str) -> Path:
    folder = given_folder(text)  # "." has no name, which is the experiment's
    return folder.resolve() if folder.name in ("", "..") and not is_remote(folder) else folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program("report"), description=__doc__)
    parser.add_argument(
        "results",
        nargs="+",
        metavar="RESULTS_DIR",
        help="an experiment's folder, such as results/grid; while it runs, too",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help=f"default: RESULTS_DIR/{REPORT_FOLDER}"
    )
    parser.add_argument(
        "--baseline",
        default="bp",
        metavar="METHOD",
        help="what the other methods are compared with; default: bp",
    )
    parser.add_argument(
        "--paper", action="store_true", help="put the paper's numbers beside, with the difference"
    )
    parser.add_argument(
        "--distances",
        action="store_true",
        help="print how far max scores are from the paper's, in units of its spread; no page",
    )
    parser.add_argument(
        "--published", type=Path, metavar="FILE", help="a CSV in place of the paper's table"
    )
    parser.add_argument(
        "--floor",
        type=float,
        metavar="PERCENT",
        help="of a published score, that its spread counts as at least; "
        f"default: {FLOORS['max_score']:g}",
    )
    return parser


if __name__ == "__main__":
    end(main())
