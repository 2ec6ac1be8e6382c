import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import plot, updates
from benchmarks.kernels import LANES, ROWS, TERMS, WIDTHS, add_up, case
from benchmarks.measure import compare, paired
from benchmarks.scale import REPORTS, steady


@pytest.mark.slow
def test_peak_memory_of_an_update_does_not_grow_with_depth_without_backpropagation(monkeypatch):
    monkeypatch.setattr(updates, "MEMORY_WIDTH", 64)  # a fourth of the benchmark's
    by_distances, by_local_heads, by_feedback, by_backpropagation = updates.memory()
    for row in (by_distances, by_local_heads):
        assert row.met
        assert row.ratio < 1.1
    for row in (by_feedback, by_backpropagation):  # which keep what all layers put out
        assert row.ratio > 5


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
    monkeypatch.setitem(steady.__globals__, "SETTLE", 2.0)  # two intervals of so few cells
    watch = steady(20, 20 / REPORTS, window=3.0)
    assert watch.rate == pytest.approx(REPORTS, rel=0.5)
    assert 0 < watch.core < 1
    assert watch.memory > 300 or not Path("/proc").is_dir()  # MiB, of torch and Ray alone
    assert watch.spent > 0
    assert not watch.failed


def test_a_plot_has_every_case_of_both_tables(tmp_path):
    rows = [
        {"benchmark": name, "case": case(count, width), "figure": count * width, "reference": width}
        for name in ("matching", "processor")
        for count in ROWS
        for width in WIDTHS
    ]
    source, path = tmp_path / "rows.json", tmp_path / "matching.svg"
    source.write_text(json.dumps(rows))
    plot.main([str(source), str(path)])
    drawn = path.read_text()
    assert all(label in drawn for label in plot.LINES)
    assert all(f"{width} units" in drawn for width in WIDTHS)
    source.write_text(json.dumps(rows[1:]))
    with pytest.raises(KeyError):
        plot.main([str(source), str(path)])


def test_what_measures_the_processor_adds_all_that_it_counts():
    terms, sums = np.arange(TERMS, dtype=np.float32), np.zeros(LANES, np.float32)
    add_up(sums, terms, 3)
    np.testing.assert_array_equal(sums, 3 * terms.sum())
