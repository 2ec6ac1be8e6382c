"""``python -m rllib_lpdm.verify CELL_OR_FOLDER``: trains recorded cells again and compares bits."""

import argparse
import sys

from rllib_lpdm.cli import add_import_option, begin, command, complain, end, positive, program
from rllib_lpdm.policies.rerun import (
    TOLERANCE,
    RecordedCell,
    Verification,
    ray_for,
    recorded_cells,
)
from rllib_lpdm.results.storage import given_folder
from rllib_lpdm.schema.messages import UserError, counted, one_line


@command(OSError)
def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0 where every cell is the same, or near enough where versions or processor differ; 1 where
        a cell differs or cannot be trained again; 2 where there is nothing to verify.
    """
    options = _parser().parse_args(arguments)
    begin(options.imports)
    cells, faults = recorded_cells(
        given_folder(options.folder), options.iterations, options.imports
    )
    for fault in faults:
        complain(fault, 1)
    if not cells:
        return 1
    failed, done = len(faults), []
    with ray_for(cells):
        for cell in cells:
            try:
                done.append(_verified(cell))
            except UserError as error:
                failed += 1
                complain(error, 1)
            else:
                print("\n".join(_lines(done[-1], options.tolerance)), flush=True)
    count = len(done) + failed
    bad = failed + sum(not verification.holds(options.tolerance) for verification in done)
    if count > 1:
        identical = sum(verification.difference is None for verification in done)
        near = count - identical - bad
        print(
            f"{count} cells: {identical} identical"
            + (f", {near} within the tolerance" if near else "")
            + (f", {bad} not" if bad else "")
        )
    return 1 if bad else 0


def _verified(recorded: RecordedCell) -> Verification:
    """Trains a cell again; a terminal shows how far it is."""
    if not sys.stderr.isatty():
        return recorded.verify()
    name, count = recorded.run.cell, recorded.cell.settings.iterations

    def tell(rows: int) -> None:
        print(f"\r{name}: row {rows} of {count}", end="", file=sys.stderr, flush=True)

    try:
        return recorded.verify(tell)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _lines(done: Verification, tolerance: float) -> list[str]:
    changed = "; ".join(done.changed)
    if done.difference is None:
        rows = counted(done.rows, "row")
        return [f"{done.cell}: identical, {rows}" + (f" ({changed})" if changed else "")]
    first = done.difference
    now = "there is no such column" if first.now is None else f"{first.now} now"
    lines = [f"{done.cell}: row {first.row}, {first.column}: {first.recorded} recorded, {now}"]
    lines.append(f"  {changed or 'versions and processor are the same'}")
    if done.commit is not None:
        lines.append(f"  the record is of commit {one_line(done.commit, 80)}")
    if done.distance is not None:
        verdict = "within" if done.holds(tolerance) else "more than"
        lines.append(
            f"  over {counted(done.rows, 'row')} the smoothed scores differ by at most "
            f"{done.distance:.2%} of their range, {verdict} the tolerance of {tolerance:.0%}"
        )
    return lines


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError("must be at least 0")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program("verify"), description=__doc__)
    parser.add_argument(
        "folder",
        metavar="CELL_OR_FOLDER",
        help="a cell's folder, an experiment's, a published folder, or a URL of one",
    )
    parser.add_argument(
        "--iterations",
        type=positive,
        metavar="N",
        help="compare the first N rows of every cell; default: all",
    )
    parser.add_argument(
        "--tolerance",
        type=_share,
        default=TOLERANCE,
        metavar="SHARE",
        help="largest difference of smoothed scores where versions or processor differ, as a share "
        f"of the range of the recorded ones; default: {TOLERANCE}",
    )
    add_import_option(parser)
    return parser


if __name__ == "__main__":
    end(main())
