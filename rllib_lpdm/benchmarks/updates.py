"""One update: its time against backpropagation, its peak memory against depth."""

import functools
import time
from typing import Any

import torch
from torch import nn

from rllib_lpdm.algorithms import PPOConfig
from rllib_lpdm.algorithms.internals import on_learners
from rllib_lpdm.algorithms.learner import LocalLearner
from rllib_lpdm.algorithms.methods import METHODS
from rllib_lpdm.algorithms.ppo import clipped_loss
from rllib_lpdm.algorithms.threads import single_threaded
from rllib_lpdm.algorithms.updates import Batch
from rllib_lpdm.benchmarks.measure import Row, compare
from rllib_lpdm.local_learning import LayerAdam, LocalMLP, clipped_step

ROWS, MEMORY_ROWS, MEMORY_WIDTH, MEMORY_MAX_ROWS = 64, 4096, 256, 128
MEBIBYTE = 2**20


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
    learners = {method: _PPOUpdate(method) for method in ("lpdm", "lpdm_guided", "bp")}
    for method, target in (("lpdm", 1.0), ("lpdm_guided", 1.1)):
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
    for learner in learners.values():
        learner.stop()
    return rows


def memory() -> list[Row]:
    """Peak memory that one update of the hidden layers allocates, at N = 4096 and width 256."""
    peaks = {
        (method, depth): _peak_memory(method, depth)
        for method in ("lpdm", "bp")
        for depth in (4, 64)
    }
    rows = []
    for method, target in (("lpdm", 1.1), ("bp", None)):
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
            clipped_step(self._optimizer, list(gradients), 0.5)


class _PPOUpdate:
    """A learner's update of one minibatch of Hopper-v4: hidden layers and both heads."""

    def __init__(self, method: str) -> None:
        self._algo = (
            PPOConfig()
            .environment("Hopper-v4")
            .training(method=method, hidden_sizes=(64, 64), lr=3e-4)
            .debugging(seed=0)
            .build_algo()
        )
        self._learner: LocalLearner = on_learners(self._algo.learner_group, lambda learner: learner)
        rng = torch.Generator().manual_seed(0)
        observations = torch.randn(ROWS, 11, generator=rng)
        batch = {
            "actions": torch.randn(ROWS, 3, generator=rng),
            "old_outputs": torch.randn(ROWS, 3, generator=rng),
            **{
                name: torch.randn(ROWS, generator=rng)
                for name in ("old_values", "old_log_probs", "advantages", "returns")
            },
        }
        distribution = self._learner.actor_critic.distribution
        self._batch = Batch(
            observations,
            functools.partial(clipped_loss, batch, distribution, self._algo.config),
            batch["old_values"] if METHODS[method].guided else None,
            report=False,
        )

    def measure(self, repetitions: int = 200) -> float:
        with single_threaded():
            started = time.process_time()
            for _ in range(repetitions):
                self._learner.step(self._batch)
            return 1e6 * (time.process_time() - started) / repetitions

    def stop(self) -> None:
        self._algo.stop()


def _peak_memory(method: str, depth: int) -> float:
    """Peak MiB above what is held before the update, counted by torch's own allocator."""
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
                clipped_step(optimizer, list(gradients), 0.5)

    else:
        optimizers = [LayerAdam(layer.parameters(), lr=1e-3) for layer in network.layers]
        rows = torch.randperm(MEMORY_ROWS)[:MEMORY_MAX_ROWS]

        def update() -> Any:
            network.learn(observations, optimizers, rows=rows, max_gradient_norm=0.5)

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
    return peak / MEBIBYTE
