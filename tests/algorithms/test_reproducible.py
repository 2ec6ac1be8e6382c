"""A run is a function of its settings and seed: bit for bit, wherever and however it is played."""

import json
import os
import signal

import pytest
import ray
from ray.rllib.algorithms.algorithm import Algorithm

from tests.algorithms.runs import assert_same_weights, config, train, weights

pytestmark = pytest.mark.usefixtures("ray_session")
RUNS = [
    ("reinforce", "lpdm"),
    ("reinforce_baseline", "lpdm_guided"),
    ("ppo", "lpdm"),
    ("ppo", "bp"),
    ("ppo", "local_rl"),
    ("reinforce_baseline", "dfa"),
]
STOPPED = [
    ("reinforce", "lpdm", {"return_normalization": "running", "target_maximum": "running"}),
    ("reinforce_baseline", "lpdm_guided", {}),
    ("ppo", "lpdm", {"max_rows": 8}),
    ("ppo", "bp", {}),
    ("ppo", "local_rl", {"local_heads": "mean"}),
    ("reinforce_baseline", "dfa", {}),
]


def _run(reports=3, **settings):
    algo = config(**settings).build_algo()
    rows, state = train(algo, reports), weights(algo)
    algo.stop()
    return rows, state


@pytest.mark.parametrize(("algorithm", "method"), RUNS)
def test_the_same_seed_gives_the_same_run_and_another_seed_another(algorithm, method):
    first = _run(algorithm=algorithm, method=method)
    again = _run(algorithm=algorithm, method=method)
    other = _run(algorithm=algorithm, method=method, seed=1)
    assert first[0] == again[0]
    assert_same_weights(first[1], again[1])
    assert first[0] != other[0]


@pytest.mark.slow
def test_two_remote_runners_of_which_one_dies_do_not_change_the_run():
    settings = {"algorithm": "ppo", "environment": "Hopper-v4"}
    expected = _run(**settings, reports=3)
    algo = config(**settings).env_runners(num_env_runners=2).build_algo()
    algo.env_runner.rollout = None  # the remote ones do it all
    rows = train(algo, 1)
    assert algo.env_runner_group.num_healthy_remote_env_runners() == 2
    del algo.env_runner.rollout
    algo.env_runner_group.foreach_env_runner(
        lambda runner: os.kill(os.getpid(), signal.SIGKILL),
        remote_worker_ids=[1],
        local_env_runner=False,
    )
    rows += train(algo, 2)
    assert rows == expected[0]
    assert_same_weights(weights(algo), expected[1])
    algo.stop()


@pytest.fixture(scope="module")
def continued(ray_session, tmp_path_factory):
    """Runs of four reports, and what a new process makes of their first two checkpoints."""
    home, runs = tmp_path_factory.mktemp("continued"), []
    for number, (algorithm, method, settings) in enumerate(STOPPED):
        algo = config(algorithm=algorithm, method=method, **settings).build_algo()
        rows, states, checkpoints = [], [], []
        for report in range(4):
            rows += train(algo, 1)
            states.append(weights(algo))
            if report < 2:
                checkpoints.append(algo.save_to_path(home / f"{number}-{report}"))
        algo.stop()
        runs.append((rows, states, checkpoints))
    paths = [path for *_, checkpoints in runs for path in checkpoints]
    return runs, ray.get(_continue.remote(paths))


@ray.remote(max_calls=1)
def _continue(checkpoints):
    """What two more reports make of each, in a process of their own."""
    continued = {}
    for checkpoint in checkpoints:
        algo = Algorithm.from_checkpoint(checkpoint)
        continued[checkpoint] = train(algo, 2), weights(algo)
        algo.stop()
    return continued


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(STOPPED)))
def test_stopping_at_any_report_and_continuing_in_a_new_process_equals_never_stopping(
    continued, number
):
    runs, results = continued
    rows, states, checkpoints = runs[number]
    for report, checkpoint in enumerate(checkpoints):
        continued_rows, continued_weights = results[checkpoint]
        begin = 3 * (report + 1)
        assert continued_rows == rows[begin : begin + 6]
        assert_same_weights(continued_weights, states[report + 2])


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
    assert len(train(algo, 2)) == 5
    assert algo.finished
    with pytest.raises(RuntimeError, match="all 5 iterations are done"):
        algo.train()
    algo.stop()


def test_rows_are_plain_numbers():
    algo = config("ppo").build_algo()
    json.dumps(train(algo, 1))
    algo.stop()
