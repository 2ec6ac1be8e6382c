"""What ``--dry-run`` says of a search: cells, steps and CPU hours, rung by rung."""

from collections.abc import Iterator

from rllib_lpdm.grid.estimate import most_steps, probe
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError, counted, figure, one_line
from rllib_lpdm.searches.generations import Progression
from rllib_lpdm.searches.studies import Search, Study


def plan(progression: Progression) -> Iterator[str]:
    """A line for every rung, and more about the whole.

    Hours are at the speed that the settings as they stand have on this machine, and for episodes
    that last to their time limit.

    Raises:
        UserError: a cell cannot be trained.
    """
    search, rungs = progression.search, progression.rungs
    speeds = {
        _kind(cell): _seconds_per_step(cell)
        for study in search.studies
        for cell in _defaults(search, study, 1.0)
    }
    section, more = search.section, search.section.more_seeds
    seeds, count, before = len(section.seeds), section.configurations, 0.0
    stages = []  # title, runs of each kind, and the shares of the iterations from and to
    for rung, share in enumerate(rungs):
        stages.append((f"rung {rung + 1} of {len(rungs)}", count * seeds, before, share))
        count, before = progression.going_on(count), share
    if more:
        kept = min(more.keep, stages[-1][1] // seeds)
        stages.append((f"more seeds for the best {kept}", kept * len(more.seeds), 0.0, 1.0))
    count = section.configurations
    yield (
        f"{counted(len(search.studies), 'winner')} to be found, of "
        f"{counted(count, 'configuration')} and {counted(seeds, 'seed')} each, "
        f"into {progression.folder}"
    )
    all_steps, all_seconds, unbounded = 0, 0.0, set()
    for title, runs, before, share in stages:
        cells = iterations = steps = 0
        seconds = 0.0
        for study in search.studies:
            earlier = _defaults(search, study, before) if before else []
            for index, cell in enumerate(_defaults(search, study, share)):
                further = (cell.settings.iterations or 0) - (
                    (earlier[index].settings.iterations or 0) if earlier else 0
                )
                most = most_steps(cell, further)
                if most is None:
                    unbounded.add(cell.environment)
                cells += runs
                iterations += runs * further
                steps += runs * (most or 0)
                seconds += runs * (most or 0) * speeds[_kind(cell)]
        yield (
            f"{title}: {counted(cells, 'cell')}, "
            f"{counted(iterations, 'iteration')}, at most {steps:,} environment steps, "
            f"and then about {figure(seconds / 3600)} CPU hours"
        )
        all_steps, all_seconds = all_steps + steps, all_seconds + seconds
    if len(stages) > 1:
        yield (
            f"in all at most {all_steps:,} environment steps, and then about "
            f"{figure(all_seconds / 3600)} CPU hours"
        )
    if unbounded:
        yield f"steps and hours without {', '.join(sorted(unbounded))}, which has no time limit"
    done = sum(run.status == "finished" for run in progression.records().values())
    if done:
        yield f"not run again as far as they went: {counted(done, 'cell')} there that ended"


def _defaults(search: Search, study: Study, share: float) -> list[Cell]:
    """A cell of the settings as they stand for each kind of a study."""
    return search.cells(study, 0, {}, share)[: len(study.kinds)]


def _kind(cell: Cell) -> tuple[str, str, str]:
    return cell.environment, cell.algorithm, cell.method


def _seconds_per_step(cell: Cell) -> float:
    try:
        return probe(cell).seconds_per_step
    except Exception as error:  # settings that do not go together, or with this machine
        raise UserError(f"{cell.name}: {one_line(error)}") from error
