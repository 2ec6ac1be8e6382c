"""What readers of the report's page do with it, in a browser."""

import imageio.v3
import pytest

from rllib_lpdm.analysis.page import DASH, render_page
from tests.analysis.pages import COMMAND, cell, column, report, scrolls_sideways
from tests.experiment.processes import wait_until

pytestmark = pytest.mark.usefixtures("no_complaints")


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


def test_dark_and_light_follow_the_system_until_the_button_is_used(html, look):
    page = look(html, color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(background)
    assert light != dark
    page.locator("#theme").click()
    assert page.evaluate(background) == light

    def reloaded():
        page.reload()
        return page.evaluate(background)

    # a browser on a busy machine may load the page again before it has stored the choice
    wait_until(lambda: reloaded() == light, "the choice was kept", timeout=30)
    page.locator("#theme").click()
    assert page.evaluate(background) == dark


@pytest.fixture(scope="module")
def phone(opened, html):
    return opened(html, viewport={"width": 390, "height": 844})


def test_a_phone_scrolls_tables_but_not_the_page_sideways(phone):
    assert not scrolls_sideways(phone)
    assert phone.locator("#table1 .scroll").first.evaluate(
        "(element) => element.scrollWidth > element.clientWidth"
    )
    first, second = (phone.locator("#learning_curves figure").nth(k).bounding_box() for k in (0, 1))
    assert first["x"] == second["x"]


def test_a_table_is_shaded_where_more_of_it_is_hidden(phone):
    table = phone.locator("#table1 .scroll").first
    table.scroll_into_view_if_needed()

    def edge():
        box = table.bounding_box()
        strip = {"x": box["x"] + box["width"] - 3, "y": box["y"] + 2, "width": 3, "height": 20}
        return imageio.v3.imread(phone.screenshot(clip=strip)).mean()

    hidden = edge()
    table.evaluate("(element) => element.scrollTo(element.scrollWidth, 0)")
    assert hidden < edge() - 10


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


def test_many_and_long_notes_are_folded_but_printed(look):
    notes = [f"note {k}" for k in range(8)] + ["a long one: " + "name, " * 100]
    page = look(render_page(report([cell()], notes), []))
    shown = page.locator(".notes li:visible")
    assert shown.count() == 6
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.count() == 6 + 4
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown.count() == 6
