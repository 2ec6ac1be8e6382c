"""The examples say what they are before they train."""

import black_box
import features
import gymnasium as gym
import images
import pretraining
import pytest
import single_file
import torch
import transfer

from rllib_lpdm.algorithms.distributions import action_distribution
from rllib_lpdm.algorithms.reinforce import policy_gradient_loss
from rllib_lpdm.local_learning import LayerAdam, LocalLoss, LocalMLP, parameter_gradients


@pytest.mark.parametrize("example", [black_box, features, images, pretraining, transfer])
def test_an_example_asked_for_help_explains_itself_and_trains_nothing(example, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [example.__name__, "--help"])
    with pytest.raises(SystemExit) as end:
        example.main()
    assert end.value.code == 0
    assert example.__doc__.splitlines()[0] in capsys.readouterr().out


def test_one_update_of_the_single_file_is_that_of_the_package():
    torch.manual_seed(0)
    network = LocalMLP(4, (64, 64)).double()  # Adam's first step enlarges what rounding leaves
    layers = [torch.nn.Linear(4, 64).double(), torch.nn.Linear(64, 64).double()]
    for layer, ours in zip(layers, network.layers, strict=True):
        layer.load_state_dict(ours.state_dict())
    head = torch.nn.Linear(64, 2).double()
    before = [parameter.clone() for parameter in head.parameters()]
    observations, actions = torch.randn(40, 4).double(), torch.randint(2, (40,))
    returns = torch.randn(40).double()
    optimizers = [torch.optim.Adam(each.parameters(), lr=2e-3) for each in (*layers, head)]
    single_file.update(layers, head, optimizers, observations, actions, returns)
    adams = [LayerAdam(layer.parameters(), lr=2e-3) for layer in network.layers]
    distribution = action_distribution(gym.spaces.Discrete(2), 0.5)
    head_again = torch.nn.Linear(64, 2).double()
    with torch.inference_mode():
        outputs, _ = network.learn(observations, adams, LocalLoss(), max_gradient_norm=0.5)
        logits = torch.nn.functional.linear(outputs, *before)
        loss = policy_gradient_loss(actions, returns, distribution, logits, None)
        gradients = parameter_gradients(head, outputs, loss.policy)
        for parameter, value in zip(head_again.parameters(), before, strict=True):
            parameter.copy_(value)
        LayerAdam(head_again.parameters(), lr=2e-3).clipped(list(gradients), 0.5)
    for ours, theirs in zip((*network.layers, head_again), (*layers, head), strict=True):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
