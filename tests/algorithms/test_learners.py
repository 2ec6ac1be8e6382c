"""Several learners: each computes a part of every batch's rows, and learns what one would."""

import multiprocessing.connection
import traceback
from functools import partial

import numpy as np
import pytest
import torch

from rllib_lpdm.algorithms.episodes import episodes_of_iteration
from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.local_learning import FlatConv2d, LocalLoss, parameter_gradients, quantise
from rllib_lpdm.local_learning.shards import WHOLE_BATCH, Shards
from rllib_lpdm.methods import METHODS
from tests.algorithms.runs import config, learner_of, train
from tests.local_learning.networks import batch, network

PROCESSES = 3
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


class Processes:
    """Processes of one ``torch.distributed`` group that all call the functions they are sent."""

    def __init__(self, store):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # what it imports is imported once
        self._pipes, self._processes = [], []
        for rank in range(PROCESSES):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, rank, str(store)), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def call(self, function, *args, **kwargs):
        """Every process's result."""
        for pipe in self._pipes:
            pipe.send((function, args, kwargs))
        results = {}
        while len(results) < PROCESSES:
            answers = multiprocessing.connection.wait(set(self._pipes) - results.keys(), timeout=60)
            assert answers, "a process does not answer"
            for pipe in answers:
                results[pipe] = pipe.recv()
                assert not isinstance(results[pipe], str), results[pipe]
        return [results[pipe] for pipe in self._pipes]

    def stop(self):
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(10)
            process.kill()


def _serve(pipe, rank, store):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES
    )
    while (call := pipe.recv()) is not None:
        function, args, kwargs = call
        try:
            pipe.send(function(*args, **kwargs))
        except Exception:
            pipe.send(traceback.format_exc())
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    started = Processes(tmp_path_factory.mktemp("group") / "store")
    yield started
    started.stop()


def _assert_all_close(results, expected, tolerance):
    for result in results:
        _assert_close(result, expected, tolerance)


def _assert_close(result, expected, tolerance=1e-5):
    torch.testing.assert_close(result, expected, rtol=0.0, atol=tolerance)


def _gathered(count):
    shards, rows = Shards(), torch.arange(2.0 * count).view(count, 2)
    return shards.own(count), shards.gathered(rows[shards.own(count)], count), rows


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7])
def test_every_row_is_computed_by_one_process_and_gathered_in_order(processes, count):
    results = processes.call(_gathered, count)
    assert [row for own, _, _ in results for row in range(count)[own]] == list(range(count))
    for _, gathered, rows in results:
        torch.testing.assert_close(gathered, rows, rtol=0.0, atol=0.0)


def _layer_gradients(convolution, count, dtype, shared=True):
    torch.manual_seed(0)
    layer = FlatConv2d((2, 5, 5), 3, 2, 1) if convolution else torch.nn.Linear(50, 48)
    layer.to(dtype)
    inputs, gradient = torch.randn(count, 50, dtype=dtype), torch.randn(count, 48, dtype=dtype)
    of_rows = Shards().parameter_gradients if shared else parameter_gradients
    with torch.inference_mode():
        return [part.clone() for part in of_rows(layer, inputs, gradient)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 2, 16])
@pytest.mark.parametrize("convolution", [False, True])
def test_a_layers_gradient_is_that_of_the_whole_batch(processes, convolution, count, dtype):
    expected = _layer_gradients(convolution, count, dtype, shared=False)
    results = processes.call(_layer_gradients, convolution, count, dtype)
    _assert_all_close(results, expected, TOLERANCE[dtype])


def _learned(count, dtype, guided=False, rows=None, shared=True, images=None, **options):
    """Features, losses, errors, gradient norms and weights of a few steps of three layers."""
    widths = (50, 16, 12) if images else (8, 16, 12, 10)
    made = {name: options.pop(name) for name in ("activation", "black_box") if name in options}
    mlp, optimizers = network(*widths, dtype=dtype, lr=1e-3, **made, **(images or {}))
    x, values = batch(widths[0], count, dtype=dtype)
    limit = options.pop("max_gradient_norm", None)
    chosen = None if rows is None else torch.randperm(count, generator=torch.Generator())[:rows]
    learned = []
    with torch.inference_mode():
        for _ in range(3):
            features, steps = mlp.learn(
                x,
                optimizers,
                LocalLoss(**options),
                values=values if guided else None,
                rows=chosen,
                max_gradient_norm=limit,
                with_error=True,
                shards=Shards() if shared else WHOLE_BATCH,
            )
            learned += [features, torch.tensor([tuple(step) for step in steps], dtype=dtype)]
    return [tensor.clone() for tensor in (*learned, *mlp.state_dict().values())]


LOSSES = [
    {},
    {"guided": True, "metric": "l2"},
    {"metric": "squared_l2", "neighbours": "closest"},
    {"metric": "cosine", "neighbours": "furthest", "max_gradient_norm": 0.1},
    {"metric": "gram", "neighbours": "both", "fraction": 0.3},
    {"propagate_error": True, "guided": True},
    {"scaling": "absolute", "guided": True, "propagate_error": True},
    {"black_box": quantise, "activation": "silu"},
    {"images": {"conv_layers": [(3, 2, 1)], "image_shape": (2, 5, 5)}},
]


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(1, torch.float64), (2, torch.float32), (3, torch.float64), (20, torch.float32)],
    ids=str,
)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: "-".join(map(str, loss)) or "plain")
def test_layers_learn_the_same_from_parts_of_a_batch(processes, loss, count, dtype):
    expected = _learned(count, dtype, shared=False, **loss)
    _assert_all_close(processes.call(_learned, count, dtype, **loss), expected, TOLERANCE[dtype])


@pytest.mark.parametrize("rows", [2, 7])
def test_the_rows_that_are_matched_are_shared_out_anew(processes, rows):
    expected = _learned(20, torch.float64, rows=rows, shared=False)
    results = processes.call(_learned, 20, torch.float64, rows=rows)
    _assert_all_close(results, expected, TOLERANCE[torch.float64])


def _trained(learners=PROCESSES, **settings):
    """Metrics of two iterations and the weights, of a learner that is called without Ray."""
    made = config(**settings)
    made.learners(num_learners=learners)
    made.validate()
    runner = EpisodeRunner(config=made)
    learner = made.build_learner(env=runner.env)
    learned = [*learner.prepare()]
    for iteration in range(2):
        policy = learner.actor_critic.numpy_policy()
        episodes = episodes_of_iteration(made, partial(runner.rollout, policy, iteration))
        learned.append({"steps": sum(map(len, episodes)), **learner.learn(episodes, iteration)})
    runner.stop()
    weights = learner.actor_critic.state_dict()
    return learned, {name: value.clone() for name, value in weights.items()}


@pytest.mark.parametrize("algorithm", ["reinforce", "reinforce_baseline", "ppo"])
@pytest.mark.parametrize("method", METHODS)
def test_several_learners_learn_what_one_does(processes, algorithm, method):
    settings = {"algorithm": algorithm, "method": method}
    _assert_all_close(processes.call(_trained, **settings), _trained(learners=0, **settings), 1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_rows": 10, "minibatch_size": 32},
        {"minibatch_size": 2, "num_epochs": 1},
        {"minibatch_size": 2, "num_epochs": 1, "method": "bp"},
        {"neighbours": "closest", "metric": "l2"},
        {"propagate_error": True, "method": "lpdm_guided", "advantage": "td"},
        {"black_box": "sign"},
        {"environment": "Pendulum-v1", "return_normalization": "running", "return_window": 1},
        {"environment": "Pendulum-v1", "method": "bp", "grad_clip": 0.01},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_several_learners_learn_what_one_does_with_other_settings(processes, settings):
    settings = {"algorithm": "ppo", "method": "lpdm", "episodes_per_iteration": 1} | settings
    _assert_all_close(processes.call(_trained, **settings), _trained(learners=0, **settings), 1e-5)


def test_one_learner_of_its_own_process_learns_from_whole_batches_what_one_here_does():
    settings = {"algorithm": "reinforce_baseline", "method": "bp"}
    _assert_close(_trained(learners=1, **settings), _trained(learners=0, **settings), 0.0)


def test_several_learners_prepare_the_same_hidden_layers(processes, tmp_path):
    recorded = tmp_path / "recorded.npz"
    np.savez(recorded, observations=np.random.default_rng(0).normal(size=(50, 4)))
    settings = {"pretrain_from": str(recorded), "pretrain_epochs": 2, "method": "lpdm"}
    _assert_all_close(processes.call(_trained, **settings), _trained(learners=0, **settings), 1e-5)


PPO = {"algorithm": "ppo", "method": "lpdm_guided", "return_normalization": "running"}


@pytest.fixture(scope="module")
def several(ray_session):
    """Two remote learners, whose processes take long to start; the last test breaks one."""
    algo = config(**PPO).learners(num_learners=2).build_algo()
    assert len(algo.learner_group) == 2
    yield algo
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S", "1")  # else 30
        algo.stop()


@pytest.mark.slow
def test_one_learner_continues_from_a_checkpoint_of_several_and_the_other_way_round(
    several, tmp_path
):
    one = config(**PPO).build_algo()
    _assert_close(train(several, 1), train(one, 1))
    acting = several.get_module().policy_head.weight.detach().numpy()
    np.testing.assert_array_equal(acting, several.numpy_weights()["policy_head.weight"])
    several.save_to_path(tmp_path / "several")
    one.restore_from_path(tmp_path / "several")
    _assert_close(one.numpy_weights(), several.numpy_weights(), 0.0)
    one.save_to_path(tmp_path / "one")
    _assert_close(train(one, 1), expected := train(several, 1))
    _assert_close(one.numpy_weights(), several.numpy_weights())
    several.restore_from_path(tmp_path / "one")
    _assert_close(train(several, 1), expected)
    _assert_close(one.numpy_weights(), several.numpy_weights())
    (own,) = _rates(several)
    for optimizer in learner_of(one).optimizers.values():
        optimizer.param_groups[0]["lr"] = 0.5
    one.save_to_path(tmp_path / "of other rates")
    several.restore_from_path(tmp_path / "of other rates")
    assert _rates(several) == {own} == {several.config.lr}
    one.stop()


def _rates(algo):
    """Of all optimizers of all learners."""
    results = algo.learner_group.foreach_learner(
        lambda learner: [each.param_groups[0]["lr"] for each in learner.optimizers.values()]
    )
    return {rate for result in results for rate in result.get()}


@pytest.mark.slow
def test_a_learner_that_fails_ends_the_training(several):
    several.learner_group.foreach_learner(_lose_a_rate, remote_actor_ids=[1])
    with pytest.raises(KeyError, match="lr"):
        several.train()


def _lose_a_rate(learner):
    del learner.get_optimizer(optimizer_name="hidden_1").param_groups[0]["lr"]
