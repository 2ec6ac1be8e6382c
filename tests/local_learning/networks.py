"""Small networks and batches for the tests, and exact comparison of all that a step can change."""

import torch

from rllib_lpdm.local_learning import LayerAdam, LocalMLP


def network(*widths, dtype=torch.float64, lr=1e-2, **options):
    """A ``LocalMLP`` with one optimizer a layer; the same weights at every call."""
    torch.manual_seed(1)
    mlp = LocalMLP(widths[0], widths[1:], **options).to(dtype)
    return mlp, [LayerAdam(layer.parameters(), lr) for layer in mlp.layers]


def batch(width, count=12, seed=0, dtype=torch.float64):
    """(count, width) inputs and (count,) values."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, generator=generator, dtype=dtype)
    return x, torch.randn(count, generator=generator, dtype=dtype)


def layer_contents(layer, optimizer):
    """Copies of a layer's parameters and of its optimizer's state."""
    tensors = [entry for p in layer.parameters() for entry in (p, *optimizer.state[p].values())]
    return [tensor.detach().clone() for tensor in tensors]


def assert_identical(first, second):
    """Equal to the last bit, where NaN equals NaN."""
    torch.testing.assert_close(first, second, rtol=0.0, atol=0.0, equal_nan=True)
