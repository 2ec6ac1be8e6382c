"""Variants that change nothing for a method: one cell runs, and reports show it under each."""

import pytest

from rllib_lpdm import tune
from rllib_lpdm.analysis.cells import read_results
from rllib_lpdm.results.plan import Plan
from rllib_lpdm.results.published import publish, read_runs
from rllib_lpdm.schema.loading import load_experiment
from tests.experiment.files import write

VARIANTS = {"l1": {}, "l2": {"metric": "l2"}, "slow": {"lr": 1e-4}}
GRID = {"environments": ["CartPole-v1"], "seeds": 1, "variants": VARIANTS}
SETTINGS = {"iterations": 3, "hidden_sizes": [4]}


def names(tmp_path, **entries):
    path = write(tmp_path, **GRID | {"settings": SETTINGS} | entries)
    experiment = load_experiment(path)
    return [cell.name for cell in experiment.cells()], experiment.same


def test_a_method_that_ignores_what_variants_change_has_one_cell(tmp_path):
    ran, same = names(tmp_path, algorithms=["reinforce"], methods=["bp", "lpdm", "frozen"])
    assert same == {
        f"CartPole-v1_reinforce_{method}_l2_s0": (f"CartPole-v1_reinforce_{method}_l1_s0", "l2")
        for method in ("bp", "frozen")
    }
    assert len(ran) == 7
    assert not same.keys() & set(ran)


@pytest.mark.parametrize(
    ("method", "variant"),
    [
        ("bp", {"grad_clip": 0.1}),
        ("lpdm", {"metric": "l2"}),
        ("lpdm_guided", {"guided_distances": "original"}),
        ("dfa", {"feedback": "sign"}),
        ("local_rl", {"hidden_lr": 1e-4}),
        ("bp", {"retries": 5}),
    ],
)
def test_a_variant_that_changes_something_has_cells(tmp_path, method, variant):
    ran, same = names(
        tmp_path,
        algorithms=["reinforce"],
        methods=[method],
        variants={"a": {}, "b": variant},
    )
    assert not same
    assert len(ran) == 2


def test_with_pretraining_distances_are_compared_under_every_method(tmp_path):
    settings = SETTINGS | {"pretrain_from": "recorded.npz"}
    assert not names(tmp_path, algorithms=["reinforce"], methods=["frozen"], settings=settings)[1]


def test_reports_of_results_and_of_what_is_published_show_it_under_both(tmp_path, capsys):
    entries = {"algorithms": ["reinforce"], "methods": ["bp"], "in_process": True}
    path = write(tmp_path, **GRID | {"settings": SETTINGS} | entries)
    quietly = ["--output", str(tmp_path / "out"), "--wandb", "disabled"]
    assert tune.main([str(path), *quietly]) == 0
    assert "1 more cell would repeat them" in capsys.readouterr().out
    folder = tmp_path / "out" / path.stem
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == [
        "CartPole-v1_reinforce_bp_l1_s0",
        "CartPole-v1_reinforce_bp_slow_s0",
    ]
    publish(folder, tmp_path / "published")
    assert len(read_runs(tmp_path / "published")) == 2
    for place in (folder, tmp_path / "published"):
        assert Plan.read(place).same.keys() == {"CartPole-v1_reinforce_bp_l2_s0"}
        results = read_results(place)
        assert not results.missing
        found = {cell.run.variant: cell.returns.tolist() for cell in results.cells}
        assert found.keys() == VARIANTS.keys()
        assert found["l1"] == found["l2"]
