"""The paper's claims, asked of runs whose answer is known."""

import numpy as np
import pytest

from rllib_lpdm.analysis.claims import CLAIMS, findings
from rllib_lpdm.analysis.groups import grouped
from tests.analysis.cells import seeds

RNG = np.random.default_rng(0)
PLACES = [("CartPole-v1", "ppo"), ("Hopper-v4", "ppo"), ("Ant-v4", "reinforce")]


def runs(level, rise=1.0, count=5, noise=1.0):
    """(count, 200) returns that rise to about a level; rise is how fast."""
    shape = 1 - np.exp(-rise * np.arange(200) / 20)
    return (level + noise * RNG.normal(size=(count, 1))) * shape


def found(**methods):
    cells = [
        cell
        for environment, algorithm in PLACES
        for method, returns in methods.items()
        for cell in seeds(returns, environment=environment, algorithm=algorithm, method=method)
    ]
    return {finding.claim.text: finding for finding in findings(grouped(cells))}


def test_a_method_whose_every_run_is_better_holds_its_claims():
    claims = found(bp=runs(100), lpdm=runs(200), frozen=runs(50))
    better = claims["better than backpropagation on locomotion"]
    assert (better.verdict, float(better.probability.value)) == ("held", 1.0)
    assert better.environments == ["Hopper-v4", "Ant-v4"]
    assert (better.places, better.seeds, better.needs) == (2, 5, None)
    assert claims["as good as backpropagation"].verdict == "held"
    assert claims["learned better than frozen hidden layers"].verdict == "held"


def test_a_method_whose_every_run_is_worse_holds_none():
    claims = found(bp=runs(200), lpdm=runs(100))
    assert claims["as good as backpropagation"].verdict == "not held"
    assert claims["better than backpropagation on locomotion"].verdict == "not held"


def test_runs_of_one_kind_decide_nothing_and_say_how_many_seeds_would():
    better = found(bp=runs(100), lpdm=runs(100.3))["better than backpropagation on locomotion"]
    assert better.verdict == "undecided"
    assert better.needs is None or better.needs >= 5


def test_few_seeds_decide_nothing():
    claims = found(bp=runs(100, count=3), lpdm=runs(200, count=3))
    assert {finding.verdict for finding in claims.values()} == {"undecided"}


def test_a_method_that_starts_late_is_slower_also_where_the_others_never_arrive():
    claims = found(bp=runs(100, rise=3.0), lpdm=runs(100, rise=0.5))
    assert claims["slower than backpropagation on the easy tasks"].verdict == "held"
    assert claims["not slower on locomotion"].verdict == "not held"


def test_a_method_whose_runs_differ_less_is_steadier():
    claims = found(bp=runs(100, noise=30.0, count=10), lpdm=runs(100, noise=0.1, count=10))
    assert claims["steadier over seeds than backpropagation"].verdict == "held"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.method} {claim.text}")
def test_a_claim_without_runs_is_left_out(claim):
    assert findings(grouped(seeds(runs(100), method="bp")), [claim]) == []
