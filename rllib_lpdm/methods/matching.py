"""``lpdm`` and ``lpdm_guided``: every hidden layer keeps the distances of its input (section 3)."""

from rllib_lpdm.methods.method import Batch, Method, Metrics, metrics
from rllib_lpdm.schema.columns import column


class DistanceMatching(Method):
    """A step of every hidden layer by its local loss L_d, and of the heads by the RL loss."""

    description = "L_d"
    matches_distances = True
    ignores = frozenset(("guided_distances", "local_heads", "feedback", "vf_loss_coeff"))

    def update(self, batch: Batch) -> Metrics:
        if not batch.matches:
            return self.train_heads(batch)
        encoder = self.network.encoder
        features, steps = encoder.learn(
            self.network.inputs(batch.observations),
            [self.optimizers[f"hidden_{number}"] for number in range(1, len(encoder.layers) + 1)],
            self.local_loss,
            values=batch.guide,
            rows=batch.rows,
            max_gradient_norm=self.config.grad_clip,
            with_error=batch.report_matches,
            shards=self.shards,
        )
        loss = self.loss(features, batch.loss)
        norms, skipped = self.step_heads(features, loss)
        measured = {
            name: value
            for number, step in enumerate(steps, 1)
            for name, value in (
                (column("distance_loss", number), step.loss),
                (column("distance_error", number), step.error),
                (column("grad_norm_hidden", number), step.gradient_norm),
            )
            if batch.report_matches
        }
        skips = [*(step.skipped for step in steps), *skipped]
        return metrics(batch, skips, norms, loss, measured)


class GuidedDistanceMatching(DistanceMatching):
    """The same with L_gd, whose target moves states of low value apart (section 3.2)."""

    description = "L_gd"
    guided = True
    ignores = DistanceMatching.ignores - {"guided_distances"}
