"""The paper's claims (section 4.2 and its abstract), each put as a question to pairs of runs.

A claim holds in a place, an algorithm on an environment, to the degree that a run of the one method
does better than a run of the other: 1 where always, 1/2 where as often as not. Its probability is
the mean over the places that have both, with the stratified bootstrap interval over seeds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.groups import Group, Groups
from rllib_lpdm.analysis.statistics import (
    ENOUGH,
    Estimate,
    Floats,
    bootstrap,
    first_full,
    probability_of_improvement,
)

EASY: Final = ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4")
LOCOMOTION: Final = ("Hopper-v4", "Walker2d-v4", "HalfCheetah-v4", "Ant-v4")
COMPARABLE = 0.4  # "comparable" allows a run to be the better one in as few as so many of the pairs

# The runs of two groups -> (runs,) numbers of each, of which the larger is the better
Measure = Callable[[Group, Group], tuple[Floats, Floats]]


@dataclass(frozen=True)
class Claim:
    """What the paper says of two methods.

    Attributes:
        text: in a few words.
        method: said to be the better one, or as good.
        other: what it is compared with.
        measure: by which runs are compared.
        environments: of which it is said; all where there are none.
        level: what the probability must exceed.
    """

    text: str
    method: str
    other: str
    measure: Measure
    environments: Sequence[str] = ()
    level: float = 0.5


@dataclass(frozen=True)
class Finding:
    """What the runs say of a claim.

    Attributes:
        claim: the claim.
        environments: on which it could be asked, with how many algorithms in all.
        places: how many places that are.
        seeds: of the place with the fewest.
        probability: that a run does better, as the claim says, with its interval.
        verdict: "held", "not held" or "undecided".
        needs: about how many seeds would decide it, None where it is decided or at the level.
        finished: whether the runs are.
    """

    claim: Claim
    environments: Sequence[str]
    places: int
    seeds: int
    probability: Estimate
    verdict: str
    needs: int | None
    finished: bool = True


def _highest(group: Group, other: Group) -> tuple[Floats, Floats]:
    return group.run_scores, other.run_scores


def _steadiness(group: Group, other: Group) -> tuple[Floats, Floats]:
    """How close each run's highest score is to the median of its group, over that median."""

    def closeness(scores: Floats) -> Floats:
        middle = float(np.median(scores))
        return -np.abs(scores - middle) / max(abs(middle), 1e-12)

    return closeness(group.run_scores), closeness(other.run_scores)


def _slowness(group: Group, other: Group) -> tuple[Floats, Floats]:
    """When each run first reaches what half of the runs of either method reach; inf for never."""
    level = min(np.median(group.run_scores), np.median(other.run_scores))

    def first(scores: Floats) -> Floats:
        reached = scores >= level
        reached[:, : first_full(scores.shape[1])] = False  # by a single lucky episode, say
        return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, math.inf)

    return first(group.scores), first(other.scores)


def _speed(group: Group, other: Group) -> tuple[Floats, Floats]:
    ours, theirs = _slowness(group, other)
    return -ours, -theirs


CLAIMS = (
    Claim("as good as backpropagation", "lpdm", "bp", _highest, level=COMPARABLE),
    Claim("the same, guided", "lpdm_guided", "bp", _highest, level=COMPARABLE),
    Claim("better than backpropagation on locomotion", "lpdm", "bp", _highest, LOCOMOTION),
    Claim("the same, guided", "lpdm_guided", "bp", _highest, LOCOMOTION),
    Claim("steadier over seeds than backpropagation", "lpdm", "bp", _steadiness),
    Claim("the same, guided", "lpdm_guided", "bp", _steadiness),
    Claim("slower than backpropagation on the easy tasks", "lpdm", "bp", _slowness, EASY),
    Claim("not slower on locomotion", "lpdm", "bp", _speed, LOCOMOTION, level=COMPARABLE),
    Claim("guided better than unguided", "lpdm_guided", "lpdm", _highest),
    Claim("learned better than frozen hidden layers", "lpdm", "frozen", _highest),
)


def findings(groups: Groups, claims: Sequence[Claim] = CLAIMS) -> list[Finding]:
    """What the runs say of each claim that they can be asked about."""
    return [found for claim in claims if (found := _finding(groups, claim)) is not None]


def _finding(groups: Groups, claim: Claim) -> Finding | None:
    method, other = Series(claim.method), Series(claim.other)
    places = [
        place
        for place, row in groups.items()
        if {method, other} <= row.keys()
        and (not claim.environments or place.environment in claim.environments)
    ]
    if not places:
        return None
    pairs = [claim.measure(groups[place][method], groups[place][other]) for place in places]
    ours, theirs = zip(*pairs, strict=True)
    # Ranks in place of numbers, of which some are infinite and cannot be subtracted.
    ranked = [_ranks(*pair) for pair in zip(ours, theirs, strict=True)]
    probability = bootstrap(
        [*(ranks for ranks, _ in ranked), *(ranks for _, ranks in ranked)],
        probability_of_improvement,
    )
    seeds = min(len(runs) for runs in (*ours, *theirs))
    environments = list(dict.fromkeys(place.environment for place in places))
    verdict = _verdict(probability, claim.level, seeds)
    needs = _needed(probability, claim.level, seeds) if verdict == "undecided" else None
    finished = all(groups[place][each].finished for place in places for each in (method, other))
    return Finding(claim, environments, len(places), seeds, probability, verdict, needs, finished)


def _needed(probability: Estimate, level: float, seeds: int) -> int | None:
    """Seeds at which the interval, as it narrows with their square root, leaves the level out."""
    distance = abs(float(probability.value) - level)
    half = float(probability.high - probability.low) / 2
    if distance == 0 or not math.isfinite(half):
        return None
    return max(ENOUGH, math.ceil(seeds * (half / distance) ** 2))


def _ranks(ours: Floats, theirs: Floats) -> tuple[Floats, Floats]:
    _, ranks = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    return ranks[: len(ours)].astype(float), ranks[len(ours) :].astype(float)


def _verdict(probability: Estimate, level: float, seeds: int) -> str:
    if seeds < ENOUGH:
        return "undecided"
    if probability.low > level:
        return "held"
    return "not held" if probability.high < level else "undecided"
