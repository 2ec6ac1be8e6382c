"""What a dry run says of a grid is true, and saying it starts and writes nothing."""

import itertools
import time
from types import SimpleNamespace

import gymnasium as gym
import pytest
import ray
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.envs.registration import EnvSpec

from rllib_lpdm import tune
from rllib_lpdm.grid import estimate
from rllib_lpdm.grid.cell import CellRun, new_record
from rllib_lpdm.grid.estimate import (
    CHECKPOINTS_KEPT,
    Probe,
    _points,
    disk_bytes,
    plan,
    probe,
)
from rllib_lpdm.methods import METHODS
from rllib_lpdm.results.record import read_runs
from rllib_lpdm.schema.catalogue import ALGORITHMS
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.environments import EnvironmentSpec
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.loading import load_experiment
from tests.experiment.files import CONFIGS, write

SMALL = {"hidden_sizes": (8, 8), "iterations": 20}
PAPER = {"hidden_sizes": (64, 128, 256), "iterations": 10}
TRAINED = [("CartPole-v1", SMALL), ("Hopper-v4", PAPER)]


def planned(cells, folder, offline=False):
    return plan(cells, folder, read_runs(folder)[0], offline)


@pytest.fixture
def measured(monkeypatch):
    """Probes that all find the same: a millisecond a step, 100 bytes a row, 1000 parameters."""
    fixed = Probe(1e-3, row_bytes=100, columns=10, parameters=1000, frozen_parameters=0)
    monkeypatch.setattr(estimate, "probe", lambda cell: fixed)
    return fixed


def finish(folder, cell):
    new_record(cell, None, "", "").updated(status="finished").write(folder / cell.name)


def test_cells_are_listed_with_those_that_are_finished_and_the_sums_are_of_the_others(
    tmp_path, measured
):
    cells = load_experiment(
        write(tmp_path, algorithms=["reinforce", "ppo"], seeds=2, settings={"iterations": 90})
    ).cells()
    finish(tmp_path / "grid", cells[0])
    *names, counts, steps, hours, disk = planned(cells, tmp_path / "grid").splitlines()
    assert names == [f"{cells[0].name}  finished", *(cell.name for cell in cells[1:])]
    assert counts.startswith("4 cells, 1 finished, 3 to run, 270 iterations in all")
    # An episode of CartPole-v1 has 500 steps at most; one an iteration, or PPO's four.
    assert steps.startswith(f"at most {90 * 500 * (1 + 4 + 4):,} environment steps")
    assert hours.startswith(f"about {90 * 500 * 9 * 1e-3 / 3600:.2g} CPU hours")
    one = disk_bytes(cells[0], measured)
    assert disk == f"about {3 * one / 1e6:.1f} MB on disk, {one / 1e6:.1f} MB a cell"


def test_hours_and_sizes_are_plain_numbers_however_large_or_small(tmp_path, monkeypatch):
    slow = Probe(1 / 16, row_bytes=1, columns=1, parameters=100, frozen_parameters=0)
    monkeypatch.setattr(estimate, "probe", lambda cell: slow)
    cells = load_experiment(write(tmp_path, settings={"iterations": 2880})).cells()
    _, counts, _, hours, disk = planned(cells[:1], tmp_path / "grid").splitlines()
    assert counts.startswith("1 cell, 0 finished, 1 to run, 2,880 iterations in all")
    assert hours.startswith("about 100 CPU hours")
    size = disk_bytes(cells[0], slow)
    assert disk == f"about {size / 1e6:.1f} MB on disk, {size / 1e6:.1f} MB a cell"
    offline = planned(cells[:1], tmp_path / "grid", offline=True).splitlines()[-1]
    assert 0 < float(offline.split()[2]) < 100
    assert offline.split()[3] == "kB"


def test_a_grid_that_is_finished_costs_nothing(tmp_path):
    (cell,) = load_experiment(write(tmp_path)).cells()
    finish(tmp_path / "grid", cell)
    assert planned([cell], tmp_path / "grid").splitlines()[1:] == [
        f"1 cell, 1 finished, 0 to run, 0 iterations in all, into {tmp_path / 'grid'}"
    ]


def test_an_environment_without_a_time_limit_is_named_and_not_counted(
    tmp_path, measured, monkeypatch
):
    monkeypatch.setitem(gym.registry, "Endless-v0", EnvSpec("Endless-v0"))
    cells = load_experiment(write(tmp_path, environments=["CartPole-v1", "Endless-v0"])).cells()
    text = planned(cells, tmp_path / "grid")
    assert f"at most {2 * 4 * 500:,} environment steps" in text
    assert "steps and hours without Endless-v0, which has no time limit" in text


def test_of_an_environment_that_never_ends_a_part_is_measured(monkeypatch):
    endless = EnvSpec("Endless-v0", "gymnasium.envs.classic_control:PendulumEnv")
    monkeypatch.setitem(gym.registry, endless.id, endless)
    settings = CellSettings(iterations=4, hidden_sizes=[4])
    assert probe(Cell(endless.id, "reinforce", "lpdm", 0, settings)).seconds_per_step > 0


class Sleepy(PendulumEnv):
    """A pendulum, of which every step waits."""

    def step(self, action):
        time.sleep(0.02)
        return super().step(action)


@pytest.mark.parametrize(
    ("made", "settings"),
    [
        (EnvironmentSpec(id="Endless-v0", max_episode_steps=2**31 - 1), {}),
        (EnvironmentSpec(id="Endless-v0"), {"steps_per_iteration": 2**40}),
        (EnvironmentSpec(id="CartPole-v1"), {"episodes_per_iteration": 2**40}),
        (EnvironmentSpec(id="Sleepy-v0"), {"episodes_per_iteration": 4}),
    ],
    ids=["never-ending episodes", "steps", "episodes", "slow steps"],
)
def test_a_dry_run_ends_soon_however_long_the_episodes_and_iterations_are(
    monkeypatch, made, settings
):
    endless = EnvSpec("Endless-v0", PendulumEnv)
    sleepy = EnvSpec("Sleepy-v0", Sleepy, max_episode_steps=500)
    monkeypatch.setitem(gym.registry, endless.id, endless)
    monkeypatch.setitem(gym.registry, sleepy.id, sleepy)
    given = CellSettings(iterations=4, hidden_sizes=[4], num_epochs=1, **settings)
    started = time.monotonic()
    assert probe(Cell(made.id, "ppo", "lpdm", 0, given, None, made)).seconds_per_step > 0
    assert time.monotonic() - started < 20


def test_the_first_iteration_which_loads_code_is_not_reckoned(monkeypatch):
    times = iter([0.0, 100.0, 100.0, 101.0])  # before and after two iterations
    clock = SimpleNamespace(process_time=times.__next__, perf_counter=lambda: 0.0)
    monkeypatch.setattr(estimate, "time", clock)
    found = probe(Cell("CartPole-v1", "reinforce", "bp", 0, CellSettings(**SMALL)))
    assert 1 / 500 <= found.seconds_per_step < 0.2  # one second for 6 to 500 steps


def test_cells_that_are_alike_are_measured_once(tmp_path, measured, monkeypatch):
    asked = []
    monkeypatch.setattr(estimate, "probe", lambda cell: asked.append(cell) or measured)
    planned(load_experiment(CONFIGS / "grid.yaml").cells(), tmp_path / "grid")
    assert len(asked) == 72


def test_a_dry_run_starts_no_ray_and_writes_nothing(tmp_path, capsys, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, "small.yaml", algorithms=list(ALGORITHMS))
    before = sorted(tmp_path.rglob("*"))
    assert tune.main([str(file), "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "CPU hours" in printed.out
    assert printed.err == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_settings_that_cannot_be_trained_are_one_line_that_names_the_cell(tmp_path, capsys):
    settings = {"iterations": 1, "bootstrap_truncated": True}
    file = write(tmp_path, algorithms=["reinforce"], settings=settings)
    assert tune.main([str(file), "--output", str(tmp_path), "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: CartPole-v1_reinforce_lpdm_s0: bootstrap_truncated needs")


def test_a_damaged_run_file_is_one_line_that_names_it(tmp_path, capsys):
    run_file = tmp_path / "file" / "CartPole-v1_ppo_lpdm_s0" / "run.json"
    run_file.parent.mkdir(parents=True)
    run_file.write_text("{")
    assert tune.main([str(write(tmp_path)), "--output", str(tmp_path), "--dry-run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(run_file) in line


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def size_with_all_checkpoints(cell, folder):
    """Trains a cell; the size of its folder, had the best iteration not been the last."""
    run = CellRun(cell, folder / cell.name, "a command")
    while not run.finished:
        run.step()
    run.close()
    kept = list((run.folder / "checkpoints").iterdir())
    return size(run.folder) + (CHECKPOINTS_KEPT - len(kept)) * size(kept[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "algorithm", "trained"),
    # as many as there are methods: what a cell writes is measured on the very cell
    zip(METHODS, itertools.cycle(ALGORITHMS), itertools.cycle(TRAINED), strict=False),
)
def test_the_disk_of_a_cell_is_as_large_as_said(tmp_path, ray_session, trained, algorithm, method):
    environment, network = trained
    settings = CellSettings(**network, iterations_per_report=5, tensorboard=True)
    cell = Cell(environment, algorithm, method, 0, settings)
    actual = size_with_all_checkpoints(cell, tmp_path)
    board = size(tmp_path / cell.name / "tensorboard")
    measured = probe(cell)
    assert disk_bytes(cell, measured) == pytest.approx(actual, rel=0.2)
    plain = Cell(
        environment, algorithm, method, 0, settings.model_copy(update={"tensorboard": False})
    )
    assert disk_bytes(plain, measured) == pytest.approx(actual - board, rel=0.2)


@pytest.mark.slow
def test_the_rows_of_a_long_cell_have_the_size_that_is_said(tmp_path, ray_session):
    settings = CellSettings(hidden_sizes=(8, 8), iterations=1000, tensorboard=True)
    cell = Cell("CartPole-v1", "reinforce", "lpdm", 0, settings)
    actual = size_with_all_checkpoints(cell, tmp_path)
    rows = size(tmp_path / cell.name) - size(tmp_path / cell.name / "checkpoints")
    assert rows > actual / 2
    assert disk_bytes(cell, probe(cell)) == pytest.approx(actual, rel=0.2)


def test_offline_files_of_wandb_are_told_of_where_they_will_be_written(tmp_path):
    cells = load_experiment(CONFIGS / "quickstart.yaml").cells()[:1]
    assert "W&B's offline files" in planned(cells, tmp_path, offline=True)
    assert "W&B's offline files" not in planned(cells, tmp_path)


@pytest.mark.parametrize(("iterations", "points"), [(900, 900), (5000, 1000), (1001, 501)])
def test_offline_files_of_wandb_are_reckoned_from_their_points(iterations, points):
    cell = Cell("CartPole-v1", "ppo", "bp", 0, CellSettings(iterations=iterations))
    assert _points(cell) == points
