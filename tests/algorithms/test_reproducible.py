"""A run is a function of its settings and seed: bit for bit, wherever and however it is played."""

import json
import os
import signal
import sys

import pytest
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.callbacks.callbacks import RLlibCallback

from tests.algorithms.lake import LAKE, Lake
from tests.algorithms.runs import assert_same_weights, config, train, weights, without_time
from tests.algorithms.test_functions import OWN

pytestmark = pytest.mark.usefixtures("ray_session")
RUNS = [
    ("reinforce", "lpdm", {"return_normalization": "running", "target_maximum": "running"}),
    ("reinforce_baseline", "lpdm_guided", {}),
    ("ppo", "lpdm", {"max_rows": 8}),
    ("ppo", "bp", {"episodes_per_iteration": 1, "steps_per_iteration": 60}),
    ("reinforce", "bp", {"return_normalization": "running", "return_window": 4}),
    ("ppo", "local_rl", {"local_heads": "mean"}),
    ("reinforce_baseline", "dfa", {}),
]
HELPED = {
    "algorithm": "ppo",
    "environment": Lake,
    "black_box": OWN,
    "activation": "silu",
    "steps_per_iteration": 40,
    "return_normalization": "running",
    "return_window": 6,
    **LAKE,
}


def _run(reports=3, **settings):
    algo = config(**settings).build_algo()
    rows, state = train(algo, reports), weights(algo)
    algo.stop()
    return rows, state


class Lengths(RLlibCallback):
    """Logs a metric where an episode is played."""

    def on_episode_end(self, *, episode, metrics_logger, **kwargs):
        metrics_logger.log_value("double_length", 2 * len(episode), reduce="mean")


@pytest.fixture(scope="module")
def helped(ray_session):
    """An algorithm with two remote runners, for images and with functions of the user's own."""
    made = config(**HELPED).env_runners(num_env_runners=2).callbacks(Lengths)
    algo = made.build_algo()
    yield algo
    algo.stop()


@pytest.mark.slow
def test_remote_runners_with_callbacks_of_which_one_dies_do_not_change_the_run(helped):
    expected = _run(**HELPED, reports=3)
    assert any(row["episode_return"] > 0 for row in expected[0])
    helped.env_runner.rollout = None  # the remote ones do it all
    result = helped.train()
    rows = [without_time(row) for row in helped.iteration_rows]
    mean = rows[-1]["env_steps"] / rows[-1]["episodes"]
    assert result["env_runners"]["double_length"] == pytest.approx(2 * mean)
    assert helped.env_runner_group.num_healthy_remote_env_runners() == 2
    del helped.env_runner.rollout
    helped.env_runner_group.foreach_env_runner(
        lambda runner: os.kill(os.getpid(), signal.SIGKILL),
        remote_worker_ids=[1],
        local_env_runner=False,
    )
    rows += train(helped, 2)
    assert rows == expected[0]
    assert_same_weights(weights(helped), expected[1])


@pytest.fixture(scope="module")
def stopped(ray_session, tmp_path_factory):
    """Runs of three reports, of which each leaves a checkpoint after its first or its second."""
    home, runs = tmp_path_factory.mktemp("stopped"), []
    for number, (algorithm, method, settings) in enumerate(RUNS):
        algo = config(algorithm=algorithm, method=method, **settings).build_algo()
        first = 1 + number % 2
        rows = train(algo, first)
        checkpoint = algo.save_to_path(home / str(number))
        rows += train(algo, 3 - first)
        runs.append((rows, weights(algo), first, checkpoint))
        algo.stop()
    return runs


@pytest.fixture(scope="module")
def continued(stopped, helped):
    """What a remote runner's process makes of the checkpoints, and its modules."""
    (results,) = helped.env_runner_group.foreach_env_runner(
        lambda runner: (
            [_continue(checkpoint, 3 - first) for *_, first, checkpoint in stopped],
            set(sys.modules),
        ),
        remote_worker_ids=[2],
        local_env_runner=False,
    )
    return results


def _continue(checkpoint, reports):
    algo = Algorithm.from_checkpoint(checkpoint)
    rows, state = train(algo, reports), weights(algo)
    algo.stop()
    return rows, state


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(RUNS)))
def test_stopping_at_a_report_and_continuing_in_another_process_equals_never_stopping(
    stopped, continued, number
):
    rows, state, first, _ = stopped[number]
    continued_rows, continued_state = continued[0][number]
    assert continued_rows == rows[3 * first :]
    assert_same_weights(continued_state, state)


@pytest.mark.slow
def test_a_process_that_plays_saves_and_learns_does_not_import_torchs_compiler(continued):
    assert "rllib_lpdm.algorithms.learner" in continued[1]
    assert "torch._dynamo" not in continued[1]


@pytest.mark.parametrize("number", range(len(RUNS)))
def test_the_same_seed_gives_the_same_run_and_another_seed_another(stopped, number):
    algorithm, method, settings = RUNS[number]
    settings = {"algorithm": algorithm, "method": method, **settings}
    rows, state, *_ = stopped[number]
    again, other = _run(**settings), _run(**settings, seed=1, reports=1)
    assert again[0] == rows
    assert_same_weights(again[1], state)
    assert other[0] != rows[:3]


def test_restoring_an_older_checkpoint_in_place_goes_back_to_it(tmp_path):
    algo = config(return_normalization="running").build_algo()
    train(algo, 1)
    state = algo.get_state()
    checkpoint = algo.save_to_path(tmp_path / "checkpoint")
    older = weights(algo)
    rows = train(algo, 2)
    algo.restore_from_path(checkpoint)
    assert_same_weights(weights(algo), older)
    assert train(algo, 2) == rows
    algo.set_state(state)
    assert_same_weights(weights(algo), older)
    assert train(algo, 2) == rows
    algo.stop()


def test_evaluating_between_reports_does_not_change_the_run():
    expected = _run(reports=2)
    algo = config().build_algo()
    rows = train(algo, 1)
    algo.evaluate()
    rows += train(algo, 1)
    assert rows == expected[0]
    algo.stop()


def test_how_many_iterations_make_a_report_does_not_change_the_run():
    by_three = _run(reports=2, iterations_per_report=3)
    by_two = _run(reports=3, iterations_per_report=2)
    assert by_three[0] == by_two[0]
    assert_same_weights(by_three[1], by_two[1])


def test_training_ends_exactly_at_the_budget():
    algo = config(iterations=5, iterations_per_report=3).build_algo()
    assert not algo.train()["done"]
    assert algo.train()["done"]
    assert algo.iteration_rows[-1]["iteration"] == 5
    assert algo.finished
    with pytest.raises(RuntimeError, match="all 5 iterations are done"):
        algo.train()
    algo.stop()


def test_rows_are_plain_numbers():
    algo = config("ppo").build_algo()
    json.dumps(train(algo, 1))
    algo.stop()
