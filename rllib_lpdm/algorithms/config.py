"""The config that algorithms share: settings, their validation, RLlib's classes."""

import itertools
import numbers
import secrets
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self

import pydantic
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig, NotProvided
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.tune.search.sample import Domain

from rllib_lpdm.algorithms.module import (
    ActorCriticModule,
    black_box_function,
    metric_function,
)
from rllib_lpdm.algorithms.ray_internals import (
    described_network,
    has_connectors,
    stay_silent_on_the_api_stack,
)
from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.schema.messages import fault, unknown_name
from rllib_lpdm.schema.registry import METHODS, REGISTRIES
from rllib_lpdm.schema.settings import RLLIB_NAMES, Settings, unknown_setting

RLLIB = AlgorithmConfig()  # its defaults
WHOLE_EPISODES = RLLIB.rollout_fragment_length  # without effect here


class LocalConfig(AlgorithmConfig):
    """AlgorithmConfig with ``method=`` and the settings of :mod:`~rllib_lpdm.schema.settings`.

    Rollouts and updates are this package's own, and connectors and vectorised environments have
    no part in them. A config that asks for them is refused. With ``learners(num_learners=2)`` or
    more the learners share the rows of every batch.
    """

    settings_class: ClassVar[type[Settings]] = Settings
    steps_per_iteration: int = 0  # where no setting says otherwise
    seed: int | None

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class)
        self.method = "lpdm"
        for name, field in self.settings_class.model_fields.items():
            setattr(self, name, field.default)
        self.env_runner_cls = EpisodeRunner
        self.num_env_runners = 0
        self.min_time_s_per_iteration = None
        self.normalize_actions = False
        self.clip_actions = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Registers the user's own entries in the process that a config reaches."""
        self.__dict__.update(state)
        for registry, added in zip(REGISTRIES, state.get("_registered", ()), strict=False):
            for name, entry in added.items():
                registry.register(name, entry)

    @property
    def has_value_head(self) -> bool:
        """Whether the algorithm learns a state value."""
        raise NotImplementedError

    def training(self, **kwargs: Any) -> Self:
        """Sets the method and any setting by name.

        Args:
            **kwargs: ``method`` (a name of :data:`~rllib_lpdm.schema.registry.METHODS`),
                ``baseline`` (REINFORCE only), any field of :attr:`settings_class`, and RLlib's
                ``learner_class``. Values that Tune chooses, such as ``tune.grid_search([...])``,
                are validated when the algorithm is built.

        Raises:
            ValueError: unknown name, or a value out of its range or of the wrong type.
        """
        own = {"method", *self.settings_class.model_fields}
        if hasattr(self, "baseline"):
            own.add("baseline")
        inherited = kwargs.keys() & {"learner_class"}
        for name, value in kwargs.items():
            # RLlib repeats its other settings when it rebuilds a config from a dict.
            repeated = hasattr(self, name) and getattr(self, name) == value
            if name not in own | inherited and not repeated:
                raise ValueError(f"training(): {unknown_setting(name, own)}")
        super().training(**{name: kwargs[name] for name in inherited})
        for name in own & kwargs.keys():
            setattr(self, name, kwargs[name])
        self._registered = [dict(registry.added) for registry in REGISTRIES]
        searched = self._searched(own)
        if "method" not in searched:
            self._check_method()
        settings = self._validated(self.settings_class.model_fields.keys() - searched)
        if not searched:
            settings.check(self.method)
        return self

    def debugging(self, *, seed: Any = NotProvided, **kwargs: Any) -> Self:
        """Sets ``seed``, the run's only source of randomness; None draws a new one.

        Raises ValueError for a seed that is no whole number, or negative.
        """
        if seed is not NotProvided and not is_searched(seed):
            _check_seed(seed)
        super().debugging(seed=seed, **kwargs)
        return self

    def get_evaluation_config_object(self) -> Any:
        """Returns RLlib's config, with ``explore`` only where ``evaluation_config`` asks for it."""
        config = super().get_evaluation_config_object()
        config.explore = self.evaluation_explores
        return config

    @property
    def evaluation_explores(self) -> bool:
        """Whether ``evaluation_config`` asks for drawn actions."""
        overrides = self.evaluation_config
        return bool(overrides.get("explore", False)) if isinstance(overrides, dict) else False

    def settings(self) -> Settings:
        """Returns the settings; raises ValueError for a value out of its range or wrong in type."""
        return self._validated(self.settings_class.model_fields.keys())

    def _validated(self, names: Iterable[str]) -> Settings:
        """Returns the settings, with the defaults of those not named."""
        try:
            return self.settings_class(**{name: getattr(self, name) for name in names})
        except pydantic.ValidationError as error:
            raise ValueError(f"training(): {fault(error)}") from None

    def _searched(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if is_searched(getattr(self, name))}

    def validate(self) -> None:
        """Raises ValueError, which names the setting and the way out, unless all can be met."""
        if self.env is None:
            example = f"{type(self).__name__}().environment('CartPole-v1')"
            raise ValueError(
                f"environment(): no environment was named; write, for example, {example}"
            )
        for name in sorted(self._searched(("method", "seed", *self.settings_class.model_fields))):
            raise ValueError(
                f"{name} is for Tune to choose: give it a value, or the config to a Tuner"
            )
        for name in RLLIB_NAMES:  # a dict, such as Tune's, sets them as attributes
            if any(vars(self).get(key) != vars(RLLIB).get(key) for key in (name, f"_{name}")):
                raise ValueError(f"training(): {unknown_setting(name, ())}")
        _check_seed(self.seed)
        stay_silent_on_the_api_stack(self)
        try:
            super().validate()
        except ValueError as error:  # RLlib adds how to switch all checks off
            raise ValueError(str(error).partition("\nTo suppress")[0]) from None
        settings = self.settings()
        for name in self.settings_class.model_fields:
            setattr(self, name, getattr(settings, name))
        self._check_method()
        settings.check(self.method)
        metric_function(settings.metric)
        black_box_function(settings.black_box)
        if self.bootstrap_truncated and not (
            self.has_value_head and self.return_normalization == "running"
        ):
            raise ValueError(
                "bootstrap_truncated needs a value head (PPO, or REINFORCE with baseline) and "
                "return_normalization='running', which says what a learned value is in rewards"
            )
        if self.seed is None:
            self.seed = secrets.randbits(31)
        self._refuse_unsupported()

    def _check_method(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"training(): {unknown_name(str(self.method), METHODS, 'method')}")

    def _refuse_unsupported(self) -> None:
        for refusal in itertools.chain(self._refusals(), self._refusals_of_evaluation()):
            raise ValueError(refusal)

    def _refusals(self) -> Iterator[str]:
        """Yields each request of the config that is not met, with the way out."""
        if not self.enable_env_runner_and_connector_v2:
            yield "the old API stack: use rllib_lpdm.algorithms.model_v2 with stock PPO there"
        if described_network(self):
            yield "rl_module(): training(hidden_sizes=..., action_std=...) describes the network"
        if not self.explore and not self.in_evaluation:
            yield (
                "env_runners(explore=False): policy gradients need drawn actions; evaluate() is "
                "greedy by itself"
            )
        if self.normalize_actions or not self.clip_actions or self.clip_rewards is not None:
            yield (
                "normalize_actions, clip_actions=False, clip_rewards: actions are clipped and "
                "rewards kept as they are; wrap the environment"
            )
        if not self.create_local_env_runner:
            yield "create_local_env_runner=False: the local runner plays the episodes of a lost one"
        for name in ("time_s", "train_timesteps", "sample_timesteps"):
            minimum = getattr(self, f"min_{name}_per_iteration")
            if minimum or (minimum is not None and name == "time_s"):
                yield (
                    f"min_{name}_per_iteration: a train() is iterations_per_report iterations, "
                    "however many steps and seconds they take"
                )
        if self.num_envs_per_env_runner > 1:
            yield (
                "num_envs_per_env_runner > 1: each episode has its own random streams; use more "
                "env runners instead"
            )
        if self.num_gpus:
            yield (
                "resources(num_gpus): the driver computes nothing on a GPU; "
                "learners(num_gpus_per_learner=1) trains on one"
            )
        if self.rollout_fragment_length != WHOLE_EPISODES and not self.in_evaluation:
            yield (
                "rollout_fragment_length: whole episodes are collected; PPO's "
                "episodes_per_iteration and steps_per_iteration say how many"
            )
        if self.is_offline:
            yield (
                "offline_data(input_): episodes are played; pretrain_from prepares layers with "
                "recorded observations"
            )
        if has_connectors(self):
            yield "connectors: rollouts do not pass through them; wrap the environment instead"
        if self.is_multi_agent:
            yield "several policies: only single-agent environments are trained"

    def _refusals_of_evaluation(self) -> Iterator[str]:
        interval, runners = self.evaluation_interval, self.evaluation_num_env_runners
        unit = self.evaluation_duration_unit
        if interval is not None and not _is_count(interval):
            yield (
                f"evaluation(evaluation_interval={interval!r}): write a whole number of train() "
                "calls, or None for no evaluation"
            )
        if not _is_count(runners):
            yield (
                f"evaluation(evaluation_num_env_runners={runners!r}): write a whole number; 0 "
                "evaluates in the algorithm's own process"
            )
        if unit not in ("episodes", "timesteps"):
            yield f"evaluation(evaluation_duration_unit={unit!r}): write 'episodes' or 'timesteps'"
        if self.evaluation_duration == "auto" and not interval:
            yield (
                "evaluation(evaluation_duration='auto') without an evaluation_interval: it lasts "
                "as long as the train() beside it; set evaluation_interval=1"
            )
        trained = {"method", *self.settings_class.model_fields}
        overrides = self.evaluation_config
        if other := sorted(trained & overrides.keys()) if isinstance(overrides, dict) else []:
            yield (
                f"evaluation_config={{{other[0]!r}: ...}}: the policy is evaluated as it is "
                "trained; leave the setting out"
            )
        if (
            self.offline_evaluation_interval
            or self.num_offline_eval_runners
            or self.off_policy_estimation_methods
        ):
            yield (
                "offline evaluation: episodes are played and none recorded; use "
                "evaluation(evaluation_interval=...)"
            )

    def build_learner_connector(self, *args: Any, **kwargs: Any) -> None:
        """Builds nothing: learners take whole episodes, and RLlib's pipeline is slow to build."""

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        names = ("activation", "black_box", "action_std", "initialization", "hidden_gain")
        return RLModuleSpec(
            module_class=ActorCriticModule,
            model_config={
                **{name: getattr(self, name) for name in (*names, "head_gain")},
                "hidden_sizes": tuple(self.hidden_sizes),
                "conv_layers": tuple(self.conv_layers),
                "value_head": self.has_value_head,
                "local_heads": self.local_heads if METHODS[self.method].local_heads else None,
                "seed": secrets.randbits(31) if self.seed is None else self.seed,
            },
        )


def is_searched(value: Any) -> bool:
    """Whether a value, or one within it, is still for Tune to choose."""
    if isinstance(value, (list, tuple)):
        return any(map(is_searched, value))
    return isinstance(value, Domain) or (isinstance(value, dict) and "grid_search" in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_seed(seed: Any) -> None:
    if seed is None:
        return
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise ValueError(f"debugging(seed={seed!r}): the seed must be a whole number")
    if int(seed) < 0:
        raise ValueError(f"debugging(seed={seed}): the seed must not be negative")
