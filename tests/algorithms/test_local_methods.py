"""local_rl and dfa against their written-out definitions: autograd's, and numpy's in float64."""

import functools

import numpy as np
import pytest
import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from rllib_lpdm.algorithms.episodes import Episode
from rllib_lpdm.algorithms.module import ActorCriticModule
from rllib_lpdm.algorithms.ppo import clipped_loss
from rllib_lpdm.algorithms.reinforce import policy_gradient_loss
from rllib_lpdm.algorithms.rollouts import create_environment
from rllib_lpdm.methods.method import Batch
from tests.algorithms.lake import LAKE, Lake
from tests.algorithms.runs import config

ALGORITHMS = ["reinforce", "reinforce_baseline", "ppo"]
VALUE_WEIGHT, KL_WEIGHT, CLIP = 0.7, 0.3, 0.2
ROWS = 40


def learner(algorithm, environment="CartPole-v1", **settings):
    """A learner that is called without Ray."""
    settings = {"grad_clip": None, "vf_loss_coeff": VALUE_WEIGHT} | settings
    made = config(algorithm, environment, **settings)
    made.validate()
    return made.build_learner(env=create_environment(made.env, {}))


def gradients(learner, step):
    """The first gradients that each optimizer is given by a step, which moves nothing."""
    found = {}

    def keep(name, gradients, divisor=None):
        found.setdefault(name, [gradient.clone() for gradient in gradients])

    for name, optimizer in learner.optimizers.items():
        optimizer.apply = functools.partial(keep, name)
    step()
    return found


def given(module, outputs):
    if module.action_space.shape:
        return Independent(Normal(outputs, module.distribution.std), 1)
    return Categorical(logits=outputs)


def drawn(module, seed=0):
    """Random observations, and what the losses know of them."""
    generator = torch.Generator().manual_seed(seed)
    observations = torch.randn(ROWS, *module.observation_space.shape, generator=generator)
    returns, old_values, advantages = torch.randn(3, ROWS, generator=generator)
    old_outputs = 0.5 * torch.randn(ROWS, module.distribution.size, generator=generator)
    torch.manual_seed(seed)
    actions = given(module, old_outputs).sample()
    return observations, {
        "actions": actions,
        "returns": returns,
        "old_outputs": old_outputs,
        "old_log_probs": given(module, old_outputs).log_prob(actions),
        "old_values": old_values,
        "advantages": advantages,
    }


def reinforce_losses(module, data, outputs, values):
    weights = data["returns"] if values is None else data["returns"] - values.detach()
    policy = -(weights * given(module, outputs).log_prob(data["actions"])).mean()
    return policy, None if values is None else (values - data["returns"]).square().mean()


def ppo_losses(module, data, outputs, values):
    policy, old = given(module, outputs), given(module, data["old_outputs"])
    ratio = torch.exp(policy.log_prob(data["actions"]) - data["old_log_probs"])
    surrogates = ratio, ratio.clamp(1 - CLIP, 1 + CLIP)
    surrogate = torch.min(*(each * data["advantages"] for each in surrogates)).mean()
    clipped = data["old_values"] + (values - data["old_values"]).clamp(-CLIP, CLIP)
    squares = [(each - data["returns"]).square() for each in (values, clipped)]
    return KL_WEIGHT * kl_divergence(old, policy).mean() - surrogate, torch.max(*squares).mean()


def losses_of(learner, data):
    """The loss of each layer's heads; ``data`` holds the numbers of each."""
    distribution = learner.actor_critic.distribution
    if "clip_param" in learner.config.settings().model_fields:
        return [
            lambda outputs, values, each=each: clipped_loss(
                each, distribution, learner.config, outputs, values
            )
            for each in data
        ]
    return [
        functools.partial(policy_gradient_loss, each["actions"], each["returns"], distribution)
        for each in data
    ]


def batch_of(learner, observations, data):
    """What an update is made of."""
    losses = losses_of(learner, data)
    return Batch(observations, lambda outputs, values, head=-1: losses[head](outputs, values))


@pytest.mark.parametrize(
    ("algorithm", "environment", "settings"),
    [
        ("reinforce", "CartPole-v1", {}),
        ("reinforce", "Pendulum-v1", {"activation": "gelu"}),
        ("reinforce_baseline", "CartPole-v1", {"hidden_sizes": (8,), "activation": "relu"}),
        ("reinforce_baseline", Lake, LAKE),
        ("ppo", "CartPole-v1", {"kl_coeff": KL_WEIGHT}),
        ("ppo", "Pendulum-v1", {"kl_coeff": KL_WEIGHT, "hidden_sizes": (8, 8, 8)}),
    ],
)
def test_local_rl_is_the_gradient_of_every_layers_own_loss(algorithm, environment, settings):
    made = learner(algorithm, environment, method="local_rl", **settings)
    module = made.actor_critic
    activate = getattr(torch.nn.functional, settings.get("activation", "tanh"))
    layers = module.encoder.layers
    data = [drawn(module, seed)[1] for seed, _ in enumerate(layers)]
    x = drawn(module)[0]
    found = gradients(made, lambda: made.step(batch_of(made, x, data)))

    written_out = ppo_losses if algorithm == "ppo" else reinforce_losses
    expected, x = {}, module.inputs(x)
    for number, (layer, heads, of_head) in enumerate(
        zip(layers, module.heads, data, strict=True), 1
    ):
        y = activate(layer(x))
        values = None if heads.value is None else heads.value(y).squeeze(1)
        policy, value = written_out(module, of_head, heads.policy(y), values)
        total = policy if value is None else policy + VALUE_WEIGHT * value
        suffix = "" if number == len(layers) else f"_{number}"
        for name, loss, part in (
            (f"hidden_{number}", total, layer),
            (f"policy_head{suffix}", policy, heads.policy),
            (f"value_head{suffix}", value, heads.value),
        ):
            if loss is not None:
                parameters = list(part.parameters())
                expected[name] = torch.autograd.grad(loss, parameters, retain_graph=True)
        x = y.detach()
    assert found.keys() == expected.keys() == made.optimizers.keys()
    for name, parts in expected.items():
        torch.testing.assert_close(found[name], list(parts), rtol=1e-4, atol=1e-6)


def test_under_ppo_every_layers_heads_are_compared_with_what_they_said_before():
    made = learner("ppo", method="local_rl", hidden_sizes=(8, 6, 5), minibatch_size=ROWS)
    module, batches = made.actor_critic, []
    made.step = lambda batch: batches.append(batch) or {}
    observations = np.random.default_rng(0).normal(size=(ROWS + 1, 4)).astype(np.float32)
    actions = np.zeros(ROWS, np.int64)
    made.learn([Episode(observations, actions, np.ones(ROWS), True)], 0)
    batch = batches[0]
    outputs = module.encoder.outputs(batch.observations)
    of_heads, part, *_ = batch.loss.args
    for columns, heads, features in zip(of_heads, module.heads, outputs, strict=True):
        data = {name: column[part] for name, column in columns.items()}
        values = heads.values(features)
        torch.testing.assert_close(data["old_outputs"], heads.policy(features))
        torch.testing.assert_close(data["old_values"], values)
        advantages = data["returns"] - values
        advantages = (advantages - advantages.mean()) / advantages.std(correction=0)
        torch.testing.assert_close(data["advantages"], advantages, rtol=1e-4, atol=1e-4)


def numpy_feedback(module, matrices, observations, data):
    """Gradients of REINFORCE with a baseline by direct feedback alignment, in float64."""
    arrays = {name: value.double().numpy() for name, value in module.state_dict().items()}
    actions, returns = data["actions"].numpy(), data["returns"].double().numpy()
    xs = [observations.double().numpy()]
    for k in range(len(matrices)):
        z = xs[-1] @ arrays[f"encoder.layers.{k}.weight"].T + arrays[f"encoder.layers.{k}.bias"]
        xs.append(np.tanh(z))
    logits, values = (
        xs[-1] @ arrays[f"{head}.weight"].T + arrays[f"{head}.bias"]
        for head in ("policy_head", "value_head")
    )
    weights = returns - values[:, 0]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    by_logits = (probabilities - np.eye(2)[actions]) * weights[:, None] / ROWS
    by_value = -2 * weights[:, None] / ROWS
    error = np.hstack([by_logits, VALUE_WEIGHT * by_value])
    for number, (matrix, x, y) in enumerate(zip(matrices, xs, xs[1:], strict=False), 1):
        delta = error @ matrix.double().numpy() * (1 - y**2)
        yield f"hidden_{number}", (delta.T @ x, delta.sum(0))
    yield "policy_head", (by_logits.T @ xs[-1], by_logits.sum(0))
    yield "value_head", (by_value.T @ xs[-1], by_value.sum(0))


@pytest.mark.parametrize("feedback", ["random", "sign"])
def test_dfa_is_its_definition_in_float64(feedback):
    made = learner("reinforce_baseline", method="dfa", feedback=feedback, hidden_sizes=(9, 7, 8))
    module = made.actor_critic
    observations, data = drawn(module)
    found = gradients(made, lambda: made.step(batch_of(made, observations, [data])))
    with torch.no_grad():
        feedback = made.method.feedback()
    expected = dict(numpy_feedback(module, feedback, observations, data))
    assert found.keys() == expected.keys() == made.optimizers.keys()
    for name, arrays in expected.items():
        for ours, theirs in zip(found[name], arrays, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dfa_of_one_layer_with_the_heads_weights_as_feedback_is_backpropagation(algorithm):
    found = {}
    for method in ("dfa", "bp"):
        made = learner(algorithm, method=method, hidden_sizes=(16,))
        if method == "dfa":
            made.method.random_matrices = [torch.cat(made.actor_critic.heads[-1].weights)]
        observations, data = drawn(made.actor_critic)
        batch = batch_of(made, observations, [data])
        found[method] = gradients(made, lambda made=made, batch=batch: made.step(batch))
    weight, bias, *of_policy = found["bp"]["network"][:4]
    for ours, theirs in (
        (found["dfa"]["hidden_1"], [weight, bias]),
        (found["dfa"]["policy_head"], of_policy),
    ):
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=0.0)


@pytest.mark.parametrize(("environment", "settings"), [("Pendulum-v1", {}), (Lake, LAKE)])
def test_sign_feedback_is_the_sign_of_what_the_layers_above_multiply_with(environment, settings):
    made = learner("ppo", environment, method="dfa", feedback="sign", **settings)
    module = made.actor_critic
    layers, head = list(module.encoder.layers), torch.cat(module.heads[-1].weights)

    def outputs(place, y):  # linear, so that its Jacobian is the product
        for layer in layers[place:]:
            y = layer(y)
        return y @ head.t()

    for place, matrix in enumerate(made.method.feedback(), 1):
        size = module.encoder.output_sizes[place - 1]
        zeros = torch.zeros(1, size)
        product = torch.autograd.functional.jacobian(functools.partial(outputs, place), zeros)
        expected = product[0, :, 0].sign() / np.sqrt(size)
        torch.testing.assert_close(matrix, expected, rtol=0.0, atol=0.0)


def test_random_feedback_is_drawn_from_the_seed_alone_and_is_no_parameter():
    first, second, other = (
        learner("ppo", method="dfa", seed=seed, lr=lr).method.feedback()
        for seed, lr in ((0, 1e-3), (0, 1e-2), (1, 1e-3))
    )
    for matrix, same, different, size in zip(first, second, other, (16, 12), strict=True):
        assert matrix.shape == (3, size)
        assert torch.equal(matrix, same)
        assert not (matrix == different).any()
        assert matrix.abs().max() <= size**-0.5
    plain, dfa = (learner("ppo", method=method).actor_critic for method in ("bp", "dfa"))
    assert plain.state_dict().keys() == dfa.state_dict().keys()


@pytest.mark.parametrize("black_box", [None, "sign"])
@pytest.mark.parametrize("local_heads", ["last", "mean"])
def test_what_acts_is_the_last_head_or_the_mean_of_all(local_heads, black_box):
    settings = {"method": "local_rl", "local_heads": local_heads, "black_box": black_box}
    module = learner("ppo", "Pendulum-v1", hidden_sizes=(8, 6, 5), **settings).actor_critic
    acting = RLModuleSpec(
        ActorCriticModule,
        module.observation_space,
        module.action_space,
        inference_only=True,
        model_config=module.model_config | {"seed": 7},
    ).build()
    acting.set_state(module.get_state(inference_only=True))
    assert not hasattr(acting, "local_value_heads")
    assert hasattr(acting, "local_policy_heads") == (local_heads == "mean")

    x, said = drawn(module)[0], []
    for layer, heads in zip(module.encoder.layers, module.heads, strict=True):
        y = torch.tanh(layer(x))
        said.append(heads.policy(y))
        x = y if black_box is None else y.sign()
    expected = said[-1] if local_heads == "last" else sum(said) / 3
    observations = drawn(module)[0]
    for network in (module, acting):
        torch.testing.assert_close(network.policy(observations)[0], expected)
        policy = network.numpy_policy()
        acted = np.array([policy(row) for row in observations.numpy()])
        np.testing.assert_allclose(acted, expected.detach(), rtol=0, atol=1e-6)


def test_heads_of_the_layers_leave_everything_else_of_the_start_as_it_is():
    plain, local = (learner("ppo", method=name).actor_critic for name in ("bp", "local_rl"))
    start = local.state_dict()
    assert start.keys() - plain.state_dict().keys() == {
        f"local_{head}_heads.0.{part}"
        for head in ("policy", "value")
        for part in ("weight", "bias")
    }
    for name, value in plain.state_dict().items():
        assert torch.equal(value, start[name])


@pytest.mark.parametrize("method", ["local_rl", "dfa"])
def test_without_hidden_layers_the_heads_learn_alone(method):
    made = learner("reinforce", method=method, hidden_sizes=())
    observations, data = drawn(made.actor_critic)
    assert gradients(made, lambda: made.step(batch_of(made, observations, [data]))).keys() == {
        "policy_head"
    }
