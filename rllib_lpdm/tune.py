"""``python -m rllib_lpdm.tune FILE``: trains every cell of an experiment file."""

import argparse
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rllib_lpdm.analysis.cells import read_results
from rllib_lpdm.analysis.tables import score_table
from rllib_lpdm.cli import add_import_option, begin, command, complain, end, positive, program
from rllib_lpdm.grid.estimate import plan
from rllib_lpdm.grid.folder import Begun, existing_runs
from rllib_lpdm.grid.preflight import (
    check_environments,
    check_networks,
    endless,
    flat_images,
    starts_from_files,
)
from rllib_lpdm.grid.run import Outcome, run_experiment
from rllib_lpdm.grid.trackers.wandb import MODES, resolve_mode
from rllib_lpdm.results.layout import RUN_FILE
from rllib_lpdm.results.plan import Plan
from rllib_lpdm.results.published import read_runs
from rllib_lpdm.results.storage import is_remote, results_folder
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError, counted, listed, one_line


@command()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 1 where a cell failed or the disk was full; 2 where nothing could start; 128 and the
        signal's number where one ended it.
    """
    return resumable("tune", _parser().parse_args(arguments), _tune)


def resumable(name: str, options: argparse.Namespace, run: Callable[..., int]) -> int:
    """Runs a command with its options; where Ctrl-C ends it, prints how to go on."""
    try:
        return run(options)
    except KeyboardInterrupt:
        print(f"\ninterrupted; to go on:\n  {resume_line(name, options)}", file=sys.stderr)
        return 128 + signal.SIGINT


def _tune(options: argparse.Namespace) -> int:
    experiment = load_experiment(options.file, options.set, options.imports)
    if options.without:
        without = frozenset().union(*map(_published, options.without))
        experiment = replace(experiment, without=without)
    if experiment.search:
        raise UserError(
            f"{options.file}: has a search: {program('search')} {options.file} runs it, and writes "
            "an experiment file with what it finds"
        )
    cells = experiment.cells()
    if not cells:
        places = " and ".join(map(str, options.without))
        print(f"nothing to run: every cell of {options.file} is in {places}")
        return 0
    begin()
    check_environments(experiment.environments)
    folder = results_folder(options.output) / experiment.name
    replaces = experiment.throwaway and not options.resume and Plan.read(folder).throwaway
    overwrite = options.overwrite or replaces
    continues = options.resume or (options.dry_run and not overwrite)
    check_networks(_not_begun(cells, folder) if continues else cells)
    for name in endless(experiment.environments):
        print(f"warning: {name} has no time limit, max_episode_steps gives one", file=sys.stderr)
    for name in flat_images(cells):
        print(
            f"warning: {name} shows images, which train as flat vectors; conv_layers, such as "
            "[[16, 8, 4], [32, 4, 2]], gives the network convolutions",
            file=sys.stderr,
        )
    mode = resolve_mode(options.wandb)
    if options.dry_run:
        begun = Begun({}, {}, []) if overwrite else existing_runs(folder, cells)
        usable = [cell for cell in cells if cell.name not in begun.unusable]
        print(*begun.notes, plan(usable, folder, begun.runs, offline=mode == "offline"), sep="\n")
        for reason in begun.unusable.values():
            complain(reason, 1)
        return 0 if not begun.unusable else 1 if usable else 2
    print(f"{counted(len(cells), 'cell')} into {folder}", flush=True)
    if experiment.same:
        print(
            f"{counted(len(experiment.same), 'more cell')} would repeat them, as their method "
            "ignores their variant; reports show one for both: "
            f"{listed(sorted(experiment.same), 3)}"
        )
    outcome = run_experiment(
        experiment,
        options.output,
        address=options.address,
        max_concurrent=options.max_concurrent,
        resume=options.resume,
        overwrite=overwrite,
        wandb=mode,
    )
    _say_scores(outcome)
    return say_end(outcome, len(cells), resume_line("tune", options))


def _say_scores(outcome: Outcome) -> None:
    """The table of scores, what is not in it, and what can be done with the results."""
    results = read_results(outcome.folder)
    cells = [cell for cell in results.cells if cell.run.cell not in outcome.failed]
    if cells:
        print("\nMax score of 50 iterations (mean of the last tenth):")
        print(score_table(cells))
    reported = {cell.run.cell for cell in cells}
    for name, reason in outcome.failed.items():
        print(f"not in the table: {one_line(f'{name}: {reason}')}")
    for name in outcome.finished:
        if name not in reported:
            notes = [note for note in results.notes if note.startswith(f"{name}: ")]
            print(f"not in the table: {one_line(notes[0] if notes else name)}")
    if results.cells:
        print(f"\nTables, figures and a page of it:\n  {_report_line(outcome.folder)}")
    if outcome.sync:
        print(f"\nW&B's files are on this machine; to upload them:\n  {outcome.sync}")


def say_end(outcome: Outcome, cells: int, again: str) -> int:
    """What did not end well, and how to go on; gives the exit status."""
    if outcome.failed:
        print(f"\n{len(outcome.failed)} of {counted(cells, 'cell')} failed:", file=sys.stderr)
        for name, reason in outcome.failed.items():
            print(f"  {name}: {one_line(reason)}", file=sys.stderr)
        print(f"Tracebacks are in {outcome.folder}/<cell>/{RUN_FILE}", file=sys.stderr)
    if outcome.disk_error:
        print(
            f"\nerror: {outcome.folder} cannot be written any more ({outcome.disk_error}); all "
            f"cells were stopped. When there is room again:\n  {again}",
            file=sys.stderr,
        )
    if outcome.signal:
        left = cells - len(outcome.finished) - len(outcome.failed)
        print(
            f"\ninterrupted with {counted(left, 'cell')} to go; to go on:\n  {again}",
            file=sys.stderr,
        )
        return 128 + outcome.signal
    return 1 if outcome.failed or outcome.disk_error else 0


def _published(folder: Path) -> frozenset[str]:
    """Names of the published cells, which are not run again."""
    try:
        return frozenset(read_runs(folder))
    except OSError as error:
        raise UserError(
            f"--without {folder}: no published cells there ({one_line(error)}); name a folder that "
            f"{program('publish')} has made"
        ) from None


def _not_begun(cells: list[Cell], folder: Path) -> list[Cell]:
    """The cells without a checkpoint; all, where none starts from a file."""
    if not starts_from_files(cells):
        return cells
    runs = existing_runs(folder, cells).runs
    return [cell for cell in cells if cell.name not in runs or not runs[cell.name].checkpoints]


def resume_line(command: str, options: argparse.Namespace) -> str:
    """The command line that continues a run with these options."""
    words = [str(options.file)]
    for change in options.set:
        words += ["--set", change]
    for module in options.imports:
        words += ["--import", module]
    for published in getattr(options, "without", []):
        words += ["--without", str(published)]
    words += ["--output", options.output, "--resume", "--wandb", options.wandb]
    if options.address:
        words += ["--address", options.address]
    if options.max_concurrent:
        words += ["--max-concurrent", str(options.max_concurrent)]
    return f"{program(command)} {shlex.join(words)}"


def _report_line(folder: Path) -> str:
    words = [str(folder)]
    if is_remote(folder):
        words += ["--output", f"{folder.name}-report"]
    return f"{program('report')} {shlex.join(words)}"


def _parser() -> argparse.ArgumentParser:
    parser = cells_parser("tune", __doc__)
    parser.add_argument(
        "--without",
        type=Path,
        action="append",
        default=[],
        metavar="PUBLISHED_DIR",
        help="leave out the cells that are published there already; may be given several times",
    )
    return parser


def cells_parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """What a command takes that runs the cells of an experiment file."""
    parser = argparse.ArgumentParser(prog=program(command), description=description)
    parser.add_argument(
        "file",
        type=Path,
        help="the experiment file, such as tune_configs/grid.yaml; a name that is not in the "
        "current folder is taken from the package's files",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="change an entry: seeds=5, environments=[Hopper-v4], settings.iterations=200",
    )
    add_import_option(parser)
    parser.add_argument(
        "--output",
        default="results",
        metavar="DIR",
        help="a folder, or a URL such as s3://bucket/results; default: results/",
    )
    parser.add_argument("--address", help="join this Ray cluster; default: RAY_ADDRESS, else none")
    parser.add_argument(
        "--max-concurrent",
        type=positive,
        metavar="N",
        help="cells at once; default: one per CPU that may be used",
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


if __name__ == "__main__":
    end(main())
