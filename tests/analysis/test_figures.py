"""What the figures show, and the files they leave."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from rllib_lpdm.analysis.aggregates import aggregate_rows
from rllib_lpdm.analysis.cells import Series
from rllib_lpdm.analysis.curves import learning_curve
from rllib_lpdm.analysis.drawing import METHODS, SERIES, VARIABLES, Palette, make_picture
from rllib_lpdm.analysis.figures import (
    aggregates_picture,
    errors_picture,
    learning_curves,
    profiles,
)
from rllib_lpdm.analysis.groups import grouped
from tests.analysis.cells import cell

RANDOM = np.random.default_rng(0)


def run(seed, length=60, **place):
    """A run with steps, episode lengths and the distance errors of two layers."""
    columns = {
        "env_steps": np.arange(1, length + 1) * 10,
        "episode_length": np.full(length, 10.0 + seed),
        "distance_error_1": np.full(length, 0.1),
        "distance_error_2": np.full(length, 0.2),
    }
    if place["method"] == "bp":
        columns = {name: columns[name] for name in ("env_steps", "episode_length")}
    return cell(RANDOM.normal(size=length).cumsum(), columns, seed=seed, **place)


@pytest.fixture(scope="module")
def groups():
    return grouped(
        [
            run(seed, environment=environment, method=method)
            for environment in ("CartPole-v1", "Hopper-v4")
            for method in ("bp", "lpdm")
            for seed in range(3)
        ]
    )


def drawn(draw):
    """The axes that a panel's function has drawn on."""
    axes = Figure().subplots()
    draw(axes)
    return axes


def parsed(svg):
    return ElementTree.fromstring(svg)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("figures")


@pytest.fixture(scope="module")
def pictures(groups, folder):
    """All figures, with their files in the folder."""
    aggregates, _ = aggregate_rows(groups)
    return [
        profiles(aggregates, folder),
        aggregates_picture(aggregates, "bp", folder),
        learning_curves(groups, "learning_curves", "Learning curves", folder),
        errors_picture(groups, folder),
    ]


def test_every_figure_leaves_files_for_papers_and_a_panel_for_every_place(pictures, folder):
    assert [len(picture.panels) for picture in pictures] == [1, 4, 2, 2]
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    files = [folder.parent / file for picture in pictures for file in picture.files]
    assert len(files) == 3 * (1 + 1 + 6 + 1)
    for file in files:
        assert file.read_bytes().startswith(starts[file.suffix[1:]])
    assert set(pictures[2].panels[0].versions) == {
        "every seed",
        "episode length, every seed",
    } | {
        f"{score} score, by {axis}"
        for score in ("raw", "normalised")
        for axis in ("iterations", "environment steps")
    }


def test_the_same_cells_give_the_same_files_whatever_layout_a_user_has_set(
    groups, pictures, folder, tmp_path
):
    with matplotlib.rc_context({"figure.autolayout": True}):
        errors_picture(groups, tmp_path)
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (folder / file.name).read_bytes()


@pytest.fixture
def panels(monkeypatch):
    """What would draw the panels of the next picture, by version and title."""
    found = {}
    monkeypatch.setattr(
        "rllib_lpdm.analysis.figures.make_picture",
        lambda *args, **options: found.update(args[5]),
    )
    return found


def test_a_curve_is_drawn_through_its_means_with_its_interval(groups, tmp_path, panels):
    learning_curves(groups, "learning_curves", "Learning curves", tmp_path)
    axes = drawn(panels["raw score, by environment steps"]["Hopper-v4, ppo"])
    row = groups["Hopper-v4", "ppo"]
    for series, color in ((Series("bp"), SERIES[0]), (Series("lpdm"), SERIES[1])):
        curve = learning_curve(row[series], "steps")
        (line,) = [
            line for line in axes.lines if line.get_color() == color and line.get_linestyle() == "-"
        ]
        np.testing.assert_array_equal(line.get_xdata(), curve.x)
        np.testing.assert_array_equal(line.get_ydata(), curve.estimate.value)
        (band,) = [b for b in axes.collections if to_hex(b.get_facecolor()[0]) == color]
        corners = band.get_paths()[0].vertices
        for end in (curve.estimate.low, curve.estimate.high):
            assert np.isin(np.column_stack([curve.x, end]), corners).all()


def test_every_seed_is_drawn_by_itself(groups, tmp_path, panels):
    learning_curves(groups, "learning_curves", "Learning curves", tmp_path)
    axes = drawn(panels["every seed"]["Hopper-v4, ppo"])
    row = groups["Hopper-v4", "ppo"]
    expected = [run for group in row.values() for run in learning_curve(group, "iterations").runs.T]
    assert len(axes.lines) == len(expected) == sum(len(group.cells) for group in row.values())
    for line, run in zip(axes.lines, expected, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), run)


def test_episode_lengths_are_drawn_of_every_seed(groups, tmp_path, panels):
    learning_curves(groups, "learning_curves", "Learning curves", tmp_path)
    axes = drawn(panels["episode length, every seed"]["Hopper-v4, ppo"])
    lengths = [line.get_ydata()[-1] for line in axes.lines]
    np.testing.assert_allclose(lengths, [10.0, 11.0, 12.0] * 2)


def test_episode_lengths_are_drawn_in_the_places_where_all_runs_have_them(tmp_path, panels):
    lacking = cell([1.0, 2.0], environment="Acrobot-v1", method="bp")
    learning_curves(grouped([run(0, method="bp"), lacking]), "learning_curves", "", tmp_path)
    assert list(panels["episode length, every seed"]) == ["CartPole-v1, ppo"]
    assert len(panels["raw score, by iterations"]) == 2


def test_a_single_seed_has_a_line_and_no_band(tmp_path, panels):
    learning_curves(grouped([run(0, method="bp")]), "learning_curves", "", tmp_path)
    axes = drawn(panels["raw score, by iterations"]["CartPole-v1, ppo"])
    assert axes.lines
    assert not axes.collections


def test_without_steps_there_are_curves_by_iterations_only(tmp_path, panels):
    learning_curves(grouped([cell([1.0, 2.0])]), "learning_curves", "", tmp_path)
    assert set(panels) == {
        "every seed",
        "raw score, by iterations",
        "normalised score, by iterations",
    }


def test_without_local_layers_there_is_no_figure_of_distance_errors(tmp_path):
    assert errors_picture(grouped([run(0, method="bp")]), tmp_path) is None


def test_every_method_has_one_colour_in_all_figures():
    colours = set()
    for method in METHODS:
        series = Series(method)
        alone = Palette([series])
        among = Palette([Series("lpdm", "slow"), Series("another"), series])
        assert alone.line(series) == among.line(series)
        colours.add(alone.line(series)["color"])
    assert len(colours) == len(METHODS)


def test_series_differ_by_colour():
    series = [Series("bp"), *(Series("lpdm", f"variant{k}") for k in range(6)), Series("frozen")]
    assert len({Palette(series).line(each)["color"] for each in series}) == len(series)


def test_the_panels_of_a_page_share_no_ids_and_leave_colours_to_its_style(pictures):
    texts = [text for panel in pictures[2].panels for text in panel.versions.values()]
    ids = [found for text in texts for found in re.findall(r' id="([^"]+)"', text)]
    assert ids
    assert len(set(ids)) == len(ids)
    for text in texts:
        assert "var(--series-1)" in text
        assert not any(color in text for color in VARIABLES)
        assert set(re.findall(r"#([A-Za-z_][\w-]*)", text)) <= set(ids)
        assert parsed(text).get("aria-label").startswith("Learning curves")


def test_a_band_has_a_faint_surface_and_edges_by_which_three_are_told_apart(panels, tmp_path):
    methods = ("bp", "lpdm", "lpdm_guided")
    made = grouped([run(seed, method=method) for method in methods for seed in range(3)])
    learning_curves(made, "x", "", tmp_path)
    profiles(aggregate_rows(made)[0], tmp_path)
    for version, title in (("raw score, by iterations", "CartPole-v1, ppo"), ("", "ppo")):
        bands = drawn(panels[version][title]).collections
        for band, color in zip(bands, SERIES, strict=False):
            (surface,), (edge,) = band.get_facecolor(), band.get_edgecolor()
            assert to_hex(surface) == to_hex(edge) == color
            assert surface[3] * len(methods) < 0.5 < edge[3]
            assert band.get_linewidth()[0] > 0
        assert len(bands) == len(methods)


HOSTILE = "<script>alert(1)</script>\"'&$\\frac{$_^{"


def test_hostile_names_are_text_and_no_formula(tmp_path):
    picture = make_picture(
        tmp_path,
        "hostile",
        HOSTILE,
        "",
        Palette([Series(HOSTILE)]),
        {"": {HOSTILE: lambda axes: axes.set_xlabel(HOSTILE)}},
    )
    root = parsed(picture.panels[0].versions[""])
    assert not root.findall(".//{*}script")
    assert HOSTILE in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_legend_of_many_lines_takes_no_room_from_the_plots(tmp_path):
    heights = []
    for count in (1, 8):
        seen = []
        series = [Series("lpdm", f"of a long name {number}") for number in range(count)]
        draws = {"": dict.fromkeys(("upper", "lower"), seen.append)}
        make_picture(tmp_path, "legend", "", "", Palette(series), draws, columns=1)
        axes = seen[-1]  # of the files
        heights.append(axes.get_position().height * axes.get_figure().get_figheight())
    assert heights[1] == pytest.approx(heights[0], rel=0.1)


def test_the_numbers_on_an_axis_of_the_page_keep_their_digits(tmp_path):
    picture = make_picture(
        tmp_path,
        "digits",
        "Digits",
        "",
        Palette([Series("bp")]),
        {"": {"small": lambda axes: axes.set_yticks([0.001, 0.0025], ["0.0010", "0.0025"])}},
    )
    texts = [
        t.text for t in parsed(picture.panels[0].versions[""]).iter() if t.tag.endswith("text")
    ]
    assert {"0.0010", "0.0025"} <= set(texts)
