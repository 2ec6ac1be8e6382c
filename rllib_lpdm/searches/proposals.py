"""Proposes configurations: at random, spread evenly by a Sobol sequence, or by Optuna.

A random or Sobol value depends on the seed, the setting's place in the space and the
configuration's number alone. So all methods get the same values of the settings that they share,
and a larger search begins with the configurations of a smaller one.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy  # loads its `stats` when asked

from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.search_section import SearchSection
from rllib_lpdm.schema.search_space import Dimension

Values = dict[str, Any]  # of the searched settings, by name


def first_proposals(section: SearchSection) -> list[Values]:
    """Returns the values of all configurations before any has run; number 0 changes nothing."""
    count, dimensions = section.configurations - 1, section.space.values()
    if section.proposer == "random":
        generators = [
            np.random.default_rng([section.seed, zlib.crc32(name.encode())])
            for name in section.space
        ]
        units = np.stack([generator.random(count) for generator in generators], axis=1)
    else:
        rng = np.random.default_rng(section.seed)
        sampler = scipy.stats.qmc.Sobol(len(dimensions), scramble=True, rng=rng)
        # only whole powers of two are spread evenly
        units = sampler.random_base2(max(count - 1, 1).bit_length())[:count]
    values = [
        [dimension.at(unit) for dimension, unit in zip(dimensions, row, strict=True)]
        for row in units.tolist()
    ]
    return [{}, *(dict(zip(section.space, row, strict=True)) for row in values)]


def check_optuna() -> None:
    """Raises UserError where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError(
            "search.proposer: optuna is not installed; pip install 'rllib-lpdm[search]', or "
            "propose by sobol"
        ) from None


def optuna_proposals(
    section: SearchSection,
    space: Mapping[str, Dimension],
    known: Sequence[tuple[Values, float]],
    numbers: range,
) -> list[Values]:
    """Returns Optuna's next configurations, the same ones at every call with these arguments.

    Every call makes Tune's searcher anew and tells it all that is known. So no state is saved.

    Args:
        section: how settings are searched.
        space: the settings of the study.
        known: values and score of each configuration that has ended.
        numbers: the numbers of the new configurations.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    told = [
        ({name: _to_optuna(space[name], value) for name, value in values.items()}, score)
        for values, score in known
        if np.isfinite(score)
        and values.keys() == space.keys()
        and all(dimension.holds(values[name]) for name, dimension in space.items())
    ]
    seed = int(np.random.SeedSequence([section.seed, numbers.start]).generate_state(1)[0])
    searcher = OptunaSearch(
        space={name: _distribution(optuna, each) for name, each in space.items()},
        metric="score",
        mode="max",
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=1),
        points_to_evaluate=[values for values, _ in told],
        evaluated_rewards=[score for _, score in told],
    )
    return [
        {
            name: _from_optuna(space[name], value)
            for name, value in searcher.suggest(f"{number}").items()
        }
        for number in numbers
    ]


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    distributions = optuna.distributions
    if dimension.choice is not None:  # by number: a choice may be a list, which Optuna refuses
        return distributions.CategoricalDistribution(range(len(dimension.choice)))
    if dimension.integer is not None:
        return distributions.IntDistribution(*dimension.integer)
    low, high = dimension.log or dimension.uniform or (0.0, 0.0)
    return distributions.FloatDistribution(low, high, log=dimension.log is not None)


def _to_optuna(dimension: Dimension, value: Any) -> Any:
    return value if dimension.choice is None else dimension.choice.index(value)


def _from_optuna(dimension: Dimension, value: Any) -> Any:
    if dimension.choice is not None:
        return dimension.choice[value]
    return value if dimension.integer is not None else dimension.rounded(value)
