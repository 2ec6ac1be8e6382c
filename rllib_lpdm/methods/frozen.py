"""``frozen``: random hidden layers that nothing trains (appendix D)."""

from rllib_lpdm.methods.method import DISTANCE_SETTINGS, Batch, Method, Metrics


class Frozen(Method):
    """A step of the heads by the RL loss; the hidden layers stay as they were drawn."""

    description = "nothing"
    trains_hidden = False
    ignores = DISTANCE_SETTINGS | {"hidden_lr", "local_heads", "feedback", "vf_loss_coeff"}

    def update(self, batch: Batch) -> Metrics:
        return self.train_heads(batch)
