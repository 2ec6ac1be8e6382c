"""What is published can be checked, is what the documentation says, and comes out again."""

import csv
import hashlib
import itertools
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from rllib_lpdm import report
from rllib_lpdm.analysis.summary import analyse
from rllib_lpdm.analysis.tables import claims_markdown, markdown
from rllib_lpdm.policies.rerun import ray_for, recorded_cells
from rllib_lpdm.results.published import read_published, read_runs
from rllib_lpdm.schema.cell_settings import own_settings
from rllib_lpdm.schema.loading import load_experiment

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "published"
CALIBRATION = PUBLISHED / "calibration"
WITHIN = PUBLISHED / "within-episode"  # runs whose returns were normalised within an episode
GRID = WITHIN / "grid"
SEARCH, TUNED, TWO_RATES = (WITHIN / name for name in ("search", "search-tuned", "two-rates"))
OF_HOPPER = [WITHIN / f"search-hopper{which}" for which in ("", "-tuned", "-end")]
APPENDICES = sorted(path for path in WITHIN.glob("appendix_*") if path.is_dir())
READINGS, UNSCALED = WITHIN / "readings", WITHIN / "grid-unscaled"
GRID_FIRST, GRID_STEPS = WITHIN / "grid-first", WITHIN / "grid-steps"
FOLDERS = sorted(path.parent for path in PUBLISHED.rglob("runs.jsonl"))
ALGORITHMS = "reinforce", "reinforce_baseline", "ppo"
METHODS = "bp", "lpdm", "lpdm_guided", "frozen"
WITH_FROZEN = f"methods=[{', '.join(METHODS)}]"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_published_file_has_its_sum(folder):
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    curves = {str(path.relative_to(folder)) for path in folder.glob("curves/*")}
    assert sums.keys() == curves | {
        ".experiment.json",
        "runs.jsonl",
        "scores.csv",
        "versions.txt",
        *(["search.json"] if folder in (SEARCH, OF_HOPPER[0]) else []),
    }
    for name, digest in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_no_published_command_names_a_folder_of_one_machine():
    for folder in FOLDERS:
        for run in read_runs(folder).values():
            assert not re.search("[ ='\"]/", run.command), run.cell


def test_all_that_is_published_is_small():
    files = [path for path in PUBLISHED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6


def test_tuning_seeds_and_test_seeds_are_apart():
    for folder in FOLDERS:
        tuning = folder in (CALIBRATION, SEARCH, READINGS, OF_HOPPER[0])
        assert {run.seed >= 1000 for run in read_runs(folder).values()} == {tuning}


@pytest.mark.parametrize(
    ("folder", "file", "changes"),
    [
        (PUBLISHED / "grid", "../tune_configs/grid.yaml", [WITH_FROZEN]),
        (GRID, "grid.yaml", [WITH_FROZEN]),
        (GRID_FIRST, "grid.yaml", [WITH_FROZEN]),
        (UNSCALED, "grid_unscaled.yaml", [WITH_FROZEN]),
        (GRID_STEPS, "grid_steps.yaml", [WITH_FROZEN]),
        (TUNED, "search-tuned.yaml", []),
        (TWO_RATES, "two_rates.yaml", []),
        (OF_HOPPER[1], "search-hopper-tuned.yaml", []),
        (OF_HOPPER[2], "search-hopper-end.yaml", []),
        *((folder, f"{folder.name}.yaml", []) for folder in APPENDICES),
    ],
)
def test_published_cells_have_the_settings_of_their_file_and_no_others(folder, file, changes):
    experiment = load_experiment(folder.parent / file, changes)
    cells = {cell.name: cell for cell in experiment.every_cell()}
    for name, run in read_runs(folder).items():
        settings = own_settings(run.algorithm, run.settings)
        assert settings.of_training() == cells[name].settings.of_training(), name


@pytest.mark.slow
def test_the_documentation_shows_the_reports_of_what_is_published():
    shown = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for folder in APPENDICES:
        assert markdown(analyse(folder).scores).strip() in shown
    for folder in (GRID_FIRST, GRID_STEPS):
        assert markdown(analyse(folder, with_paper=True).scores, with_paper=True).strip() in shown
    for folder in (GRID, UNSCALED):
        found = analyse(folder, with_paper=True)
        assert markdown(found.scores, with_paper=True).strip() in shown
        assert claims_markdown(found.claims).strip() in shown
    of_search = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert markdown(analyse(TUNED).scores).strip() in of_search
    assert markdown(analyse(OF_HOPPER[1]).scores).strip() in of_search
    *_, top, _, _, end, _ = markdown(analyse(OF_HOPPER[2]).scores).split("|")
    assert f"hidden_lr 5.9e-5 |{end}|{top}|" in of_search
    assert markdown(analyse(TWO_RATES, baseline="frozen").scores).strip() in of_search


def test_the_documentation_shows_which_reading_is_closest_to_all_columns(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    grid, unscaled = (str(folder.relative_to(ROOT)) for folder in (GRID, UNSCALED))
    assert report.main([grid, unscaled, "--distances"]) == 0
    _, lines = capsys.readouterr().out.strip().split("\n\n")
    assert lines in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert report.main([grid, "--distances"]) == 0
    _, lines = capsys.readouterr().out.strip().split("\n\n")
    assert lines in (ROOT / "docs" / "report.md").read_text(encoding="utf-8")


def share(first, second, places, by="max_score", folder=GRID):
    """Of the pairs of runs of two methods, those in which the first scores higher; half a tie."""
    rows = csv.DictReader((folder / "scores.csv").open(encoding="utf-8"))
    found = defaultdict(list)
    for row in rows:
        found[row["environment"], row["algorithm"], row["method"]].append(float(row[by]))
    shares = [
        np.sign(np.subtract.outer(found[*place, first], found[*place, second])).mean() / 2 + 0.5
        for place in {place[:2] for place in found}
        if place[0] in places or place in places
    ]
    return f"{np.mean(shares):.2f}"


def test_the_shares_of_pairs_that_the_documentation_names_are_those_of_the_published_runs():
    simple = "CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4"
    hopper, walker = ([(name, a) for a in ALGORITHMS] for name in ("Hopper-v4", "Walker2d-v4"))
    locomotion, end = hopper + walker, "end_score"
    learned, guided = ("lpdm", "frozen"), ("lpdm_guided", "lpdm")
    of_hopper = [share(*learned, [place]) for place in hopper]
    of_walker = [share(*learned, [place]) for place in walker]
    on_cartpole = sorted(share(*guided, [("CartPole-v1", name)]) for name in ALGORITHMS)
    pusher, acrobot = ([(name, a) for a in ALGORITHMS] for name in ("Pusher-v4", "Acrobot-v1"))
    above = [share("lpdm", "bp", [place], end, GRID_STEPS) for place in pusher[:2]]

    def pairs_won(first, second):
        """Of the 25 pairs on Pusher under PPO, by highest score and at the end."""
        shares = [share(first, second, pusher[2:], by, GRID_STEPS) for by in ("max_score", end)]
        return [f"{25 * float(one):.0f}" for one in shares]

    of_pusher = [pairs_won("lpdm", "bp"), pairs_won("lpdm_guided", "bp")]
    of_pusher += [pairs_won("frozen", "bp"), pairs_won("frozen", "lpdm")]
    frozen = [share("frozen", "lpdm", [place], folder=UNSCALED) for place in acrobot]
    cheetah = [("HalfCheetah-v4", name) for name in ALGORITHMS]

    def won_on_cheetah(first, second):
        """Of the 25 pairs under each algorithm."""
        return [round(25 * float(share(first, second, [p], folder=GRID_FIRST))) for p in cheetah]

    assert won_on_cheetah(*learned) == [12, 14, 10]
    assert won_on_cheetah("lpdm_guided", "frozen") == [13, 18, 17]
    assert won_on_cheetah("lpdm", "bp") == [3, 0, 2]
    assert won_on_cheetah("lpdm_guided", "bp")[2] == 9
    assert won_on_cheetah(*guided)[2] == 19
    assert frozen[2] == "1.00"
    shown = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for said in (
        f"In {above[0]} and {above[1]} of pairs `lpdm` ends above `bp`",
        "of 25 pairs `lpdm` wins {} by highest score and {} at the end".format(*of_pusher[0]),
        "guided {} and {} (".format(*of_pusher[1]),
        "they win {} pairs with `bp` by highest score and {} at the end".format(*of_pusher[2]),
        "{} and {} with `lpdm`.".format(*of_pusher[3]),
        "`lpdm` wins 12 and 14 of 25 pairs, guided 13 and 18.",
        "Of 25 pairs `lpdm` wins two with `bp` and ten with frozen layers, guided nine and 17, and "
        "19 with `lpdm`",
        f"`lpdm` wins five with `bp` ({share('lpdm', 'bp', cheetah, folder=GRID_FIRST)}), as on "
        f"Hopper and Walker2d seldom ({share('lpdm', 'bp', locomotion)})",
        f"Frozen layers win {frozen[0]}, {frozen[1]} and all of the pairs with it there",
        f"there {share(*learned, simple)} of all pairs of runs go to `lpdm` against frozen layers",
        f"{share(*learned, locomotion)} of pairs by highest score (Hopper {of_hopper[0]}, with a "
        f"baseline {of_hopper[1]}, under PPO {of_hopper[2]}; Walker2d {of_walker[0]}, "
        f"{of_walker[1]} and {of_walker[2]}) and {share(*learned, locomotion, end)} by the last "
        "tenth",
        f"where `bp` wins {share('bp', 'frozen', locomotion)} and "
        f"{share('bp', 'frozen', locomotion, end)}.",
        f"Run by run `lpdm` wins {share('lpdm', 'bp', locomotion)} (",
        f"by the last tenth {share('lpdm', 'bp', locomotion, end)} and "
        f"{share('lpdm_guided', 'bp', locomotion, end)}.",
        f"of pairs of runs `lpdm` wins {share('lpdm', 'bp', simple)} (",
        f"all three algorithms ({on_cartpole[0]} to {on_cartpole[-1]}), and under PPO on Hopper it "
        f"wins {share(*guided, hopper[2:])}, and {share(*guided, hopper[2:], end)} by the last",
        f"`lpdm` ends above it in {share('lpdm', 'bp', walker[2:], end)} of pairs",
    ):
        assert said in " ".join(shown.split())


def best_on_hopper():
    """Of each method's runs the highest smoothed score, and the steps and speed then."""
    found = defaultdict(list)
    for run, columns in read_published(GRID).values():
        if run.environment == "Hopper-v4":
            returns, lengths = (
                np.convolve(columns[name], np.full(50, 0.02), "valid")
                for name in ("episode_return", "episode_length")
            )
            score, length = returns[returns.argmax()], lengths[returns.argmax()]
            speed = score / length - 1.0  # not falling is worth 1 a step
            found[run.algorithm, run.method].append((score, length, speed))
    return found


def span(values, digits):
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}" if values else ""


def test_what_scores_high_on_hopper_stands_still_as_the_documentation_says():
    shown = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    found = best_on_hopper()
    rows, fast = [], []  # and those that score high at a gait
    for algorithm, method in itertools.product(ALGORITHMS, METHODS):
        runs = found.pop((algorithm, method))
        standing = sorted(run for run in runs if run[2] < 0.3)
        others = [run for run in runs if run not in standing]
        for score, length, speed in runs:
            assert score > 600 or speed > 0.3
            assert algorithm == "ppo" or (score > 600) == (length > 900) == (speed < 0.02)
            if score > 600 and speed > 0.3:
                fast.append((algorithm, method, round(score), round(speed, 1)))
        entries = [
            algorithm if method == "bp" else "",
            f"`{method}`",
            f"{len(standing)} of {len(runs)}",
            ", ".join(f"{score:.0f}" for score, *_ in standing),
            ", ".join(f"{length:.0f}" for _, length, _ in standing),
            span([score for score, *_ in others], 0),
            span([length for _, length, _ in others], 0),
            span([speed for *_, speed in others], 1),
        ]
        rows.append(" ".join(f"| {entry}" if entry else "|" for entry in entries) + " |\n")
    assert not found
    assert fast == [("ppo", "lpdm", 621, 1.2)]
    assert "".join(rows) in shown


def test_on_ant_what_scores_highest_stays_up_as_the_documentation_says():
    best, first, window = [], [], np.full(50, 0.02)
    for run, columns in read_published(GRID_FIRST).values():
        if run.environment == "Ant-v4":
            scores = np.convolve(columns["episode_return"], window, "valid")
            length = np.convolve(columns["episode_length"], window, "valid")[scores.argmax()]
            best.append((length, scores.max() / length))
            first.append(scores[0])
    lengths, gains = zip(*best, strict=True)
    shown = " ".join((ROOT / "docs" / "results.md").read_text(encoding="utf-8").split())
    assert f"first fifty iterations all have {span(first, 0)};" in shown
    assert f"stay up for {span(lengths, 0)} of 1000 steps and gain {span(gains, 2)} a step" in shown


def test_on_ant_the_pairs_of_runs_are_won_as_the_documentation_says():
    found = defaultdict(list)
    with (GRID_FIRST / "scores.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["environment"] == "Ant-v4":
                scores = float(row["max_score"]), float(row["end_score"])
                found[row["algorithm"], row["method"]].append(scores)
    assert {len(runs) for runs in found.values()} == {3}
    shown = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for method in METHODS[1:]:
        entries = []
        for other, algorithm in itertools.product(("bp", "frozen"), ALGORITHMS):
            pairs = list(itertools.product(found[algorithm, method], found[algorithm, other]))
            wins = (sum(ours[i] > theirs[i] for ours, theirs in pairs) for i in (0, 1))
            entries.append("" if method == other else "{}, {}".format(*wins))
        assert f"| `{method}` | {' | '.join(entries)} |" in shown


def test_a_published_cell_trained_again_has_the_published_rows():
    recorded, faults = recorded_cells(GRID, 100)
    assert not faults
    (cell,) = (one for one in recorded if one.run.cell == "CartPole-v1_reinforce_lpdm_s0")
    with ray_for([cell]):
        verification = cell.verify()
    assert verification.rows == 100
    assert verification.holds()
    if not verification.changed:
        assert verification.difference is None
