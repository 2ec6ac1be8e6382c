"""Functions without a derivative between the layers (section 5).

A layer's loss sees its own output, before the function: nothing needs to come back through it. So
outputs may be rounded, reduced to their signs, or passed through any function of one's own, which
is given by its dotted name. Backpropagation cannot do this, and is refused.

Results to expect, in a minute: lpdm learns through all of them, slower than without one. It is no
better here than frozen layers, and the small outputs of a young network are mostly rounded to 0.

Return on CartPole-v1, mean over 3 seeds::

                            1-15     16-30     31-45     46-60
    bp                     60.37    211.57    440.35    473.17
    lpdm                   29.82     72.78    182.29    227.80
    lpdm, quantise         23.59     31.82     40.55     47.16
    lpdm, sign             30.66     64.49    113.82    148.38
    lpdm, three_levels     29.77     73.93    112.79    123.89
    frozen, sign           38.43     81.18    160.47    208.77
"""

import torch
from runs import print_table, returns, start
from torch import Tensor

from rllib_lpdm.algorithms import PPOConfig

SEEDS = range(3)
SETTINGS = {"hidden_sizes": (128, 128), "lr": 1e-3, "grad_clip": 0.1}
OWN = "black_box.three_levels"


def three_levels(outputs: Tensor) -> Tensor:
    """(N, d) -> (N, d) of -1, 0 and 1, by a look-up table."""
    edges = torch.tensor([-0.1, 0.1])
    return torch.tensor([-1.0, 0.0, 1.0])[torch.bucketize(outputs, edges)]


def cartpole(seed: int, method: str, black_box: str | None) -> PPOConfig:
    config = PPOConfig().environment("CartPole-v1").debugging(seed=seed)
    return config.training(method=method, black_box=black_box, **SETTINGS)


def main() -> None:
    start(__doc__)
    try:
        cartpole(0, "bp", "sign")
    except ValueError as refusal:
        print(refusal)
    runs = {
        "bp": ("bp", None),
        "lpdm": ("lpdm", None),
        "lpdm, quantise": ("lpdm", "quantise"),
        "lpdm, sign": ("lpdm", "sign"),
        "lpdm, three_levels": ("lpdm", OWN),
        "frozen, sign": ("frozen", "sign"),
    }
    curves = {
        name: [returns(cartpole(seed, *run), iterations=60) for seed in SEEDS]
        for name, run in runs.items()
    }
    print_table("Return on CartPole-v1", curves)


if __name__ == "__main__":
    main()
