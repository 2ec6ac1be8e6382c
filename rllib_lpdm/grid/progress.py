"""What is seen of a grid while it runs: a live table on a terminal, plain lines in a log."""

import contextlib
import re
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rllib_lpdm.schema.catalogue import ALGORITHMS
from rllib_lpdm.schema.experiment import Cell

LOG_INTERVAL = 60.0  # seconds between two lines of state in a log
SCORES = "mean score"  # heads the columns of the methods
DRAWN = 1000.0  # cells a second that are looked at to draw the table
HEADING = 4  # lines of a terminal: the summary, two of headings, and one for the cursor

Row = tuple[str, str, str | None]
Kind = tuple[str, str, str, str]  # algorithm, environment, variant, method


class Progress:
    """Counts cells by state, measures speed, and shows both.

    On a terminal a table of one line per environment, algorithm and variant is redrawn in place;
    elsewhere, so that a log can be read, a line tells of every cell that ends and, now and then,
    of the state of all. Both are bounded: 720 cells are 24 lines on a terminal.

    Args:
        cells: all cells of the experiment.
        scores: the last score of cells that are finished already, by name.
        begun: of cells that go on from a checkpoint, its iteration and the score there.
        stream: where to write; standard output by default.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        scores: dict[str, float | None],
        stream: TextIO | None = None,
        begun: Mapping[str, tuple[int, float | None]] | None = None,
    ) -> None:
        self._cells = {cell.name: cell for cell in cells}
        self._rows: dict[Row, list[Cell]] = defaultdict(list)
        for cell in cells:
            self._rows[cell.environment, cell.algorithm, cell.variant].append(cell)
        self._kinds = {cell.name: _kind(cell) for cell in cells}
        self._methods = list(dict.fromkeys(cell.method for cell in cells))
        self._state = {name: "done" if name in scores else "pending" for name in self._cells}
        self._counts = Counter(self._state.values())
        self._score = {name: score for name, score in scores.items() if score is not None}
        self._iterations: dict[str, float] = {
            name: self._cells[name].settings.iterations or 0 for name in scores
        }
        for name, (iteration, score) in (begun or {}).items():
            self._iterations[name] = iteration
            if score is not None:
                self._score[name] = score
        self._pace: dict[Kind, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._speed: dict[str, float] = {}  # of running cells, steps/s in the last report
        self._began = self._logged = time.monotonic()
        self._console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self.render,
                refresh_per_second=min(2.0, DRAWN / max(1, len(self._cells))),
            )
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
        else:
            self._write(self.summary())

    # -- what happens to cells --------------------------------------------------------------------

    def started(self, name: str) -> None:
        self._move(name, "running")

    def reported(self, name: str, result: dict[str, Any]) -> None:
        """A report of a running cell.

        Args:
            name: the cell.
            result: what :meth:`CellRun.step` returned.
        """
        pace = self._pace[self._kinds[name]]
        pace[0] += result["seconds"]
        pace[1] += result["new_iterations"] * _episodes(self._cells[name])
        self._iterations[name] = result["iterations"]
        self._speed[name] = result["new_env_steps"] / max(1e-9, result["seconds"])
        if result.get("score") is not None:
            self._score[name] = result["score"]
        self.tick()

    def tick(self) -> None:
        """Says in a log, now and then, what the state is, also while nothing happens."""
        now = time.monotonic()
        if self._live is None and now - self._logged > LOG_INTERVAL:
            self._logged = now
            self._write(self.summary())

    def completed(self, name: str) -> None:
        self._move(name, "done")
        self._iterations[name] = self._cells[name].settings.iterations or 0
        if self._live is None:
            self._write(f"{self._ended()} {name:<44} score {_number(self._score.get(name)):>9}")

    def failed(self, name: str, reason: str) -> None:
        self._move(name, "failed")
        self._write(f"{self._ended()} {name:<44} FAILED  {reason}")

    def retried(self, name: str, reason: str) -> None:
        """The cell lost its process and waits for another."""
        self._move(name, "pending")
        self._write(f"{name} is started again: {reason}")

    # -- what is shown ----------------------------------------------------------------------------

    def summary(self) -> str:
        """One line: cells by state, steps/s, time left."""
        states = ", ".join(
            f"{self._counts[state]} {state}" for state in ("done", "running", "failed", "pending")
        )
        left = self._seconds_left()
        ending = "" if left is None else f" | about {_duration(left)} left"
        elapsed = _duration(time.monotonic() - self._began)
        return f"{states} | {sum(self._speed.values()):,.0f} steps/s | {elapsed}{ending}"

    def render(self) -> RenderableType:
        """The table of a terminal: counts, and the mean last score of each method's cells."""
        variants = any(variant for _, _, variant in self._rows)
        table, means = _table(" "), _table(SCORES)
        for column in ("environment", "algorithm", *(["variant"] if variants else [])):
            table.add_column(column, no_wrap=True)
        for column in ("done", "now", "fail"):
            table.add_column(column, justify="right", no_wrap=True)
        for column in self._methods:
            means.add_column(column, justify="right", no_wrap=True)
        for (environment, algorithm, variant), cells in self._most_telling_first():
            counts = Counter(self._state[cell.name] for cell in cells)
            scores = [
                _number(self._mean_score(cell for cell in cells if cell.method == method))
                for method in self._methods
            ]
            style = "" if counts["running"] else "dim"
            table.add_row(
                environment,
                algorithm,
                *([variant or ""] if variants else []),
                f"{counts['done']}/{len(cells)}",
                str(counts["running"] or ""),
                Text(str(counts["failed"] or ""), style="bold red"),
                style=style,
            )
            means.add_row(*scores, style=style)
        both = Table.grid(padding=(0, 1, 0, 0))
        both.add_row(table, means)
        return Group(Text(self.summary(), style="bold"), both)

    def _most_telling_first(self) -> list[tuple[Row, list[Cell]]]:
        """The rows; where a terminal has no room for all, those with running cells come first."""
        rows = list(self._rows.items())
        if len(rows) > self._console.height - HEADING:
            rows.sort(key=lambda row: not any(self._state[c.name] == "running" for c in row[1]))
        return rows

    def _mean_score(self, cells: Iterable[Cell]) -> float | None:
        scores = [self._score[cell.name] for cell in cells if cell.name in self._score]
        return statistics.fmean(scores) if scores else None

    def _seconds_left(self) -> float | None:
        """Remaining episodes at the pace of their kind of cell, shared by those that run.

        No cell is shared, so it is at least what the slowest has before it.
        """
        paces = {kind: seconds / count for kind, (seconds, count) in self._pace.items() if count}
        if not paces:
            return None
        expected = {kind: _expected(paces, kind) for kind in set(self._kinds.values())}
        remaining: list[float] = []
        for name, cell in self._cells.items():
            if self._state[name] in ("running", "pending"):
                todo = (cell.settings.iterations or 0) - self._iterations.get(name, 0)
                pace = expected[self._kinds[name]]
                remaining.append(max(0.0, todo) * _episodes(cell) * pace)
        if not sum(remaining):
            return None
        return max(sum(remaining) / max(1, self._counts["running"]), *remaining)

    def _move(self, name: str, state: str) -> None:
        self._counts[self._state[name]] -= 1
        self._counts[state] += 1
        self._state[name] = state
        self._speed.pop(name, None)

    def _ended(self) -> str:
        ended, total = self._counts["done"] + self._counts["failed"], len(self._cells)
        return f"[{ended:>{len(str(total))}}/{total}]"

    def _write(self, line: str) -> None:
        plain = re.sub(r"\x1b\[[\d;]*m", "", line)  # an error's text may have colours
        with contextlib.suppress(OSError):  # whoever reads has gone; the cells go on
            self._console.print("".join(c if c.isprintable() else " " for c in plain), markup=False)
            self._console.file.flush()


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_style="bold",
        min_width=len(title),
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )


def _kind(cell: Cell) -> Kind:
    return (cell.algorithm, cell.environment, cell.variant or "", cell.method)


def _episodes(cell: Cell) -> int:
    """Of an iteration."""
    return ALGORITHMS[cell.algorithm].episodes_per_iteration(cell.settings)


def _expected(paces: Mapping[Kind, float], kind: Kind) -> float:
    """Seconds of an episode of a kind of cell: as measured, else of the kinds most like it."""
    for shared in range(len(kind), -1, -1):
        alike = [pace for other, pace in paces.items() if other[:shared] == kind[:shared]]
        if alike:
            return statistics.fmean(alike)
    return 0.0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    return f"{hours} h" if hours < 48 else f"{hours / 24:.1f} days"
