"""The files in ``tune_configs/`` say what the method's description says."""

import subprocess
import sys

import pytest

from rllib_lpdm.schema.loading import PACKAGED, load_experiment
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import CONFIGS, write

# By environment: learning rate, action std and iterations of REINFORCE with and without baseline,
# then of PPO. Section 4.1 names the exceptions; all else is the same everywhere.
TABLE = {
    "CartPole-v1": ((2e-3, 0.5, 1500), (2e-3, 0.5, 1500)),
    "Acrobot-v1": ((2e-3, 0.5, 1500), (2e-3, 0.5, 1500)),
    "InvertedPendulum-v4": ((2e-3, 0.5, 1500), (2e-3, 0.5, 1500)),
    "Pusher-v4": ((3e-4, 0.2, 3000), (3e-4, 0.2, 3000)),
    "Hopper-v4": ((1e-3, 0.5, 5000), (1e-3, 0.5, 3000)),
    "Walker2d-v4": ((1e-3, 0.5, 5000), (1e-3, 0.5, 3000)),
    "HalfCheetah-v4": ((1e-3, 0.5, 5000), (3e-4, 0.2, 3000)),
    "Ant-v4": ((1e-3, 0.2, 5000), (3e-4, 0.2, 3000)),
}
EVERYWHERE = {
    "hidden_sizes": [64, 64],
    "grad_clip": 0.5,
    "return_normalization": "running",
    "return_window": None,
    "conv_layers": [],
    "activation": "tanh",
    "initialization": "torch",
    "hidden_gain": 2**0.5,
    "head_gain": 0.01,
    "hidden_lr": None,
    "metric": "l1",
    "scaling": "own",
    "guided_distances": "original",
    "target_maximum": "batch",
    "neighbours": "all",
    "neighbour_fraction": 0.5,
    "propagate_error": False,
    "black_box": None,
    "init_hidden_from": None,
    "pretrain_from": None,
    "pretrain_epochs": 10,
    "pretrain_batch_size": 128,
    "gamma": 0.99,
    "bootstrap_truncated": False,
    "vf_loss_coeff": 0.5,
    "local_heads": "last",
    "feedback": "random",
    "max_rows": None,
}
OF_PPO = {
    "episodes_per_iteration": 1,
    "steps_per_iteration": 0,
    "num_epochs": 4,
    "minibatch_size": 1_000_000,
    "local_updates": "every_minibatch",
    "advantage": "return",
    "clip_param": 0.2,
    "kl_coeff": 0.01,
    "vf_clip_param": 0.2,
}
BASES = {"paper.yaml", "tuned/by_environment.yaml"}
FILES = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))


@pytest.fixture(scope="module")
def grid():
    return load_experiment(CONFIGS / "grid.yaml").cells()


def expected_settings(environment, algorithm):
    lr, std, iterations = TABLE[environment][algorithm == "ppo"]
    of_environment = {"lr": lr, "action_std": std, "iterations": iterations}
    return EVERYWHERE | (OF_PPO if algorithm == "ppo" else {}) | of_environment


@pytest.mark.parametrize("environment", TABLE)
def test_the_grid_has_exactly_the_chosen_settings(grid, environment):
    cells = [cell for cell in grid if cell.environment == environment]
    assert len(cells) == 90
    for cell in cells:
        assert cell.settings.of_training() == expected_settings(environment, cell.algorithm)


def test_the_grid_is_eight_environments_three_algorithms_three_methods_and_ten_seeds(grid):
    assert len({cell.name for cell in grid}) == len(grid) == 720
    assert {c.environment for c in grid} == set(TABLE)
    assert {c.algorithm for c in grid} == {"reinforce", "reinforce_baseline", "ppo"}
    assert {c.method for c in grid} == {"bp", "lpdm", "lpdm_guided"}
    assert [cell.seed for cell in grid] == [seed for seed in range(10) for _ in range(72)]


def test_the_quickstart_is_six_cells_of_cartpole():
    names = {cell.name for cell in load_experiment(CONFIGS / "quickstart.yaml").cells()}
    assert names == {
        f"CartPole-v1_{algorithm}_{method}_s0"
        for algorithm in ("reinforce", "reinforce_baseline", "ppo")
        for method in ("bp", "lpdm")
    }


def test_the_debug_file_is_one_short_cell_in_this_process():
    experiment = load_experiment(CONFIGS / "debug.yaml")
    (cell,) = experiment.cells()
    assert experiment.in_process
    assert experiment.throwaway
    assert cell.settings.iterations <= 20


@pytest.mark.parametrize("name", [name for name in FILES if name not in BASES])
def test_every_file_loads_and_expands(name):
    experiment = load_experiment(CONFIGS / name)
    assert experiment.name == name.removesuffix(".yaml")
    assert experiment.cells()


@pytest.mark.parametrize("name", sorted(BASES))
def test_a_base_file_alone_says_what_it_lacks(name):
    with pytest.raises(UserError, match="environments: missing"):
        load_experiment(CONFIGS / name)


# -- the package's own, by their names ------------------------------------------------------------


def test_a_built_package_holds_every_file(tmp_path):
    command = [sys.executable, "-c", "import setuptools; setuptools.setup()", "--quiet"]
    command += ["egg_info", "--egg-base", str(tmp_path)]
    command += ["build_py", "--build-lib", str(tmp_path / "built")]
    subprocess.run(command, cwd=CONFIGS.parent, check=True, capture_output=True)

    def files(folder):
        found = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder): path.read_bytes() for path in found}

    assert files(tmp_path / "built/rllib_lpdm/tune_configs") == files(CONFIGS)


NAMES = sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name != "paper.yaml")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_not_here_takes_the_packages_file_and_says_so(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert load_experiment(name).cells() == load_experiment(CONFIGS / name).cells()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"{name}: there is no such file; taking {PACKAGED / name}"


def test_a_file_that_is_here_is_taken_whatever_the_package_has(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "quickstart.yaml")
    assert load_experiment("quickstart.yaml").environments[0].id == "CartPole-v1"
    assert len(load_experiment("quickstart.yaml").cells()) == 1
    assert capsys.readouterr().err == ""
    (tmp_path / "grid.yaml").symlink_to("nowhere.yaml")
    with pytest.raises(UserError, match=r"^grid\.yaml: there is no such file$"):
        load_experiment("grid.yaml")


def test_a_file_of_the_users_extends_the_packages_by_name(tmp_path, capsys):
    path = write(tmp_path, extends="paper.yaml")
    assert load_experiment(path).cells()[0].settings.hidden_sizes == (64, 64)
    assert f"{tmp_path / 'paper.yaml'}: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tune_configs/quickstart.yaml", "/nowhere/quickstart.yaml"])
def test_a_path_that_leads_nowhere_names_the_packages_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"the name alone, quickstart\.yaml, takes"):
        load_experiment(name)
