"""Exported policies and scores are used without this package."""

import importlib.util
import json
import math
import re
import runpy
import shutil
import subprocess
import sys
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

from rllib_lpdm.export import main
from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.local_learning import ACTIVATIONS as IN_TORCH
from rllib_lpdm.local_learning import BLACK_BOXES as BOXES_IN_TORCH
from rllib_lpdm.policies.evaluation import SavedPolicy, evaluate
from rllib_lpdm.policies.player import ACTIVATIONS, BLACK_BOXES, ExportedNetwork, script
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.environments import EnvironmentMaker, EnvironmentSpec
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.loading import load_experiment
from tests.analysis.cells import record, write_cell
from tests.experiment.files import read_run, write_run

SHORT = EnvironmentSpec(
    id="Hopper-v4",
    name="Short",
    max_episode_steps=30,
    kwargs={"terminate_when_unhealthy": False},
    wrappers=({"name": "RescaleAction", "kwargs": {"min_action": -1, "max_action": 1}},),
)
REGISTERS = """
import gymnasium as gym
gym.register("ImagesToExport-v0", entry_point="images:frozen_lake")
"""


def trained(folder, environment, algorithm, method, spec=None, **settings):
    """The folder of a cell after two iterations."""
    of_all = {"iterations": 2, "iterations_per_report": 1, "hidden_sizes": (8, 6)}
    made = CellSettings(**(of_all | settings))
    cell = Cell(environment, algorithm, method, 4, made, environment_spec=spec)
    run = CellRun(cell, folder / cell.name, "a command")
    while not run.finished:
        run.step()
    run.close()
    return run.folder


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory, ray_session):
    return trained(tmp_path_factory.mktemp("made"), "CartPole-v1", "ppo", "lpdm_guided")


@pytest.fixture(scope="module")
def exported(cartpole, tmp_path_factory):
    """The cell's export, with a video."""
    out = tmp_path_factory.mktemp("exported") / "policy"
    assert main([str(cartpole), str(out), "--episodes", "3", "--seed", "7"]) == 0
    return out


WITHOUT_US = """
import runpy, sys
for name in ("rllib_lpdm", "ray", "torch"):
    sys.modules[name] = None  # importing it is an error
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_numpy_plays_the_same_episodes_where_this_package_and_torch_cannot_be_imported(
    exported, cartpole, tmp_path
):
    played = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, str(exported / "play.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert played.returncode == 0, played.stderr
    expected = evaluate(cartpole, episodes=3, seed=7)
    assert played.stdout.splitlines() == [
        f"return {value} (then {value}), length {length}"
        for value, length in zip(expected.returns.tolist(), expected.lengths, strict=True)
    ]


def test_the_script_is_short_and_names_nothing_of_this_package(exported):
    text = (exported / "play.py").read_text()
    statements = [line for line in text.splitlines() if line.strip()]
    assert len(statements) <= 36
    assert "lpdm" not in text
    assert "torch" not in text


def test_weights_settings_and_card_say_what_the_policy_is(exported, cartpole):
    policy = SavedPolicy.load(cartpole)
    weights = load_file(exported / "weights.safetensors")
    assert weights.keys() == policy.weights.keys()
    for name, value in policy.weights.items():
        np.testing.assert_array_equal(weights[name], value)
    assert load_experiment(exported / "experiment.yaml").cells() == [policy.cell]
    card = (exported / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata["license"] == "mit"
    (result,) = metadata["model-index"][0]["results"]
    evaluation = evaluate(cartpole, episodes=3, seed=7)
    score = f"{evaluation.mean:.2f} ± {evaluation.std:.2f}"
    assert result["metrics"][0]["value"] == score
    for said in ("`CartPole-v1`", "`lpdm_guided`", score, "| seed of the training | 4 |"):
        assert said in card
    for file in re.findall(r"\w+\.(?:py|yaml|json|mp4|gif)\b", card):
        assert (exported / file).stat().st_size > 0
    assert next(exported.glob("video.*")).stat().st_size > 1000


def test_other_networks_and_environments_are_played_as_they_were_evaluated(
    tmp_path, monkeypatch, capsys, ray_session
):
    (tmp_path / "images_to_export.py").write_text(REGISTERS)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("images_to_export")
    hopper = {"activation": "gelu", "black_box": "quantise"}
    lake = {"activation": "leaky_relu", "conv_layers": ((3, 2, 1), (4, 1, 2))}
    for cell, *options in (
        (trained(tmp_path, "Short", "reinforce", "lpdm", SHORT, **hopper),),
        (trained(tmp_path, "CartPole-v1", "ppo", "local_rl", local_heads="mean"),),
        (
            trained(tmp_path, "ImagesToExport-v0", "ppo", "lpdm", **lake),
            *("--import", "images_to_export"),
        ),
    ):
        out = tmp_path / f"exported-{cell.name}"
        assert main([str(cell), str(out), "--episodes", "2", "--no-video", *options]) == 0
        assert list(out.glob("video*")) == []
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["play.py", "2"])
        runpy.run_path(str(out / "play.py"), run_name="__main__")
        lines = capsys.readouterr().out.splitlines()
        episodes = json.loads((out / "evaluation.json").read_text())["episodes"]
        for line, episode in zip(lines, episodes, strict=True):
            value, length = re.fullmatch(r"return (\S+) .*, length (\d+)", line).groups()
            assert int(length) == episode["length"]
            assert float(value) == pytest.approx(episode["return"], rel=1e-4)


def run_onnx(cell, file, *options):
    """An ONNX session of a cell's policy, and a runner that plays it."""
    session = pytest.importorskip("onnxruntime").InferenceSession
    assert main([str(cell), "--onnx", str(file), "--checkpoint", "last", *options]) == 0
    return session(str(file))


@pytest.mark.parametrize(
    ("environment", "method", "settings"),
    [
        ("CartPole-v1", "lpdm", {"activation": "gelu", "black_box": "quantise"}),
        ("CartPole-v1", "local_rl", {"local_heads": "mean", "activation": "silu"}),
        ("Pendulum-v1", "lpdm", {"activation": "elu", "black_box": "sign", "action_std": 3.0}),
        ("ImagesToExport-v0", "bp", {"conv_layers": ((3, 2, 1), (4, 1, 2))}),
    ],
)
def test_an_onnx_model_acts_as_the_policy_on_any_number_of_observations(
    environment, method, settings, tmp_path, ray_session
):
    if environment not in gym.registry:
        gym.register(environment, entry_point="images:frozen_lake")
    cell = trained(tmp_path, environment, "ppo", method, **settings)
    model = run_onnx(cell, tmp_path / "policy.onnx")
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["policy.onnx"]
    with SavedPolicy.load(cell, "last").runner(3) as runner:
        policy, distribution = runner.module.numpy_policy(), runner._distribution
        space, shape = runner.env.action_space, runner.env.observation_space.shape
        rows = np.random.default_rng(0).normal(scale=9, size=(7, math.prod(shape)))
        rows = rows.astype(np.float32)
        outputs = [policy(row).copy() for row in rows]
        actions = [distribution.to_env(distribution.mode(output)) for output in outputs]
    for count in (1, 2, 7):
        found = model.run(None, {"observation": rows[:count].reshape(count, *shape)})
        np.testing.assert_allclose(found[0], actions[:count], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[1], outputs[:count], rtol=1e-4, atol=1e-5)
        assert all(space.contains(action) for action in found[0])


def test_an_onnx_model_may_come_with_the_folder_or_is_refused_in_one_line(
    cartpole, tmp_path, capsys, monkeypatch
):
    file, out = tmp_path / "policy.onnx", tmp_path / "out"
    run_onnx(cartpole, file, str(out), "--no-video", "--episodes", "1")
    assert (out / "play.py").exists()
    capsys.readouterr()
    for arguments, said in (
        ([cartpole, "--onnx", file], "exists; name a new file"),
        ([cartpole, "--onnx", tmp_path / "no/policy.onnx"], "cannot be written"),
        ([tmp_path, "--onnx", tmp_path / "new"], "is not a cell's folder"),
    ):
        assert main([str(each) for each in arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([str(cartpole), "--onnx", str(tmp_path / "new")]) == 2
    assert "pip install 'rllib-lpdm[onnx]'" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"policy.onnx", "out"}
    with pytest.raises(SystemExit):
        main([str(cartpole)])


def test_numpy_has_a_line_for_every_activation_and_black_box():
    z = np.linspace(-4, 4, 81, dtype=np.float32)
    assert ACTIVATIONS.keys() == IN_TORCH.keys()
    for name, line in ACTIVATIONS.items():
        expected = IN_TORCH[name].function(torch.from_numpy(z)).numpy()
        found = eval(line, {"np": np, "math": math, "z": z})
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)
        assert found.dtype == np.float32, name
    assert BLACK_BOXES.keys() == BOXES_IN_TORCH.keys()
    for name, line in BLACK_BOXES.items():
        expected = BOXES_IN_TORCH[name](torch.from_numpy(z)).numpy()
        np.testing.assert_array_equal(eval(line, {"np": np, "x": z}), expected, err_msg=name)


def test_several_heads_act_by_their_mean_each_before_what_follows_its_layer():
    rng = np.random.default_rng(0)
    shapes = {"encoder.layers.0": (5, 4), "encoder.layers.1": (3, 5), "a": (2, 5), "b": (2, 3)}
    weights = {f"{name}.weight": rng.normal(size=shape) for name, shape in shapes.items()}
    weights |= {f"{name}.bias": rng.normal(size=shape[0]) for name, shape in shapes.items()}
    network = ExportedNetwork((), 2, "tanh", "sign", {1: "a", 2: "b"})
    text = script(network, gym.make("CartPole-v1"), EnvironmentMaker(EnvironmentSpec(id="x")))
    scope = {"np": np, "WEIGHTS": weights}
    exec(text[text.index("def linear") : text.index("def play")], scope)
    x = rng.normal(size=4).astype(np.float32)
    first = np.tanh(weights["encoder.layers.0.weight"] @ x + weights["encoder.layers.0.bias"])
    second = np.tanh(
        weights["encoder.layers.1.weight"] @ np.sign(first) + weights["encoder.layers.1.bias"]
    )
    heads = (
        weights["a.weight"] @ first + weights["a.bias"],
        weights["b.weight"] @ second + weights["b.bias"],
    )
    np.testing.assert_allclose(scope["outputs"](x), np.mean(heads, axis=0))


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    cartpole, exported, tmp_path, capsys
):
    out = tmp_path / "out"
    for arguments, said in (
        ([tmp_path, out], "is not a cell's folder"),
        ([cartpole, exported], "exists; name a new folder"),
        (["s3://bucket/cell", out], "copy the cell's folder"),
        ([cartpole, "/proc/no/out"], "cannot be written"),
    ):
        assert main([str(each) for each in arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_a_strangers_folder_becomes_code(cartpole, tmp_path):
    run = read_run(cartpole)
    versions = run["versions"] | {"numpy": "1; rm -rf /"}
    stranger = tmp_path / "cell"
    shutil.copytree(cartpole, stranger)
    write_run(stranger, run | {"variant": '"""+print(1)+"""', "versions": versions})
    assert main([str(stranger), str(tmp_path / "out"), "--no-video", "--episodes", "1"]) == 0
    assert "print(1)" not in (tmp_path / "out" / "play.py").read_text()
    install = re.search("^pip install .*$", (tmp_path / "out" / "README.md").read_text(), re.M)
    assert "rm" not in install[0]


# -- scores ---------------------------------------------------------------------------------------


@pytest.fixture
def experiment(tmp_path):
    """Two environments, two methods, two seeds, and what does not fill the matrices."""
    folder = tmp_path / "grid"
    for method, gain in (("bp", 1.0), ("lpdm", 2.0)):
        for environment, scale in (("CartPole-v1", 1.0), ("Hopper-v4", 100.0)):
            for seed in (0, 1):
                returns = [scale * gain * (seed + step) for step in (0, 1, 3, 2)]
                write_cell(folder, returns, environment=environment, method=method, seed=seed)
    write_cell(folder, (9.0, 9.0), seed=2)  # bp on CartPole alone
    write_cell(folder, (9.0, 9.0), seed=3, status="running")
    write_cell(folder, (9.0, 9.0), environment="Ant-v4", method="lpdm")
    return folder


def test_rliable_gets_runs_by_tasks_of_every_method(experiment, tmp_path, capsys):
    out = tmp_path / "scores"
    assert main(["--scores", str(experiment), str(out)]) == 0
    said = capsys.readouterr().err
    assert "Ant-v4 is left out: it has no finished runs of ppo_bp" in said
    assert "ppo_bp: seeds that are not finished on every environment are left out" in said
    assert json.loads((out / "tasks.json").read_text()) == {
        "tasks": ["CartPole-v1", "Hopper-v4"],
        "seeds": {"ppo_bp": [0, 1], "ppo_lpdm": [0, 1]},
    }
    with np.load(out / "max_score.npz") as archive:
        scores = dict(archive)  # what rliable's functions take
    # smoothed 0, 1/2, 4/3, 3/2 for seed 0, and 1 more for seed 1
    np.testing.assert_allclose(scores["ppo_bp"], [[1.5, 150], [2.5, 250]])
    np.testing.assert_allclose(scores["ppo_lpdm"], [[3, 300], [5, 500]])
    with np.load(out / "end_score.npz") as archive:
        np.testing.assert_allclose(archive["ppo_lpdm"], [[4, 400], [6, 600]])
    with np.load(out / "normalised_max_score.npz") as archive:
        assert archive["ppo_bp"].shape == (2, 2)
        # of Hopper the worst run has 150, the best 500
        np.testing.assert_allclose(archive["ppo_lpdm"][:, 1], [150 / 350, 1])


def check_marl_eval(raw):
    """The rules of marl-eval's raw data: what its README asks for and its tools look up."""
    shapes = set()
    for environment, tasks in raw.items():
        assert environment == environment.lower()
        for task, algorithms in tasks.items():
            assert task == task.lower()
            for runs in algorithms.values():
                for run in runs.values():
                    *steps, last = run
                    assert last == "absolute_metrics"  # the tools take the last for it
                    assert steps == [f"step_{number}" for number in range(1, len(steps) + 1)]
                    counts = [run[step]["step_count"] for step in steps]
                    assert counts == sorted(counts)
                    assert all(isinstance(count, int) for count in counts)
                    for step in steps:
                        assert set(run[step]) - {"step_count"} == set(run[last])
                    for metrics in run.values():
                        lists = [values for key, values in metrics.items() if key != "step_count"]
                        assert all(isinstance(values, list) and values for values in lists)
                    shapes.add((tuple(algorithms), tuple(runs), len(steps)))
    assert len(shapes) == 1  # as many algorithms, runs and steps everywhere


def test_marl_eval_gets_environment_task_algorithm_run_and_step(experiment, tmp_path):
    out = tmp_path / "scores"
    assert main(["--scores", str(experiment), str(out)]) == 0
    raw = json.loads((out / "marl_eval.json").read_text())
    check_marl_eval(raw)
    assert raw["gymnasium"].keys() == {"cartpole-v1", "hopper-v4"}
    run = raw["gymnasium"]["hopper-v4"]["ppo_lpdm"]["seed_1"]
    assert run["absolute_metrics"] == {"return": [500.0]}
    assert run["step_3"]["step_count"] == 30
    assert run["step_3"]["return"] == [pytest.approx(200 * (1 + 4 / 3))]


def test_without_finished_runs_there_are_no_scores(tmp_path, capsys):
    assert main(["--scores", str(tmp_path / "nowhere"), str(tmp_path / "out")]) == 2
    write_cell(tmp_path / "grid", status="running")
    assert main(["--scores", str(tmp_path / "grid"), str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "no environment with finished runs of all methods" in lines[1]
    assert not (tmp_path / "out").exists()


def test_the_names_in_an_archive_are_a_file_s_own_whatever_methods_are_called(tmp_path):
    hostile = [("..", "../../etc"), ("/etc/passwd", "x"), ("a\\b", "c"), ("é", "ü"), ("é", "ö")]
    alike = [("ppo", "lpdm_guided", None), ("ppo", "lpdm", "guided"), ("allow", "pickle", None)]
    named = [(*pair, None) for pair in hostile] + alike
    for gain, (algorithm, method, variant) in enumerate(named, 1):
        run = record(algorithm=algorithm, method=method, variant=variant)
        path = tmp_path / "grid" / f"cell{gain}"
        path.mkdir(parents=True)
        (path / "run.json").write_text(json.dumps(run))
        (path / "iterations.csv").write_text(f"iteration,episode_return\n1,{gain}\n")
    out = tmp_path / "scores"
    assert main(["--scores", str(tmp_path / "grid"), str(out)]) == 0
    with zipfile.ZipFile(out / "max_score.npz") as archive:
        members = archive.namelist()
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.npy", member) for member in members)
    with np.load(out / "max_score.npz") as archive:
        scores = dict(archive)
    assert sorted(float(score[0, 0]) for score in scores.values()) == [*range(1, len(named) + 1)]
    assert {"allow_pickle", "ppo_lpdm_guided", "ppo_lpdm_guided-2"} < scores.keys()
    assert scores.keys() == json.loads((out / "tasks.json").read_text())["seeds"].keys()
