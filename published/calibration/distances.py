"""How far backpropagation is from its published scores, for every setting that was tried.

``python published/calibration/distances.py``: max score of the mean over seeds less the paper's, in
units of the paper's spread over seeds. Means are over the environments that share a learning rate.
"""

from collections import defaultdict
from pathlib import Path

from rllib_lpdm.analysis.paper import published
from rllib_lpdm.analysis.results import read_results
from rllib_lpdm.analysis.scores import grouped
from rllib_lpdm.analysis.statistics import measures

SIMPLE = ("CartPole-v1", "Acrobot-v1", "InvertedPendulum-v4")
Key = tuple[str, str, str]


def main() -> None:
    found: dict[Key, list[str]] = defaultdict(list)
    distances: dict[Key, list[float]] = defaultdict(list)
    for place, row in grouped(read_results(Path(__file__).parent).cells).items():
        theirs = published()[(*place, "bp")]
        spread = theirs.relative_spread / 100 * abs(theirs.max_score)
        for series, group in row.items():
            best = measures(group.scores).max_score
            distance = abs(best - theirs.max_score) / spread
            alike = {**dict.fromkeys(SIMPLE, "simple"), "Pusher-v4": "Pusher"}
            key = (place.algorithm, series.variant, alike.get(place.environment, "default"))
            text = f"{place.environment} {best:.1f} ({distance:.2f}, {len(group.counted)})"
            found[key].append(text)
            distances[key].append(distance)
    print("| algorithm | setting | score (distance, seeds) | mean distance |\n|---|---|---|---|")
    for key, texts in found.items():
        algorithm, variant, _ = key
        values = distances[key]
        mean = sum(values) / len(values)
        print(f"| {algorithm} | {variant} | {', '.join(texts)} | {mean:.2f} |")


if __name__ == "__main__":
    main()
