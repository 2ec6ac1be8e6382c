"""Finished cells in a few files: nothing is lost but digits, and nothing is mixed."""

import hashlib
import json

import numpy as np
import pytest

from rllib_lpdm.analysis.report import analyse
from rllib_lpdm.analysis.results import read_results
from rllib_lpdm.analysis.tables import markdown
from rllib_lpdm.publish import main as publish_main
from rllib_lpdm.report import main as report_main
from rllib_lpdm.results.published import publish, read_published
from rllib_lpdm.results.search import SearchRecord
from rllib_lpdm.tune import main as tune_main
from tests.analysis.cells import record
from tests.experiment.files import write


def write_cell(folder, method, seed, **run):
    content = record(algorithm="reinforce", method=method, seed=seed, settings={"lr": 0.1}, **run)
    path = folder / content["cell"]
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(content), encoding="utf-8")
    count = np.arange(1, 61)
    columns = {
        "iteration": count,
        "env_steps": 7 * count,
        "episode_return": np.sqrt(count + seed),
        "episode_length": 7 + count / 3,
        "seconds": count / 1000,
        "policy_loss": 1 / count,
    }
    if method != "bp":
        columns["distance_error_1"] = np.log(count + 1)
    rows = "\n".join(",".join(map(repr, row)) for row in np.transpose([*columns.values()]).tolist())
    (path / "iterations.csv").write_text(f"{','.join(columns)}\n{rows}\n", encoding="utf-8")


@pytest.fixture
def grid(tmp_path):
    folder = tmp_path / "grid"
    for seed in (0, 1):
        for method in ("bp", "lpdm"):
            write_cell(folder, method, seed)
    write_cell(folder, "frozen", 0, status="running")
    return folder


def test_a_published_cell_is_the_finished_cell_in_float32_but_for_durations_and_distance_errors(
    grid, tmp_path
):
    assert publish(grid, tmp_path / "out") == (4, 4)
    theirs = {cell.run.cell: cell for cell in read_results(grid, lambda column: True).cells}
    published = read_published(tmp_path / "out")
    assert len(published) == 4
    for name, (run, columns) in published.items():
        assert run.settings == theirs[name].run.settings
        assert theirs[name].columns.keys() - columns.keys() == {"policy_loss"}
        for column, values in columns.items():
            expected = theirs[name].columns[column].astype("float32")
            bits = {"seconds": 9, "distance_error_1": 12}.get(column, 24)
            error = 2.0**-bits if bits < 24 else 0
            np.testing.assert_allclose(values, expected, rtol=error, err_msg=column)
            significands, _ = np.frexp(values)
            np.testing.assert_array_equal(2**bits * significands % 1, 0)


def test_a_report_of_published_cells_has_the_tables_of_their_folder(grid, tmp_path):
    (grid / "CartPole-v1_reinforce_frozen_s0" / "run.json").unlink()
    publish(grid, tmp_path / "out")
    reports = [analyse(folder) for folder in (grid, tmp_path / "out")]
    tables = [markdown(report.scores, report.with_paper) for report in reports]
    assert tables[0] == tables[1]


def test_a_published_search_keeps_its_record(grid, tmp_path):
    search = SearchRecord(
        name="grid",
        proposer="random",
        criterion="max_score",
        seeds=[0, 1],
        space={"lr": {"log": [1e-4, 1e-2]}},
        rungs=[1.0],
        studies=[],
        env_steps=840,
        cpu_hours=0.25,
    )
    search.write(grid)
    publish(grid, tmp_path / "out")
    assert SearchRecord.read(tmp_path / "out") == search
    assert "  search.json\n" in (tmp_path / "out" / "SHA256SUMS").read_text()


def test_every_file_has_its_sum_and_a_second_time_changes_none(grid, tmp_path):
    out = tmp_path / "out"
    publish(grid, out)
    sums = (out / "SHA256SUMS").read_text()
    files = [path for path in out.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert len(files) == 5
    for path in files:
        line = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out)}"
        assert line in sums.splitlines()
    assert publish(grid, out) == (0, 4)
    assert (out / "SHA256SUMS").read_text() == sums


def test_cells_are_added_and_other_settings_refused(grid, tmp_path, capsys):
    arguments = [str(grid), str(tmp_path / "out")]
    assert publish_main(arguments) == 0
    write_cell(grid, "bp", 2)
    assert publish_main(arguments) == 0
    assert "1 cell added, 5 in" in capsys.readouterr().out
    path = grid / "CartPole-v1_reinforce_bp_s1" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": {"lr": 0.2}}))
    assert publish_main(arguments) == 2
    assert "CartPole-v1_reinforce_bp_s1 with other settings" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["shortened", "missing", "of other cells"])
def test_damaged_curves_are_named(grid, tmp_path, damage, capsys):
    out = tmp_path / "out"
    publish(grid, out)
    path = out / "curves" / "CartPole-v1.parquet"
    content = path.read_bytes()
    path.unlink()
    if damage == "shortened":
        path.write_bytes(content[:-100])
    if damage == "of other cells":
        write_cell(tmp_path / "other", "bp", 3)
        publish(tmp_path / "other", tmp_path / "others")
        path.write_bytes((tmp_path / "others" / "curves" / path.name).read_bytes())
    assert report_main([str(out)]) == 2
    assert str(path) in capsys.readouterr().err


def test_tune_leaves_out_what_is_published(grid, tmp_path, capsys):
    publish(grid, tmp_path / "out")
    entries = {"algorithms": ["reinforce"], "settings": {"iterations": 2}, "seeds": 3}
    path = write(tmp_path, "grid.yaml", methods=["bp", "lpdm"], **entries)
    tune = [str(path), "--output", str(tmp_path / "results"), "--dry-run"]
    assert tune_main([*tune, "--without", str(tmp_path / "out")]) == 0
    assert "2 cells" in capsys.readouterr().out
    assert tune_main([*tune, "--set", "seeds=2", "--without", str(tmp_path / "out")]) == 0
    assert "nothing to run" in capsys.readouterr().out
    for seed in (0, 1):
        write_cell(tmp_path / "later", "lpdm", seed + 2)
    publish(tmp_path / "later", tmp_path / "more")
    both = ["--without", str(tmp_path / "out"), "--without", str(tmp_path / "more")]
    assert tune_main([*tune, "--set", "seeds=4", *both]) == 0
    assert "2 cells" in capsys.readouterr().out
    assert tune_main([*tune, "--set", "methods=[lpdm]", "--set", "seeds=4", *both]) == 0
    assert capsys.readouterr().out.endswith(f"{tmp_path / 'out'} and {tmp_path / 'more'}\n")
    assert tune_main([*tune, "--without", str(tmp_path / "nowhere")]) == 2
    assert "--without" in capsys.readouterr().err
