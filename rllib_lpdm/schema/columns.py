"""The columns of ``iterations.csv``: what each holds, of which layer, and its name elsewhere.

``python -m rllib_lpdm.schema.columns`` prints them as docs/columns.md.
"""

import functools
import re
from collections.abc import Iterable
from typing import NamedTuple

LAYER = "{layer}"
OF_LAYER = re.compile(r"(.+)_([0-9]{1,4})")
MATCHING, ALL = "layers that match distances", "all"
NOT_LOGGED = "steps_per_second"  # W&B's own, made of two columns


class Column(NamedTuple):
    """A column, or one of each hidden layer.

    Attributes:
        name: in the file, with ``{layer}`` for the layer's number, from 1 at the input.
        shown: in W&B and TensorBoard; the part before the slash is the section of its panel.
        unit: of its values, empty where they have none.
        of: which cells have it.
        meaning: what it holds.
    """

    name: str
    shown: str
    unit: str
    of: str
    meaning: str


COLUMNS = (
    Column("iteration", "update/iteration", "", ALL, "the paper's iteration, from 1"),
    Column("env_steps", "progress/env_steps", "steps", ALL, "environment steps so far"),
    Column("episodes", "progress/episodes", "episodes", ALL, "episodes so far"),
    Column(
        "episode_return",
        "episode/return",
        "reward",
        ALL,
        "undiscounted return, mean over the iteration's episodes",
    ),
    Column("episode_length", "episode/length", "steps", ALL, "mean over the iteration's episodes"),
    Column(
        "seconds",
        "speed/seconds_per_iteration",
        "s",
        ALL,
        "wall-clock time of the iteration; the only column that differs from run to run",
    ),
    Column(
        NOT_LOGGED,
        "speed/steps_per_second",
        "steps/s",
        "W&B only",
        "the iteration's environment steps over its seconds",
    ),
    Column(
        "skipped_steps",
        "update/skipped_steps",
        "steps",
        ALL,
        "optimizer steps not made, because a loss or gradient was not finite; summed over layers "
        "and minibatches",
    ),
    Column(
        f"distance_loss_{LAYER}",
        f"distance_loss/hidden_{LAYER}",
        "",
        MATCHING,
        "the layer's local loss, L_d or L_gd, before its step",
    ),
    Column(
        f"distance_error_{LAYER}",
        f"distance_error/hidden_{LAYER}",
        "",
        MATCHING,
        "root mean square difference of the layer's distances and their targets, each over its "
        "maximum: 0 where all distances are kept, at most 1 (2 for a similarity)",
    ),
    Column(
        f"grad_norm_hidden_{LAYER}",
        f"grad_norm/hidden_{LAYER}",
        "",
        "all but `bp` and `frozen`",
        "Euclidean norm of the layer's gradient before clipping, as the two below",
    ),
    Column("grad_norm_policy_head", "grad_norm/policy_head", "", "all but `bp`", "policy head"),
    Column(
        "grad_norm_value_head",
        "grad_norm/value_head",
        "",
        "all but `bp`, with a value head",
        "value head",
    ),
    Column("grad_norm", "grad_norm/network", "", "`bp`", "the same over the whole network"),
    Column("policy_loss", "loss/policy", "", ALL, "the policy's loss, a mean over time steps"),
    Column(
        "value_loss",
        "loss/value",
        "",
        "with a value head",
        "squared error of the value, a mean over time steps; clipped in PPO",
    ),
    Column("kl", "update/kl", "nat", "`ppo`", "KL divergence of the old policy and the current"),
)

_SHOWN = {entry.name: entry.shown for entry in COLUMNS}
_OWN = (  # what an algorithm that is not in the table may log; first match wins
    (r"(.+)_loss", r"loss/\1"),
    (r"grad_norm_(.+)", r"grad_norm/\1"),
    (r"(.+)", r"update/\1"),
)


@functools.cache
def column(metric: str, layer: int) -> str:
    """The column of a layer's metric: of ``distance_loss`` and 1 it is ``distance_loss_1``.

    Raises:
        KeyError: the table has no such metric of layers.
    """
    name = f"{metric}_{LAYER}"
    if name not in _SHOWN:
        raise KeyError(f"{metric!r} is no metric of a layer")
    return name.format(layer=layer)


def metric_of(column: str) -> tuple[str, int | None]:
    """A column's metric, and the number of its layer: None where it is of no single layer."""
    found = OF_LAYER.fullmatch(column)
    return (found[1], int(found[2])) if found else (column, None)


def of_layers(metric: str, columns: Iterable[str]) -> dict[int, str]:
    """Those of some columns that hold a layer's metric, by the layer's number, in order."""
    found = {layer: name for name in columns for of, layer in [metric_of(name)] if of == metric}
    return {layer: found[layer] for layer in sorted(layer for layer in found if layer is not None)}


@functools.cache
def metric_name(column: str) -> str:
    """A column's name in W&B and TensorBoard, also of one that the table does not have.

    ``distance_loss_1`` is ``distance_loss/hidden_1``, as is any name that ends in the number of a
    layer; ``entropy_loss`` is ``loss/entropy``, and what fits nowhere ``update/...``.
    """
    metric, layer = metric_of(column)
    name = column if layer is None else f"{metric}_{LAYER}"
    if name in _SHOWN:
        return _SHOWN[name].format(layer=layer)
    if layer is not None:
        return f"{metric}/hidden_{layer}"
    pattern, shown = next(rule for rule in _OWN if re.fullmatch(rule[0], column))
    return re.sub(f"^{pattern}$", shown, column)


def columns_table() -> str:
    """Every column in a Markdown table, with a heading."""
    heads = ("column", "in W&B and TensorBoard", "unit", "of", "meaning")
    rows = [(f"`{entry.name}`", f"`{entry.shown}`", *entry[2:]) for entry in COLUMNS]
    lines = [heads, ["---"] * len(heads), *rows]
    table = "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)
    return (
        "# Columns\n\nOf `iterations.csv`, one row per iteration of the paper. `{layer}` is the "
        "number of a hidden layer, from 1 at\nthe input. What PPO logs of its update is a mean "
        "over the minibatches of the last epoch, but for\n`skipped_steps`.\n\n" + table + "\n"
    )


if __name__ == "__main__":
    print(columns_table(), end="")
