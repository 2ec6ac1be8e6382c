"""``python -m rllib_lpdm.search FILE``: searches settings, with equal budgets for all methods."""

import argparse
import logging
import signal
import sys
from dataclasses import replace

from rllib_lpdm.cli import complain, end, program
from rllib_lpdm.grid.cell import quiet_environments
from rllib_lpdm.grid.preflight import check_environments, check_networks
from rllib_lpdm.grid.run import Outcome
from rllib_lpdm.grid.trackers.wandb import resolve_mode
from rllib_lpdm.results.layout import SEARCH_FILE, TUNED_FILE
from rllib_lpdm.results.storage import results_folder
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError, one_line
from rllib_lpdm.searches.asking import check_optuna
from rllib_lpdm.searches.generations import Progression
from rllib_lpdm.searches.outcome import sentence
from rllib_lpdm.searches.search_estimate import plan
from rllib_lpdm.searches.search_run import SearchOutcome, run_search
from rllib_lpdm.searches.studies import Search
from rllib_lpdm.tune import cells_parser, resume_line, say_end


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 1 where a cell failed or the disk was full; 2 where nothing could start; 128 and the
        signal's number where one ended it.
    """
    options = cells_parser("search", __doc__).parse_args(arguments)
    try:
        return _search(options)
    except UserError as error:
        return complain(error, 2)
    except KeyboardInterrupt:
        print(f"\ninterrupted; to go on:\n  {resume_line('search', options)}", file=sys.stderr)
        return 128 + signal.SIGINT


def _search(options: argparse.Namespace) -> int:
    search = Search.of(load_experiment(options.file, options.set, options.imports))
    if search.section.proposer == "optuna":
        check_optuna()
    quiet_environments()
    logging.getLogger("ray").setLevel(logging.ERROR)  # RLlib's advice to developers of RLlib
    check_environments(search.experiment.environments)
    check_networks([cell for study in search.studies for cell in search.cells(study, 0, {})])
    mode = resolve_mode(options.wandb)
    if options.dry_run:
        folder = results_folder(options.output) / search.experiment.name
        print(*plan(Progression(search, folder)), sep="\n")
        return 0
    outcome = run_search(
        search,
        options.output,
        address=options.address,
        max_concurrent=options.max_concurrent,
        resume=options.resume,
        overwrite=options.overwrite,
        wandb=mode,
    )
    _say_winners(outcome, search.section.calibration is not None)
    last = outcome.last or Outcome(outcome.folder, [], {})
    ended = replace(last, failed=outcome.failed)
    return say_end(ended, len(search.names()), resume_line("search", options))


def _say_winners(outcome: SearchOutcome, are_distances: bool) -> None:
    if outcome.record is None:
        return
    print("\nChosen:")
    for study in outcome.record.studies:
        print(f"  {one_line(sentence(study, are_distances))}")
    print(f"\nAll scores are in {outcome.folder / SEARCH_FILE}. On the seeds that are reported:")
    print(f"  {program('tune')} {outcome.folder / TUNED_FILE}")
    print(f"Figures and tables of the search:\n  {program('report')} {outcome.folder}")


if __name__ == "__main__":
    end(main())
