"""The text of the report's page, which no browser need show."""

import re
import time

from rllib_lpdm.analysis.groups import grouped
from rllib_lpdm.analysis.page import render_page
from tests.analysis.pages import cell, report

FILES = "table1.", "aggregates.csv", "speed.csv"


def test_names_that_differ_only_in_odd_characters_have_anchors_of_their_own():
    made = report([cell("a b", seed=0), cell("a?b", seed=1), cell("a-b-2", seed=2)])
    text = render_page(made, [])
    for anchor in ("cell-a-b", "cell-a-b-2", "cell-a-b-2-2"):
        assert text.count(f'id="{anchor}"') == 1


def test_runs_on_several_kinds_of_cpu_are_said_not_to_compare_in_speed():
    warning = "several kinds of CPU"
    cells = [cell(seed=seed, hardware={"cpu": f"CPU {seed}"}) for seed in range(2)]
    assert warning in render_page(report(cells), [])
    assert warning not in render_page(report(cells[:1]), [])


def test_the_cells_of_appendices_are_listed_after_the_others():
    appendix = grouped([cell("x", method="frozen")])
    text = render_page(report([cell("x")], appendices={"appendix_d": appendix}), [])
    assert text.index('id="cell-x"') < text.index('id="cell-appendix_d-x"')
    assert "Figure A4: frozen random layers" in text


def test_the_papers_grid_is_rendered_fast_and_small():
    settings = {f"a_setting_{k}": k / 7 for k in range(30)}
    cells = [
        cell(
            f"{environment}-v4_{algorithm}_{method}_s{seed}",
            environment,
            method,
            seed,
            algorithm=algorithm,
            settings=settings,
        )
        for environment in "ABCDEFGH"
        for algorithm in ("reinforce", "reinforce_baseline", "ppo")
        for method in ("bp", "lpdm", "lpdm_guided")
        for seed in range(10)
    ]
    made = report(cells)
    start = time.perf_counter()
    text = render_page(made, [])
    assert time.perf_counter() - start < 5
    assert text.count('class="cell"') == 720
    assert len(text) < 6_000_000


def test_the_page_may_run_its_own_script_only():
    text = render_page(report([cell()]), [])
    assert "default-src 'none'" in text
    assert "script-src 'sha256-" in text
    targets = re.findall(r'\b(?:src|href)="([^"#][^"]*)"', text)
    assert all(t.startswith((*FILES, "https://arxiv.org/abs/", "data:,")) for t in targets)
