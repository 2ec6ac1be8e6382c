"""``python -m rllib_lpdm.search FILE``: searches settings, with equal budgets for all methods."""

import argparse

from rllib_lpdm.cli import begin, command, end, program
from rllib_lpdm.grid.preflight import check_environments, check_networks
from rllib_lpdm.grid.trackers.wandb import resolve_mode
from rllib_lpdm.results.layout import SEARCH_FILE, TUNED_FILE
from rllib_lpdm.results.storage import results_folder
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import one_line
from rllib_lpdm.searches.generations import SearchSchedule
from rllib_lpdm.searches.outcome import sentence
from rllib_lpdm.searches.proposals import check_optuna
from rllib_lpdm.searches.search_estimate import plan
from rllib_lpdm.searches.search_run import run_search
from rllib_lpdm.searches.studies import Search
from rllib_lpdm.tune import cells_parser, resumable, resume_line, say_end


@command()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 1 where a cell failed or the disk was full; 2 where nothing could start; 128 and the
        signal's number where one ended it.
    """
    options = cells_parser("search", __doc__).parse_args(arguments)
    return resumable("search", options, _search)


def _search(options: argparse.Namespace) -> int:
    search = Search.of(load_experiment(options.file, options.set, options.imports))
    if search.section.proposer == "optuna":
        check_optuna()
    begin()
    check_environments(search.experiment.environments)
    check_networks([cell for study in search.studies for cell in search.cells(study, 0, {})])
    mode = resolve_mode(options.wandb)
    if options.dry_run:
        folder = results_folder(options.output) / search.experiment.name
        print(*plan(SearchSchedule(search, folder)), sep="\n")
        return 0
    outcome, record = run_search(
        search,
        options.output,
        address=options.address,
        max_concurrent=options.max_concurrent,
        resume=options.resume,
        overwrite=options.overwrite,
        wandb=mode,
    )
    if record is not None:
        print("\nChosen:")
        for study in record.studies:
            print(f"  {one_line(sentence(study, search.section.calibration is not None))}")
        folder = outcome.folder
        print(f"\nAll scores are in {folder / SEARCH_FILE}. On the seeds that are reported:")
        print(f"  {program('tune')} {folder / TUNED_FILE}")
        print(f"Figures and tables of the search:\n  {program('report')} {folder}")
    return say_end(outcome, len(search.names()), resume_line("search", options))


if __name__ == "__main__":
    end(main())
