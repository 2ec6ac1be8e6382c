"""Files that cells start from, convolutions and black boxes: checked before anything starts."""

import shutil
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from images import frozen_lake
from torch.nn import functional

from rllib_lpdm import tune
from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream
from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.grid.preflight import check_networks
from rllib_lpdm.policies.evaluation import evaluate
from rllib_lpdm.results.checkpoints import checkpoints
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import read_run, write, write_run

TINY = {"iterations": 2, "iterations_per_report": 1, "hidden_sizes": [6, 5]}
INIT, PRETRAIN = "init_hidden_from", "pretrain_from"


@pytest.fixture(scope="module")
def images():
    """The id of a registered environment of 3 x 3 images."""
    gym.register("TestLakeImages-v0", frozen_lake)
    yield "TestLakeImages-v0"
    del gym.registry["TestLakeImages-v0"]


def cells(folder, changes=(), **entries):
    return load_experiment(write(folder, **entries), changes).cells()


def refusal(folder, **entries):
    """The lines that refuse an experiment, as the command line finds them before Ray starts."""
    with pytest.raises(UserError) as error:
        check_networks(cells(folder, **entries))
    return str(error.value).splitlines()


def hidden(path, shapes, **more):
    """A weights.npz with linear layers of these (inputs, outputs)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for index, (inputs, outputs) in enumerate(shapes):
        arrays[f"encoder.layers.{index}.weight"] = np.zeros((outputs, inputs), np.float32)
        arrays[f"encoder.layers.{index}.bias"] = np.zeros(outputs, np.float32)
    np.savez(path, **arrays, **more)
    return path


def train(folder, environment, algorithm, method="lpdm", seed=1, **settings):
    cell = Cell(environment, algorithm, method, seed, CellSettings(**(TINY | settings)))
    run = CellRun(cell, folder / cell.name, "a command")
    while not run.finished:
        run.step()
    run.close()
    return run.folder


# -- experiment files -----------------------------------------------------------------------------


def test_a_relative_path_becomes_absolute_so_that_every_process_sees_the_same_file(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    settings = TINY | {INIT: "cells/../other/s{seed}", PRETRAIN: "~/recorded.npz"}
    (cell,) = cells(tmp_path, settings=settings)
    assert cell.settings.init_hidden_from == f"{tmp_path}/other/s{{seed}}"
    assert cell.settings.pretrain_from == "/home/someone/recorded.npz"
    (cell,) = cells(tmp_path, changes=[f"settings.{INIT}=there"], settings=settings)
    assert cell.settings.init_hidden_from == f"{tmp_path}/there"


@pytest.mark.parametrize("name", [INIT, PRETRAIN])
def test_a_url_is_refused_with_the_way_out(tmp_path, name):
    path = write(tmp_path, settings=TINY | {name: "s3://bucket/cell"})
    with pytest.raises(UserError, match=rf"CartPole-v1 ppo lpdm: {name}: .*copy it into a"):
        load_experiment(path).cells()


def test_black_boxes_and_backpropagation_are_refused_when_the_file_is_read_and_say_which(tmp_path):
    path = write(
        tmp_path,
        methods=["lpdm", "frozen", "bp"],
        algorithms=["reinforce", "ppo"],
        settings=TINY,
        overrides=[{"when": {"algorithm": "ppo"}, "set": {"black_box": "sign"}}],
    )
    with pytest.raises(UserError) as error:
        load_experiment(path).cells()
    assert str(error.value).startswith(f"{path}: CartPole-v1 ppo bp: black_box 'sign' has no deriv")
    write(
        tmp_path, methods=["lpdm", "lpdm_guided", "frozen"], settings={"black_box": "sign"} | TINY
    )
    assert len(load_experiment(path).cells()) == 3


@pytest.mark.parametrize("setting", ["metric", "black_box"])
@pytest.mark.parametrize("place", ["settings", "overrides", "variants", "--set"])
def test_a_file_cannot_name_code(tmp_path, setting, place):
    named = {setting: "os.system"}
    entries = {
        "settings": {"settings": TINY | named},
        "overrides": {"overrides": [{"when": {}, "set": named}]},
        "variants": {"variants": {"own": named}},
        "--set": {},
    }[place]
    changes = [f"settings.{setting}=os.system"] if place == "--set" else []
    with pytest.raises(UserError, match=rf"{place}.*{setting}.*names code.*from Python"):
        load_experiment(write(tmp_path, **entries), changes)


@pytest.mark.parametrize("number", [2**53 + 1, True, 0, -1])
def test_numbers_of_convolutions_have_the_limits_of_all_others(tmp_path, number):
    with pytest.raises(UserError, match="conv_layers"):
        load_experiment(write(tmp_path, settings=TINY | {"conv_layers": [[4, 2, number]]}))


# -- before anything starts -----------------------------------------------------------------------


def test_files_that_fit_every_cell_pass(tmp_path, images):
    for seed in (0, 1):
        hidden(tmp_path / f"s{seed}" / "weights.npz", [(4, 6), (6, 5)])
    np.savez(tmp_path / "recorded.npz", observations=np.zeros((3, 4)))
    settings = TINY | {INIT: str(tmp_path / "s{seed}"), PRETRAIN: str(tmp_path / "recorded.npz")}
    environments = ["CartPole-v1", "InvertedPendulum-v4"]
    check_networks(cells(tmp_path, environments=environments, seeds=2, settings=settings))
    convolutions = {"conv_layers": [[2, 2, 1], [3, 2, 1]], PRETRAIN: str(tmp_path / "images.npz")}
    np.savez(tmp_path / "images.npz", observations=np.zeros((3, 3, 3, 3), np.uint8))
    check_networks(cells(tmp_path, environments=[images], settings=TINY | convolutions))


def test_networks_are_checked_without_the_memory_they_would_take(tmp_path):
    wide = 2**40
    path = hidden(tmp_path / "w.npz", [(4, 6)])
    (line,) = refusal(tmp_path, settings={"iterations": 1, "hidden_sizes": [wide], INIT: str(path)})
    assert f"has (6,) for layers.0.bias, this network ({wide},)" in line


def test_the_file_of_every_seed_is_looked_for_and_each_missing_one_named_once(tmp_path):
    hidden(tmp_path / "s1.npz", [(4, 6), (6, 5)])
    lines = refusal(
        tmp_path,
        seeds=4,
        algorithms=["reinforce", "ppo"],
        settings=TINY | {INIT: str(tmp_path / "s{seed}.npz")},
    )
    named = [line.partition(": ") for line in lines]
    assert [cell for cell, _, _ in named] == [f"CartPole-v1_reinforce_lpdm_s{k}" for k in (0, 2, 3)]
    for (_, _, reason), seed in zip(named, (0, 2, 3), strict=True):
        assert reason.startswith(f"{INIT}: {tmp_path}/s{seed}.npz is missing; name a cell's folder")


def test_of_very_many_faults_ten_are_listed(tmp_path):
    settings = TINY | {INIT: str(tmp_path / "s{seed}.npz")}
    lines = refusal(tmp_path, seeds=200, settings=settings)
    assert len(lines) == 11
    assert lines[-1] == "and 190 more"


def test_every_environment_and_network_that_a_file_does_not_fit_is_named(tmp_path):
    source = hidden(tmp_path / "weights.npz", [(4, 6), (6, 5)])
    lines = refusal(
        tmp_path,
        environments=["CartPole-v1", "Acrobot-v1"],
        algorithms=["reinforce", "ppo"],
        settings=TINY | {INIT: str(source)},
        variants={"same": {}, "wider": {"hidden_sizes": [7, 5]}},
    )
    assert [line.partition(": ")[0] for line in lines] == [
        "CartPole-v1_reinforce_lpdm_wider_s0",  # of Acrobot's the same is to be said
        "Acrobot-v1_reinforce_lpdm_same_s0",
    ]
    assert "(6,) for layers.0.bias, this network (7,)" in lines[0]
    assert "(6, 4) for layers.0.weight, this network (6, 6)" in lines[1]


@pytest.mark.parametrize("name", [INIT, PRETRAIN])
def test_a_file_with_an_object_in_it_is_refused_and_not_unpickled(tmp_path, name):
    path = tmp_path / "objects.npz"
    key = {INIT: "encoder.layers.0.bias", PRETRAIN: "observations"}[name]
    np.savez(path, **{key: np.array([{}], dtype=object)}, allow_pickle=True)
    (line,) = refusal(tmp_path, settings=TINY | {name: str(path)})
    assert f"{name}: {path} cannot be read: Object arrays cannot be loaded" in line


def test_recorded_observations_of_another_size_are_refused(tmp_path):
    path = tmp_path / "recorded.npz"
    np.savez(path, observations=np.zeros((3, 4)))
    (line,) = refusal(
        tmp_path, environments=["CartPole-v1", "Acrobot-v1"], settings=TINY | {PRETRAIN: str(path)}
    )
    assert line.startswith("Acrobot-v1_ppo_lpdm_s0: pretrain_from: ")
    assert line.endswith("has observations of 4 numbers, the environment's have 6")


def test_convolutions_are_fitted_to_every_environment(tmp_path, images):
    lines = refusal(
        tmp_path,
        environments=[images, "CartPole-v1"],
        algorithms=["reinforce", "ppo"],
        variants={
            "fits": {"conv_layers": [[2, 3, 1]]},
            "large": {"conv_layers": [[2, 2, 1], [2, 3, 1]]},
        },
        settings=TINY,
    )
    assert lines[0].startswith(
        "TestLakeImages-v0_reinforce_lpdm_large_s0: conv_layers: hidden layer 2"
    )
    assert "3 x 3 kernel does not fit into an image of 2 x 2" in lines[0]
    assert lines[1].startswith("CartPole-v1_reinforce_lpdm_fits_s0: conv_layers need observations")
    assert len(lines) == 2


def test_what_cannot_be_printed_does_not_reach_the_terminal(tmp_path):
    settings = TINY | {INIT: "/nowhere/\ud800\x1b[31m\nred"}
    with pytest.raises(UserError) as error:
        check_networks([Cell("CartPole-v1", "ppo", "lpdm", 0, CellSettings(**settings))])
    assert str(error.value).isprintable()


def test_the_command_line_refuses_before_it_makes_a_folder(tmp_path, capsys):
    path = write(tmp_path, settings=TINY | {INIT: str(tmp_path / "nothing")})
    output = tmp_path / "results"
    for options in ([], ["--dry-run"]):
        assert tune.main([str(path), "--output", str(output), *options]) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: CartPole-v1_ppo_lpdm_s0: init_hidden_from: ")
        assert len(message.splitlines()) == 1
        assert not output.exists()


def test_a_resumed_cell_that_has_begun_needs_its_files_no_more(tmp_path, capsys, ray_session):
    source = hidden(tmp_path / "weights.npz", [(4, 6), (6, 5)])
    output = tmp_path / "results"
    file = write(tmp_path, name="begun", settings=TINY | {INIT: str(source)})
    train(output / "begun", "CartPole-v1", "ppo", seed=0, init_hidden_from=str(source))
    source.unlink()
    arguments = [str(file), "--output", str(output), "--dry-run"]
    assert tune.main(arguments) == 0
    capsys.readouterr()
    assert tune.main([*arguments, "--set", "seeds=2"]) == 2
    assert "CartPole-v1_ppo_lpdm_s1: init_hidden_from: " in capsys.readouterr().err


# -- cells ----------------------------------------------------------------------------------------


def test_a_cell_starts_from_the_cell_of_its_seed_and_says_so(tmp_path, ray_session):
    first = train(tmp_path, "CartPole-v1", "reinforce", seed=1)
    source = str(first).replace("_s1", "_s{seed}")
    second = train(
        tmp_path / "second", "InvertedPendulum-v4", "ppo", "frozen", init_hidden_from=source
    )
    assert read_run(second)["settings"][INIT] == source
    theirs, ours = (np.load(checkpoints(cell)[2] / "weights.npz") for cell in (first, second))
    assert theirs["encoder.layers.1.weight"].shape == (5, 6)
    for name in (name for name in theirs if name.startswith("encoder.")):
        np.testing.assert_array_equal(theirs[name], ours[name])
    shutil.rmtree(first)
    assert len(evaluate(second, episodes=2).returns) == 2


def greedy_returns(folder, environment, forward, episodes):
    """Returns of the weights in plain torch, in the bare environment."""
    with np.load(checkpoints(folder)[2] / "weights.npz", allow_pickle=False) as archive:
        arrays = {name: torch.tensor(archive[name]) for name in archive.files}
    env, found = gym.make(environment), []
    for episode in range(episodes):
        observation, _ = env.reset(seed=integer_seed(stream(0, Purpose.EVALUATION, 0, episode)))
        total, over = 0.0, False
        while not over:
            x = forward(torch.tensor(observation, dtype=torch.float32), arrays)
            head = arrays["policy_head.weight"] @ x + arrays["policy_head.bias"]
            observation, reward, terminated, truncated, _ = env.step(int(head.argmax()))
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    return found


def linear(x, arrays, index):
    return arrays[f"encoder.layers.{index}.weight"] @ x + arrays[f"encoder.layers.{index}.bias"]


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_evaluation_acts_with_the_cells_activation_and_black_box(tmp_path, ray_session, algorithm):
    settings = {"activation": "gelu", "black_box": "quantise", "lr": 0.05}
    folder = train(tmp_path, "CartPole-v1", algorithm, **settings)

    def forward(x, arrays):
        hidden = torch.round(functional.gelu(linear(x, arrays, 0)) * 4) / 4
        return functional.gelu(linear(hidden, arrays, 1))

    result = evaluate(folder, episodes=3, checkpoint="last")
    assert result.returns.tolist() == greedy_returns(folder, "CartPole-v1", forward, 3)


def test_evaluation_acts_with_the_cells_convolutions(tmp_path, ray_session, images):
    settings = {"conv_layers": [[4, 2, 1]], "activation": "elu", "lr": 0.05}
    folder = train(tmp_path, images, "ppo", **settings)

    def forward(x, arrays):
        weight, bias = arrays["encoder.layers.0.weight"], arrays["encoder.layers.0.bias"]
        maps = functional.elu(functional.conv2d(x.permute(2, 0, 1)[None] / 255, weight, bias))
        return functional.elu(linear(functional.elu(linear(maps.flatten(), arrays, 1)), arrays, 2))

    result = evaluate(folder, episodes=2, checkpoint="last")
    assert result.returns.tolist() == greedy_returns(folder, images, forward, 2)
    assert result.policy.weights["encoder.layers.0.weight"].shape == (4, 3, 2, 2)


@pytest.mark.parametrize("setting", ["metric", "black_box"])
def test_a_strangers_folder_cannot_have_a_module_imported(
    tmp_path, monkeypatch, ray_session, setting
):
    folder = train(tmp_path, "CartPole-v1", "reinforce")
    mark = tmp_path / "mark"
    (tmp_path / "stranger.py").write_text(f"import os\nos.mkdir({str(mark)!r})\nopen = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = read_run(folder)
    run["settings"][setting] = "stranger.open"
    write_run(folder, run)
    with pytest.raises(UserError, match=f"settings.{setting}: .*names code"):
        evaluate(folder, episodes=1)
    assert not mark.exists()
    assert "stranger" not in sys.modules


def test_an_evaluation_does_not_open_the_files_that_a_strangers_folder_names(tmp_path, ray_session):
    folder = train(tmp_path, "CartPole-v1", "reinforce")
    run = read_run(folder)
    run["settings"] |= {INIT: str(tmp_path / "nothing"), PRETRAIN: str(tmp_path / "nothing")}
    write_run(folder, run)
    assert len(evaluate(folder, episodes=1).returns) == 1
