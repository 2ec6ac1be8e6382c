"""The command line of the report, on real cells and on what users may point it at by mistake."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rllib_lpdm import tune
from rllib_lpdm.report import main
from tests.analysis.cells import write_cell
from tests.experiment.files import CONFIGS


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four cells, trained in this process."""
    output = tmp_path_factory.mktemp("results")
    changes = ["seeds=2", "methods=[bp,lpdm]", "settings.iterations=3"]
    words = [str(CONFIGS / "debug.yaml"), "--output", str(output), "--wandb", "disabled"]
    for change in changes:
        words += ["--set", change]
    assert tune.main(words) == 0
    return output / "debug"


@pytest.mark.slow
def test_a_trained_grid_becomes_the_same_tables_figures_and_page_each_time_without_ray(
    trained, tmp_path
):
    code = (
        "import sys; from rllib_lpdm.report import main; status = main(sys.argv[1:]); "
        "sys.exit(status or bool({'ray', 'torch', 'gymnasium'} & set(sys.modules)))"
    )
    words = [str(trained), "--output", str(tmp_path), "--paper"]
    run = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0
    notes = run.stderr.splitlines()
    assert [note.split(":")[1][:14] for note in notes] == [" Too few seeds", " The budgets d"]
    assert run.stdout.splitlines() == ["4 cells", str(tmp_path / "index.html")]
    for name in ("table1.csv", "table1.md", "table1.tex", "aggregates.csv", "speed.csv"):
        assert (tmp_path / name).stat().st_size > 0
    with (tmp_path / "table1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seeds"], row["finished"]) for row in rows] == [
        ("bp", "2", "yes"),
        ("lpdm", "2", "yes"),
    ]
    assert rows[1]["paper_max_score"] == "474.9"
    page = (tmp_path / "index.html").read_text()
    assert all(f"cell-{path.name}" in page for path in trained.glob("CartPole*"))
    # two seeds of a single environment make no profile
    assert list((tmp_path / "figures").glob("performance_profiles*")) == []
    for kind in ("learning_curves", "aggregates", "distance_errors"):
        assert {path.suffix for path in (tmp_path / "figures").glob(f"{kind}*")} == {
            ".png",
            ".pdf",
            ".svg",
        }
    assert main([str(trained), "--paper"]) == 0
    for path in tmp_path.rglob("*.*"):
        assert (trained / "report" / path.relative_to(tmp_path)).read_bytes() == path.read_bytes()


def test_an_experiment_with_a_report_can_be_overwritten(trained, tmp_path):
    folder = tmp_path / "debug"
    shutil.copytree(trained, folder)
    (folder / "report" / "figures").mkdir(parents=True, exist_ok=True)
    words = [str(CONFIGS / "debug.yaml"), "--output", str(tmp_path), "--wandb", "disabled"]
    assert tune.main([*words, "--set", "settings.iterations=1", "--overwrite"]) == 0
    assert not (folder / "report").exists()


def refused(capsys, *words):
    """The one line with which a report is refused."""
    assert main([str(word) for word in words]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_cell_itself_is_refused_with_the_way_out(tmp_path, capsys):
    line = refused(capsys, write_cell(tmp_path / "grid"))
    assert "is a cell; name the experiment's folder" in line


@pytest.mark.parametrize("content", ["nothing", "something else"])
def test_a_folder_without_cells_is_refused_in_a_line(tmp_path, capsys, content):
    if content == "something else":
        (tmp_path / "holiday").mkdir()
        (tmp_path / "holiday" / "photo.txt").write_text("a beach")
    assert "holds no cell" in refused(capsys, tmp_path)
    assert list(tmp_path.glob("report")) == []


def test_a_missing_folder_is_refused_by_name(tmp_path, capsys):
    assert "nowhere: there is no such folder" in refused(capsys, tmp_path / "nowhere")


def test_a_baseline_that_no_cell_has_is_refused_with_those_there_are(tmp_path, capsys):
    write_cell(tmp_path / "grid", method="bp")
    write_cell(tmp_path / "grid", method="lpdm")
    line = refused(capsys, tmp_path / "grid", "--baseline", "frozn")
    assert line.endswith("there are bp, lpdm")


def test_one_of_several_experiments_must_be_named(tmp_path, capsys):
    for name in ("grid", "quickstart"):
        write_cell(tmp_path / name)
    line = refused(capsys, tmp_path)
    assert str(tmp_path / "grid") in line
    assert str(tmp_path / "quickstart") in line


def test_an_output_that_cannot_be_written_is_refused_with_the_way_out(tmp_path, capsys):
    write_cell(tmp_path / "grid")
    (tmp_path / "taken").write_text("")
    assert "--output" in refused(capsys, tmp_path / "grid", "--output", tmp_path / "taken")


@pytest.mark.parametrize("target", ["others", "nowhere"])
def test_a_report_folder_that_is_a_link_is_refused_with_the_way_out(tmp_path, capsys, target):
    folder = tmp_path / "grid"
    write_cell(folder)
    (tmp_path / "others").mkdir()
    (folder / "report").symlink_to(tmp_path / target)
    line = refused(capsys, folder)
    assert "report is a link" in line
    assert "--output" in line
    assert list((tmp_path / "others").iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_what_is_damaged_is_named_and_the_rest_is_reported_in_the_place_of_links(tmp_path, capsys):
    """The links are replaced, and what they name stays as it is."""
    folder = tmp_path / "grid"
    for seed in range(2):
        write_cell(folder, seed=seed)
    broken = write_cell(folder, seed=2)
    (broken / "run.json").write_text("{")
    copy = shutil.copytree(folder / "CartPole-v1_ppo_bp_s0", folder / "backup")
    half = folder / "CartPole-v1_ppo_bp_s1" / "iterations.csv"
    half.write_text(half.read_text() + "3,7")
    lost = write_cell(folder, seed=3)
    (lost / "run.json").unlink()
    report, others = folder / "report", tmp_path / "others"
    report.mkdir()
    others.mkdir()
    for name in ("index.html", "table1.csv"):
        (others / name).write_text("mine")
        (report / name).symlink_to(others / name)
    (report / "figures").symlink_to(others)
    assert main([str(folder)]) == 0
    said = capsys.readouterr().err
    for name in (broken.name, copy.name, half.parent.name, lost.name):
        assert name in said
    with (report / "table1.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["seeds"] == "2"
    assert {path.read_text() for path in others.iterdir()} == {"mine"}
    assert (report / "figures" / "learning_curves_raw_score_by_iterations.png").stat().st_size
    assert not any(path.is_symlink() for path in [*report.rglob("*"), *others.iterdir()])


@pytest.mark.slow
def test_a_grid_that_still_runs_is_reported_as_far_as_it_is_with_its_appendices(tmp_path, capsys):
    folder = tmp_path / "grid"
    done = write_cell(folder, returns=[1.0, 3.0])
    write_cell(folder, returns=[5.0], seed=1, status="running")
    plan = {"cells": [done.name, "CartPole-v1_ppo_bp_s1", "CartPole-v1_ppo_bp_s2"]}
    (folder / ".experiment.json").write_text(json.dumps(plan))
    for variant in ("reference", "closest"):
        write_cell(tmp_path / "appendix_a", method="lpdm", variant=variant)
    assert main([str(folder), "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("2 cells, 1 missing\n")
    with (tmp_path / "out" / "table1.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["seeds"], float(row["max_score"])) == ("1", 2.0)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "CartPole-v1_ppo_bp_s2" in page
    assert "Figure A1" in page
    assert "Figure A2" not in page


@pytest.mark.skipif(sys.platform != "linux", reason="paths are bytes there")
def test_a_folder_whose_name_is_no_text_is_reported_to_a_strict_terminal(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    write_cell(Path(folder), command=f"python -m rllib_lpdm.tune {folder}")
    words = [sys.executable, "-m", "rllib_lpdm.report", folder]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    run = subprocess.run(words, capture_output=True, check=False, env=strict)
    assert (run.returncode, b"Traceback" in run.stderr) == (0, False)
    assert b"caf\\udce9/report/index.html" in run.stdout
    assert (Path(folder) / "report" / "index.html").is_file()
