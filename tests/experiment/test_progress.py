"""What is seen of a grid while it runs: one screen of a terminal, or plain lines in a log."""

import io
import itertools
import re
import unicodedata

import pytest
from rich.console import Console

from rllib_lpdm.grid import progress as progress_module
from rllib_lpdm.grid.progress import LOG_INTERVAL, Progress
from rllib_lpdm.schema.loading import load_experiment
from tests.experiment.files import CONFIGS, write


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time that Progress sees, in seconds; a test moves it."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress_module.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def cells(tmp_path):
    """Four cells of 100 iterations: two methods, two seeds."""
    return load_experiment(
        write(tmp_path, methods=["bp", "lpdm"], seeds=2, settings={"iterations": 100})
    ).cells()


def report(iterations, new=10, steps=500, seconds=5.0, score=1.0):
    return {
        "iterations": iterations,
        "new_iterations": new,
        "new_env_steps": steps,
        "seconds": seconds,
        "score": score,
    }


def drawn(progress, width=100):
    """The lines of the table on a terminal, without its colours."""
    stream = io.StringIO()
    Console(file=stream, force_terminal=True, width=width).print(progress.render())
    return [line.rstrip() for line in re.sub(r"\x1b\[[\d;]*m", "", stream.getvalue()).splitlines()]


def control_characters(text):
    return {c for c in text if unicodedata.category(c) == "Cc" and c != "\n"}


# -- the table of a terminal ----------------------------------------------------------------------


def test_seven_hundred_and_twenty_cells_are_one_screen_of_a_hundred_columns():
    grid = load_experiment(CONFIGS / "grid.yaml").cells()
    assert len(grid) == 720
    progress = Progress(grid, {}, io.StringIO())
    for cell in grid:
        progress.started(cell.name)
        progress.reported(cell.name, report(10, score=-12345.678))
    lines = drawn(progress)
    assert len(lines) == 1 + 2 + 24
    assert max(map(len, lines)) <= 100
    assert lines[1].strip() == "mean score"
    assert lines[1].index("mean") > lines[2].index("fail")
    assert lines[2].split() == (
        ["environment", "algorithm", "done", "now", "fail", "bp", "lpdm", "lpdm_guided"]
    )
    rows = [line.split() for line in lines[3:]]
    assert len({tuple(row[:2]) for row in rows}) == 24
    assert {tuple(row[2:]) for row in rows} == {("0/30", "30", *["-12345.7"] * 3)}


def test_variants_have_rows_of_their_own(tmp_path):
    variants = {"slow": {"lr": 1e-4}, "fast": {"lr": 1e-3}}
    cells = load_experiment(write(tmp_path, variants=variants)).cells()
    lines = drawn(Progress(cells, {}, io.StringIO()))
    assert [line.split()[2] for line in lines[2:]] == ["variant", "fast", "slow"]


def test_counts_and_mean_last_scores_follow_the_cells(cells):
    bp0, lpdm0, bp1, lpdm1 = (cell.name for cell in cells)
    progress = Progress(cells, {bp0: 10.0}, io.StringIO())
    for name in (lpdm0, bp1, lpdm1):
        progress.started(name)
    progress.reported(bp1, report(10, score=99.0))
    progress.reported(bp1, report(20, score=13.0))
    progress.reported(lpdm0, report(10, score=-4.0))
    progress.completed(lpdm0)
    progress.reported(lpdm1, report(10, score=None))
    progress.failed(lpdm1, "boom")
    summary, _, header, row = drawn(progress)
    assert row.split() == ["CartPole-v1", "ppo", "2/4", "1", "1", "11.5", "-4.0"]
    assert header.index("fail") + len("fail") == row.index(" 1 ", row.index(" 1 ") + 2) + 2
    assert summary.startswith("2 done, 1 running, 1 failed, 0 pending | ")


# -- speed and time left --------------------------------------------------------------------------


def test_the_speed_is_that_of_the_cells_that_run(cells, clock):
    first, second, *_ = (cell.name for cell in cells)
    progress = Progress(cells, {}, io.StringIO())
    assert "| 0 steps/s | 0 s" in progress.summary()
    for name, steps in ((first, 500), (second, 4000)):
        progress.started(name)
        clock.now += 5
        progress.reported(name, report(10, steps=steps, seconds=5.0))
    assert "| 900 steps/s | 10 s" in progress.summary()
    progress.completed(second)
    assert "| 100 steps/s | 10 s" in progress.summary()


def test_reports_far_apart_do_not_change_the_speed_that_is_shown(cells, clock):
    """A report that comes every 200 seconds tells of those 200 seconds."""
    name = cells[0].name
    progress = Progress(cells, {}, io.StringIO())
    progress.started(name)
    for iterations in (10, 20):
        clock.now += 200
        progress.reported(name, report(iterations, steps=200_000, seconds=200.0))
        assert "| 1,000 steps/s |" in progress.summary()
    clock.now += 190
    assert "| 1,000 steps/s |" in progress.summary()


def test_time_left_is_the_iterations_to_go_at_the_pace_of_their_kind(cells, clock):
    bp0, lpdm0, bp1, lpdm1 = (cell.name for cell in cells)
    progress = Progress(cells, {}, io.StringIO())
    assert "left" not in progress.summary()
    progress.started(bp0)
    progress.started(lpdm0)
    progress.reported(bp0, report(10, new=10, seconds=10.0))  # 1 s an iteration
    # bp 90 + 100 to go, lpdm 100 + 100 at the pace of bp, which is like it: 390 s shared by two.
    assert progress.summary().endswith("| about 3 min left")
    progress.reported(lpdm0, report(20, new=20, seconds=80.0))  # 4 s an iteration
    # bp 90 + 100 s, lpdm 4 * (80 + 100) s, shared by two: 455 s.
    assert progress.summary().endswith("| about 8 min left")
    progress.completed(lpdm0)
    progress.started(lpdm1)
    progress.started(bp1)
    # bp 90 + 100 s, lpdm 400 s, shared by three: 197 s; but the one of lpdm takes all its 400 s.
    assert progress.summary().endswith("| about 7 min left")
    progress.failed(lpdm1, "boom")
    progress.completed(bp0)
    # bp 100 s.
    assert progress.summary().endswith("| about 100 s left")
    progress.completed(bp1)
    assert "left" not in progress.summary()


def test_a_kind_of_cell_not_yet_seen_is_thought_as_slow_as_others_of_its_algorithm(tmp_path, clock):
    cells = load_experiment(
        write(
            tmp_path,
            environments=["CartPole-v1", "Acrobot-v1"],
            algorithms=["ppo", "reinforce"],
            settings={"iterations": 100},
        )
    ).cells()
    ppo, reinforce, *_ = (cell.name for cell in cells)
    progress = Progress(cells, {}, io.StringIO())
    progress.started(reinforce)
    progress.reported(reinforce, report(90, new=10, seconds=10.0))  # 1 s an iteration
    # 10 and 100 s of reinforce; an iteration of ppo has four episodes, so 800 s.
    assert progress.summary().endswith("| about 15 min left")
    progress.started(ppo)
    progress.reported(ppo, report(90, new=10, seconds=80.0))  # 8 s an iteration
    for name in (ppo, reinforce):
        progress.completed(name)
    # 100 iterations of either algorithm on Acrobot, not of the mean of both.
    assert progress.summary().endswith("| about 15 min left")
    progress.failed(cells[2].name, "boom")
    assert progress.summary().endswith("| about 100 s left")


def test_a_resumed_grid_counts_what_is_finished_as_done(cells, clock):
    names = [cell.name for cell in cells]
    progress = Progress(cells, dict.fromkeys(names[:3], 5.0), io.StringIO())
    progress.started(names[3])
    progress.reported(names[3], report(90, new=10, seconds=20.0))
    assert progress.summary().startswith("3 done, 1 running, 0 failed, 0 pending | ")
    assert progress.summary().endswith("| about 20 s left")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7100, "118 min"),
        (7200, "2 h"),
        (172_800, "2.0 days"),
    ],
)
def test_durations_are_said_in_the_unit_that_fits(cells, clock, seconds, said):
    progress = Progress(cells, {}, io.StringIO())
    clock.now += seconds
    assert progress.summary().endswith(f"| {said}")


# -- a log ----------------------------------------------------------------------------------------


def test_a_log_has_a_line_a_cell_that_ends_and_no_control_characters(cells, clock):
    bp0, lpdm0, bp1, lpdm1 = (cell.name for cell in cells)
    stream = io.StringIO()
    with Progress(cells, {bp0: 10.0}, stream) as progress:
        for name in (lpdm0, bp1, lpdm1):
            progress.started(name)
        progress.reported(lpdm0, report(100, score=7.0))
        progress.completed(lpdm0)
        assert re.search(rf"\[2/4\] {lpdm0} +score +7\.0$", stream.getvalue().rstrip("\n"))
        progress.failed(bp1, "ValueError: \x1b[31mred\x1b[0m\r and [bold]so on[/bold] \x07")
        last = stream.getvalue().splitlines()[-1]
        assert last.startswith(f"[3/4] {bp1} ")
        assert "FAILED  ValueError: red" in last
        assert "[bold]so on[/bold]" in last
        progress.retried(lpdm1, "its node was lost")
        last = stream.getvalue().splitlines()[-1]
        assert last == f"{lpdm1} is started again: its node was lost"
        assert "2 done, 0 running, 1 failed, 1 pending" in progress.summary()
        progress.started(lpdm1)
    assert not control_characters(stream.getvalue())
    assert stream.getvalue().splitlines()[-1] == progress.summary()


def test_a_long_reason_is_one_line_of_a_log(cells):
    stream = io.StringIO()
    Progress(cells, {}, stream).failed(cells[0].name, "word " * 1000)
    assert len(stream.getvalue().splitlines()) == 1


def test_the_state_comes_at_most_once_an_interval(cells, clock):
    stream = io.StringIO()
    progress = Progress(cells, {}, stream)
    progress.started(cells[0].name)
    said = []
    for second in range(1, 601):
        clock.now += 1
        progress.reported(cells[0].name, report(1, new=1))
        if stream.getvalue():
            assert stream.getvalue().count("\n") == 1
            assert stream.getvalue().startswith("0 done, 1 running")
            said.append(second)
            stream.seek(0)
            stream.truncate()
    assert 8 <= len(said) <= 10
    assert min(b - a for a, b in itertools.pairwise(said)) >= LOG_INTERVAL
    assert said[0] >= LOG_INTERVAL


def test_on_a_terminal_a_failure_is_shown_at_once_above_the_table(cells):
    stream = Terminal()
    with Progress(cells, {}, stream) as progress:
        progress.failed(cells[0].name, "ValueError: boom")
        assert "FAILED  ValueError: boom" in stream.getvalue()
        progress.retried(cells[1].name, "its process was lost")
        assert "is started again: its process was lost" in stream.getvalue()
    assert "\x1b[" in stream.getvalue()


def test_a_terminal_of_eighty_columns_shows_every_number_of_the_grid_whole():
    grid = load_experiment(CONFIGS / "grid.yaml").cells()
    progress = Progress(grid, {}, io.StringIO())
    for cell in grid:
        progress.started(cell.name)
        progress.reported(cell.name, report(10, score=-812.4))
    lines = drawn(progress, width=80)
    assert lines[0].startswith("0 done, 720 running, 0 failed, 0 pending | ")
    assert all(line.split()[2:] == ["0/30", "30", *["-812.4"] * 3] for line in lines[-24:])


def test_a_log_is_told_the_state_while_nothing_happens(cells, monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stream = io.StringIO()
    progress = Progress(cells, {}, stream)
    progress.tick()
    assert not stream.getvalue()
    now = LOG_INTERVAL + 1
    progress.tick()
    progress.tick()
    assert stream.getvalue().count("4 pending") == 1
