"""Cells under Tune: which is next, and what the driver does for each."""

import io
import signal

import pytest

from rllib_lpdm.benchmarks.grid import _Stub, grid_of
from rllib_lpdm.experiment.progress import Progress
from rllib_lpdm.experiment.queue import TrialWatch
from rllib_lpdm.experiment.signals import HANDLED, termination_as_interrupt
from rllib_lpdm.experiment.trackers.follower import CellFollower
from rllib_lpdm.experiment.trials import run_trials

pytestmark = pytest.mark.usefixtures("ray_session")


class Begun(Progress):
    """Remembers the cells in the order in which they begin."""

    def __init__(self, cells):
        super().__init__(cells, {}, io.StringIO())
        self.names = []

    def started(self, name):
        self.names.append(name)
        super().started(name)


def test_cells_begin_in_the_order_of_the_experiment(tmp_path):
    cells = grid_of(80)  # more than Tune asks for at once
    begun = Begun(cells)
    job = {"cells": {cell.name: cell for cell in cells}, "folder": tmp_path}
    watch = TrialWatch(cells, job, begun, CellFollower(None))
    run_trials(job, watch, max_concurrent=1, trainable=_Stub)
    assert begun.names == [cell.name for cell in cells]
    assert watch.ended == set(begun.names)


def test_after_a_run_under_tune_signals_are_handled_as_before(tmp_path):
    (cell,) = grid_of(1)
    job = {"cells": {cell.name: cell}, "folder": tmp_path}
    watch = TrialWatch([cell], job, Begun([cell]), CellFollower(None))
    before = [signal.getsignal(number) for number in HANDLED]
    with termination_as_interrupt():
        run_trials(job, watch, trainable=_Stub)
        assert [signal.getsignal(number) for number in HANDLED] != before
    assert [signal.getsignal(number) for number in HANDLED] == before
