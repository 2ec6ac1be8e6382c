"""Estimates a search for ``--dry-run``: cells, steps and CPU hours, rung by rung."""

from collections.abc import Iterator

from rllib_lpdm.grid.estimate import most_steps, probe
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError, counted, figure, one_line
from rllib_lpdm.searches.generations import SearchSchedule
from rllib_lpdm.searches.studies import Search


def plan(schedule: SearchSchedule) -> Iterator[str]:
    """Yields a line about every rung, and lines about the whole search.

    Hours are at the speed of the default settings on this machine. Episodes last to their time
    limit.

    Raises:
        UserError: a cell cannot be trained.
    """
    search, section = schedule.search, schedule.search.section
    whole = _defaults(search, 1.0)
    speeds = [_seconds_per_step(cell) for cell in whole]
    yield (
        f"{counted(len(search.studies), 'winner')} to be found, of "
        f"{counted(section.configurations, 'configuration')} and "
        f"{counted(len(section.seeds), 'seed')} each, into {schedule.folder}"
    )
    all_steps, all_seconds = 0, 0.0
    stages = _stages(schedule)
    for title, runs, before, share in stages:
        done = _iterations(search, before) if before else [0] * len(whole)
        further = [now - n for now, n in zip(_iterations(search, share), done, strict=True)]
        most = [most_steps(cell, n) or 0 for cell, n in zip(whole, further, strict=True)]
        steps, seconds = (
            runs * sum(most),
            runs * sum(n * speed for n, speed in zip(most, speeds, strict=True)),
        )
        yield (
            f"{title}: {counted(runs * len(whole), 'cell')}, "
            f"{counted(runs * sum(further), 'iteration')}, at most {steps:,} environment steps, "
            f"and then about {figure(seconds / 3600)} CPU hours"
        )
        all_steps, all_seconds = all_steps + steps, all_seconds + seconds
    if len(stages) > 1:
        yield (
            f"in all at most {all_steps:,} environment steps, and then about "
            f"{figure(all_seconds / 3600)} CPU hours"
        )
    unbounded = {cell.environment for cell in whole if most_steps(cell, 1) is None}
    if unbounded:
        yield f"steps and hours without {', '.join(sorted(unbounded))}, which has no time limit"
    ended = sum(run.status == "finished" for run in schedule.records().values())
    if ended:
        yield f"{counted(ended, 'cell')} there that ended; their iterations are not run again"


def _stages(schedule: SearchSchedule) -> list[tuple[str, int, float, float]]:
    """Returns titles, runs of each kind, and the shares of the iterations from and to."""
    section, rungs = schedule.search.section, schedule.rungs
    seeds, count, before = len(section.seeds), section.configurations, 0.0
    stages = []
    for rung, share in enumerate(rungs):
        stages.append((f"rung {rung + 1} of {len(rungs)}", count * seeds, before, share))
        last, count, before = count, schedule.count_after_rung(count), share
    if more := section.more_seeds:
        kept = min(more.keep, last)
        stages.append((f"more seeds for the best {kept}", kept * len(more.seeds), 0.0, 1.0))
    return stages


def _defaults(search: Search, share: float) -> list[Cell]:
    """Returns one cell with the default settings for each kind of each study."""
    return [
        cell
        for study in search.studies
        for cell in search.cells(study, 0, {}, share)[: len(study.kinds)]
    ]


def _iterations(search: Search, share: float) -> list[int]:
    return [cell.settings.iterations or 0 for cell in _defaults(search, share)]


def _seconds_per_step(cell: Cell) -> float:
    try:
        return probe(cell).seconds_per_step
    except Exception as error:  # settings that do not go together, or with this machine
        raise UserError(f"{cell.name}: {one_line(error)}") from error
