"""Hidden layers that start from another run or from recorded observations."""

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.algorithm import Algorithm

from tests.algorithms.runs import assert_same_weights, config, learner_of, train, weights


def saved(file, algo):
    """The weights of an algorithm, as a cell's checkpoint has them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **algo.numpy_weights())
    return file


def rows(count=60, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


@pytest.fixture
def recorded(tmp_path):
    """An .npz file of 61 observations of CartPole's size, an odd one out for minibatches of 20."""
    np.savez(tmp_path / "recorded.npz", observations=rows(61))
    return str(tmp_path / "recorded.npz")


# -- runs that start from another -----------------------------------------------------------------


def _hidden(arrays):
    return {name: value for name, value in arrays.items() if name.startswith("encoder.")}


@pytest.fixture(scope="module")
def source(ray_session, tmp_path_factory):
    """Weights of a CartPole run, of seed 3."""
    algo = config(seed=3).build_algo()
    train(algo, 1)
    folder = tmp_path_factory.mktemp("source")
    saved(folder / "s3" / "weights.npz", algo)
    algo.stop()
    return folder


def test_frozen_keeps_another_environments_layers_and_its_heads_start_as_ever(source):
    path = str(source / "s{seed}")
    algo = config(
        environment="InvertedPendulum-v4", method="frozen", seed=3, init_hidden_from=path
    ).build_algo()
    plain = config(environment="InvertedPendulum-v4", method="frozen", seed=3).build_algo()
    heads = {n: v for n, v in algo.numpy_weights().items() if n not in _hidden({n: v})}
    for name, value in heads.items():
        np.testing.assert_array_equal(value, plain.numpy_weights()[name])
    train(algo, 2)
    with np.load(source / "s3" / "weights.npz") as theirs:
        for name, value in _hidden(algo.numpy_weights()).items():
            np.testing.assert_array_equal(value, theirs[name])
    assert any((heads[name] != algo.numpy_weights()[name]).any() for name in heads)
    algo.stop()
    plain.stop()


@pytest.mark.parametrize("method", ["bp", "lpdm", "lpdm_guided"])
def test_the_first_episode_is_played_with_the_other_runs_layers_which_then_train_on(source, method):
    path = str(source / "s3")
    algo = config(method=method, init_hidden_from=path, iterations_per_report=1).build_algo()
    start = dict(algo.numpy_weights())
    with np.load(source / "s3" / "weights.npz") as archive:
        theirs = dict(archive)
    module = algo.get_module()
    module.load_state_dict(
        {n: torch.tensor((start | _hidden(theirs))[n]) for n in start if n in module.state_dict()}
    )
    expected = algo.env_runner.rollout(module.numpy_policy(), 0, [0])[0]
    (row,) = train(algo, 1)
    assert row["episode_return"] == expected.total_reward()
    assert row["episode_length"] == len(expected)
    after = _hidden(algo.numpy_weights())
    assert all((after[name] != theirs[name]).any() for name in after)
    algo.stop()


def test_a_run_with_other_layers_is_refused_at_its_first_iteration(source):
    algo = config(environment="Acrobot-v1", init_hidden_from=str(source / "s3")).build_algo()
    with pytest.raises(ValueError, match=r"s3/weights\.npz has \(16, 4\) for layers.0.weight"):
        algo.train()
    algo.stop()


def test_a_missing_file_is_named_at_the_first_iteration(ray_session, tmp_path):
    algo = config(init_hidden_from=str(tmp_path / "s{seed}"), seed=5).build_algo()
    with pytest.raises(ValueError, match=r"init_hidden_from: .*s5 is missing"):
        algo.train()
    algo.stop()


# -- pre-training ---------------------------------------------------------------------------------


def _pretrained(recorded, **settings):
    settings = {"pretrain_epochs": 5, "pretrain_batch_size": 20} | settings
    algo = config(pretrain_from=recorded, **settings).build_algo()
    learner = learner_of(algo)
    metrics = learner.prepare()
    state = weights(algo)
    algo.stop()
    return metrics, state


def test_layers_as_wide_as_the_observations_learn_to_keep_their_distances(ray_session, recorded):
    settings = {"hidden_sizes": (4, 4), "hidden_lr": 1e-2, "pretrain_epochs": 60}
    metrics, _ = _pretrained(recorded, **settings)
    assert len(metrics) == 60
    for layer in (1, 2):
        for what in ("loss", "error"):
            assert (
                metrics[-1][f"distance_{what}_{layer}"]
                < 0.6 * metrics[0][f"distance_{what}_{layer}"]
            )


def test_the_seed_decides_the_order_and_so_the_weights(source, recorded):
    start = {"init_hidden_from": str(source / "s3"), "pretrain_epochs": 2}
    first, again = _pretrained(recorded, **start), _pretrained(recorded, **start)
    assert first[0] == again[0]
    assert_same_weights(first[1], again[1])
    other = _pretrained(recorded, **start, seed=1)
    assert first[0][0] != first[0][1]
    assert first[0] != other[0]


def test_a_row_left_over_is_no_minibatch_and_changes_no_mean(ray_session, recorded, tmp_path):
    """61 rows in minibatches of 20: were the last row counted, its zeros would lower the means."""
    metrics, _ = _pretrained(recorded, hidden_lr=1e-9, pretrain_epochs=1)
    np.savez(tmp_path / "even.npz", observations=rows(60))
    even, _ = _pretrained(str(tmp_path / "even.npz"), hidden_lr=1e-9, pretrain_epochs=1)
    assert metrics[0]["distance_loss_1"] == pytest.approx(even[0]["distance_loss_1"], rel=0.1)


def test_pretraining_moves_hidden_layers_only_and_leaves_the_runs_optimizers_alone(
    ray_session, recorded
):
    plain = config().build_algo()
    before = weights(plain)
    plain.stop()
    _, after = _pretrained(recorded)
    assert before.keys() == after.keys()  # no optimizer has a state yet
    moved = {name for name in after if (before[name] != after[name]).any()}
    assert moved == {name for name in after if name.startswith("weights/encoder.")}


@pytest.mark.parametrize("method", ["bp", "frozen", "lpdm_guided"])
def test_every_method_can_start_from_recorded_observations(ray_session, recorded, method):
    algo = config(method=method, pretrain_from=recorded, pretrain_epochs=3).build_algo()
    plain = config(method=method).build_algo()
    assert len(train(algo, 1)) == len(train(plain, 1)) == 3
    assert len(algo.pretraining_rows) == 3
    assert plain.pretraining_rows == []
    for name, value in _hidden(algo.numpy_weights()).items():
        assert (value != plain.numpy_weights()[name]).any()
    algo.stop()
    plain.stop()


def test_recorded_observations_of_another_environment_are_refused(ray_session, recorded):
    algo = config(environment="Acrobot-v1", pretrain_from=recorded).build_algo()
    with pytest.raises(ValueError, match="of 4 numbers, the environment's have 6"):
        algo.train()
    algo.stop()


def test_a_resumed_run_neither_reads_the_files_nor_prepares_again(source, recorded, tmp_path):
    settings = {"pretrain_from": recorded, "init_hidden_from": str(source / "s3")}
    algo = config(**settings).build_algo()
    expected = train(algo, 2)
    state = weights(algo)
    algo.stop()
    algo = config(**settings).build_algo()
    found = train(algo, 1)
    algo.save_to_path(tmp_path / "checkpoint")
    algo.stop()
    np.savez(recorded, nothing=np.zeros(1))  # it would be refused
    resumed = Algorithm.from_checkpoint(tmp_path / "checkpoint")
    found += train(resumed, 1)
    assert found == expected
    assert_same_weights(weights(resumed), state)
    assert resumed.pretraining_rows == []
    resumed.stop()
