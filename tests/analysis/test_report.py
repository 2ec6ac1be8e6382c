"""What a report says of a folder: its figures, and everything that limits them."""

from itertools import product

import numpy as np
import pytest

from rllib_lpdm.analysis import output
from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.drawing import Picture
from rllib_lpdm.analysis.groups import Place
from rllib_lpdm.analysis.summary import analyse
from rllib_lpdm.schema.messages import UserError
from tests.analysis.cells import write_cell, write_plan


def write_grid(folder, methods=("bp", "lpdm"), seeds=3, **run):
    """A planned and finished experiment: two environments, some methods and seeds."""
    rng = np.random.default_rng(0)
    for environment, method, seed in product(("CartPole-v1", "Ant-v4"), methods, range(seeds)):
        run |= {"environment": environment, "method": method, "seed": seed}
        write_cell(folder, rng.normal(5, 1, 60).tolist(), **run)
    write_plan(folder)
    return folder


def notes(folder, **options):
    """The notes of a folder whose plan is what is in it."""
    write_plan(folder)
    return list(analyse(folder, **options).notes)


def test_a_whole_experiment_has_all_figures_and_needs_no_note(tmp_path):
    report = analyse(write_grid(tmp_path / "grid", seeds=5), with_paper=True)
    assert report.results.name == "grid"
    assert (report.results.missing, report.with_paper) == ([], True)
    assert report.notes == [
        "The budgets differ from the paper's, so that its figures are of shorter or longer "
        "training. Iterations: CartPole-v1 ppo 60 (paper 1500), Ant-v4 ppo 60 (paper 3000)"
    ]
    assert list(report.groups) == [Place("CartPole-v1", "ppo"), Place("Ant-v4", "ppo")]
    assert [(row.place.environment, row.series.method, row.seeds) for row in report.scores] == [
        ("CartPole-v1", "bp", 5),
        ("CartPole-v1", "lpdm", 5),
        ("Ant-v4", "bp", 5),
        ("Ant-v4", "lpdm", 5),
    ]
    assert [row.runs for row in report.aggregates] == [[5, 5], [5, 5]]
    assert (report.caution, analyse(tmp_path / "grid").notes) == ("", [])
    assert (report.speeds, report.appendices) == ([], {})


def test_the_same_folder_has_the_same_figures_to_the_last_bit(tmp_path):
    once, again = (analyse(write_grid(tmp_path / name)) for name in ("once", "again"))
    assert repr(once.scores) == repr(again.scores)
    assert repr(once.aggregates) == repr(again.aggregates)


@pytest.mark.parametrize("what", ["missing", "file", "empty", "pictures"])
def test_where_there_is_nothing_to_report_an_error_names_the_folder(tmp_path, what):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures" / "summer").mkdir(parents=True)
    (tmp_path / "pictures" / "summer" / "beach.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=str(tmp_path / what)):
        analyse(tmp_path / what)


def test_where_all_cells_are_damaged_the_error_names_each(tmp_path):
    for seed, file in enumerate(["run.json", "iterations.csv"]):
        (write_cell(tmp_path, seed=seed) / file).write_bytes(b"\xff\n\xff\n")
    with pytest.raises(UserError) as error:
        analyse(tmp_path)
    assert [line.split(":")[0].strip() for line in str(error.value).splitlines()[1:]] == [
        "CartPole-v1_ppo_bp_s0",
        "CartPole-v1_ppo_bp_s1",
    ]


def test_the_only_experiment_in_a_folder_is_found_and_of_several_one_is_to_be_named(tmp_path):
    write_grid(tmp_path / "first")
    assert analyse(tmp_path).results.name == "first"
    write_grid(tmp_path / "second")
    with pytest.raises(UserError) as error:
        analyse(tmp_path)
    assert str(tmp_path / "first") in str(error.value)
    assert str(tmp_path / "second") in str(error.value)
    assert analyse(tmp_path / "second").results.name == "second"


def test_the_appendices_are_found_in_the_folder_and_beside_the_experiment(tmp_path):
    write_grid(tmp_path / "main")
    write_grid(tmp_path / "appendix_d", ["frozen"])
    write_grid(tmp_path / "appendix_a", variant="sparse")
    (tmp_path / "appendix_b").mkdir()
    for folder in (tmp_path, tmp_path / "main"):
        report = analyse(folder)
        assert report.results.name == "main"
        assert set(report.appendices) == {"appendix_a", "appendix_d"}
        row = report.appendices["appendix_a"][Place("Ant-v4", "ppo")]
        assert list(row) == [Series("bp", "sparse"), Series("lpdm", "sparse")]
        assert len(report.scores) == 4
    report = analyse(tmp_path / "appendix_d")
    assert (report.results.name, len(report.scores)) == ("appendix_d", 2)
    assert set(report.appendices) == {"appendix_a", "appendix_d"}


def test_a_fault_in_an_appendix_is_a_note_that_names_it(tmp_path):
    write_grid(tmp_path / "main")
    (write_cell(tmp_path / "appendix_c") / "run.json").write_text("{")
    (note,) = analyse(tmp_path).notes
    assert note.startswith("appendix_c: CartPole-v1_ppo_bp_s0: run.json")


def test_a_damaged_cell_and_a_missing_one_leave_the_others_reported(tmp_path):
    write_grid(tmp_path)
    write_plan(tmp_path, "not begun")
    (tmp_path / "Ant-v4_ppo_bp_s1" / "iterations.csv").write_text("episode_return\n1\nx\n")
    report = analyse(tmp_path)
    assert [row.seeds for row in report.scores] == [3, 3, 2, 3]
    assert report.results.missing == ["Ant-v4_ppo_bp_s1", "not begun"]
    damaged, unequal = report.notes
    assert damaged.startswith("Ant-v4_ppo_bp_s1: iterations.csv")
    assert unequal == "Ant-v4 ppo has unequal numbers of seeds: bp 2, lpdm 3"


def test_a_single_seed_gives_no_interval_and_that_is_said(tmp_path):
    report = analyse(write_grid(tmp_path, seeds=1))
    assert report.notes == []
    assert report.caution.startswith("Too few seeds to tell methods apart")
    assert report.caution.endswith("A single seed gives no spread and no interval.")
    for row in report.aggregates:
        assert np.isfinite(row.interquartile_mean.value)
        assert np.isnan([row.interquartile_mean.low, row.interquartile_mean.high]).all()
    assert all(np.isnan(row.measures.relative_spread) for row in report.scores)


def test_too_few_seeds_are_said_first_and_of_which_methods(tmp_path):
    write_grid(tmp_path, ["bp"], seeds=5)
    write_grid(tmp_path, ["lpdm"], seeds=4)
    caution = analyse(tmp_path).caution
    assert "seeds of CartPole-v1 ppo lpdm, Ant-v4 ppo lpdm to tell" in caution
    assert "single" not in caution


def test_runs_as_long_as_the_papers_have_its_budget(tmp_path):
    for seed in range(2):
        write_cell(tmp_path, [1.0] * 1500, seed=seed)
    assert notes(tmp_path, with_paper=True) == []
    assert notes(tmp_path) == []


def test_runs_of_unequal_lengths_are_compared_as_far_as_all_go_and_that_is_said(tmp_path):
    write_cell(tmp_path, [1.0, 2.0])
    write_cell(tmp_path, [3.0, 4.0, 1000.0], seed=1)
    report = analyse(tmp_path)
    assert report.scores[0].measures.max_score == pytest.approx(2.5)
    (note,) = notes(tmp_path)
    assert note.startswith("CartPole-v1 ppo bp has runs of 2 to 3 iterations")


def test_only_finished_runs_count_and_without_any_those_so_far(tmp_path):
    for seed in range(2):
        write_cell(tmp_path, [4.0, 4.0], seed=seed)
        write_cell(tmp_path, [9.0, 9.0], method="lpdm", seed=seed, status="running")
    write_cell(tmp_path, [1000.0], seed=2, status="failed")
    write_plan(tmp_path)
    report = analyse(tmp_path)
    bp, lpdm = report.scores
    assert (bp.seeds, bp.finished, bp.measures.max_score) == (2, True, 4)
    assert (lpdm.seeds, lpdm.finished, lpdm.measures.max_score) == (2, False, 9)
    assert report.notes == [
        "CartPole-v1 ppo lpdm has no finished run; its figures are those so far"
    ]


def test_runs_that_were_trained_differently_are_not_averaged_in_silence(tmp_path):
    write_cell(tmp_path, settings={"lr": 0.1, "epochs": 3, "env_runners": 1})
    write_cell(tmp_path, settings={"lr": 0.2, "epochs": 3, "env_runners": 8}, seed=1)
    write_cell(tmp_path, settings={"lr": 0.3}, method="lpdm")
    write_cell(tmp_path, settings={"lr": 0.3}, method="lpdm", seed=1)
    assert notes(tmp_path) == ["CartPole-v1 ppo bp averages runs with different lr"]


def test_an_environment_that_the_paper_has_not_is_reported_last_with_a_note(tmp_path):
    for seed in range(2):
        write_cell(tmp_path, environment="Aardvark-v0", seed=seed)
        write_cell(tmp_path, environment="Ant-v4", seed=seed)
    budgets, note = notes(tmp_path, with_paper=True)
    assert budgets.endswith("Iterations: Ant-v4 ppo 2 (paper 3000)")
    assert note.startswith("Aardvark-v0 is not among the paper's environments")
    assert [row.place.environment for row in analyse(tmp_path).scores] == ["Ant-v4", "Aardvark-v0"]


def test_aggregates_are_drawn_where_some_method_has_two_seeds_and_listed_always(
    tmp_path, monkeypatch
):
    curves = Picture("learning_curves", "", "", [], [], [])  # the real ones take seconds
    monkeypatch.setattr(output, "learning_curves", lambda *arguments: curves)
    for method in ("bp", "lpdm"):
        write_cell(tmp_path / "x", method=method)
    page = output.write(analyse(tmp_path / "x"), tmp_path / "one").read_text()
    assert not (tmp_path / "one" / "figures" / "aggregates.png").exists()
    assert "The methods over all environments" in page
    write_cell(tmp_path / "x", seed=1)
    output.write(analyse(tmp_path / "x"), tmp_path / "two")
    assert (tmp_path / "two" / "figures" / "aggregates.png").is_file()


def test_environments_outside_the_paper_are_named_once_and_only_beside_its_numbers(tmp_path):
    for environment in ("Aardvark-v0", "Zaxxon"):
        for seed in range(2):
            write_cell(tmp_path, environment=environment, seed=seed)
    assert notes(tmp_path) == []
    (note,) = notes(tmp_path, with_paper=True)
    assert note == "Aardvark-v0, Zaxxon are not among the paper's environments"


def test_a_place_without_the_baseline_is_named(tmp_path):
    write_grid(tmp_path)
    for seed in range(3):
        write_cell(tmp_path, algorithm="reinforce", method="lpdm", seed=seed)
    found = notes(tmp_path)
    assert found[0] == "CartPole-v1 reinforce has no bp runs, so no ratios"
    assert any(note.startswith("CartPole-v1 reinforce is left out") for note in found)


def test_a_variant_that_nothing_can_be_compared_with_is_named(tmp_path):
    for seed in range(2):
        write_cell(tmp_path, variant="slow", seed=seed)
        write_cell(tmp_path, method="lpdm", variant="fast", seed=seed)
    (note,) = notes(tmp_path)
    assert "lpdm (fast)" in note
    assert "no ratios" in note


def test_an_unknown_baseline_is_an_error_that_lists_the_methods(tmp_path):
    write_grid(tmp_path)
    with pytest.raises(UserError, match=r"--baseline magic: .*bp, lpdm"):
        analyse(tmp_path, "magic")
    bp, lpdm, *_ = analyse(tmp_path, "lpdm").scores
    assert np.isfinite(bp.ratios).all()
    assert np.isnan(lpdm.ratios).all()
    assert notes(tmp_path, baseline="lpdm") == []


def test_an_experiment_without_backpropagation_is_reported_without_ratios(tmp_path):
    report = analyse(write_grid(tmp_path, ["lpdm", "frozen"]))
    assert np.isnan([row.ratios for row in report.scores]).all()
    assert [row.improvement for row in report.aggregates] == [None, None]
    assert [note for note in report.notes if "no bp runs" in note] == report.notes
