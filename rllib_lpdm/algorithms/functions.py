"""Functions of the user's own, by their dotted names."""

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor

from rllib_lpdm.local_learning.distances import MetricLike
from rllib_lpdm.schema.registry import BLACK_BOXES, METRICS


def metric_function(name: str) -> MetricLike:
    """What the local losses compare rows by: a metric's name, or the user's function.

    Raises:
        ValueError: there is no such function.
    """
    return name if name in METRICS else _imported(name, "metric")


def black_box_function(name: str | None) -> Callable[[Tensor], Tensor] | None:
    """The function between hidden layers.

    Raises:
        ValueError: there is no such function.
    """
    return None if name is None else BLACK_BOXES.get(name) or _imported(name, "black_box")


def _imported(name: str, kind: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the user's module may raise anything
        reason = str(error) or type(error).__name__
        raise ValueError(f"{kind} {name!r} cannot be imported: {reason}") from None
    if not callable(found):
        raise ValueError(f"{kind} {name!r} is no function")
    return found
