"""What the examples share: a run of a config, and a table of several."""

import argparse
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from rllib_lpdm.algorithms.algorithm import LocalAlgorithm
from rllib_lpdm.algorithms.config import LocalConfig
from rllib_lpdm.cli import complain
from rllib_lpdm.grid.session import start_ray
from rllib_lpdm.schema.messages import UserError, counted


def start(description: str | None) -> None:
    """Starts an example and Ray, which collects and trains in this one process.

    Where Ray does not start, the process ends with status 2.

    Args:
        description: the text that ``--help`` prints.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=description, formatter_class=formatter).parse_args()
    try:
        start_ray(num_cpus=1)
    except UserError as error:
        raise SystemExit(complain(error, 2)) from None


def trained(config: LocalConfig, iterations: int) -> LocalAlgorithm:
    """The algorithm after some of the paper's iterations, all of them in ``iteration_rows``."""
    algo = config.training(iterations=iterations, iterations_per_report=iterations).build_algo()
    algo.train()
    return algo


def returns(config: LocalConfig, iterations: int) -> list[float]:
    """Mean episode return of every iteration."""
    algo = trained(config, iterations)
    algo.stop()
    return [row["episode_return"] for row in algo.iteration_rows]


def print_table(
    title: str, curves: Mapping[str, Sequence[Sequence[float]]], parts: int = 4
) -> None:
    """Prints the mean return of each part of the runs, over the seeds.

    Args:
        title: what the numbers are.
        curves: (seeds, iterations) returns by the name of the run.
        parts: into how many equal parts the iterations are divided.
    """
    seeds, iterations = np.shape(next(iter(curves.values())))
    ends = [iterations * part // parts for part in range(parts + 1)]
    heads = [f"{before + 1}-{last}" for before, last in itertools.pairwise(ends)]
    width = max(map(len, curves))
    print(f"{title}, mean over {counted(seeds, 'seed')}")
    print(" " * width + "".join(f"{head:>10}" for head in heads))
    for name, runs in curves.items():
        means = [np.mean(part) for part in np.split(np.array(runs), ends[1:-1], axis=1)]
        print(f"{name:<{width}}" + "".join(f"{mean:>10.2f}" for mean in means))
