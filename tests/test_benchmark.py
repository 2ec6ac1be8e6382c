import pytest

from rllib_lpdm.benchmarks import scale
from rllib_lpdm.benchmarks.measure import compare, paired
from rllib_lpdm.benchmarks.scale import REPORTS, steady
from rllib_lpdm.benchmarks.updates import memory


@pytest.mark.slow
def test_peak_memory_of_an_update_does_not_grow_with_depth_without_backpropagation():
    without, by_backpropagation = memory()
    assert without.met
    assert without.ratio < 1.1
    assert by_backpropagation.ratio > 5


def test_a_ratio_is_the_median_of_pairs_without_the_first_round():
    figures, references = iter([99.0, 4.0, 9.0, 2.0]), iter([1.0, 2.0, 3.0, 4.0])
    assert paired(lambda: next(figures), lambda: next(references), rounds=3) == (4.0, 3.0, 2.0)


@pytest.mark.parametrize(("target", "met"), [(0.5, True), (3.0, False)])
def test_a_target_that_is_missed_is_shown_as_missed(target, met):
    row = compare(
        "name", "case", lambda: 2.0, lambda: 1.0, compared_with="it", unit="s", at_least=target
    )
    assert row.ratio == 2.0
    assert row.met is met


@pytest.mark.usefixtures("ray_session")
def test_the_driver_of_many_cells_is_measured_while_all_report_and_all_end(monkeypatch):
    monkeypatch.setattr(scale, "SETTLE", 1.0)
    watch = steady(60, 60 / REPORTS, window=3.0)
    assert watch.rate == pytest.approx(REPORTS, rel=0.5)
    assert 0 < watch.core < 1
    assert watch.spent > 0
    assert not watch.failed
