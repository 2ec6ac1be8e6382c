"""``python -m rllib_lpdm.verify CELL_OR_FOLDER``: recorded cells again, compared bit for bit."""

import argparse
import sys

from rllib_lpdm.cli import add_import_option, complain, end, positive, program
from rllib_lpdm.policies.command import begin
from rllib_lpdm.policies.rerun import (
    TOLERANCE,
    Again,
    Verification,
    ray_for,
    recorded_cells,
)
from rllib_lpdm.results.storage import given_folder
from rllib_lpdm.schema.messages import UserError, counted, one_line


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0 where every cell is the same, or near enough where versions or processor differ; 1 where
        one is not, or could not be trained again; 2 where there is nothing to verify.
    """
    options = _parser().parse_args(arguments)
    try:
        begin(options.imports)
        recorded, faults = recorded_cells(given_folder(options.folder))
    except UserError as error:
        return complain(error, 2)
    except OSError as error:
        return complain(f"{options.folder} cannot be read ({one_line(error)})", 2)
    failed = len(faults)
    for fault in faults.values():
        complain(fault, 1)
    cells: list[Again] = []
    for one in recorded:
        try:
            cells.append(Again.of(one, options.iterations, options.imports))
        except UserError as error:
            failed += 1
            complain(error, 1)
    if not cells:
        return 1
    done: list[Verification] = []
    try:
        with ray_for(cells):
            for again in cells:
                try:
                    done.append(_verified(again, options.tolerance))
                except UserError as error:
                    failed += 1
                    complain(error, 1)
    except UserError as error:
        return complain(error, 2)
    bad = failed + sum(not verification.holds(options.tolerance) for verification in done)
    if len(done) + failed > 1:
        identical = sum(verification.difference is None for verification in done)
        near = len(done) + failed - identical - bad
        print(
            f"{len(done) + failed} cells: {identical} identical"
            + (f", {near} within the tolerance" if near else "")
            + (f", {bad} not" if bad else "")
        )
    return 1 if bad else 0


def _verified(again: Again, tolerance: float) -> Verification:
    """Trains a cell again and prints what came of it."""
    name, count = again.run.cell, again.cell.settings.iterations
    live = sys.stderr.isatty()

    def tell(rows: int) -> None:
        if live:
            print(f"\r{name}: row {rows} of {count}", end="", file=sys.stderr, flush=True)

    try:
        verification = again.verify(tell)
    finally:
        if live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print("\n".join(_lines(verification, tolerance)), flush=True)
    return verification


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
        help="where versions or processor differ: how far smoothed scores may be apart, as a share "
        f"of the range of the recorded ones; default: {TOLERANCE}",
    )
    add_import_option(parser)
    return parser


if __name__ == "__main__":
    end(main())
