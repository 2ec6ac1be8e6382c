"""Reads the cells of a results folder."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rllib_lpdm.analysis.paper import in_paper_order
from rllib_lpdm.analysis.statistics import Floats

REPORT_FOLDER = "report"  # in an experiment's folder, beside its cells


class Series(NamedTuple):
    """What is compared: a method, or one of its variants where the experiment has variants."""

    method: str
    variant: str = ""

    @property
    def label(self) -> str:
        return f"{self.method} ({self.variant})" if self.variant else self.method


def _on_one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed")
    return text


Name = Annotated[str, AfterValidator(_on_one_line)]


class Run(BaseModel):
    """What a report needs of ``run.json``; the rest of the file is kept beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    cell: Name = Field(min_length=1, max_length=300)
    environment: Name = Field(min_length=1, max_length=200)
    algorithm: Name = Field(min_length=1, max_length=100)
    method: Name = Field(min_length=1, max_length=100)
    seed: int
    variant: Name | None = Field(None, max_length=100)
    settings: dict[str, Any] = {}
    command: str = ""
    status: str = "running"
    started: str | None = None
    finished: str | None = None
    git_commit: str | None = None
    versions: dict[str, Any] = {}
    hardware: dict[str, Any] = {}


@dataclass(frozen=True)
class CellResult:
    """One cell's ``run.json`` and ``iterations.csv``.

    Attributes:
        run: the content of ``run.json``.
        columns: columns of ``iterations.csv``, (iterations,) each.
    """

    run: Run
    columns: dict[str, Floats]

    @property
    def returns(self) -> Floats:
        """(iterations,) mean episode return of each iteration, the paper's score."""
        return self.columns["episode_return"]

    @property
    def series(self) -> Series:
        return Series(self.run.method, self.run.variant or "")

    @property
    def finished(self) -> bool:
        return self.run.status == "finished"


@dataclass(frozen=True)
class Results:
    """An experiment's folder.

    Attributes:
        name: the folder's name, which is the experiment's.
        cells: those that can be reported, in the paper's order.
        missing: names of planned cells that have no iteration yet, or were left out.
        notes: a sentence for everything that was left out or looks wrong.
    """

    name: str
    cells: list[CellResult]
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_results(folder: Path, wanted: Callable[[str], bool] = lambda column: True) -> Results:
    """All cells of an experiment's folder that have finished at least one iteration.

    Whatever is damaged is left out and named in the notes. Safe while the experiment runs.

    Args:
        folder: an experiment's folder; behind a URL too, as a UPath.
        wanted: which columns of ``iterations.csv`` are read besides ``episode_return``.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    notes: list[str] = []
    cells: dict[tuple[Any, ...], tuple[str, CellResult]] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        cell, said = _read_cell(path, wanted)
        notes += [f"{path.name}: {sentence}" for sentence in said]
        if cell is None:
            continue
        run = cell.run
        key = (run.environment, run.algorithm, cell.series, run.seed)
        if key in cells:  # of a cell and its copy, the one whose folder has the cell's own name
            kept, copy = sorted(
                [cells[key], (path.name, cell)], key=lambda item: item[0] != item[1].run.cell
            )
            cells[key] = kept
            notes.append(
                f"{copy[0]}: is the cell {run.cell} a second time; {kept[0]} is reported. Delete "
                "one of the two."
            )
        else:
            cells[key] = (path.name, cell)
    found = _in_order(cell for _, cell in cells.values())
    missing, note = _missing(folder, found)
    return Results(folder.name, found, missing, notes + note)


def _read_cell(folder: Path, wanted: Callable[[str], bool]) -> tuple[CellResult | None, list[str]]:
    """A cell, None where it cannot be reported, and what is to be said about it."""
    try:
        has_rows = (folder / "iterations.csv").is_file()
        run = Run.model_validate(json.loads((folder / "run.json").read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        return None, ["has iterations but no run.json; left out"] if has_rows else []
    except ValidationError as error:
        place = error.errors()[0]
        where = ".".join(map(str, place["loc"])) or "the file"
        return None, [f"run.json: {where}: {place['msg']}; left out"]
    except (OSError, ValueError, RecursionError) as error:
        return None, [f"run.json cannot be read ({_brief(error)}); left out"]
    if not has_rows:
        reason = str((run.model_extra or {}).get("error") or "no reason given")
        failed = f"failed before its first iteration ({_brief(reason.splitlines()[-1])})"
        without = {"failed": failed, "finished": "is finished, but has no iterations.csv; left out"}
        return None, [without[run.status]] if run.status in without else []
    try:
        columns, said = _read_columns((folder / "iterations.csv").read_bytes(), wanted)
    except (OSError, ValueError, csv.Error) as error:
        return None, [f"iterations.csv cannot be read ({_brief(error)}); left out"]
    return (CellResult(run, columns) if columns else None), said


def _brief(error: object) -> str:
    """An error's text, which may hold part of a damaged file, on one line."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return text if len(text) <= 200 else f"{text[:200]}..."


def _read_columns(
    content: bytes, wanted: Callable[[str], bool]
) -> tuple[dict[str, Floats], list[str]]:
    """The columns of a CSV file of numbers; none where it has no whole row.

    Raises:
        ValueError: a row is damaged, or there are no returns.
    """
    whole, end, rest = content.rpartition(b"\n")
    said = ["the last row of iterations.csv is half written; it is left out"] if rest else []
    header = next(csv.reader([whole.partition(b"\n")[0].decode("utf-8")]), [])
    if b"\n" not in whole:  # a header at most
        return {}, said
    if len(set(header)) < len(header):
        raise ValueError("two of its columns have one name")
    names = [name for name in header if name == "episode_return" or wanted(name)]
    table = pa.csv.read_csv(
        pa.py_buffer(whole + end),
        read_options=pa.csv.ReadOptions(column_names=header, skip_rows=1),
        convert_options=pa.csv.ConvertOptions(
            include_columns=names, column_types=dict.fromkeys(names, pa.float64())
        ),
    )
    columns = {name: table.column(name).to_numpy() for name in names}
    if "episode_return" not in columns:
        raise ValueError("it has no column episode_return")
    if not len(columns["episode_return"]):  # empty lines only
        return {}, said
    for name in names:
        lost = np.flatnonzero(~np.isfinite(columns[name]))
        if len(lost) and name == "episode_return":
            raise ValueError(f"the return of row {lost[0] + 1} is not a finite number")
        if len(lost):
            del columns[name]
            said.append(f"{name} of row {lost[0] + 1} is not a finite number; it is left out")
    counted = columns.get("iteration", np.zeros(0))
    gaps = np.flatnonzero(counted != np.arange(1, len(counted) + 1))
    if len(gaps):
        said.append(
            f"row {gaps[0] + 1} of iterations.csv says iteration {counted[gaps[0]]:g}; rows are "
            "taken as they come"
        )
    return columns, said


def _in_order(cells: Iterable[CellResult]) -> list[CellResult]:
    found = list(cells)
    places = [
        {name: place for place, name in enumerate(in_paper_order(names))}
        for names in (
            [cell.run.environment for cell in found],
            [cell.run.algorithm for cell in found],
            [cell.run.method for cell in found],
        )
    ]
    return sorted(
        found,
        key=lambda cell: (
            places[0][cell.run.environment],
            places[1][cell.run.algorithm],
            places[2][cell.run.method],
            # the variant that the others are compared with comes first
            (cell.series.variant not in ("", "reference"), cell.series.variant),
            cell.run.seed,
        ),
    )


def _missing(folder: Path, cells: Sequence[CellResult]) -> tuple[list[str], list[str]]:
    """Names of the planned cells that are not there, and a note where the plan had to be guessed.

    It stands in a file beside the cells. Where that was not copied along, it is what the cells that
    are there cross to.
    """
    try:
        planned = json.loads((folder / ".experiment.json").read_text(encoding="utf-8"))["cells"]
        have = {cell.run.cell for cell in cells}
        return [str(name) for name in planned if name not in have], []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    places = {(c.run.environment, c.run.algorithm, c.series, c.run.seed) for c in cells}
    crossed = product(
        dict.fromkeys(cell.run.environment for cell in cells),
        dict.fromkeys(cell.run.algorithm for cell in cells),
        dict.fromkeys(cell.series for cell in cells),
        sorted({cell.run.seed for cell in cells}),
    )
    names = [
        "_".join([environment, algorithm, *filter(None, series), f"s{seed}"])
        for environment, algorithm, series, seed in crossed
        if (environment, algorithm, series, seed) not in places
    ]
    note = "which cells were planned is not known; those that are there were crossed"
    return names, [note] if cells else []
