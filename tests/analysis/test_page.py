"""The report's page, as a browser shows it."""

import dataclasses
import json
import re
import time
from itertools import pairwise

import imageio.v3
import numpy as np
import pytest

from rllib_lpdm.analysis.aggregates import aggregate_rows
from rllib_lpdm.analysis.drawing import Palette, Panel, Picture, make_picture
from rllib_lpdm.analysis.page import DASH, render_page
from rllib_lpdm.analysis.report import Report, analyse
from rllib_lpdm.analysis.results import CellResult, Results, Series
from rllib_lpdm.analysis.scores import grouped, score_rows, speed_rows
from rllib_lpdm.results.record import RunRecord
from tests.browser import chromium

HOSTILE_NAME = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{ 7 * 7 }}"
HOSTILE = HOSTILE_NAME + "\n\u202e\u200fx"  # the reader refuses such in a name
FILES = "table1.", "aggregates.csv", "speed.csv"
COMMAND = "python -m rllib_lpdm.tune grid.yaml --set seeds=2"


def svg(label: str) -> str:
    return (
        '<svg role="img" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 60">'
        '<rect width="90" height="60" style="fill: var(--series-1)"/>'
        f'<text y="55" style="fill: var(--ink)">{label}</text></svg>'
    )


PICTURES = [
    Picture(
        "aggregates",
        "Aggregates",
        "More is better.",
        [],
        [Panel("all", {"": svg("all")})],
        ["a.pdf"],
    ),
    Picture(
        "learning_curves",
        "Learning curves (figure 3)",
        "Mean over seeds.",
        [("bp", 1), ("lpdm", 2)],
        [
            Panel("Hopper-v4", {"raw": svg("raw Hopper"), "normalised": svg("normal Hopper")}),
            Panel("Ant-v4", {"raw": svg("raw Ant"), "normalised": svg("normal Ant")}),
            Panel("untimed", {"raw": svg("raw untimed")}),
        ],
        ["figures/curves.pdf", "figures/curves.png"],
    ),
]


def cell(name="x", environment="Hopper-v4", method="bp", seed=0, level=10.0, **run):
    run = {"algorithm": "ppo", "status": "finished", "command": COMMAND} | run
    columns = {
        "episode_return": level * np.linspace(0.5, 1, 20),
        "env_steps": np.arange(1.0, 21) * 100,
        "seconds": np.ones(20),
    }
    run |= {"cell": name, "environment": environment, "method": method, "seed": seed}
    return CellResult(RunRecord(**run), columns)


def report(cells, notes=(), missing=(), **more) -> Report:
    """What ``analyse`` gives, without the aggregates, which take long."""
    groups = grouped(cells)
    return Report(
        Results("an experiment", cells, list(missing)),
        "bp",
        more.pop("with_paper", False),
        groups,
        score_rows(groups),
        speed_rows(groups),
        more.pop("aggregates", []),
        notes,
        **more,
    )


LEVELS = {"Hopper-v4": 9.0, "Ant-v4": -20.0, "Pusher-v4": 100.0}


@pytest.fixture(scope="module")
def analysed(tmp_path_factory) -> Report:
    """Three environments, two methods, two seeds; a cell has failed, one runs, one is missing."""
    folder = tmp_path_factory.mktemp("results") / "small"
    planned = []
    for environment, level in LEVELS.items():
        for factor, method in enumerate(["bp", "lpdm"], 1):
            for seed in range(2):
                name = f"{environment}_ppo_{method}_s{seed}"
                planned.append(name)
                if name == "Pusher-v4_ppo_lpdm_s1":
                    continue
                made = cell(name, environment, method, seed, level * factor + seed)
                run = made.run.model_dump() | {
                    "settings": {
                        "iterations": 20,
                        "hidden_sizes": [64, 128],
                        "lr": 0.0005,
                        "unheard_of": 1,
                    },
                    "started": "2026-01-02T03:04:05+00:00",
                    "hardware": {"cpu": "A CPU", "cores": 2},
                }
                if name == "Ant-v4_ppo_lpdm_s1":
                    run |= {"status": "failed", "error": "Traceback\n  ...\nValueError: it broke"}
                if name == "Ant-v4_ppo_bp_s1":
                    run |= {"status": "running"}
                (folder / name).mkdir(parents=True)
                (folder / name / "run.json").write_text(json.dumps(run))
                rows = zip(*made.columns.values(), strict=True)
                lines = [",".join(made.columns), *(",".join(map(str, row)) for row in rows)]
                (folder / name / "iterations.csv").write_text("\n".join(lines) + "\n")
    (folder / ".experiment.json").write_text(json.dumps({"cells": planned}))
    return analyse(folder, with_paper=True)


@pytest.fixture(scope="module")
def html(analysed) -> str:
    return render_page(analysed, PICTURES)


@pytest.fixture(scope="session")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def look(browser, tmp_path):
    """Opens a page as a file; whatever it asks for or complains of fails the test."""
    complaints: list[str] = []
    contexts = []

    def opened(html: str, anchor: str = "", **options):
        file = tmp_path / "index.html"
        file.write_text(html, encoding="utf-8")
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                request.url.split("#")[0] == file.as_uri() or complaints.append(request.url)
            ),
        )
        page.goto(file.as_uri() + anchor)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def column(page, table: str, label: str) -> list[str]:
    return page.locator(table).evaluate(
        """(table, label) => {
            const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent);
            const place = heads.indexOf(label);
            return [...table.tBodies[0].rows].map((row) => row.cells[place].textContent);
        }""",
        label,
    )


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


def scrolls_sideways(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_the_page_opens_from_a_file_and_says_first_what_ran(html, look):
    page = look(html)
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


def test_headings_do_not_skip_a_level_and_ids_are_unique(html, look):
    page = look(html)
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


def test_every_picture_is_seen_and_leads_to_its_files(html, look):
    page = look(html)
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


def test_the_switch_shows_the_other_version_by_mouse_and_by_keyboard(html, look):
    page = look(html)
    shown = page.locator("#learning_curves .version:visible")
    assert shown.all_inner_texts() == ["raw Hopper", "raw Ant", "raw untimed"]
    page.get_by_text("normalised", exact=True).click()
    assert shown.all_inner_texts() == ["normal Hopper", "normal Ant", "not recorded"]
    page.keyboard.press("ArrowLeft")
    assert shown.all_inner_texts() == ["raw Hopper", "raw Ant", "raw untimed"]


def test_without_scripts_every_version_is_there_and_nothing_that_does_not_work(html, look):
    page = look(html, java_script_enabled=False)
    assert page.locator("#learning_curves svg:visible").count() == 5
    assert not page.locator(".switch, #theme, #filter").locator("visible=true").count()


def test_a_click_sorts_by_number_and_another_turns_it_round_with_missing_ones_last(html, look):
    page = look(html)
    table = "#table1 table.sortable"
    head = page.locator(table).get_by_role("columnheader", name="Max score", exact=True)
    head.get_by_role("button").click()
    numbers = [float(text) for text in column(page, table, "Max score")]
    assert numbers == sorted(numbers)
    assert numbers != [float(text) for text in sorted(map(str, numbers))]
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").press("Enter")
    assert [float(text) for text in column(page, table, "Max score")] == numbers[::-1]
    assert head.get_attribute("aria-sort") == "descending"
    ratio = page.locator(table).get_by_role("columnheader", name="Ratio").first
    for _ in range(2):
        ratio.click()
        assert column(page, table, "Ratio")[3:] == [DASH] * 3
        assert page.locator("[aria-sort]").count() == 1
    method = page.locator(table).get_by_role("columnheader", name="Method")
    method.click()
    assert column(page, table, "Method") == ["bp"] * 3 + ["lpdm"] * 3


def test_the_papers_numbers_stand_beside_ours(html, analysed, look):
    page = look(html)
    labels = page.locator("#table1 .grouped tbody th").all_inner_texts()
    assert labels == ["ppo", "bp", "paper", "lpdm", "paper"]
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


def test_dark_and_light_follow_the_system_until_the_button_is_used(html, look):
    page = look(html, color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    assert light != dark
    page.locator("#theme").click()
    assert page.evaluate(background) == light
    page.reload()
    assert page.evaluate(background) == light
    page.locator("#theme").click()
    assert page.evaluate(background) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(html, look, scheme):
    page = look(html, color_scheme=scheme)
    for selector in ("body", "td", ".how", "small", "main a", ".counts .attention b", "dt"):
        assert contrast(page, selector) >= 4.5, selector


def test_learning_curves_come_first(html, look):
    sections = look(html).locator("main > section").evaluate_all("all => all.map((one) => one.id)")
    assert sections[:4] == ["summary", "learning_curves", "table1", "aggregates"]


def test_a_phone_scrolls_tables_but_not_the_page_sideways(html, look):
    page = look(html, viewport={"width": 390, "height": 844})
    assert not scrolls_sideways(page)
    assert page.locator("#table1 .scroll").first.evaluate(
        "(element) => element.scrollWidth > element.clientWidth"
    )
    first, second = (page.locator("#learning_curves figure").nth(k).bounding_box() for k in (0, 1))
    assert first["x"] == second["x"]


def test_a_table_is_shaded_where_more_of_it_is_hidden(html, look):
    page = look(html, viewport={"width": 390, "height": 844})
    table = page.locator("#table1 .scroll").first
    table.scroll_into_view_if_needed()

    def edge():
        box = table.bounding_box()
        strip = {"x": box["x"] + box["width"] - 3, "y": box["y"] + 2, "width": 3, "height": 20}
        return imageio.v3.imread(page.screenshot(clip=strip)).mean()

    hidden = edge()
    table.evaluate("(element) => element.scrollTo(element.scrollWidth, 0)")
    assert hidden < edge() - 10


@pytest.mark.parametrize("width", [1280, 700, 390, 320])
def test_the_letters_of_plots_are_at_least_eleven_pixels_high(tmp_path, look, width):
    panels = {name: lambda axes: axes.set_xlabel("iterations") for name in "abcd"}
    picture = make_picture(tmp_path, "x", "Curves", "", Palette([Series("bp")]), {"": panels})
    page = look(render_page(report([cell()]), [picture]), viewport={"width": width, "height": 800})
    smallest = page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("svg text")].map((text) =>
            parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))"""
    )
    assert 11 <= smallest < 17


def test_an_address_opens_its_cell_with_settings_and_command(html, look):
    page = look(html, "#cell-Hopper-v4_ppo_lpdm_s1")
    inside = page.locator("[id='cell-Hopper-v4_ppo_lpdm_s1'] .inside")
    assert inside.is_visible()
    assert inside.locator("pre").inner_text() == COMMAND
    assert inside.locator("h4").all_inner_texts()[:2] == [
        "Settings that differ from the default",
        "Other settings",
    ]
    settings = [text.split("\n") for text in inside.locator(".settings").all_inner_texts()]
    assert settings == [
        ["iterations", "20", "hidden_sizes", "[64, 128]"],
        ["lr", "0.0005", "unheard_of", "1"],
    ]
    assert page.locator(".inside:visible").count() == 1
    page.evaluate("location.hash = '#cell-Ant-v4_ppo_lpdm_s1'")
    error = page.locator("[id='cell-Ant-v4_ppo_lpdm_s1'] .error")
    error.wait_for()
    assert error.inner_text() == "Error: ValueError: it broke"


def test_a_method_in_the_table_leads_to_its_cells_even_when_they_are_filtered_out(html, look):
    page = look(html)
    page.locator("#filter").fill("ANT bp")
    assert page.locator("details.cell:visible").count() == 2
    assert page.locator("#shown").inner_text() == "2 of 11 cells"
    page.locator("#table1 table.sortable a", has_text="lpdm").first.click()
    page.locator("[id='cell-Pusher-v4_ppo_lpdm_s0'] .inside").wait_for()
    assert page.locator("details.cell:visible").count() == 11


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


def test_names_that_differ_only_in_odd_characters_have_anchors_of_their_own():
    made = report([cell("a b", seed=0), cell("a?b", seed=1), cell("a-b-2", seed=2)])
    text = render_page(made, [])
    for anchor in ("cell-a-b", "cell-a-b-2", "cell-a-b-2-2"):
        assert text.count(f'id="{anchor}"') == 1


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


def test_many_and_long_notes_are_folded_but_printed(look):
    notes = [f"note {k}" for k in range(8)] + ["a long one: " + "name, " * 100]
    page = look(render_page(report([cell()], notes), []))
    shown = page.locator(".notes li:visible")
    assert shown.count() == 6
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.count() == 6 + 4
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown.count() == 6


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
