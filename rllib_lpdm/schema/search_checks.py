"""What is wrong with a ``search`` that its entries alone do not show."""

from collections.abc import Sequence
from typing import Any

from rllib_lpdm.schema.cell_settings import RunSettings, every_setting, settings_of
from rllib_lpdm.schema.experiment import MOST_CELLS, Experiment
from rllib_lpdm.schema.faults import check_settings
from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.search_section import SearchSection
from rllib_lpdm.schema.search_space import Dimension
from rllib_lpdm.schema.settings import Settings

KEPT = {"iterations", "init_hidden_from", "pretrain_from"} | (
    RunSettings.model_fields.keys() - Settings.model_fields.keys()
)  # equal for all: the budget, what it starts from, and how a cell is run


def checked(place: str, search: SearchSection, experiment: Experiment) -> SearchSection:
    """A search whose choices are as the settings have them; refused where it is none of its own.

    Raises:
        UserError: names the place.
    """
    if experiment.variants:
        raise UserError(f"{place}: does not go with variants; leave the one or the other out")
    triples = [
        (environment.label, algorithm, method)
        for environment in experiment.environments
        for algorithm in experiment.algorithms
        for method in experiment.methods
    ]
    space = {}
    for name, dimension in search.space.items():
        where = f"{place}.space.{name}"
        _check_values(where, f"{place}.space", name, dimension.examples)
        space[name] = _as_settings_have_it(name, dimension)
        matched = [triple for triple in triples if dimension.applies(*triple)]
        if not matched:
            raise UserError(f"{where}.when: matches none of the experiment's cells")
        for _, algorithm, _ in matched:
            if name not in settings_of(algorithm).model_fields:
                raise UserError(
                    f"{where}: {algorithm} has no such setting; say which have it, such as "
                    "when: {algorithm: [ppo]}"
                )
        if name in experiment.changes:
            raise UserError(f"--set settings.{name}: is searched by {place}.space; leave it")
    for triple in triples:
        if not any(dimension.applies(*triple) for dimension in search.space.values()):
            raise UserError(f"{place}.space: nothing in it is searched of {' '.join(triple)}")
    more = search.more_seeds
    runs = search.configurations * len(search.seeds) + (more.keep * len(more.seeds) if more else 0)
    cells = runs * len(triples)
    if cells > MOST_CELLS:
        raise UserError(f"{place}: {cells:,} cells are more than {MOST_CELLS:,}")
    return search.model_copy(update={"space": space})


def _check_values(where: str, space: str, name: str, values: Sequence[Any]) -> None:
    if name not in every_setting().model_fields:
        check_settings(space, {name: None})
    if name in KEPT:
        raise UserError(f"{where}: is the same for all configurations; set it in settings")
    for value in values:
        check_settings(space, {name: value})


def _as_settings_have_it(name: str, dimension: Dimension) -> Dimension:
    """A choice may be written as text, such as 1e-3, or as a list that becomes a tuple."""
    if dimension.choice is None:
        return dimension
    values = [
        every_setting().model_validate({name: value}).model_dump(mode="json")[name]
        for value in dimension.choice
    ]
    return dimension.model_copy(update={"choice": values})
