"""``python -m rllib_lpdm.report RESULTS_DIR``: the paper's tables and figures, and a page."""

import argparse
import sys
from pathlib import Path

from rllib_lpdm.analysis.output import write
from rllib_lpdm.analysis.report import ReportError, analyse
from rllib_lpdm.cli import complain, end, program
from rllib_lpdm.results.layout import REPORT_FOLDER
from rllib_lpdm.results.messages import one_line
from rllib_lpdm.results.storage import StorageError, given_folder, is_remote

SHOWN = 10  # notes on the terminal; the page has all


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0 where a report was written, whatever had to be left out of it; 2 where none could be.
    """
    options = _parser().parse_args(arguments)
    try:
        report = analyse(_folder(options.results), options.baseline, options.paper)
        if options.output is None and "://" in options.results:
            raise ReportError(f"{options.results}: say with --output where the report goes")
        page = write(report, options.output or Path(options.results) / REPORT_FOLDER)
    except (ReportError, StorageError) as error:
        return complain(error, 2)
    except OSError as error:
        return complain(f"{options.results} cannot be read ({error.strerror})", 2)
    notes = [*filter(None, [report.caution]), *report.notes]
    for note in notes[:SHOWN]:
        print(f"note: {one_line(note, 600)}", file=sys.stderr)
    if len(notes) > SHOWN:
        print(f"and {len(notes) - SHOWN} more notes, in the page", file=sys.stderr)
    cells, missing = len(report.results.cells), len(report.results.missing)
    print(f"{cells} cell{'s' if cells != 1 else ''}" + (f", {missing} missing" if missing else ""))
    print(page)
    return 0


def _folder(text: str) -> Path:
    folder = given_folder(text)  # "." has no name, which is the experiment's
    return folder.resolve() if folder.name in ("", "..") and not is_remote(folder) else folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program("report"), description=__doc__)
    parser.add_argument(
        "results",
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
    return parser


if __name__ == "__main__":
    end(main())
