"""The ways to train hidden layers that an experiment can compare: to add one, add an entry here."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal


@dataclass(frozen=True)
class MethodEntry:
    """What is to be known of a method.

    Attributes:
        description: what trains the hidden layers.
        trains_hidden: whether anything does.
        backpropagates: whether it is the RL loss by the chain rule through all layers, which needs
            a derivative of everything between them.
        matches_distances: whether it is each layer's own loss (equation 1).
        guided: whether values guide the distances that are matched (section 3.2).
    """

    description: str
    trains_hidden: bool = True
    backpropagates: bool = False
    matches_distances: bool = False
    guided: bool = False


#: Every method by its name.
METHODS: Final = {
    "bp": MethodEntry("backpropagation", backpropagates=True),
    "lpdm": MethodEntry("L_d", matches_distances=True),
    "lpdm_guided": MethodEntry("L_gd", matches_distances=True, guided=True),
    "frozen": MethodEntry("nothing", trains_hidden=False),
}

if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(METHODS)]
