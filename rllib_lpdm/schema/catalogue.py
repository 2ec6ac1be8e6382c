"""The algorithms that an experiment file can name."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import AfterValidator

from rllib_lpdm.schema.registry import METHODS, Registry
from rllib_lpdm.schema.settings import PPOSettings, Settings


@dataclass(frozen=True)
class Algorithm:
    """An algorithm by its RLlib config.

    Attributes:
        config_class: a :class:`~rllib_lpdm.algorithms.config.LocalConfig`, or ``"module:class"``.
        settings_class: has the settings of the algorithm and no others.
        fixed: arguments of the config's ``training()`` that make it this algorithm.
    """

    config_class: type | str
    settings_class: type[Settings]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> Any:
        """Returns a config with the default settings."""
        made = self.config_class
        if isinstance(made, str):
            module, _, name = made.partition(":")
            made = getattr(importlib.import_module(module), name)
        return made().training(**self.fixed)

    def episodes_per_iteration(self, settings: Settings) -> int:
        """Returns how many episodes an iteration has; one without a setting (section 4.1)."""
        return getattr(settings, "episodes_per_iteration", 1)

    def most_steps(self, settings: Settings, limit: int) -> int:
        """Returns the most steps of an iteration whose episodes have at most ``limit`` steps."""
        wanted = getattr(settings, "steps_per_iteration", 0)  # one short of it, a round follows
        return max(0, wanted - 1) + self.episodes_per_iteration(settings) * limit


#: Every algorithm by its name.
ALGORITHMS: Final[Registry[Algorithm]] = Registry("algorithm")


def register_algorithm(name: str, config_class: type, **fixed: Any) -> None:
    """Makes an algorithm known by a name, in experiment files.

    Args:
        name: letters, digits and underscores.
        config_class: a subclass of :class:`~rllib_lpdm.algorithms.config.LocalConfig`. Its
            ``settings_class`` says which settings files can give.
        **fixed: arguments of its ``training()`` that make it this algorithm.

    Raises:
        ValueError: the name is no identifier, or another algorithm has it.
    """
    entry = Algorithm(config_class, config_class.settings_class, fixed)  # type: ignore[attr-defined]
    ALGORITHMS.register(name, entry)


def settings_classes() -> tuple[type[Settings], ...]:
    """Returns the algorithms' classes of settings; those that extend others come first."""
    classes = dict.fromkeys(entry.settings_class for entry in ALGORITHMS.values())
    return tuple(sorted(classes, key=lambda each: -len(each.__mro__)))


_REINFORCE = "rllib_lpdm.algorithms.reinforce:ReinforceConfig"
ALGORITHMS.register("reinforce", Algorithm(_REINFORCE, Settings, {"baseline": False}))
ALGORITHMS.register("reinforce_baseline", Algorithm(_REINFORCE, Settings, {"baseline": True}))
ALGORITHMS.register("ppo", Algorithm("rllib_lpdm.algorithms.ppo:PPOConfig", PPOSettings))

MethodName = Annotated[str, AfterValidator(METHODS.known)]
AlgorithmName = Annotated[str, AfterValidator(ALGORITHMS.known)]
