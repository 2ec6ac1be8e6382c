"""The table of distances, on cells whose distances are known."""

import pytest

from rllib_lpdm.report import main
from tests.analysis.cells import write_cell, write_plan

PLACE = {"environment": "CartPole-v1", "algorithm": "ppo"}  # the paper's bp: 474.5, spread 8.05 %


def printed(capsys, *words):
    """The lines of both tables as lists of entries."""
    assert main([*map(str, words), "--distances"]) == 0
    tables = capsys.readouterr().out.strip().split("\n\n")
    return [
        [[entry.strip() for entry in line.strip("|").split("|")] for line in table.splitlines()]
        for table in tables
    ]


def table_of(tmp_path, *rows):
    file = tmp_path / "published.csv"
    head = "environment,algorithm,method,max_score,relative_spread_percent,iterations\n"
    file.write_text(head + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return file


def test_a_line_for_each_place_and_the_mean_and_median_of_each_method(tmp_path, capsys):
    folder = tmp_path / "grid"
    for seed, value in enumerate([80.0, 100.0]):  # mean 90
        write_cell(folder, [value] * 3, **PLACE, seed=seed)
        write_cell(folder, [value / 2] * 3, **PLACE, method="lpdm", seed=seed)
    write_cell(folder, [7.0], environment="Hopper-v4", algorithm="ppo")
    write_cell(folder, [7.0], environment="Own-v0", algorithm="ppo")
    file = table_of(
        tmp_path,
        "CartPole-v1,ppo,bp,100,5,9",
        "CartPole-v1,ppo,lpdm,100,5,9",
        "Hopper-v4,ppo,bp,10,1,9",
        "Ant-v4,ppo,bp,10,1,9",
        "CartPole-v1,ppo,frozen,100,5,9",
    )
    rows, summary = printed(capsys, folder, "--published", file)
    assert rows[2:] == [
        ["bp", "CartPole-v1", "ppo", "90.0", "100.0", "2.00", "2"],
        ["bp", "Hopper-v4", "ppo", "7.0", "10.0", "15.00", "1"],
        ["lpdm", "CartPole-v1", "ppo", "45.0", "100.0", "11.00", "2"],
    ]
    assert summary[2:] == [
        ["bp", "2 of 3", "1 to 2", "8.50", "8.50", "Ant-v4"],
        ["lpdm", "1 of 1", "2", "11.00", "11.00", ""],
    ]
    _, summary = printed(capsys, folder, "--published", file, "--floor", "30")
    assert summary[2][:5] == ["bp", "2 of 3", "1 to 2", "0.67", "0.67"]


def test_variants_are_sorted_by_their_mean_and_incomplete_ones_come_last(tmp_path, capsys):
    folder = tmp_path / "calibration"
    for variant, scores in {"far": (50, 5), "near": (90, 9), "half": (99,)}.items():
        for environment, score in zip(("CartPole-v1", "Hopper-v4"), scores, strict=False):
            write_cell(folder, [score], **PLACE | {"environment": environment}, variant=variant)
    write_plan(folder, "Hopper-v4_ppo_bp_half_s0")
    file = table_of(
        tmp_path,
        *(
            f"{name},ppo,bp,{score},10,9"
            for name, score in [("CartPole-v1", 100), ("Hopper-v4", 10), ("Ant-v4", 1)]
        ),
    )
    _, summary = printed(capsys, folder, "--published", file)
    assert summary[2:] == [
        ["bp", "near", "2 of 2", "1", "1.00", "1.00", "1", "1.00", "1.00", ""],
        ["bp", "far", "2 of 2", "1", "5.00", "5.00", "1", "5.00", "5.00", ""],
        ["bp", "half", "1 of 2", "1", "0.10", "0.10", "1", "0.10", "0.10", "Hopper-v4"],
    ]


def test_several_folders_stand_beside_one_another_under_their_own_paths(tmp_path, capsys):
    for name, score in (("a", 50.0), ("b", 90.0)):
        write_cell(tmp_path / name / "grid", [score], **PLACE)
    file = table_of(tmp_path, "CartPole-v1,ppo,bp,100,10,9")
    words = [tmp_path / name / "grid" for name in ("a", "b")]
    _, summary = printed(capsys, *words, "--published", file)
    assert [(row[0], row[4]) for row in summary[2:]] == [
        (str(words[1]), "1.00"),
        (str(words[0]), "5.00"),
    ]


def test_only_finished_runs_of_the_environment_as_it_is_registered_stand_beside_the_paper(
    tmp_path, capsys
):
    folder = tmp_path / "grid"
    write_cell(folder, [474.5], **PLACE)
    write_cell(folder, [1.0], **PLACE, seed=1, status="running")
    write_cell(folder, [1.0], **PLACE, method="lpdm", status="running")
    write_cell(
        folder,
        [1.0],
        **PLACE,
        method="lpdm_guided",
        environment_spec={"id": "CartPole-v1", "max_episode_steps": 9},
    )
    rows, summary = printed(capsys, folder)
    assert rows[2:] == [["bp", "CartPole-v1", "ppo", "474.5", "474.5", "0.00", "1"]]
    assert [row[:3] for row in summary[2:]] == [
        ["bp", "1 of 24", "1"],
        ["lpdm", "0 of 24", "0"],
        ["lpdm_guided", "0 of 24", "0"],
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{0}", "--published", "{1}/none.csv", "--distances"], "none.csv: No such file"),
        (["{1}/none", "--distances"], "there is no such folder"),
        (["{0}", "--distances", "--floor", "0"], "--floor: 0 percent"),
        (["{0}", "--distances", "--floor", "nan"], "--floor: nan percent"),
        (["{0}", "--distances"], "the paper's table has no number for any finished run in"),
        (["{0}", "{0}"], "go with --distances"),
        (["{0}", "--floor", "3"], "go with --distances"),
    ],
)
def test_what_has_no_distance_is_refused_in_one_line(words, said, tmp_path, capsys):
    folder = tmp_path / "own"
    write_cell(folder, [1.0], environment="Own-v0", algorithm="ppo")
    assert main([word.format(folder, tmp_path) for word in words]) == 2
    *notes, line = capsys.readouterr().err.splitlines()
    assert said in line
    assert all(note.startswith("note: ") for note in notes)
    assert not (folder / "report").exists()
