"""What the report's page shows, in a browser."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from rllib_lpdm.analysis.aggregates import aggregate_rows
from rllib_lpdm.analysis.cells import CellResult, Series
from rllib_lpdm.analysis.claims import findings
from rllib_lpdm.analysis.drawing import Palette, make_picture
from rllib_lpdm.analysis.groups import grouped
from rllib_lpdm.analysis.page import DASH, render_page
from rllib_lpdm.analysis.page_tables import (
    aggregate_table,
    claim_table,
    headline,
    speed_table,
)
from rllib_lpdm.analysis.summary import analyse
from tests.analysis.pages import PICTURES, cell, column, report, scrolls_sideways

pytestmark = pytest.mark.usefixtures("no_complaints")
HOSTILE_NAME = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{ 7 * 7 }}"
HOSTILE = HOSTILE_NAME + "\n\u202e\u200fx"  # the reader refuses such in a name


def contrast(page, selector: str) -> float:
    """WCAG's contrast of an element's text with the page."""
    colours = page.evaluate(
        """(selector) => [document.querySelector(selector), document.body].map((element, k) =>
            getComputedStyle(element)[k ? "backgroundColor" : "color"].match(/[\\d.]+/g))""",
        selector,
    )
    channels = np.array([colour[:3] for colour in colours], dtype=float) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (light + 0.05) / (dark + 0.05)


def test_the_page_opens_from_a_file_and_says_first_what_ran(page):
    assert page.locator("h1").inner_text() == "small"
    counts = page.locator(".counts").inner_text().split()
    assert counts[::2] == ["12", "9", "1", "1", "1"]
    assert counts[1::2] == ["planned", "finished", "unfinished", "failed", "missing"]
    facts = page.locator("#summary .facts").inner_text()
    for fact in (
        "Pusher-v4, Hopper-v4, Ant-v4",
        "bp, lpdm",
        f"0{DASH}1",
        "22,000",
        "A CPU, 2 cores",
    ):
        assert fact in facts
    headline = page.locator(".headline").inner_text()
    assert "Max score" in headline
    assert "End score" in headline
    assert "Better than bp" not in headline
    caution = page.locator("#caution").inner_text()
    assert caution.startswith("Too few seeds to tell methods apart")
    assert page.locator(".strong").count() == 0
    assert "difference" not in page.locator("main").inner_text()
    notes = page.locator(".notes").inner_text()
    assert "Pusher-v4_ppo_lpdm_s1" in notes
    assert "Ant-v4_ppo_lpdm_s1: failed after 20 of 20 iterations, ValueError: it broke" in notes


def test_headings_do_not_skip_a_level_and_ids_are_unique(page):
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map((head) => +head.tagName[1])"
    )
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
    assert len(ids) == len(set(ids))
    assert page.evaluate(
        "[...document.querySelectorAll('a[href^=\"#\"]')].every("
        "(link) => document.getElementById(link.hash.slice(1)))"
    )
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("table:not(:has(caption))").count() == 0


def test_every_picture_is_seen_and_leads_to_its_files(page):
    for picture in PICTURES:
        section = page.locator(f"#{picture.anchor}")
        shown = section.locator("svg:visible")
        assert shown.count() == len(picture.panels)
        for place in range(shown.count()):
            box = shown.nth(place).bounding_box()
            assert min(box["width"], box["height"]) > 50
        links = section.locator(".files a")
        files = [link.get_attribute("href") for link in links.all()]
        assert files[: len(picture.files)] == picture.files
    assert (
        page.locator("#learning_curves svg rect:visible")
        .first.evaluate("(element) => getComputedStyle(element).fill")
        .startswith("rgb(")
    )


def test_the_papers_numbers_stand_beside_ours(page, analysed, look):
    labels = page.locator("#table1 .grouped tbody th").all_inner_texts()
    assert labels == ["ppo", "bp", "paper", "lpdm", "paper"] * 2  # Hopper stands apart
    table = "#table1 table.sortable"
    assert column(page, table, "Paper's max score") == [
        f"{score.paper.max_score:.1f}" for score in analysed.scores
    ]
    assert page.locator("#table1 th", has_text="Difference").count() == 0
    plain = look(render_page(dataclasses.replace(analysed, with_paper=False), []))
    assert "paper" not in plain.locator("#table1 table").first.inner_text()


def test_with_five_seeds_what_stands_apart_is_bold_and_a_difference(look):
    cells = [
        cell(f"{method}{seed}", method=method, seed=seed, level=level + seed)
        for method, level in (("bp", 10), ("lpdm", 20))
        for seed in range(5)
    ]
    rows, _ = aggregate_rows(grouped(cells))
    page = look(render_page(report(cells, aggregates=rows, with_paper=True), []))
    assert page.locator("#caution").count() == 0
    assert page.locator(".headline .strong").inner_text().split() == ["1.00", f"1.00{DASH}1.00"]
    assert "difference" in page.locator("#table1 .grouped tbody th").all_inner_texts()


def test_a_score_that_was_lost_again_stands_beside_its_highest(look):
    made = cell("a")
    returns = np.repeat([474.0, 201.0], [90, 10])
    lost = CellResult(made.run, {"episode_return": returns})
    aggregates, _ = aggregate_rows(grouped([lost]))
    page = look(render_page(report([lost], aggregates=aggregates), []))
    assert page.locator(".headline tbody tr").last.inner_text().split() == ["bp", "474.0", "201.0"]


@pytest.mark.parametrize("environments", [["Hopper-v4"], ["Hopper-v4", "Ant-v4"]])
def test_figures_of_unfinished_runs_have_an_asterisk_in_every_table(environments):
    cells = [
        cell(f"{environment}{method}{seed}", environment, method, seed, 10.0 + seed, status=status)
        for environment in environments
        for method, status in (("bp", "finished"), ("lpdm", "running"))
        for seed in range(2)
    ]
    groups = grouped(cells)
    rows, _ = aggregate_rows(groups)
    made = report(cells, aggregates=rows, claims=findings(groups))
    bp, lpdm = headline(made).rows["ppo"]
    assert [entry.text.endswith("*") for entry in bp] == [False] * len(bp)
    assert [entry.text.endswith("*") for entry in lpdm[:3]] == [False, True, False]
    for table, method, figure in ((aggregate_table(made), 1, 4), (speed_table(made), 2, 3)):
        for row in table.rows:
            assert row[figure].text.endswith("*") is (row[method].text == "lpdm")
    assert all("*" in row[4].text for row in claim_table(made).rows)
    assert "An asterisk marks" in render_page(made, []).split("<table")[0]


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_text_stands_out_in_both_schemes(page, scheme):
    page.emulate_media(color_scheme=scheme)
    for selector in ("body", "td", ".how", "small", "main a", ".counts .attention b", "dt"):
        assert contrast(page, selector) >= 4.5, selector


def test_learning_curves_come_first(page):
    sections = page.locator("main > section").evaluate_all("all => all.map((one) => one.id)")
    assert sections[:4] == ["summary", "learning_curves", "table1", "aggregates"]


def test_the_letters_of_plots_are_at_least_eleven_pixels_high_on_every_screen(tmp_path, look):
    panels = {name: lambda axes: axes.set_xlabel("iterations") for name in "abcd"}
    picture = make_picture(tmp_path, "x", "Curves", "", Palette([Series("bp")]), {"": panels})
    page = look(render_page(report([cell()]), [picture]))
    for width in (1280, 700, 390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        smallest = page.evaluate(
            """() => Math.min(...[...document.querySelectorAll("svg text")].map((text) =>
                parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"""
        )
        assert 11 <= smallest < 17, width


def test_a_single_panel_has_the_whole_page_and_letters_of_the_same_size(tmp_path, look):
    draws = {"one": lambda axes: axes.set_xlabel("iterations")}
    picture = make_picture(tmp_path, "x", "Curves", "", Palette([Series("bp")]), {"": draws})
    page = look(render_page(report([cell()]), [picture]))
    for width in (1400, 900, 899, 390, 320):
        page.set_viewport_size({"width": width, "height": 800})
        (plot,) = page.locator("#x svg:visible").all()
        if width >= 900:
            main = page.locator("#x").bounding_box()["width"]
            assert plot.bounding_box()["width"] == pytest.approx(main, abs=1)
        smallest = plot.evaluate(
            """(plot) => Math.min(...[...plot.querySelectorAll("text")].map((text) =>
                parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"""
        )
        assert 11 <= smallest < 17, width


def test_hostile_text_is_shown_and_does_nothing(look):
    cells = [
        cell(
            'a"onmouseover=alert(3) x=' + HOSTILE_NAME,
            "env " + HOSTILE_NAME,
            "m" * 80,
            algorithm=HOSTILE_NAME,
            status="failed",
            command=HOSTILE * 50,
            settings={HOSTILE: HOSTILE, "long": "x" * 100_000, "lone": "\ud800", "deep": [{}]},
            versions={HOSTILE: [HOSTILE]},
            hardware={"cpu": HOSTILE, "gpus": HOSTILE},
            git_commit=HOSTILE,
            started="never",
            error="Traceback\n" + HOSTILE,
        )
    ]
    made = report(cells, notes=[HOSTILE, HOSTILE * 20], missing=[HOSTILE])
    text = render_page(made, [])
    assert len(text.encode()) < 200_000
    page = look(text, viewport={"width": 390, "height": 844})
    page.locator("details").evaluate_all("(all) => all.forEach((each) => (each.open = true))")
    page.locator("details.cell summary").hover()
    assert not scrolls_sideways(page)
    assert page.locator("script, img, [onmouseover], [onerror]").count() == 1  # the page's own
    assert "<script>alert(1)</script>" in page.locator("#cells").inner_text()
    assert "{{ 7 * 7 }}" in page.locator("#cells").inner_text()


def test_a_single_cell_without_pictures_is_a_page_that_explains_its_dashes(tmp_path, look):
    made = cell("only")
    (tmp_path / "one" / "only").mkdir(parents=True)
    (tmp_path / "one" / "only" / "run.json").write_text(made.run.model_dump_json())
    (tmp_path / "one" / "only" / "iterations.csv").write_text("episode_return\n1\n2\n")
    page = look(render_page(analyse(tmp_path / "one"), []))
    assert page.locator("figure").count() == 0
    assert page.locator("#speed").count() == 0
    assert "a single seed" in page.locator("#aggregates td[title*=interval]").first.get_attribute(
        "title"
    )
    assert "A single seed gives no spread" in page.locator("#caution").inner_text()
