"""The algorithms that an experiment file can name: to add one, add an entry here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from rllib_lpdm.algorithms.config import LocalConfig
from rllib_lpdm.algorithms.ppo import PPOConfig
from rllib_lpdm.algorithms.reinforce import ReinforceConfig
from rllib_lpdm.schema.settings import Settings


@dataclass(frozen=True)
class AlgorithmEntry:
    """One of the paper's algorithms.

    Attributes:
        config_class: of RLlib's config.
        fixed: arguments of its ``training()`` that make it this algorithm.
    """

    config_class: type[LocalConfig]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings_class(self) -> type[Settings]:
        """Of the settings that it has, and no others."""
        return self.config_class.settings_class

    def config(self) -> LocalConfig:
        """A config with the default settings."""
        return self.config_class().training(**self.fixed)

    def episodes_per_iteration(self, settings: Settings) -> int:
        """How many the settings ask for; one is an iteration where they do not (section 4.1)."""
        return getattr(settings, "episodes_per_iteration", 1)

    def most_steps(self, settings: Settings, limit: int) -> int:
        """Of an iteration whose episodes end after so many steps."""
        asked_for = getattr(settings, "steps_per_iteration", 0)  # one short of it, a round follows
        return max(0, asked_for - 1) + self.episodes_per_iteration(settings) * limit


#: Every algorithm by its name.
ALGORITHMS: Final = {
    "reinforce": AlgorithmEntry(ReinforceConfig, {"baseline": False}),
    "reinforce_baseline": AlgorithmEntry(ReinforceConfig, {"baseline": True}),
    "ppo": AlgorithmEntry(PPOConfig),
}

if TYPE_CHECKING:
    AlgorithmName = str
else:
    AlgorithmName = Literal[tuple(ALGORITHMS)]

# Those that extend others come first, as Python wants its base classes.
SETTINGS_CLASSES: Final[tuple[type[Settings], ...]] = tuple(
    sorted(
        dict.fromkeys(entry.settings_class for entry in ALGORITHMS.values()),
        key=lambda settings: -len(settings.__mro__),
    )
)
