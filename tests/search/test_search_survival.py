"""A search that was killed ends as one that was not disturbed."""

import os
import signal
import sys

import pytest
import ray

from rllib_lpdm import search, tune
from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.results.plan import Plan
from rllib_lpdm.results.search_record import SearchRecord
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.searches.studies import Search
from tests.experiment.files import CONFIGS
from tests.experiment.processes import needs_proc
from tests.experiment.survival.runs import HERE
from tests.experiment.survival.test_signals import driver
from tests.experiment.traces import progress_of, trace
from tests.search.cells import search_file

pytestmark = pytest.mark.slow
RUNG, WHOLE = 6, 40
SECTION = {"configurations": 4, "seeds": [1000], "halving": {"rungs": [0.15, 1.0]}}
SETTINGS = {
    "iterations": WHOLE,
    "iterations_per_report": 1,
    "checkpoint_interval": 2,
    "hidden_sizes": [16],
}


def file(folder):
    return search_file(folder, SECTION, environments=["Hopper-v4"], settings=SETTINGS)


def run_here(path, output, *options):
    return search.main([str(path), "--output", str(output), "--wandb", "disabled", *options])


def timeless(folder):
    """What ``search.json`` says, without what a clock measured."""
    record = SearchRecord.read(folder)
    cells = [c for study in record.studies for each in study.configurations for c in each.cells]
    assert record.cpu_hours == pytest.approx(sum(cell.cpu_hours for cell in cells))
    return record.model_dump_json(
        exclude={
            "cpu_hours": True,
            "studies": {
                "__all__": {"configurations": {"__all__": {"cells": {"__all__": {"cpu_hours"}}}}}
            },
        }
    )


@needs_proc
def test_killed_and_resumed_with_other_workers_it_finds_the_same(tmp_path, ray_session, capfd):
    path = file(tmp_path)
    assert run_here(path, tmp_path / "straight", *HERE) == 0
    straight, killed = tmp_path / "straight" / "search", tmp_path / "killed" / "search"

    words = [sys.executable, "-m", "rllib_lpdm.search", str(path), "--output", str(killed.parent)]
    words += ["--wandb", "disabled", "--max-concurrent", "1"]
    words += ["--address", ray.get_runtime_context().gcs_address]  # spares another Ray
    with driver(words, tmp_path / "log") as one:

        def going_on():
            """Whether one cell has come through the second rung, and another is in it."""
            reached = [progress_of(cell) for cell in killed.glob("Hopper*")]
            return WHOLE in reached and any(RUNG < iteration < WHOLE for iteration in reached)

        one.wait_until(going_on, "the second cell of the second rung was under way")
        one.clean_up()
    assert SearchRecord.read(killed) is None

    assert run_here(path, killed.parent, "--resume", *HERE) == 0
    assert "from a checkpoint" in capfd.readouterr().out
    assert timeless(killed) == timeless(straight)
    assert (killed / "tuned.yaml").read_text() == (straight / "tuned.yaml").read_text()
    cells = sorted(cell.name for cell in straight.glob("Hopper*"))
    assert len(cells) == 4
    for name in cells:
        assert trace(killed / name) == trace(straight / name)

    # and nothing is left to do
    assert run_here(path, killed.parent, "--resume") == 0

    # a cell that was cut and taken further is the one that ran whole
    whole = Search.of(load_experiment(path))
    (study,) = whole.studies
    extended = next(n for n in cells if progress_of(straight / n) == WHOLE)
    number = int(extended.split("_c")[1][:3])
    (cell,) = whole.cells(study, number, whole.proposals(study)[number])
    run = CellRun(cell, tmp_path / "whole", "", "")
    while not run.finished:
        run.step()
    run.close()
    rows, weights = trace(tmp_path / "whole")
    as_extended, its_weights = trace(straight / extended)
    assert rows == as_extended
    last = f"iteration_{WHOLE:08d}"
    assert {k: v for k, v in weights.items() if k[0] == last} == {
        k: v for k, v in its_weights.items() if k[0] == last
    }


def test_a_search_in_this_process_says_what_it_chose_and_tune_refuses_its_file(
    tmp_path, ray_session, capsys
):
    section = {"configurations": 3, "seeds": [1000], "generation": 2, "proposer": "optuna"}
    settings = {"iterations": 2, "iterations_per_report": 2, "hidden_sizes": [4]}
    path = search_file(tmp_path, section, settings=settings, in_process=True, methods=["bp"])
    assert run_here(path, tmp_path, "--dry-run") == 0
    assert "rung 1 of 1: 3 cells, 6 iterations, at most 3,000" in capsys.readouterr().out
    assert run_here(path, tmp_path) == 0
    said = capsys.readouterr().out
    assert "configurations 2 to 2 of 3: 1 cell, 1 to run" in said
    assert "Chosen:\n  CartPole-v1 reinforce bp: c00" in said
    assert run_here(path, tmp_path) == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert tune.main([str(path), "--output", str(tmp_path)]) == 2
    assert "has a search: python -m rllib_lpdm.search" in capsys.readouterr().err
    options = ["--output", str(tmp_path), "--wandb", "disabled"]
    assert tune.main([str(tmp_path / "search" / "tuned.yaml"), *options]) == 0
    # One run where the chosen settings are the default ones.
    assert list((tmp_path / "search-tuned").glob("CartPole-v1_reinforce_bp_*_s0"))


def test_the_example_of_a_calibration_runs_and_says_how_far_it_is(tmp_path, ray_session, capsys):
    path = CONFIGS / "calibration.yaml"
    quick = ["--set", "settings.iterations=3", *HERE]
    assert run_here(path, tmp_path, "--dry-run", *quick) == 0
    assert "more seeds for the best 2: 8 cells, 24 iterations" in capsys.readouterr().out
    assert run_here(path, tmp_path, *quick) == 0
    said = capsys.readouterr().out
    assert "more seeds for the best 2: 16 cells, 8 to run" in said
    assert "published spreads away" in said
    (study,) = SearchRecord.read(tmp_path / "calibration").studies
    assert len(study.configurations[study.winner].cells) == 2 * 4
    assert len(Plan.read(tmp_path / "calibration").cells) == 6 * 2 * 2 + 2 * 2 * 2


FIRST, SECOND = 2, 3  # steps of a cell in each rung, an iteration a step
ALL = 4 * FIRST + 2 * SECOND  # of the search
STAGES = {  # steps before the stop, cells that are still to go
    "before the first cell": (0, 4),
    "within the first cell": (1, 4),
    "after the first cell": (FIRST, 3),
    "with some cells ended": (2 * FIRST + 1, 2),
    "between the rungs": (4 * FIRST, 2),
    "with one of the last cells ended": (4 * FIRST + SECOND, 1),
    "before the last step": (ALL - 1, 1),
    "after the last cell": (ALL, 1),  # which has not said yet that it has ended
}


def tiny(folder):
    section = SECTION | {"halving": {"rungs": [FIRST / (FIRST + SECOND), 1.0]}}
    settings = SETTINGS | {"iterations": FIRST + SECOND, "checkpoint_interval": 1}
    return search_file(folder, section, settings=settings, in_process=True, methods=["bp"])


@pytest.fixture(scope="module")
def straight(tmp_path_factory, ray_session):
    """The folder of the tiny search that nobody disturbs."""
    folder = tmp_path_factory.mktemp("straight")
    assert run_here(tiny(folder), folder) == 0
    return folder / "search"


@pytest.mark.parametrize(("steps", "to_go"), STAGES.values(), ids=STAGES)
def test_stopped_at_any_stage_and_resumed_it_finds_the_same(
    steps, to_go, straight, tmp_path, monkeypatch, capsys
):
    taken, step = 0, CellRun.step

    def stopping(run):
        nonlocal taken
        if taken == steps:
            os.kill(os.getpid(), signal.SIGINT)
        taken += 1
        report = step(run)
        if taken == steps == ALL:
            os.kill(os.getpid(), signal.SIGINT)
        return report

    path = tiny(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(CellRun, "step", stopping)
        assert run_here(path, tmp_path) == 128 + signal.SIGINT
    assert taken == steps
    assert f"interrupted with {to_go} cell" in capsys.readouterr().err
    assert SearchRecord.read(tmp_path / "search") is None
    assert run_here(path, tmp_path, "--resume") == 0
    assert timeless(tmp_path / "search") == timeless(straight)
