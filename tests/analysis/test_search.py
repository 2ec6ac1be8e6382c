"""What a report says of a search: answers worked out by hand or by trying everything."""

import json
import re
from itertools import combinations, product

import numpy as np
import pytest

from rllib_lpdm.analysis.groups import grouped
from rllib_lpdm.analysis.output import write
from rllib_lpdm.analysis.search_summary import (
    best_of,
    effective_settings,
    gains,
    sensitivities,
    sensitivity,
    share_near_the_best,
)
from rllib_lpdm.analysis.summary import analyse
from rllib_lpdm.results.search_record import SearchRecord
from tests.analysis.cells import seeds, write_cell


def test_the_best_of_k_is_that_of_every_way_to_draw_k():
    scores = np.array([3.0, 1.0, 2.0, 2.5])
    found = best_of(scores)
    for tries in (1, 2, 3, 4):
        every = np.sort([max(draw) for draw in product(scores, repeat=tries)])
        assert found.expected[tries - 1] == pytest.approx(every.mean())
        for bound, probability in ((found.low, 0.025), (found.high, 0.975)):
            least = np.ceil(probability * len(every) - 1e-9) - 1
            assert bound[tries - 1] == every[int(least)]


def test_sensitivity_is_what_settings_of_its_own_gain_each_environment():
    scores = np.array([[1.0, 0.0, 0.6], [0.0, 1.0, 0.7]])
    assert sensitivity(scores) == pytest.approx((1.0, 0.65))


GRID = np.array(list(product(np.linspace(0, 1, 5), repeat=3)))


def by_definition(scores):
    """The effective number of settings of a full grid, looked up."""
    tuned, shared = scores.max(axis=1).mean(), GRID[scores.mean(axis=0).argmax()]
    for size in range(4):
        for own in combinations(range(3), size):
            rest = [i for i in range(3) if i not in own]
            allowed = (GRID[:, rest] == shared[rest]).all(axis=1)
            if scores[:, allowed].max(axis=1).mean() >= 0.95 * tuned:
                return size
    raise AssertionError


def peaks(*centres, width=0.5):
    return np.stack(
        [np.exp(-(((GRID - c) / width) ** 2).sum(axis=1)) for c in map(np.array, centres)]
    )


@pytest.mark.parametrize(
    ("scores", "settings"),
    [
        (peaks([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]), 0),
        (peaks([0, 0.5, 0.5], [1, 0.5, 0.5]), 1),
        (peaks([0, 0.5, 0], [1, 0.5, 1]), 2),
        (peaks([0, 0, 0], [1, 1, 1]), 3),
        (np.random.default_rng(3).random((3, len(GRID))), None),
    ],
)
def test_effective_settings_of_a_full_grid_are_those_of_the_definition(scores, settings):
    expected = by_definition(scores)
    assert settings in (None, expected)
    assert effective_settings(scores, [GRID[:, [i]] for i in range(3)]) == expected


def test_effective_settings_of_draws_find_the_one_setting_that_matters():
    draws = np.random.default_rng(0).random((64, 3))
    scores = np.stack([1 - (draws[:, 0] - best) ** 2 for best in (0.1, 0.9)])
    assert effective_settings(scores, [draws[:, [i]] for i in range(3)]) == 1
    assert effective_settings(-scores, [draws[:, [i]] for i in range(3)]) is None


# -- of a record ----------------------------------------------------------------------------------


def record(surfaces, environments=("CartPole-v1", "Acrobot-v1"), seeds_=(1000, 1001)):
    """A search of two settings, whose scores are a surface's for each method."""
    rng = np.random.default_rng(1)
    draws = [(0.5, "a"), *zip(rng.random(12), ["a", "b"] * 6, strict=True)]
    studies = []
    for environment in environments:
        for method, surface in surfaces.items():
            scores = [surface(environment, *draw) for draw in draws]
            configurations = [
                {
                    "number": number,
                    "name": f"c{number:03d}",
                    "values": {"lr": draw[0], "activation": draw[1]},
                    "places": {"lr": draw[0]},
                    "rung": 0,
                    "score": score,
                    "distance": 0.0,
                    "cells": [
                        {
                            "cell": f"{environment}_reinforce_{method}_c{number:03d}_s{seed}",
                            "environment": environment,
                            "algorithm": "reinforce",
                            "method": method,
                            "seed": seed,
                            "iterations": 2,
                            "score": score,
                            "env_steps": 20,
                            "cpu_hours": 0.5,
                        }
                        for seed in seeds_
                    ],
                }
                for number, (draw, score) in enumerate(zip(draws, scores, strict=True))
            ]
            best = int(np.argmax(scores))
            studies.append(
                {
                    "each": {
                        "environment": environment,
                        "algorithm": "reinforce",
                        "method": method,
                    },
                    "configurations": configurations,
                    "best": best,
                    "noise": 0.1,
                    "tied": [best],
                    "winner": best,
                    "margin": 1.0,
                    "over_default": scores[best] - scores[0],
                }
            )
    return SearchRecord(
        name="made-up",
        proposer="sobol",
        criterion="max_score",
        seeds=list(seeds_),
        space={"lr": {"log": [0.01, 1]}, "activation": {"choice": ["a", "b"]}},
        rungs=[1.0],
        studies=studies,
        env_steps=1,
        cpu_hours=1.0,
    )


def same(environment, lr, activation):
    return 100 * (1 - abs(lr - 0.5))


def apart(environment, lr, activation):
    return 100 * (1 - abs(lr - (0.1 if environment == "CartPole-v1" else 0.9)))


def test_a_method_that_needs_settings_of_its_own_is_the_more_sensitive():
    by_method = {row.method: row for row in sensitivities(record({"bp": same, "lpdm": apart}))}
    assert by_method["bp"].phi == pytest.approx(0)
    assert by_method["bp"].effective == 0
    assert by_method["lpdm"].phi > 0.2
    assert (by_method["lpdm"].effective, by_method["lpdm"].settings) == (1, 2)


def test_one_environment_has_no_sensitivity():
    assert sensitivities(record({"bp": same}, environments=["CartPole-v1"])) == []


@pytest.mark.parametrize(("sign", "share"), [(1, 4 / 13), (-1, 1 / 13)])
def test_near_the_best_is_within_a_tenth_of_its_size_whatever_its_sign(sign, share):
    scores = iter([100, 95, 91, 90, *[50] * 9] * 2)
    made = record({"bp": lambda *draw: sign * next(scores)}, environments=["CartPole-v1"])
    (study,) = made.studies
    expected = {1: share, -1: 9 / 13}[sign]  # of the negative ones the best is -50, nine times
    assert share_near_the_best(study) == pytest.approx(expected)


def test_tuned_settings_are_compared_with_the_default_seed_by_seed():
    before = seeds([[1.0], [5.0], [9.0]], variant="reference", method="lpdm")
    after = seeds([[2.0], [7.0], [9.0], [100.0]], variant="tuned", method="lpdm")
    (gain,) = gains(grouped([*before, *after]))
    assert (gain.seeds, gain.reference, gain.tuned) == (3, 5.0, 6.0)
    assert float(gain.difference.value) == pytest.approx(1.0)
    assert gains(grouped(before)) == []


def search_folder(folder, made):
    path = folder / made.name
    path.mkdir()
    made.write(path)
    for study in made.studies:
        for configuration in study.configurations:
            for cell in configuration.cells:
                write_cell(
                    path,
                    [cell.score, cell.score],
                    environment=cell.environment,
                    algorithm=cell.algorithm,
                    method=cell.method,
                    variant=configuration.name,
                    seed=cell.seed,
                )
    return path


@pytest.mark.slow
def test_the_report_of_a_search_shows_it_and_of_its_cells_the_default_and_the_winners(tmp_path):
    folder = search_folder(tmp_path, record({"bp": same, "lpdm": apart}))
    for variant, height in (("reference", 1.0), ("tuned", 3.0)):
        for seed in (0, 1):
            write_cell(
                tmp_path / "made-up-tuned",
                [height, height],
                algorithm="reinforce",
                method="lpdm",
                variant=variant,
                seed=seed,
            )
    report = analyse(folder)
    assert {cell.run.variant for cell in report.results.cells} == {"reference", "tuned"}
    assert report.notes[0].startswith("Of the 104 cells of a search")
    page = write(report, tmp_path / "report").read_text(encoding="utf-8")
    section = page[page.index('<section id="search">') :]
    section = section[: section.index("</section>")]
    text = " ".join(re.sub("<[^>]+>", " ", section).split())
    assert "CartPole-v1 reinforce lpdm 2 1.0 3.0 +2.0" in text
    assert "reinforce lpdm 2" in text
    assert "1 of 2" in text
    for anchor in ("searched_settings", "best_of_k"):
        assert f'<section id="{anchor}"' in page
    assert "mathdefault" not in page  # ticks of a logarithm are plain numbers
    for name in ("search.csv", "sensitivity.csv", "tuned.csv"):
        assert (tmp_path / "report" / name).read_text(encoding="utf-8").count("\n") > 1


def test_a_damaged_record_of_a_search_is_named_and_its_cells_are_reported(tmp_path):
    folder = search_folder(tmp_path, record({"bp": same}))
    (folder / "search.json").write_text('{"name": 3}', encoding="utf-8")
    report = analyse(folder)
    assert any("search.json is damaged" in note for note in report.notes)
    assert len(report.results.cells) == 52


def damaged(change):
    """Changes the content of a search's file, whose first study is the second argument."""

    def changed(content):
        change(content, content["studies"][0])
        return content

    return changed


FAULTS = {
    "winner": (lambda c, s: s.update(winner=99), "studies.0: winner: 99 is none of the 13"),
    "no winner": (lambda c, s: s.update(winner=-1), "studies.0: winner: -1 is none of the 13"),
    "best": (lambda c, s: s.update(best=13), "studies.0: best: 13 is none of the 13"),
    "tied": (lambda c, s: s.update(tied=[0, 40]), "studies.0: tied: 40 is none of the 13"),
    "nothing": (lambda c, s: s.update(configurations=[]), "studies.0.configurations: List should"),
    "order": (lambda c, s: s["configurations"].reverse(), "studies.0: configurations are not"),
    "value": (
        lambda c, s: s["configurations"][3]["values"].update(lr="\ud800"),
        "studies.0.configurations.3.values.lr: '\\ud800' has half of a character",
    ),
    "large": (
        lambda c, s: s["configurations"][3]["values"].update(lr=10**400),
        "studies.0.configurations.3.values: lr is too large a number",
    ),
    "key": (lambda c, s: s["each"].update({"\udfff": "x"}), "studies.0.each, a key: "),
    "name": (lambda c, s: c.update(name="a\ud9abz"), "name: 'a\\ud9abz' has half of a character"),
}


@pytest.mark.parametrize(("change", "said"), FAULTS.values(), ids=FAULTS)
def test_a_record_that_contradicts_itself_is_named_with_its_field(change, said, tmp_path):
    record({"bp": same}).write(tmp_path)
    file = tmp_path / "search.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    assert len(content["studies"][0]["configurations"]) == 13
    file.write_text(json.dumps(damaged(change)(content)), encoding="utf-8")
    with pytest.raises(ValueError, match=r"search\.json ") as refused:
        SearchRecord.read(tmp_path)
    line = str(refused.value)
    assert said in line
    assert line.isprintable()
    assert line.encode()


def test_whole_characters_of_two_escapes_are_no_fault(tmp_path):
    whole = record({"bp": same}).model_copy(update={"name": "\N{SNAKE}"})
    whole.write(tmp_path)
    assert "\\ud83d" in (tmp_path / "search.json").read_text(encoding="utf-8")
    assert SearchRecord.read(tmp_path) == whole
