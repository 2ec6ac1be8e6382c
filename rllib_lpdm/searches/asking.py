"""Configurations that Optuna asks for, given all that is known so far."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_lpdm.schema.messages import UserError
from rllib_lpdm.schema.search_section import SearchSection
from rllib_lpdm.schema.search_space import Dimension
from rllib_lpdm.searches.studies import Study, Values


def check_optuna() -> None:
    """Raises UserError where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise UserError(
            "search.proposer: optuna is not installed; pip install 'rllib-lpdm[search]', or "
            "propose by sobol"
        ) from None


def asked(
    section: SearchSection,
    study: Study,
    known: Sequence[tuple[Values, float]],
    count: int,
    first: int,
) -> list[Values]:
    """The next configurations of a study, the same whenever they are asked for.

    Tune's searcher is made anew and told of what is known, so that no state of it is ever saved.

    Args:
        section: how settings are searched.
        study: what is searched.
        known: values and score of each configuration that has ended.
        count: how many are asked for.
        first: the number of the first.
    """
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    told = [
        ({name: _index(study.space[name], value) for name, value in values.items()}, score)
        for values, score in known
        if np.isfinite(score) and _is_within(study, values)
    ]
    seed = int(np.random.SeedSequence([section.seed, first]).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)
    searcher = OptunaSearch(
        space={name: _distribution(optuna, each) for name, each in study.space.items()},
        metric="score",
        mode="max",
        sampler=sampler,
        points_to_evaluate=[values for values, _ in told],
        evaluated_rewards=[score for _, score in told],
    )
    return [
        {
            name: _value(study.space[name], value)
            for name, value in searcher.suggest(f"{first + number}").items()
        }
        for number in range(count)
    ]


def _is_within(study: Study, values: Values) -> bool:
    return values.keys() == study.space.keys() and all(
        dimension.holds(values[name]) for name, dimension in study.space.items()
    )


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    distributions = optuna.distributions
    if dimension.choice is not None:  # by number: a choice may be a list, which Optuna refuses
        return distributions.CategoricalDistribution(range(len(dimension.choice)))
    if dimension.integer is not None:
        return distributions.IntDistribution(*dimension.integer)
    low, high = dimension.log or dimension.uniform or (0.0, 0.0)
    return distributions.FloatDistribution(low, high, log=dimension.log is not None)


def _index(dimension: Dimension, value: Any) -> Any:
    return value if dimension.choice is None else dimension.choice.index(value)


def _value(dimension: Dimension, value: Any) -> Any:
    if dimension.choice is not None:
        return dimension.choice[value]
    return value if dimension.integer is not None else dimension.rounded(value)
