"""``local_rl``: every hidden layer has its own heads, and learns by their RL loss."""

from rllib_lpdm.methods.method import DISTANCE_SETTINGS, Batch, Method, Metrics, metrics
from rllib_lpdm.schema.columns import column


class LocalHeads(Method):
    """A step of every hidden layer and of its own heads, by the RL loss of these heads.

    A layer's gradient stops at its input: each layer is finished and forgotten before the next.
    """

    description = "the RL loss of each layer's own heads"
    local_heads = True
    ignores = DISTANCE_SETTINGS | {"feedback"}

    def update(self, batch: Batch) -> Metrics:
        network = self.network
        if not network.encoder.layers:
            return self.train_heads(batch)
        measured: Metrics = {}
        skipped: list[bool] = []
        passes = network.encoder.passes(network.inputs(batch.observations), self.shards)
        for head, each in enumerate(passes):
            loss = self.loss(each.outputs, batch.loss, head)
            gradient = self.by_features(loss, network.heads[head].weights)
            norm, not_finite = self.step_hidden(head + 1, each, gradient)
            norms, heads_skipped = self.step_heads(each.outputs, loss, head)
            measured[column("grad_norm_hidden", head + 1)] = norm
            skipped += [not_finite, *heads_skipped]
        return metrics(batch, skipped, measured | norms, loss)
