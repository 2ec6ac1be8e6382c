"""One update: its time against backpropagation, its peak memory against depth."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Row, compare
from rllib_lpdm.algorithms import PPOConfig
from rllib_lpdm.algorithms.learner import LocalLearner
from rllib_lpdm.algorithms.ppo import clipped_loss
from rllib_lpdm.algorithms.rollouts import create_environment
from rllib_lpdm.algorithms.threads import single_threaded
from rllib_lpdm.local_learning import LayerAdam, LocalMLP
from rllib_lpdm.methods import METHODS
from rllib_lpdm.methods.method import Batch

ROWS, MEMORY_ROWS, MEMORY_WIDTH, MEMORY_MAX_ROWS = 64, 4096, 256, 128
MEBIBYTE, FLOAT = 2**20, 4


def local_update() -> list[Row]:
    """Updates of a 64-row minibatch with hidden layers 64 x 64, optimizer steps included."""
    hidden = {local: _HiddenLayers(local) for local in (True, False)}
    rows = [
        compare(
            "local_update",
            "hidden layers, lpdm",
            hidden[True].measure,
            hidden[False].measure,
            compared_with="hidden layers, bp",
            unit="us",
            at_most=1.3,
        )
    ]
    methods = {"lpdm": 1.0, "lpdm_guided": 1.1, "local_rl": None, "dfa": None}
    learners = {method: _PPOUpdate(method) for method in (*methods, "bp")}
    for method, target in methods.items():
        rows.append(
            compare(
                "local_update",
                f"whole PPO update, {method}",
                learners[method].measure,
                learners["bp"].measure,
                compared_with="whole PPO update, bp",
                unit="us",
                at_most=target,
            )
        )
    return rows


def memory() -> list[Row]:
    """Peak memory that one update of the hidden layers allocates, at N = 4096 and width 256.

    Layers with heads of their own are updated with these, and what the heads and their optimizers
    hold is counted too.
    """
    targets = {"lpdm": 1.1, "local_rl": 1.1, "dfa": None, "bp": None}
    peaks = {
        (method, depth): _peak_memory(method, depth) for method in targets for depth in (4, 64)
    }
    rows = []
    for method, target in targets.items():
        deep, shallow = peaks[method, 64], peaks[method, 4]
        ratio = deep / shallow
        rows.append(
            Row(
                "memory",
                f"64 hidden layers, {method}",
                deep,
                shallow,
                "4 hidden layers",
                "MiB",
                ratio,
                "" if target is None else f"<= {target:g}",
                None if target is None else ratio <= target,
            )
        )
    return rows


class _HiddenLayers:
    """Only the hidden layers, with Adam: by local gradients, or backwards from a given gradient."""

    def __init__(self, local: bool) -> None:
        torch.manual_seed(0)
        self._network = LocalMLP(11, (64, 64))
        self._observations = torch.randn(ROWS, 11)
        self._output_gradient = torch.randn(ROWS, 64)
        self._parameters = list(self._network.parameters())
        self._optimizers = [LayerAdam(x.parameters(), lr=3e-4) for x in self._network.layers]
        self._optimizer = LayerAdam(self._parameters, lr=3e-4)
        self._update = self._learn if local else self._backpropagate

    def measure(self, repetitions: int = 200) -> float:
        with single_threaded():
            started = time.process_time()
            for _ in range(repetitions):
                self._update()
            return 1e6 * (time.process_time() - started) / repetitions

    def _learn(self) -> None:
        self._network.learn(self._observations, self._optimizers, max_gradient_norm=0.5)

    def _backpropagate(self) -> None:
        features = self._network(self._observations)
        gradients = torch.autograd.grad(features, self._parameters, self._output_gradient)
        with torch.no_grad():
            self._optimizer.clipped(list(gradients), 0.5)


class _PPOUpdate:
    """A learner's update of one minibatch of Hopper-v4: hidden layers and both heads."""

    def __init__(
        self, method: str, hidden_sizes: Sequence[int] = (64, 64), rows: int = ROWS
    ) -> None:
        config = PPOConfig().environment("Hopper-v4")
        config.training(method=method, hidden_sizes=hidden_sizes, lr=3e-4).debugging(seed=0)
        config.validate()
        environment = create_environment(config.env, {})
        self.learner: LocalLearner = config.build_learner(env=environment)
        rng = torch.Generator().manual_seed(0)
        observations = torch.randn(rows, 11, generator=rng)
        batch = {
            "actions": torch.randn(rows, 3, generator=rng),
            "old_outputs": torch.randn(rows, 3, generator=rng),
            **{
                name: torch.randn(rows, generator=rng)
                for name in ("old_values", "old_log_probs", "advantages", "returns")
            },
        }
        distribution = self.learner.actor_critic.distribution
        self._batch = Batch(
            observations,
            lambda outputs, values, head=-1: clipped_loss(
                batch, distribution, config, outputs, values
            ),
            batch["old_values"] if METHODS[method].guided else None,
            report=False,
        )

    def measure(self, repetitions: int = 200) -> float:
        with single_threaded():
            started = time.process_time()
            for _ in range(repetitions):
                self.update()
            return 1e6 * (time.process_time() - started) / repetitions

    def update(self) -> None:
        self.learner.step(self._batch)


def _peak_memory(method: str, depth: int) -> float:
    """Peak MiB above what is held before the update, counted by torch's own allocator."""
    if not (METHODS[method].backpropagates or METHODS[method].matches_distances):
        made = _PPOUpdate(method, (MEMORY_WIDTH,) * depth, MEMORY_ROWS)
        module = made.learner.actor_critic
        heads = (*module.local_policy_heads.parameters(), *module.local_value_heads.parameters())
        weights = sum(parameter.numel() for parameter in heads)
        return (_allocated(made.update) + 3 * FLOAT * weights) / MEBIBYTE  # two moments of Adam's
    torch.manual_seed(0)
    network = LocalMLP(MEMORY_WIDTH, (MEMORY_WIDTH,) * depth)
    observations = torch.randn(MEMORY_ROWS, MEMORY_WIDTH)
    output_gradient = torch.randn(MEMORY_ROWS, MEMORY_WIDTH)
    if METHODS[method].backpropagates:
        parameters: list[nn.Parameter] = list(network.parameters())
        optimizer = LayerAdam(parameters, lr=1e-3)

        def update() -> Any:
            gradients = torch.autograd.grad(network(observations), parameters, output_gradient)
            with torch.no_grad():
                optimizer.clipped(list(gradients), 0.5)

    else:
        optimizers = [LayerAdam(layer.parameters(), lr=1e-3) for layer in network.layers]
        rows = torch.randperm(MEMORY_ROWS)[:MEMORY_MAX_ROWS]

        def update() -> Any:
            network.learn(observations, optimizers, rows=rows, max_gradient_norm=0.5)

    return _allocated(update) / MEBIBYTE


def _allocated(update: Callable[[], Any]) -> int:
    """Peak bytes above what is held before a second update."""
    update()
    with torch.profiler.profile(profile_memory=True) as profile:
        update()
    changes = [
        event.nbytes()
        for event in profile.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    held = peak = 0
    for change in changes:
        held += change
        peak = max(peak, held)
    return peak
