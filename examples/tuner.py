"""Two searches by Ray Tune alone, with its own searcher and schedulers: ASHA, and PBT.

In the first, Optuna proposes, and ASHA stops a trial that is behind the others after 50, 100 and
200 iterations. This is quick, and fair only between settings of one method: a slow starter is
stopped before it is ahead. The rungs do not survive a restart of Tune either.
``rllib-lpdm search`` is slower and has neither fault.

In the second, population-based training (PBT) gives a weak trial the checkpoint of a strong one and
another learning rate to go on with.

Needs ``pip install 'rllib-lpdm[search]'``. Results to expect, in some minutes: of each search a
learning rate of lpdm on CartPole-v1, and the return that it came to.
"""

import tempfile

from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from ray.tune.search.optuna import OptunaSearch
from runs import start

from rllib_lpdm.algorithms import Reinforce, ReinforceConfig

RETURN = "env_runners/episode_return_mean"


def tuner(folder: str, samples: int = 16, reports: int = 8, at_once: int = 1) -> tune.Tuner:
    """A search of lpdm's settings on CartPole-v1.

    Args:
        folder: where Tune keeps its results.
        samples: configurations that are tried.
        reports: of 25 iterations each, after which a trial ends.
        at_once: trials that run side by side.
    """
    config = (
        ReinforceConfig()
        .environment("CartPole-v1")
        .training(method="lpdm", hidden_sizes=(64, 64), lr=tune.loguniform(1e-4, 1e-2))
        .training(grad_clip=tune.choice([0.1, 0.5, 1.0]))
        .debugging(seed=1000)  # not one of those that are reported
    )
    return tune.Tuner(
        Reinforce,
        param_space=config,
        tune_config=tune.TuneConfig(
            metric=RETURN,
            mode="max",
            num_samples=samples,
            search_alg=OptunaSearch(seed=0),
            scheduler=ASHAScheduler(
                max_t=reports, grace_period=min(2, reports), reduction_factor=2
            ),
            max_concurrent_trials=at_once,
        ),
        run_config=tune.RunConfig(
            storage_path=folder, stop={"training_iteration": reports}, verbose=0
        ),
    )


def population(folder: str, trials: int = 4, reports: int = 8) -> tune.Tuner:
    """A population on CartPole-v1 whose learning rates change while it trains.

    Args:
        folder: where Tune keeps its results.
        trials: members of the population.
        reports: of 25 iterations each; after each one the weaker half may copy the stronger.
    """
    config = (
        ReinforceConfig()
        .environment("CartPole-v1")
        .training(method="lpdm", hidden_sizes=(64, 64), lr=tune.loguniform(1e-4, 1e-2))
        .debugging(seed=1000)
    )
    return tune.Tuner(
        Reinforce,
        param_space=config,
        tune_config=tune.TuneConfig(
            metric=RETURN,
            mode="max",
            num_samples=trials,
            scheduler=PopulationBasedTraining(
                time_attr="training_iteration",
                perturbation_interval=1,
                hyperparam_mutations={"lr": tune.loguniform(1e-4, 1e-2)},
                quantile_fraction=0.5,
                synch=True,
            ),
        ),
        run_config=tune.RunConfig(
            storage_path=folder, stop={"training_iteration": reports}, verbose=0
        ),
    )


def main() -> None:
    start(__doc__)
    for search in (tuner, population):
        with tempfile.TemporaryDirectory() as folder:
            best = search(folder).fit().get_best_result()
        print(f"{search.__name__}: lr {best.config['lr']:.2g}, return {best.metrics[RETURN]:.1f}")


if __name__ == "__main__":
    main()
