"""The ways to train hidden layers that an experiment can compare: to add one, add an entry here."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from rllib_lpdm.algorithms.updates import (
    Update,
    backpropagate,
    match_distances,
    send_feedback,
    train_heads,
    train_with_local_heads,
)


@dataclass(frozen=True)
class MethodEntry:
    """What is to be known of a method.

    Attributes:
        description: what trains the hidden layers.
        update: one step of every layer that is trained.
        trains_hidden: whether anything does.
        backpropagates: whether it is the RL loss by the chain rule through all layers, which needs
            a derivative of everything between them.
        matches_distances: whether it is each layer's own loss (equation 1).
        guided: whether values guide the distances that are matched (section 3.2).
        local_heads: whether every hidden layer has heads of its own, whose RL loss trains it.
    """

    description: str
    update: Update
    trains_hidden: bool = True
    backpropagates: bool = False
    matches_distances: bool = False
    guided: bool = False
    local_heads: bool = False


#: Every method by its name.
METHODS: Final = {
    "bp": MethodEntry("backpropagation", backpropagate, backpropagates=True),
    "lpdm": MethodEntry("L_d", match_distances, matches_distances=True),
    "lpdm_guided": MethodEntry("L_gd", match_distances, matches_distances=True, guided=True),
    "local_rl": MethodEntry(
        "the RL loss of each layer's own heads", train_with_local_heads, local_heads=True
    ),
    "dfa": MethodEntry("direct feedback alignment", send_feedback),
    "frozen": MethodEntry("nothing", train_heads, trains_hidden=False),
}

if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(METHODS)]
