"""Which optimizer steps which layer, and at what rate."""

from typing import Any

from rllib_lpdm.algorithms.methods import METHODS
from rllib_lpdm.algorithms.module import ActorCriticModule
from rllib_lpdm.local_learning import LayerAdam


def optimizers_of(module: ActorCriticModule, config: Any) -> dict[str, LayerAdam]:
    """One Adam for the network under backpropagation; else one a head and, if trained, a layer."""
    method = METHODS[config.method]
    if method.backpropagates:
        return {"network": LayerAdam(module.parameters(), lr=config.lr)}
    optimizers = {
        name + heads.suffix: LayerAdam(head.parameters(), lr=config.lr)
        for heads in module.heads
        for name, head in (("policy_head", heads.policy), ("value_head", heads.value))
        if head is not None
    }
    if method.trains_hidden:
        for number, optimizer in enumerate(hidden_optimizers(module, config), 1):
            optimizers[f"hidden_{number}"] = optimizer
    return optimizers


def hidden_optimizers(module: ActorCriticModule, config: Any) -> list[LayerAdam]:
    """A new one for every hidden layer, at its own rate (appendix C)."""
    layers = zip(module.encoder.layers, config.settings().hidden_rates(), strict=True)
    return [LayerAdam(layer.parameters(), lr=rate) for layer, rate in layers]
