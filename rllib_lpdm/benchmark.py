"""``python -m rllib_lpdm.benchmark [NAME ...]``: speed and memory as ratios, on one core.

The benchmarks are the folder ``benchmarks`` of a checkout; an installed wheel has none.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rllib_lpdm.algorithms.threads import single_threaded
from rllib_lpdm.cli import command, end, program
from rllib_lpdm.grid.session import leave_ray, start_ray
from rllib_lpdm.schema.messages import UserError, figure, unknown_name

if TYPE_CHECKING:
    from benchmarks import Row

CHECKOUT = Path(__file__).resolve().parents[1]


@command()
def main(arguments: list[str] | None = None) -> int:
    """Runs the named benchmarks, all by default, and prints one table.

    Returns:
        0, also where a target is missed, because machines differ. 2 where Ray does not start, or
        where there are no benchmarks.
    """
    if not (CHECKOUT / "benchmarks").is_dir():
        raise UserError(f"{CHECKOUT} has no benchmarks: run this command in a checkout")
    sys.path.insert(0, str(CHECKOUT))
    # Ray's workers, too, must find the benchmarks.
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    from benchmarks import BENCHMARKS

    parser = argparse.ArgumentParser(prog=program("benchmark"), description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to FILE too")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(unknown_name(unknown[0], BENCHMARKS, "benchmark"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    start_ray(num_cpus=1)
    rows: list[Row] = []
    print(HEADER, flush=True)
    with single_threaded():  # stock RLlib too, which would otherwise start more threads than cores
        for name in options.names or BENCHMARKS:
            for row in BENCHMARKS[name]():
                rows.append(row)
                print(_line(row), flush=True)
    leave_ray()
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    return 0


FORMAT = "{:<13} {:<28} {:>9} {:>9} {:<8} {:<30} {:>6} {:>8} {}"
HEADER = FORMAT.format(
    "benchmark", "case", "figure", "beside", "unit", "compared with", "ratio", "target", "met"
)


def _line(row: Row) -> str:
    met = {True: "yes", False: "no", None: ""}[row.met]
    numbers = (
        f"{number:.0f}" if row.reference >= 100 else figure(number, 3)
        for number in (row.figure, row.reference)
    )
    ratio = f"{row.ratio:.2f}"
    names = row.unit, row.compared_with
    return FORMAT.format(row.benchmark, row.case, *numbers, *names, ratio, row.target, met)


if __name__ == "__main__":
    end(main())
