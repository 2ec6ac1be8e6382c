"""A cell's folder alone gives the policy's returns and a video of it, and nothing in it is run."""

import os
import pickle
import shutil
import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest

from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.policies import saved, video
from rllib_lpdm.policies.evaluation import SavedPolicy, evaluate
from rllib_lpdm.policies.video import headless_gl
from rllib_lpdm.results.checkpoints import checkpoints
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import read_run, write_run
from tests.experiment.plain import played, weights, weights_file

SMALL = CellSettings(
    iterations=3, iterations_per_report=1, checkpoint_interval=1, hidden_sizes=(8, 8)
)


def train(folder, environment, algorithm, method="lpdm", **settings):
    cell = Cell(environment, algorithm, method, 1, SMALL.model_copy(update=settings))
    run = CellRun(cell, folder / cell.name, "a command")
    while not run.finished:
        run.step()
    run.close()
    return run.folder


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory, ray_session):
    return train(tmp_path_factory.mktemp("evaluated"), "CartPole-v1", "ppo")


@pytest.fixture(scope="module")
def hopper(tmp_path_factory, ray_session):
    return train(tmp_path_factory.mktemp("evaluated"), "Hopper-v4", "reinforce")


@pytest.fixture(scope="module")
def acrobot(tmp_path_factory, ray_session):
    """Whose actions are the mean of two layers' heads."""
    folder = tmp_path_factory.mktemp("evaluated")
    return train(folder, "Acrobot-v1", "reinforce", "local_rl", local_heads="mean")


@pytest.fixture
def copy(cartpole, tmp_path):
    """The CartPole cell under another name, to be changed."""
    return Path(shutil.copytree(cartpole, tmp_path / "copy"))


# -- returns --------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ["CartPole-v1", "Hopper-v4", "Acrobot-v1"])
def test_an_evaluation_is_what_plain_torch_and_the_bare_environment_give(environment, request):
    folder = request.getfixturevalue(environment.partition("-")[0].lower())
    returns, lengths = played(folder, environment, episodes=4, seed=3)
    result = evaluate(folder, episodes=4, checkpoint="last", seed=3)
    np.testing.assert_array_equal(result.lengths, lengths)
    np.testing.assert_allclose(result.returns, returns, rtol=1e-4)
    assert result.mean == pytest.approx(returns.mean(), rel=1e-4)
    assert result.std == pytest.approx(returns.std(ddof=1), rel=1e-2)


def test_the_same_seed_gives_the_same_episodes_and_another_one_others(cartpole):
    returns = [
        evaluate(cartpole, episodes, seed=seed).returns
        for episodes, seed in ((8, 5), (3, 5), (8, 6))
    ]
    np.testing.assert_array_equal(returns[0][:3], returns[1])
    assert (returns[0] != returns[2]).any()


def test_one_episode_has_no_standard_deviation(cartpole):
    assert evaluate(cartpole, episodes=1).std is None


def test_a_folder_that_was_moved_gives_the_same_numbers(cartpole, copy):
    before, after = evaluate(cartpole, 3), evaluate(copy, 3)
    np.testing.assert_array_equal(before.returns, after.returns)
    assert after.to_json() == before.to_json()


@pytest.mark.parametrize(("returns", "best"), [((9, 9, 1), 2), ((1, 1, 9), 3)])
def test_best_is_the_checkpoint_of_the_highest_smoothed_return_and_last_the_last(
    copy, returns, best
):
    for path in checkpoints(copy).values():
        if not path.name.endswith("3"):
            shutil.rmtree(path)
    other = copy / "checkpoints" / "iteration_00000002"
    shutil.copytree(checkpoints(copy)[3], other)
    reversed_policy = {name: -value for name, value in weights(copy).items()}
    np.savez(other / "weights.npz", **reversed_policy)
    rows = "".join(f"{k},{value}\n" for k, value in enumerate(returns, 1))
    (copy / "iterations.csv").write_text(f"iteration,episode_return\n{rows}4,77")

    chosen, last = SavedPolicy.load(copy, "best"), SavedPolicy.load(copy, "last")
    assert (chosen.iteration, last.iteration) == (best, 3)
    for policy in (chosen, last):
        expected = reversed_policy if policy.iteration == 2 else weights(copy)
        np.testing.assert_array_equal(
            policy.weights["policy_head.weight"], expected["policy_head.weight"]
        )


def test_a_cell_that_is_still_trained_is_evaluated_as_far_as_it_is(copy):
    write_run(copy, read_run(copy) | {"status": "running", "finished": None})
    assert evaluate(copy, 1).policy.status == "running"


def test_a_checkpoint_that_the_run_drops_meanwhile_is_chosen_again(cartpole, monkeypatch):
    stale = [{3: cartpole / "checkpoints" / "dropped"}]
    monkeypatch.setattr(
        saved, "checkpoints", lambda folder: stale.pop() if stale else checkpoints(folder)
    )
    assert SavedPolicy.load(cartpole, "last").source == weights_file(cartpole)


def test_versions_that_have_changed_since_the_training_are_named(copy):
    run = read_run(copy)
    assert SavedPolicy.load(copy).changed_versions() == []
    write_run(copy, run | {"versions": run["versions"] | {"numpy": "1.0", "ray": "1.0"}})
    assert SavedPolicy.load(copy).changed_versions() == [
        f"numpy '1.0' then, {np.__version__!r} now"
    ]


# -- what a folder may not do ---------------------------------------------------------------------


class Payload:
    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def test_no_pickle_of_a_checkpoint_is_opened(copy, tmp_path):
    trace = tmp_path / "trace"
    payload = pickle.dumps(Payload(trace))
    pickle.loads(payload)
    trace.rmdir()  # so it works
    poisoned = list(copy.rglob("*.pkl"))
    assert poisoned
    for path in poisoned:
        path.write_bytes(payload)
    evaluate(copy, 1)
    SavedPolicy.load(copy).film(tmp_path / "video.gif")
    assert not trace.exists()


def test_objects_in_the_weights_are_refused_and_not_unpickled(copy, tmp_path):
    trace = tmp_path / "trace"
    objects = np.array([Payload(trace)], dtype=object)
    np.savez(weights_file(copy), **(weights(copy) | {"policy_head.bias": objects}))
    with pytest.raises(UserError, match=r"weights\.npz is no archive of plain arrays"):
        SavedPolicy.load(copy, "last")
    weights_file(copy).write_bytes(pickle.dumps(Payload(trace)))
    with pytest.raises(UserError, match=r"weights\.npz is no archive of plain arrays"):
        SavedPolicy.load(copy, "last")
    assert not trace.exists()


def test_a_module_named_in_the_environment_is_not_imported(copy, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(f"import os; os.mkdir({str(tmp_path / 'trace')!r})")
    monkeypatch.syspath_prepend(tmp_path)
    write_run(copy, read_run(copy) | {"environment": "planted:CartPole-v1"})
    with pytest.raises(UserError, match="unknown environment 'planted:CartPole-v1'"):
        SavedPolicy.load(copy)
    assert not (tmp_path / "trace").exists()


# -- weights that do not fit ----------------------------------------------------------------------


def change_bias(value):
    return lambda arrays: arrays | {"policy_head.bias": value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays | {"extra": np.zeros(2, np.float32)}, "'extra' is no parameter"),
        (
            lambda arrays: {n: a for n, a in arrays.items() if n != "policy_head.bias"},
            "'policy_head.bias' is missing",
        ),
        (change_bias(np.zeros(3, np.float32)), r"'policy_head.bias' has the shape \(3,\), but \(2"),
        (change_bias(np.zeros(2)), "'policy_head.bias' is no array of float32"),
        (change_bias(np.full(2, np.nan, np.float32)), "'policy_head.bias' has values that are not"),
    ],
)
def test_weights_that_do_not_fit_the_network_are_named(copy, change, message):
    np.savez(weights_file(copy), **change(weights(copy)))
    with pytest.raises(UserError, match=message):
        evaluate(copy, 1, checkpoint="last")


@pytest.mark.parametrize("damage", ["cut off", "no archive", "one array"])
def test_an_archive_of_weights_that_is_none_is_refused(copy, damage):
    file = weights_file(copy)
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:-200])
    elif damage == "no archive":
        file.write_text("no archive")
    else:
        with file.open("wb") as opened:
            np.save(opened, np.zeros(3, np.float32))
    with pytest.raises(UserError, match=r"weights\.npz is no archive of plain arrays"):
        SavedPolicy.load(copy, "last")


# -- video ----------------------------------------------------------------------------------------


def test_an_mp4_shows_the_start_and_every_step_of_the_first_episode(cartpole, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    policy = SavedPolicy.load(cartpole)
    episode = policy.film(tmp_path / "video.mp4", seed=2)
    first = policy.evaluate(1, seed=2)
    assert (episode.total_reward(), len(episode)) == (first.returns[0], first.lengths[0])
    frames = imageio.imread(tmp_path / "video.mp4")
    assert frames.shape == (len(episode) + 1, 400, 600, 3)
    assert (frames[0] != frames[-1]).any()
    assert imageio.immeta(tmp_path / "video.mp4")["fps"] == 50
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


def test_a_gif_shows_the_episode_in_its_own_time(cartpole, tmp_path):
    episode = SavedPolicy.load(cartpole).film(tmp_path / "video.gif", seed=2)
    frames = imageio.imread(tmp_path / "video.gif")
    assert frames.shape[1:] == (400, 600, 3)
    assert (frames[0] != frames[-1]).any()
    durations = [
        imageio.immeta(tmp_path / "video.gif", index=k)["duration"] for k in range(len(frames))
    ]
    assert sum(durations) == 20 * (len(episode) + 1)  # equal frames are stored once


def test_a_mujoco_environment_is_filmed_without_a_display(hopper, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    if headless_gl() is None:
        pytest.skip("MuJoCo finds no OpenGL library: apt-get install libosmesa6")
    policy = SavedPolicy.load(hopper)
    episode = policy.film(tmp_path / "video.gif")
    assert episode.total_reward() == policy.evaluate(1).returns[0]
    frames = imageio.imread(tmp_path / "video.gif")
    assert frames.shape[1:] == (480, 480, 3)
    assert len(frames) <= -(-(len(episode) + 1) // 3)  # 125 frames a second are too many
    assert (frames[0] != frames[-1]).any()
    assert "MUJOCO_GL" not in os.environ


def test_libraries_that_do_not_load_are_not_chosen(monkeypatch):
    monkeypatch.setenv("PYOPENGL_PLATFORM", "neither")
    assert headless_gl.__wrapped__() is None


def test_where_mujoco_cannot_draw_the_message_says_what_to_install(hopper, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(video, "headless_gl", lambda: None)
    with pytest.raises(UserError, match="apt-get install libosmesa6"):
        SavedPolicy.load(hopper).film(tmp_path / "video.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_display_that_does_not_open_is_answered_with_the_setting(hopper, tmp_path, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":7")
    monkeypatch.delenv("MUJOCO_GL", raising=False)

    def unable(*arguments):
        raise RuntimeError("no display")

    monkeypatch.setattr("gymnasium.envs.mujoco.MujocoEnv.render", unable)
    with pytest.raises(UserError, match=r"no display; set MUJOCO_GL=egl or"):
        SavedPolicy.load(hopper).film(tmp_path / "video.gif")


@pytest.mark.parametrize("missing", ["pygame", "imageio_ffmpeg"])
def test_where_a_package_for_videos_is_missing_the_message_says_how_to_get_it(
    cartpole, tmp_path, monkeypatch, missing
):
    pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / "video.mp4").write_text("an older one")
    with pytest.raises(UserError, match=r"pip install 'rllib-lpdm\[video\]'"):
        SavedPolicy.load(cartpole).film(tmp_path / "video.mp4")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an older one"]


def test_a_video_that_cannot_be_written_is_named(cartpole, tmp_path):
    policy = SavedPolicy.load(cartpole)
    with pytest.raises(UserError, match=r"nowhere/video\.gif cannot be written"):
        policy.film(tmp_path / "nowhere" / "video.gif")
    with pytest.raises(UserError, match=r"ends in \.mp4 or \.gif"):
        policy.film(tmp_path / "video.avi")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "episodes=0"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 2**32}, "seed=4294967296"),
        ({"checkpoint": "bst"}, "unknown checkpoint 'bst', did you mean 'best'"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(cartpole, arguments, message):
    with pytest.raises(UserError, match=message):
        evaluate(cartpole, **arguments)
