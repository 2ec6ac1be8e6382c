"""Everything a report says about a results folder, in numbers and sentences."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rllib_lpdm.analysis.aggregates import Aggregate, aggregate_rows
from rllib_lpdm.analysis.cells import Results, read_results
from rllib_lpdm.analysis.claims import Finding, findings
from rllib_lpdm.analysis.groups import (
    Group,
    Groups,
    Score,
    Speed,
    baseline_of,
    grouped,
    score_rows,
    speed_rows,
)
from rllib_lpdm.analysis.search_summary import (
    Gain,
    Sensitivity,
    default_and_winners,
    gains,
    sensitivities,
)
from rllib_lpdm.analysis.statistics import ENOUGH
from rllib_lpdm.results.iterations import LENGTH
from rllib_lpdm.results.layout import ITERATIONS_FILE, RUN_FILE
from rllib_lpdm.results.paper import budget, published
from rllib_lpdm.results.published import is_published
from rllib_lpdm.results.search_record import SearchRecord
from rllib_lpdm.results.storage import given_folder
from rllib_lpdm.schema.cell_settings import DEFAULTS, HOW_RUN
from rllib_lpdm.schema.columns import metric_of
from rllib_lpdm.schema.messages import UserError, listed, no_folder

APPENDICES = {
    "appendix_a": "Figure A1: sparse distance matrices",
    "appendix_b": "Figure A2: forward-error propagation",
    "appendix_c": "Figure A3: learning rates by layer",
    "appendix_d": "Figure A4: frozen random layers",
}


@dataclass(frozen=True)
class Report:
    """All figures of a report, before anything is drawn or laid out.

    Attributes:
        results: the experiment's cells, those that are missing, and what reading them met.
        baseline: the method that the others are compared with.
        with_paper: whether the paper's numbers stand beside ours.
        groups: the cells by place and series.
        scores: the paper's table.
        speeds: wall clock and speed.
        aggregates: the methods over all environments.
        notes: a sentence for everything that limits what the figures say.
        claims: what the runs say of the paper's claims.
        caution: a sentence before all else, that there are too few seeds; else empty.
        appendices: the cells of the appendices' experiments by their folder's name.
        search: what a search found, whose cells these are; None where they are of none.
        sensitivities: of its methods to their settings.
        gains: what tuned settings gain on the seeds that are reported.
    """

    results: Results
    baseline: str
    with_paper: bool
    groups: Groups
    scores: Sequence[Score]
    speeds: Sequence[Speed]
    aggregates: Sequence[Aggregate]
    notes: Sequence[str]
    claims: Sequence[Finding] = ()
    caution: str = ""
    appendices: dict[str, Groups] = field(default_factory=dict)
    search: SearchRecord | None = None
    sensitivities: Sequence[Sensitivity] = ()
    gains: Sequence[Gain] = ()


def analyse(folder: str | Path, baseline: str = "bp", with_paper: bool = False) -> Report:
    """Everything a report says about an experiment's folder.

    Args:
        folder: an experiment's folder, or one that holds a single experiment besides those of the
            paper's appendices. The appendices are also looked for beside it.
        baseline: the method to compare with.
        with_paper: whether the paper's numbers are shown beside.

    Raises:
        UserError: there is nothing to report.
    """
    folder, appendices = _experiments(given_folder(str(folder)))
    results = read_results(folder, _is_needed)
    if not results.cells:
        raise UserError(
            f"{folder} "
            + (
                "is a cell; name the experiment's folder, which it lies in"
                if _is_cell(folder)
                else "holds no cell that has finished an iteration; a cell is a folder with "
                f"{RUN_FILE} and {ITERATIONS_FILE}"
            )
            + "".join(f"\n  {note}" for note in results.notes[:10])
        )
    results, search = _of_search(folder, results)
    groups = grouped(results.cells)
    methods = dict.fromkeys(series.method for row in groups.values() for series in row)
    if baseline not in methods and baseline != "bp":
        raise UserError(
            f"--baseline {baseline}: no cell has that method; there are {', '.join(methods)}"
        )
    aggregates, left_out = aggregate_rows(groups, baseline)
    read = {
        path.name: results if path == folder else read_results(path, _is_needed)
        for path in sorted(appendices)
    }
    notes = [
        *([*_other_budgets(groups), *_outside(groups)] if with_paper else []),
        *results.notes,
        *(
            f"{name}: {note}"
            for name, other in read.items()
            if other is not results
            for note in other.notes
        ),
        *_limits(groups, baseline),
        *left_out,
    ]
    return Report(
        results=results,
        baseline=baseline,
        with_paper=with_paper,
        groups=groups,
        scores=score_rows(groups, baseline),
        speeds=speed_rows(groups, baseline),
        aggregates=aggregates,
        claims=findings(groups),
        notes=notes,
        caution=_few_seeds(groups),
        appendices={name: grouped(other.cells) for name, other in read.items() if other.cells},
        search=search,
        sensitivities=sensitivities(search) if search else (),
        gains=_gains(folder, groups, search),
    )


def _of_search(folder: Path, results: Results) -> tuple[Results, SearchRecord | None]:
    """The cells that are shown, and what the search that they are of has found."""
    try:
        search = SearchRecord.read(folder)
    except ValueError as error:
        return replace(results, notes=[*results.notes, f"{error}; left out"]), None
    if search is None:
        return results, None
    shown = default_and_winners(results, search)
    if not shown.cells:
        return results, search
    note = (
        f"Of the {len(results.cells)} cells of a search those of the settings as they stood "
        "(reference) and of the winners (tuned) are in the tables and curves. They are on the "
        "seeds that the winners were chosen on, so that these look better than they are: report "
        "the runs of tuned.yaml"
    )
    return replace(shown, notes=[note, *shown.notes]), search


def _gains(folder: Path, groups: Groups, search: SearchRecord | None) -> list[Gain]:
    """Those of the experiment itself; of a search those of its tuned settings' runs beside it."""
    if search is None:
        return gains(groups)
    beside = folder.parent / f"{search.name}-tuned"
    if not beside.is_dir():
        return []
    return gains(grouped(read_results(beside, _is_needed).cells))


def _is_needed(column: str) -> bool:
    return metric_of(column)[0] in ("iteration", "env_steps", LENGTH, "seconds", "distance_error")


def _experiments(folder: Path) -> tuple[Path, list[Path]]:
    """The experiment to report, and those of the appendices in or beside its folder."""
    if not folder.is_dir():
        raise UserError(no_folder(folder))
    if _holds_cells(folder):
        beside = [folder.parent / name for name in APPENDICES if name != folder.name]
        found = [path for path in beside if path.is_dir() and _holds_cells(path)]
        return folder, ([folder] if folder.name in APPENDICES else []) + found
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and _holds_cells(path))
    main = [path for path in inside if path.name not in APPENDICES]
    if len(main) > 1:
        raise UserError(
            f"{folder} holds several experiments; name one of them: "
            + ", ".join(str(path) for path in main)
        )
    if not inside:
        return folder, []
    return (main or inside)[0], [path for path in inside if path.name in APPENDICES]


def _holds_cells(folder: Path) -> bool:
    try:
        return is_published(folder) or any(map(_is_cell, folder.iterdir()))
    except OSError:  # not ours to read, or gone meanwhile
        return False


def _is_cell(folder: Path) -> bool:
    try:
        return (folder / RUN_FILE).is_file()
    except OSError:
        return False


def _outside(groups: Groups) -> list[str]:
    """A sentence that names the environments for which the paper has no numbers."""
    known = {environment for environment, _, _ in published()}
    outside = [
        name for name in dict.fromkeys(place.environment for place in groups) if name not in known
    ]
    are = "is" if len(outside) == 1 else "are"
    return [f"{listed(outside)} {are} not among the paper's environments"] if outside else []


def _few_seeds(groups: Groups) -> str:
    counts = {group.name: len(group.counted) for row in groups.values() for group in row.values()}
    few = [name for name, count in counts.items() if count < ENOUGH]
    if not few:
        return ""
    which = f" of {listed(few)}" if len(few) < len(counts) else ""
    single = " A single seed gives no spread and no interval." if 1 in counts.values() else ""
    return (
        f"Too few seeds{which} to tell methods apart: that takes at least {ENOUGH}. Until then the "
        f"figures are what these runs did and no more, and none is bold.{single}"
    )


def _other_budgets(groups: Groups) -> list[str]:
    different = []
    for place, row in groups.items():
        theirs = budget(*place) if all(group.as_registered for group in row.values()) else None
        ours = sorted({group.scores.shape[1] for group in row.values()})
        if theirs and ours != [theirs]:
            spans = " to ".join(map(str, dict.fromkeys((ours[0], ours[-1]))))
            different.append(f"{place.environment} {place.algorithm} {spans} (paper {theirs})")
    if not different:
        return []
    return [
        "The budgets differ from the paper's, so that its figures are of shorter or longer "
        f"training. Iterations: {', '.join(different)}"
    ]


def _limits(groups: Groups, baseline: str) -> list[str]:
    """A sentence for everything about the runs that limits what a comparison says."""
    notes = []
    unstepped = [
        cell.run.cell
        for row in groups.values()
        for group in row.values()
        for cell in group.cells
        if "env_steps" not in cell.columns
    ]
    if unstepped:
        notes.append(
            f"{unstepped[0]} has no environment steps ({len(unstepped)} of all cells), so there "
            "are no curves by steps"
        )
    for place, row in groups.items():
        where = f"{place.environment} {place.algorithm}"
        alone = [s.label for s, group in row.items() if baseline_of(group, row, baseline) is None]
        if len(alone) == len(row):
            notes.append(f"{where} has no {baseline} runs, so no ratios")
        elif alone:
            which = ", ".join(alone)
            notes.append(f"{where} has no {baseline} runs to compare {which} with, so no ratios")
        spans = {series.label: group.scores.shape[1] for series, group in row.items()}
        if len(set(spans.values())) > 1:
            each = listed([f"{label} {count}" for label, count in spans.items()])
            notes.append(f"{where} compares runs of unequal numbers of iterations: {each}")
        counts = {series.label: len(group.counted) for series, group in row.items()}
        if len(set(counts.values())) > 1:
            each = listed([f"{label} {count}" for label, count in counts.items()])
            notes.append(f"{where} has unequal numbers of seeds: {each}")
    for group in (group for row in groups.values() for group in row.values()):
        lengths = sorted(len(returns) for returns in group.returns)
        if not group.finished:
            notes.append(f"{group.name} has no finished run; its figures are those so far")
        if lengths[0] != lengths[-1]:
            notes.append(
                f"{group.name} has runs of {lengths[0]} to {lengths[-1]} iterations; max score, "
                f"spread and iterations are over the first {lengths[0]}, which all of them have"
            )
        notes += _different_settings(group)
    return notes


def _different_settings(group: Group) -> list[str]:
    """A sentence where runs that are averaged were not trained alike."""
    settings = [DEFAULTS | cell.run.settings for cell in group.cells]
    names = dict.fromkeys(name for each in settings for name in each)
    different = [
        name
        for name in names
        if name not in HOW_RUN and any(each.get(name) != settings[0].get(name) for each in settings)
    ]
    return (
        [f"{group.name} averages runs with different {', '.join(different)}"] if different else []
    )
