"""Viewers beside the results folder, which is enough without them.

A tracker is told of a cell by :class:`~rllib_lpdm.grid.trackers.tracker.Tracker`'s three
methods, in one of two places:

* in the cell's own process, with every report's rows as they are written: those of the table
  :data:`TRACKERS`, such as TensorBoard. Another one is a class and an entry.
* in the driver, by one thread that follows the files of all cells
  (:class:`~rllib_lpdm.grid.trackers.follower.CellFollower`), where there is to be one client
  for all and nothing may make a cell wait: W&B.
"""

from collections.abc import Callable

from rllib_lpdm.grid.trackers.tracker import Status, Tracker
from rllib_lpdm.schema.experiment import RunSettings

__all__ = ["TRACKERS", "Status", "Tracker", "trackers_of"]


def _tensorboard(settings: RunSettings) -> Tracker | None:
    if not settings.tensorboard:
        return None
    from rllib_lpdm.grid.trackers.tensorboard import TensorBoard  # slow, for few

    return TensorBoard()


TRACKERS: dict[str, Callable[[RunSettings], Tracker | None]] = {
    "tensorboard": _tensorboard,
}
"""By name, what makes a cell's tracker from the cell's settings; None where they want none.

:meta hide-value:
"""


def trackers_of(settings: RunSettings) -> list[Tracker]:
    """The trackers that are fed in a cell's process, not yet begun."""
    made = [make(settings) for make in TRACKERS.values()]
    return [tracker for tracker in made if tracker is not None]
