"""``bp``: the same network trained by backpropagation, the paper's baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rllib_lpdm.methods.method import DISTANCE_SETTINGS, Batch, Method, Metrics, metrics

if TYPE_CHECKING:
    from rllib_lpdm.local_learning import LayerAdam


class Backpropagation(Method):
    """One Adam for all layers, by the gradient of both losses through the whole network."""

    description = "backpropagation"
    backpropagates = True
    ignores = DISTANCE_SETTINGS | {"hidden_lr", "local_heads", "feedback"}

    @classmethod
    def check(cls, settings: Any) -> None:
        if settings.black_box is not None:
            raise ValueError(
                f"black_box {settings.black_box!r} has no derivative, so backpropagation cannot "
                "train the layers before it; use lpdm, lpdm_guided, local_rl, dfa or frozen"
            )

    def make_optimizers(self) -> dict[str, LayerAdam]:
        from rllib_lpdm.local_learning import LayerAdam

        return {"network": LayerAdam(self.network.parameters(), self.config.lr)}

    def update(self, batch: Batch) -> Metrics:
        import torch

        network, shards, optimizer = self.network, self.shards, self.optimizers["network"]
        count = len(batch.observations)
        own = shards.own(count)
        heads = network.heads[-1]
        features = network.features(batch.observations[own])
        outputs = [heads.policy(features)]
        if heads.value is not None:
            outputs.append(heads.values(features))
        with torch.no_grad():
            policy, *values = (shards.gathered(output, count) for output in outputs)
            loss = batch.loss(policy, values[0] if values else None)
            output_gradients = [loss.policy[own]]
            if loss.value is not None:
                output_gradients.append(loss.value[own] * self.config.vf_loss_coeff)
        parameters = optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(outputs, parameters, output_gradients)
        with torch.no_grad():
            norm, skipped = optimizer.clipped(shards.summed(gradients), self.config.grad_clip)
        return metrics(batch, [skipped], {"grad_norm": norm}, loss)
