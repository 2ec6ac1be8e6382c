"""Finished cells as they are published: few checked files in place of a folder for each cell.

::

    <published>/    runs.jsonl, scores.csv, versions.txt, SHA256SUMS, .experiment.json
        curves/CartPole-v1.parquet     a row an iteration, float32
        search.json                    only of a search, as it stands
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from rllib_lpdm.results.columns import metric_of
from rllib_lpdm.results.iterations import LENGTH, RETURN, read_columns
from rllib_lpdm.results.layout import (
    ITERATIONS_FILE,
    PLAN_FILE,
    PUBLISHED_CURVES,
    PUBLISHED_RUNS,
    PUBLISHED_SCORES,
    PUBLISHED_SUMS,
    PUBLISHED_VERSIONS,
    SEARCH_FILE,
    cell_folders,
)
from rllib_lpdm.results.messages import one_line
from rllib_lpdm.results.plan import Plan
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.results.scores import Floats, end_score, finite, first_full, max_score, smoothed
from rllib_lpdm.results.search import SearchRecord
from rllib_lpdm.results.storage import write_whole

COLUMNS = {  # besides distance_error of each layer
    "iteration": "int32",
    "env_steps": "int64",
    RETURN: "float32",
    LENGTH: "float32",
    "seconds": "float32",
}
_COUNTERS = "iteration", "env_steps"  # which differ little from row to row
# Further digits of a duration are noise, and of a distance error no report shows them; with all
# of them files are up to half larger.
_SIGNIFICANT_BITS = {"seconds": 9, "distance_error": 12}
_OF_ONE_MACHINE = {"process", "session", "run_id", "failures", "checkpoints"}

Cells = dict[str, tuple[RunRecord, dict[str, Floats]]]


class PublishedError(ValueError):
    """Published files that cannot be read or added to; the message names the file."""


def is_published(folder: Path) -> bool:
    """Whether a folder holds published cells, rather than a folder for each."""
    return (folder / PUBLISHED_RUNS).is_file()


def read_runs(folder: Path) -> dict[str, RunRecord]:
    """The records of published cells, by the cells' names.

    Raises:
        OSError: the file cannot be read.
        RecordError: a line of it is damaged.
    """
    path = folder / PUBLISHED_RUNS
    records = (
        RunRecord.parse(line, f"line {number} of {path}")
        for number, line in enumerate(path.read_bytes().splitlines(), start=1)
    )
    return {record.cell: record for record in records}


def read_published(folder: Path) -> Cells:
    """The records and curves of published cells, by the cells' names.

    Returns:
        Of each cell its record and its columns, (iterations,) each, rounded as
        :func:`as_published` does.

    Raises:
        OSError: a file cannot be read.
        PublishedError: a file is damaged or missing.
        RecordError: a record is damaged.
    """
    runs = read_runs(folder)
    curves: dict[str, dict[str, Floats]] = {}
    for environment in dict.fromkeys(run.environment for run in runs.values()):
        path = _curves_file(folder, environment)
        try:
            table = pd.read_parquet(pa.BufferReader(path.read_bytes()))
            for cell, rows in table.groupby("cell", sort=False, observed=True):
                columns = rows.drop(columns="cell")
                absent = [
                    name for name in columns if name not in COLUMNS and columns[name].isna().all()
                ]
                columns = columns.drop(columns=absent)
                curves[str(cell)] = {
                    str(name): column.to_numpy("float64") for name, column in columns.items()
                }
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise PublishedError(f"{path} is missing or damaged ({one_line(error)})") from None
    lost = [name for name in runs if name not in curves]
    if lost:
        path = _curves_file(folder, runs[lost[0]].environment)
        raise PublishedError(f"{path} has no rows of {lost[0]}, which {PUBLISHED_RUNS} names")
    return {name: (run, curves[name]) for name, run in runs.items()}


def publish(folder: Path, into: Path) -> tuple[int, int]:
    """Adds an experiment's finished cells to published ones, and writes every file anew.

    Args:
        folder: an experiment's folder.
        into: the published folder, which may be new.

    Returns:
        How many cells were added, and how many there are now.

    Raises:
        OSError: a file cannot be read or written.
        PublishedError: a cell is published already with other settings, or nothing is finished.
        RecordError: a record is damaged.
    """
    cells = read_published(into) if is_published(into) else {}
    before = len(cells)
    for path in cell_folders(folder):
        run = RunRecord.read(path)
        if run is None or run.status != "finished":
            continue
        if run.cell not in cells:
            content = (path / ITERATIONS_FILE).read_bytes()
            cells[run.cell] = run, read_columns(content, _is_published)
        elif cells[run.cell][0].settings != run.settings:
            raise PublishedError(
                f"{into} holds {run.cell} with other settings; publish into another folder"
            )
    if not cells:
        raise PublishedError(f"{folder} has no finished cell")
    search = SearchRecord.read(folder)
    if search is not None:
        into.mkdir(parents=True, exist_ok=True)
        search.write(into)
    planned = [name for place in (into, folder) for name in Plan.read(place).cells or []]
    _write(into, dict(sorted(cells.items())), sorted({*planned, *cells}))
    return len(cells) - before, len(cells)


def as_published(column: str, values: NDArray[Any]) -> NDArray[Any]:
    """A column in the precision in which it is kept.

    Counters are integers, all else is float32: durations with nine significant bits (rounded by at
    most 0.2 %), distance errors with twelve (0.025 %).

    Args:
        column: its name.
        values: (iterations,).
    """
    kept = values.astype(COLUMNS.get(column, "float32"))
    bits = _SIGNIFICANT_BITS.get(metric_of(column)[0])
    if bits is None:
        return kept
    significands, exponents = np.frexp(kept)  # of which the significands are from a half to one
    rounded: NDArray[Any] = np.ldexp(np.round(significands * 2**bits) / 2**bits, exponents)
    return rounded


def _is_published(column: str) -> bool:
    return column in COLUMNS or metric_of(column)[0] == "distance_error"


def _curves_file(folder: Path, environment: str) -> Path:
    return folder / PUBLISHED_CURVES / f"{environment.replace('/', '-')}.parquet"


def _write(into: Path, cells: Cells, planned: Iterable[str]) -> None:
    (into / PUBLISHED_CURVES).mkdir(parents=True, exist_ok=True)
    Plan(list(planned)).write(into)
    kept = {
        name: (run, {column: as_published(column, values) for column, values in columns.items()})
        for name, (run, columns) in cells.items()
    }
    for environment in dict.fromkeys(run.environment for run, _ in kept.values()):
        tables = [
            pd.DataFrame(columns)
            for run, columns in kept.values()
            if run.environment == environment
        ]
        names = [name for name, (run, _) in kept.items() if run.environment == environment]
        table = pd.concat(tables, keys=names, names=["cell"]).reset_index("cell")
        floats = [str(name) for name, kind in table.dtypes.items() if kind == "float32"]
        content = table.to_parquet(
            index=False,
            compression="zstd",
            compression_level=19,
            use_dictionary=["cell"],
            column_encoding={
                **dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
                **dict.fromkeys(_COUNTERS, "DELTA_BINARY_PACKED"),
            },
        )
        write_whole(_curves_file(into, environment), content)
    lines = (
        json.dumps(run.model_dump(mode="json", exclude_unset=True, exclude=_OF_ONE_MACHINE))
        for run, _ in kept.values()
    )
    _write_lines(into / PUBLISHED_RUNS, lines)
    scores = pd.DataFrame([_scores(run, columns) for run, columns in kept.values()])
    write_whole(into / PUBLISHED_SCORES, scores.to_csv(index=False).encode())
    installed = {(found.name, found.version) for found in importlib.metadata.distributions()}
    _write_lines(
        into / PUBLISHED_VERSIONS, (f"{name}=={version}" for name, version in sorted(installed))
    )
    files = sorted(path for path in into.rglob("*") if _has_sum(path.relative_to(into)))
    _write_lines(
        into / PUBLISHED_SUMS,
        (
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(into)}"
            for path in files
        ),
    )


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    write_whole(path, "".join(f"{line}\n" for line in lines).encode())


def _has_sum(path: Path) -> bool:
    """Whether a file is one of those that :func:`publish` writes."""
    whole = (PLAN_FILE, PUBLISHED_RUNS, PUBLISHED_SCORES, PUBLISHED_VERSIONS, SEARCH_FILE)
    return str(path) in whole or path.match(f"{PUBLISHED_CURVES}/*.parquet")


def _scores(run: RunRecord, columns: dict[str, NDArray[Any]]) -> dict[str, object]:
    """A cell's row of the table of scores."""
    returns = finite(columns[RETURN].astype("float64"))
    first = first_full(len(returns))
    return {
        **{name: getattr(run, name) for name in ("cell", "environment", "algorithm", "method")},
        "variant": run.variant or "",
        "seed": run.seed,
        "iterations": len(returns),
        "env_steps": int(columns["env_steps"][-1]),
        "seconds": round(float(columns["seconds"].sum(dtype="float64")), 1),
        "max_score": round(max_score(returns), 3),
        "max_score_iteration": int(smoothed(returns)[first:].argmax()) + first + 1,
        "end_score": round(end_score(returns), 3),
    }
