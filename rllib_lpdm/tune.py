"""``python -m rllib_lpdm.tune FILE``: trains every cell of an experiment file."""

import argparse
import sys
from pathlib import Path

from rllib_lpdm.analysis.results import read_cells
from rllib_lpdm.analysis.tables import score_table
from rllib_lpdm.experiment.loading import load_experiment
from rllib_lpdm.experiment.preflight import check_environments
from rllib_lpdm.experiment.runner import quiet_environments, run_experiment
from rllib_lpdm.experiment.spec import Experiment, ExperimentError


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 1 where a cell failed; 2 where nothing could start.
    """
    options = _parser().parse_args(arguments)
    try:
        experiment = load_experiment(options.file, options.set)
        cells = experiment.cells()
        quiet_environments()
        check_environments(experiment.environments)
        if options.dry_run:
            print(_plan(experiment, options.output))
            return 0
        print(f"{len(cells)} cells into {options.output / experiment.name}", flush=True)
        outcome = run_experiment(
            experiment,
            options.output,
            address=options.address,
            max_concurrent=options.max_concurrent,
            resume=options.resume,
            overwrite=options.overwrite,
        )
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\nMax score (score at the end), over 50 iterations:")
    print(score_table(read_cells(outcome.folder)))
    if outcome.failed:
        print(f"\n{len(outcome.failed)} of {len(cells)} cells failed:", file=sys.stderr)
        for name, reason in outcome.failed.items():
            print(f"  {name}: {reason}", file=sys.stderr)
        print(f"Tracebacks are in {outcome.folder}/<cell>/run.json", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rllib_lpdm.tune", description=__doc__)
    parser.add_argument(
        "file", type=Path, help="the experiment file, such as tune_configs/grid.yaml"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change an entry: seeds=5, environments=[Hopper-v4], settings.iterations=200",
    )
    parser.add_argument("--output", type=Path, default=Path("results"), help="default: results/")
    parser.add_argument("--address", help="join this Ray cluster; default: RAY_ADDRESS, else none")
    parser.add_argument(
        "--max-concurrent", type=_positive, metavar="N", help="cells at once; default: one per CPU"
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue an existing folder")
    existing.add_argument("--overwrite", action="store_true", help="delete an existing folder")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _plan(experiment: Experiment, output: Path) -> str:
    cells = experiment.cells()
    folder = output / experiment.name
    finished = (
        {cell.run["cell"] for cell in read_cells(folder) if cell.run["status"] == "finished"}
        if folder.is_dir()
        else set()
    )
    iterations = sum(cell.settings.iterations or 0 for cell in cells)
    done = sum(cell.name in finished for cell in cells)
    return "\n".join(
        [
            *(f"{cell.name}{'  finished' if cell.name in finished else ''}" for cell in cells),
            f"{len(cells)} cells, {done} finished, {len(cells) - done} to run, "
            f"{iterations} iterations in all, into {folder}",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
