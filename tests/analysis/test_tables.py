"""Tables keep every digit and every name, in every format and in the paper's layout."""

import csv
import io
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rllib_lpdm.analysis.aggregates import aggregate_rows
from rllib_lpdm.analysis.groups import grouped, score_rows, speed_rows
from rllib_lpdm.analysis.tables import (
    aggregate_records,
    csv_text,
    latex,
    markdown,
    number,
    paper_layout,
    ratio,
    score_records,
    score_table,
    speed_records,
)
from tests.analysis.cells import cell, seeds

HOSTILE = ["a|b", "a_b_c", "_a_", "a&b", "&lt;", "50%", "a\\", "a\\|b", "<script>alert(1)</script>"]
HOSTILE += ["**a**", "`a`", "[a](b)", "![a](b)", "~~a~~", "#1", "$x^2$", "{a}", "\\input{a}"]
COMMANDS = {"backslash": "\0", "asciitilde": "~", "asciicircum": "^"}


def scores(cells):
    return score_rows(grouped(cells))


def words(table):
    return [line.split() for line in table.splitlines()]


def named(name):
    """Cells whose every name is the given one."""
    return scores([cell([1], environment=name, algorithm=name, method=name, variant=name)])


def rendered(text):
    """The rows of Markdown's tables as a renderer reads them; nothing in a cell may be markup."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    rows = []
    for token in parser.parse(text):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            assert {child.type for child in token.children} <= {"text", "text_special"}
            rows[-1].append("".join(child.content for child in token.children))
    return rows


def typeset(text):
    """The rows of LaTeX's tabulars: their cells' texts, each with the columns it spans."""
    rows = []
    for line in text.splitlines():
        if not line.endswith(r" \\"):
            continue
        rows.append([])
        for part in re.split(r"(?<!\\)&", line.removesuffix(r" \\")):
            found = re.fullmatch(r" *\\multicolumn{(\d)}{c}{(.*)} *", part)
            rows[-1].append((found[2], int(found[1])) if found else (part.strip(), 1))
    return rows


def plain(text):
    """What LaTeX prints; no character that it treats specially may be left bare."""
    assert not re.search(r"(?<!\\)[&%$#_]|[~^]", text)
    for command, character in COMMANDS.items():
        text = re.sub(
            rf"\\text{command}(?: (\\space )?|$)",
            lambda found, plain=character: plain + " " * bool(found[1]),
            text,
        )
    return re.sub(r"\\([&%$#_{}])", r"\1", text).replace("\0", "\\")


def grid(environments, methods=("bp", "lpdm"), **run):
    rng = np.random.default_rng(0)
    return [
        made
        for environment in environments
        for algorithm in ("reinforce", "ppo")
        for method in methods
        for made in seeds(
            rng.normal(9, 1, (3, 9)),
            **run,
            environment=environment,
            algorithm=algorithm,
            method=method,
        )
    ]


def test_the_terminals_table_has_a_method_a_column_and_averages_the_seeds():
    table = score_table(
        [
            cell([0, 40], method="lpdm"),  # smoothed: 0, 20
            cell([30, 0]),  # smoothed: 30, 15
            cell([20, 40], method="lpdm", seed=1),  # smoothed: 20, 30
            cell([-10, 1], environment="Ant-v4"),
            cell([1, 2], method="frozen", environment="Ant-v4"),
        ]
    )
    assert words(table) == [
        ["environment", "algorithm", "lpdm", "bp", "frozen"],
        ["CartPole-v1", "ppo", "25.0", "(40.0)", "30.0", "(0.0)", "-"],
        ["Ant-v4", "ppo", "-", "-4.5", "(1.0)", "1.5", "(2.0)"],
    ]


def test_algorithms_and_variants_have_lines_of_their_own():
    table = score_table(
        [
            cell([1], variant="slow"),
            cell([2], variant="fast"),
            cell([3], algorithm="reinforce", variant="slow"),
        ]
    )
    assert words(table)[1:] == [
        ["CartPole-v1", "ppo", "slow", "1.0", "(1.0)"],
        ["CartPole-v1", "ppo", "fast", "2.0", "(2.0)"],
        ["CartPole-v1", "reinforce", "slow", "3.0", "(3.0)"],
    ]


def test_the_columns_of_the_terminals_table_stand_below_one_another():
    table = score_table([cell([1e5]), cell([1], method="lpdm", environment="Pendulum-v1")])
    header, *lines = table.splitlines()
    assert [line[header.index("algorithm") :][:3] for line in lines] == ["ppo", "ppo"]
    assert lines[1][header.index("lpdm") :] == "1.0 (1.0)"


def test_the_terminals_table_marks_what_has_not_finished_and_says_so():
    cells = [cell([1]), cell([2, 4], method="lpdm", status="running"), cell([3], method="frozen")]
    failed = cell([9], method="frozen", status="failed", seed=1)
    _, line, said = words(score_table([*cells, failed]))
    assert line[2:] == ["1.0", "(1.0)", "3.0*", "(4.0)", "3.0", "(3.0)"]
    assert said[0] == "*"
    assert words(score_table([cells[0], cells[2]]))[-1][-1] == "(3.0)"


def test_no_cells_make_tables_without_lines():
    assert len(score_table([]).splitlines()) == 1
    assert csv_text([]).strip() == markdown([]).strip() == latex([]).strip() == ""


def test_where_there_is_no_figure_a_number_is_a_dash_and_a_ratio_is_empty():
    assert [number(x) for x in (1.25, -0.05, math.nan, math.inf)] == ["1.2", "-0.1", "-", "-"]
    assert [ratio(x) for x in (1.5698, math.nan)] == ["1.57x", ""]


@pytest.mark.parametrize("with_paper", [False, True])
def test_csv_keeps_every_digit_and_leaves_a_field_without_a_figure_empty(with_paper):
    records = score_records(scores([*grid(["CartPole-v1", "X"]), cell([-1 / 3])]), with_paper)
    back = list(csv.DictReader(io.StringIO(csv_text(records))))
    assert [list(row) for row in back] == [list(record) for record in records]
    assert any("" in row.values() for row in back)
    for record, row in zip(records, back, strict=True):
        for key, value in record.items():
            if isinstance(value, str):
                assert row[key] == value
            else:
                assert float(row[key] or "nan") == value or (row[key] == "" and math.isnan(value))


def test_a_record_by_hand():
    cells = [*seeds([[2], [4]]), *seeds([[6], [12]], method="lpdm", status="running")]
    record = score_records(scores(cells), True)[1]
    assert record == pytest.approx(
        {
            "environment": "CartPole-v1",
            "algorithm": "ppo",
            "method": "lpdm",
            "variant": "",
            "seeds": 2,
            "finished": "no",
            "max_score": 9,
            "max_score_ratio": 3,
            "relative_spread_percent": 100 * math.sqrt(18) / 9,
            "relative_spread_ratio": 1,
            "iterations": 1,
            "iterations_ratio": 1,
            "end_score": 9,
            "paper_max_score": 474.9,
            "paper_max_score_ratio": 474.9 / 474.5,
            "max_score_difference": math.nan,
            "paper_relative_spread_percent": 4.99,
            "paper_relative_spread_ratio": 4.99 / 8.13,
            "relative_spread_difference": math.nan,
            "paper_iterations": 778,
            "paper_iterations_ratio": 778 / 871,
            "iterations_difference": math.nan,
        },
        nan_ok=True,
    )
    assert not [key for key in score_records(scores(cells), False)[0] if "paper" in key]


def test_records_of_aggregates_hold_every_figure_and_its_interval():
    cells = grouped(grid(["CartPole-v1", "Ant-v4"]))
    rows, _ = aggregate_rows(cells)
    for row, record in zip(rows, aggregate_records(rows), strict=True):
        assert (record["method"], record["strata"]) == (row.series.method, len(row.runs))
        assert record["runs"] == 3 * record["strata"]
        for name in ("interquartile_mean", "median", "optimality_gap"):
            found = tuple(record[name + part] for part in ("", "_low", "_high"))
            assert found == getattr(row, name)
        improvement = record["improvement"], record["improvement_low"], record["improvement_high"]
        if row.improvement is None:
            assert np.isnan(improvement).all()
        else:
            assert improvement == row.improvement


def test_records_of_speed_by_hand():
    columns = {"seconds": [1800, 1800], "env_steps": [5, 7200]}
    (record,) = speed_records(speed_rows(grouped([cell([0, 0], columns, variant="fast")])))
    assert record == {
        "environment": "CartPole-v1",
        "algorithm": "ppo",
        "method": "bp",
        "variant": "fast",
        "hours": 1,
        "steps_per_second": 2,
        "steps_per_second_ratio": 1,
    }


def test_four_environments_stand_side_by_side():
    names = [f"E{i}" for i in range(9)]
    blocks = paper_layout(scores(grid(names)))
    assert [block.environments for block in blocks] == [names[:4], names[4:8], names[8:]]
    for block in blocks:
        assert [(line.algorithm, line.label) for line in block.lines] == [
            ("reinforce", "bp"),
            ("", "lpdm"),
            ("ppo", "bp"),
            ("", "lpdm"),
        ]
        assert {len(line.cells) for line in block.lines} == {len(block.environments)}


def test_the_papers_locomotion_tasks_stand_in_a_block_of_their_own():
    names = ["CartPole-v1", "Hopper-v4", "Ant-v4", "Hopper-v5", "Mine-v0"]
    blocks = paper_layout(scores(grid(names)))
    assert [block.environments for block in blocks] == [
        ["CartPole-v1", "Hopper-v5", "Mine-v0"],
        ["Hopper-v4", "Ant-v4"],
    ]


def test_a_method_that_an_environment_lacks_has_empty_fields_there():
    cells = [*grid(["A"], ["bp"]), *grid(["B"])]
    (block,) = paper_layout(scores(cells))
    assert [[bool(cell[0][0]) for cell in line.cells] for line in block.lines] == [
        [True, True],
        [False, True],
    ] * 2


def test_a_line_by_hand():
    cells = [*seeds([[2], [4]]), *seeds([[6], [12]], method="lpdm", status="running")]
    (block,) = paper_layout(scores([*cells, cell([0], method="frozen")]))
    assert [line.cells for line in block.lines] == [
        [[("3.0", ""), ("47.14%", ""), ("1", ""), ("3.0", "")]],
        [[("9.0*", "3.00x"), ("47.14%", "1.00x"), ("1", "1.00x"), ("9.0", "")]],
        [[("0.0", ""), ("-", ""), ("1", "1.00x"), ("0.0", "")]],
    ]


def test_where_seeds_have_a_max_score_of_zero_there_is_no_spread():
    (block,) = paper_layout(scores(seeds([[1], [-1]])))
    assert block.lines[0].cells[0][1] == ("-", "")


def test_the_papers_numbers_and_the_differences_stand_below_the_methods_it_has():
    runs = [[480 + 10 * seed] for seed in range(5)]
    cells = [*seeds(runs), *seeds(runs, method="lpdm"), cell([1], method="frozen")]
    (block,) = paper_layout(scores([*cells, cell([1], environment="X")]), with_paper=True)
    lines = {(line.label, i): line.cells for i, line in enumerate(block.lines)}
    assert list(lines) == [
        ("bp", 0),
        ("paper", 1),
        ("difference", 2),
        ("lpdm", 3),
        ("paper", 4),
        ("difference", 5),
        ("frozen", 6),
    ]
    paper, x = lines["paper", 4]
    assert paper == [("474.9", "1.00x"), ("4.99%", "0.61x"), ("778", "0.89x"), ("", "")]
    assert lines["difference", 5][0] == [("+25.1", ""), ("-1.83", ""), ("-777", ""), ("", "")]
    assert set(x) == set(lines["paper", 1][1]) == {("", "")}


def test_with_fewer_than_five_seeds_nothing_is_said_to_differ_from_the_paper():
    for count, labels in ((4, ["bp", "paper"]), (5, ["bp", "paper", "difference"])):
        table = scores(seeds([[1]] * count))
        (block,) = paper_layout(table, with_paper=True)
        assert [line.label for line in block.lines] == labels
        (record,) = score_records(table, with_paper=True)
        assert math.isnan(record["max_score_difference"]) == (count < 5)


@pytest.mark.parametrize("with_paper", [False, True])
def test_every_row_has_its_columns(with_paper):
    table = scores(grid([*"ABCDE", "CartPole-v1"], ["bp", "lpdm"]))
    widths = [{len(row) for row in rendered(t)} for t in markdown(table, with_paper).split("\n\n")]
    assert widths == [{2 + 4 * 4}, {2 + 4 * 2}]
    for tabular in latex(table, with_paper).split("\n\n"):
        columns = re.search(r"\\begin{tabular}{(l+r+)}", tabular)[1]
        rows = typeset(tabular)
        assert len(rows) >= 2 + 4
        assert {sum(span for _, span in row) for row in rows} == {len(columns)}
        assert tabular.count("{") == tabular.count("}")
        ruled = re.findall(r"\\cmidrule\(lr\){(\d+)-(\d+)}", tabular)
        assert [int(end) for _, end in ruled] == list(range(6, len(columns) + 1, 4))


def test_markdown_and_latex_say_what_the_layout_says():
    table = scores(grid(["A", "CartPole-v1"]))
    (block,) = paper_layout(table, with_paper=True)
    figures = [
        [f"{a} ({b})" if b else a for cell in line.cells for a, b in cell] for line in block.lines
    ]
    assert [row[2:] for row in rendered(markdown(table, True))[1:]] == figures
    rows = typeset(latex(table, True))[2:]
    assert [[plain(text) for text, _ in row[2:]] for row in rows] == figures


def check_tables_of(name):
    """Every format gives a name back as it is, where it belongs."""
    (row,) = csv.DictReader(io.StringIO(csv_text(score_records(named(name), True))))
    assert {row[key] for key in ("environment", "algorithm", "method", "variant")} == {name}
    head, line = rendered(markdown(named(name)))
    assert (head[2], line[0], line[1]) == (f"{name} max score", name, f"{name} ({name})")
    (_, environment), _, (algorithm, label, *_) = typeset(latex(named(name)))
    assert [plain(text) for text, _ in (environment, algorithm, label)] == [
        name,
        name,
        f"{name} ({name})",
    ]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_a_table(name):
    check_tables_of(name)


@settings(max_examples=15, derandomize=True, database=None, deadline=None)
@given(name=st.text("ab1 |_*&%$#\\<>`[](){}!~^;", min_size=1, max_size=8).map("a{}b".format))
def test_no_mixture_of_awkward_characters_breaks_a_table(name):
    check_tables_of(name)


@pytest.mark.parametrize("text", ["=1+1", "+cmd|'/C calc'!A0", "-2+3", "@SUM(A1)", "\t=1"])
def test_no_field_of_a_csv_file_is_a_spreadsheet_s_formula(text):
    (row,) = csv.DictReader(io.StringIO(csv_text([{"method": text, "other": f"a{text}"}])))
    assert row["method"] == f"'{text}"
    assert row["other"].startswith("a")


def test_numbers_of_a_csv_file_stay_numbers():
    (row,) = csv.DictReader(io.StringIO(csv_text([{"a": -0.5, "b": "-0.5", "c": -2, "d": "-inf"}])))
    assert list(row.values()) == ["-0.5", "-0.5", "-2", "-inf"]
