"""``python -m rllib_lpdm.tune FILE``: trains every cell of an experiment file."""

import argparse
import shlex
import signal
import sys
from pathlib import Path

from rllib_lpdm.analysis.results import read_results
from rllib_lpdm.analysis.tables import score_table
from rllib_lpdm.experiment.estimate import plan
from rllib_lpdm.experiment.loading import load_experiment
from rllib_lpdm.experiment.preflight import (
    check_environments,
    check_networks,
    starts_from_files,
)
from rllib_lpdm.experiment.runner import existing_runs, run_experiment
from rllib_lpdm.experiment.spec import Cell, ExperimentError
from rllib_lpdm.experiment.storage import results_folder
from rllib_lpdm.experiment.trackers.wandb_mode import MODES, resolve_mode
from rllib_lpdm.experiment.trials import quiet_environments


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 1 where a cell failed or the disk was full; 2 where nothing could start; 128 and the
        signal's number where one ended it.
    """
    options = _parser().parse_args(arguments)
    again = _resume_line(options)
    try:
        return _tune(options, again)
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; to go on:\n  {again}", file=sys.stderr)
        return 128 + signal.SIGINT


def _tune(options: argparse.Namespace, again: str) -> int:
    experiment = load_experiment(options.file, options.set)
    cells = experiment.cells()
    quiet_environments()
    check_environments(experiment.environments)
    folder = results_folder(options.output) / experiment.name
    continues = options.resume or (options.dry_run and not options.overwrite)
    check_networks(_not_begun(cells, folder) if continues else cells)
    mode = resolve_mode(options.wandb)
    if options.dry_run:
        runs = {} if options.overwrite else existing_runs(folder, cells)
        print(plan(cells, folder, runs, offline=mode == "offline"))
        return 0
    print(f"{len(cells)} cell{'s' if len(cells) != 1 else ''} into {folder}", flush=True)
    outcome = run_experiment(
        experiment,
        options.output,
        address=options.address,
        max_concurrent=options.max_concurrent,
        resume=options.resume,
        overwrite=options.overwrite,
        wandb=mode,
    )
    results = read_results(outcome.folder).cells
    if results:
        print("\nMax score of 50 iterations (mean of the last tenth):")
        print(score_table(results))
    if outcome.sync:
        print(f"\nW&B's files are on this machine; to upload them:\n  {outcome.sync}")
    if outcome.failed:
        print(f"\n{len(outcome.failed)} of {len(cells)} cells failed:", file=sys.stderr)
        for name, reason in outcome.failed.items():
            print(f"  {name}: {reason}", file=sys.stderr)
        print(f"Tracebacks are in {outcome.folder}/<cell>/run.json", file=sys.stderr)
    if outcome.disk_error:
        print(
            f"\nerror: {outcome.folder} cannot be written any more ({outcome.disk_error}); all "
            f"cells were stopped. When there is room again:\n  {again}",
            file=sys.stderr,
        )
    if outcome.signal:
        left = len(cells) - len(outcome.finished) - len(outcome.failed)
        print(f"\ninterrupted with {left} cells to go; to go on:\n  {again}", file=sys.stderr)
        return 128 + outcome.signal
    return 1 if outcome.failed or outcome.disk_error else 0


def _not_begun(cells: list[Cell], folder: Path) -> list[Cell]:
    """The cells without a checkpoint; all, where none starts from a file."""
    if not starts_from_files(cells):
        return cells
    runs = existing_runs(folder, cells)
    return [cell for cell in cells if not runs.get(cell.name, {}).get("checkpoints")]


def _resume_line(options: argparse.Namespace) -> str:
    """The command line that continues a run with these options."""
    words = ["python", "-m", "rllib_lpdm.tune", str(options.file)]
    for change in options.set:
        words += ["--set", change]
    words += ["--output", options.output, "--resume", "--wandb", options.wandb]
    if options.address:
        words += ["--address", options.address]
    if options.max_concurrent:
        words += ["--max-concurrent", str(options.max_concurrent)]
    return shlex.join(words)


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
    parser.add_argument(
        "--output",
        default="results",
        metavar="DIR",
        help="a folder, or a URL such as s3://bucket/results; default: results/",
    )
    parser.add_argument("--address", help="join this Ray cluster; default: RAY_ADDRESS, else none")
    parser.add_argument(
        "--max-concurrent", type=_positive, metavar="N", help="cells at once; default: one per CPU"
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="continue an existing folder")
    existing.add_argument("--overwrite", action="store_true", help="delete an existing folder")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    parser.add_argument(
        "--wandb",
        choices=MODES,
        default="auto",
        help="Weights & Biases; auto: online where there is a key, else offline",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
