"""Finished cells as they are published: few checked files in place of a folder for each cell.

::

    <published>/    runs.jsonl, scores.csv, versions.txt, SHA256SUMS, .experiment.json
        curves/CartPole-v1.parquet     a row an iteration, float32
        search.json                    only of a search, as it stands
"""

import hashlib
import importlib.metadata
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rllib_lpdm.results.iterations import LENGTH, RETURN, read_columns
from rllib_lpdm.results.layout import (
    ITERATIONS_FILE,
    MOST_BYTES,
    PLAN_FILE,
    PUBLISHED_CURVES,
    PUBLISHED_RUNS,
    PUBLISHED_SCORES,
    PUBLISHED_SUMS,
    PUBLISHED_VERSIONS,
    SEARCH_FILE,
    cell_folders,
)
from rllib_lpdm.results.plan import Plan
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.results.scores import Floats, end_score, finite, first_full, max_score, smoothed
from rllib_lpdm.results.search_record import SearchRecord
from rllib_lpdm.results.storage import (
    drop_unfinished_files,
    locked,
    read_file,
    write_whole,
)
from rllib_lpdm.schema.columns import metric_of
from rllib_lpdm.schema.messages import UserError, inert, one_line

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
MOST_NUMBERS = 2**27  # of one environment's curves
PATIENCE = 30.0  # seconds that a call waits for another one
# What a cell of the same name has in common with the published one.
_SAME = ("environment", "environment_spec", "algorithm", "method", "variant", "seed", "settings")
_OF_ONE_MACHINE = {"process", "session", "run_id", "failures", "checkpoints"}

Cells = dict[str, tuple[RunRecord, dict[str, Floats]]]


def is_published(folder: Path) -> bool:
    """Whether a folder holds published cells, rather than a folder for each."""
    return (folder / PUBLISHED_RUNS).exists()


def read_runs(folder: Path) -> dict[str, RunRecord]:
    """The records of published cells, by the cells' names.

    Raises:
        OSError: the file cannot be read.
        UserError: a line of it is damaged.
    """
    path = folder / PUBLISHED_RUNS
    records = (
        RunRecord.parse(line, f"line {number} of {path}")
        for number, line in enumerate(read_file(path).splitlines(), start=1)
    )
    return {record.cell: record for record in records}


def read_published(folder: Path) -> Cells:
    """The records and curves of published cells, by the cells' names.

    Returns:
        Of each cell its record and its columns, (iterations,) each, rounded as
        :func:`as_published` does.

    Raises:
        OSError: a file cannot be read.
        UserError: a file is damaged or missing.
        UserError: a record is damaged.
    """
    runs = read_runs(folder)
    curves: dict[str, dict[str, Floats]] = {}
    for path in dict.fromkeys(_curves_file(folder, run.environment) for run in runs.values()):
        try:
            table = _read_table(path)
            for cell, rows in table.groupby("cell", sort=False, observed=True):
                columns = rows.drop(columns="cell")
                absent = [
                    name for name in columns if name not in COLUMNS and columns[name].isna().all()
                ]
                columns = columns.drop(columns=absent)
                curves[str(cell)] = {
                    str(name): column.to_numpy("float64") for name, column in columns.items()
                }
        except (OSError, KeyError, ValueError) as error:
            raise UserError(f"{path} is missing or damaged ({one_line(error)})") from None
    lost = [name for name in runs if name not in curves]
    if lost:
        path = _curves_file(folder, runs[lost[0]].environment)
        raise UserError(f"{path} has no rows of {lost[0]}, which {PUBLISHED_RUNS} names")
    return {name: (run, curves[name]) for name, run in runs.items()}


def _read_table(path: Path) -> pd.DataFrame:
    """The table in a file, unless the file says that it is no table of curves, or too large.

    Raises:
        OSError, ValueError: why there is none.
    """
    most = MOST_BYTES[PUBLISHED_CURVES]
    content = pa.BufferReader(read_file(path, most))
    about = pq.read_metadata(content)
    kinds = {about.schema.column(i).path: about.schema.column(i) for i in range(about.num_columns)}
    for name, kind in kinds.items():
        if kind.max_repetition_level or (kind.physical_type == "BYTE_ARRAY") != (name == "cell"):
            raise ValueError(f"column {one_line(name)} holds other values than a table of curves")
    for name in ("cell", RETURN, "env_steps"):
        if name not in kinds:
            raise ValueError(f"there is no column {name}")
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    rows = sum(group.num_rows for group in groups)
    if rows * max(about.num_columns, len(COLUMNS)) > MOST_NUMBERS:
        raise ValueError(f"{rows} rows are more than {MOST_NUMBERS} numbers")
    if sum(group.total_byte_size for group in groups) > most:
        raise ValueError(f"it unpacks to more than {most} bytes")
    # A file can name each cell once, however many rows the cell has; in memory, too.
    table = pq.read_table(content, read_dictionary=["cell"]).to_pandas()
    for name, kind in table.drop(columns="cell").dtypes.items():
        if not pd.api.types.is_any_real_numeric_dtype(kind):
            raise ValueError(f"column {name} holds {kind} in place of numbers")
    return table


def publish(folder: Path, into: Path) -> tuple[int, int]:
    """Adds an experiment's finished cells to published ones, and writes every file anew.

    Everything is checked before the first file is written. A call waits for another one on the
    same folder, and deletes the temporary files of one that was killed.

    Args:
        folder: an experiment's folder.
        into: the published folder, which may be new.

    Returns:
        How many cells were added, and how many there are now.

    Raises:
        OSError: a file cannot be read or written.
        UserError: a cell is published already with other settings or lacks something, nothing
            is finished, the published folder is a link, or it holds something else.
        UserError: a record is damaged.
        UserError: another call takes too long.
    """
    for place in (into, into / PUBLISHED_CURVES):
        if place.is_symlink():
            raise UserError(
                f"{place} is a link, and nothing is published through one; delete it, or choose "
                "another folder"
            )
    if cell_folders(into):
        raise UserError(f"{into} holds an experiment's cells; publish into another folder")
    added = _unpublished(folder, into)
    (into / PUBLISHED_CURVES).mkdir(parents=True, exist_ok=True)
    with locked(into, PATIENCE):
        for place in (into, into / PUBLISHED_CURVES):
            drop_unfinished_files(place)
        cells = read_published(into) if is_published(into) else {}
        for run, columns in cells.values():
            _check_columns(_curves_file(into, run.environment), columns)
        before = len(cells)
        for name, cell in added.items():  # which another call may have added by now
            _check_same(into, cells.setdefault(name, cell)[0], cell[0])
        planned = [name for place in (into, folder) for name in Plan.read(place).cells or []]
        search = _one_search(folder, into)
        same = {**Plan.read(into).same, **Plan.read(folder).same}
        plan = Plan(sorted({*planned, *cells}), same=same)
        _write(into, dict(sorted(cells.items())), plan, search)
    return len(cells) - before, len(cells)


def _unpublished(folder: Path, into: Path) -> Cells:
    """The finished cells of an experiment that are not published yet."""
    published = read_runs(into) if is_published(into) else {}
    added: Cells = {}
    for path in cell_folders(folder):
        run = RunRecord.read(path)
        if run is None or run.status != "finished":
            continue
        for known in (published.get(run.cell), added.get(run.cell, (None,))[0]):
            if known is not None:
                _check_same(into, known, run)
        # Of a cell and its copy, the one whose folder has the cell's own name is published.
        if run.cell not in published and (run.cell not in added or path.name == run.cell):
            file = path / ITERATIONS_FILE
            try:
                columns = read_columns(read_file(file), _is_published)
            except (OSError, ValueError) as error:
                raise UserError(f"{file} cannot be read ({one_line(error)})") from None
            _check_columns(file, columns)
            added[run.cell] = run, columns
    if not (added or published):
        raise UserError(f"{folder} has no finished cell")
    return added


def _one_search(folder: Path, into: Path) -> SearchRecord | None:
    """The record of a search to publish; a published folder has the record of one."""
    search = SearchRecord.read(folder)
    known = SearchRecord.read(into) if search else None
    if search and known and search.name != known.name:
        raise UserError(
            f"{into} holds the search {one_line(known.name)}; publish {one_line(search.name)} into "
            "another folder"
        )
    return search


def _check_same(into: Path, known: RunRecord, run: RunRecord) -> None:
    changed = [name for name in _SAME if getattr(known, name) != getattr(run, name)]
    if changed:
        raise UserError(
            f"{into} holds {run.cell} with other {', '.join(changed)}; publish into another folder"
        )


def _check_columns(file: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Raises UserError unless a cell has what a published one has."""
    if not columns:
        raise UserError(f"{file} has no rows")
    for name in COLUMNS:
        if name not in columns:
            raise UserError(f"{file} has no column {name}")
    for name in _COUNTERS:
        if not np.isfinite(columns[name]).all():
            raise UserError(f"{file}: {name} has values that are not finite")
    if not np.isfinite(columns[RETURN]).any():
        raise UserError(f"{file}: no {RETURN} is a finite number")


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


def _write(into: Path, cells: Cells, plan: Plan, search: SearchRecord | None) -> None:
    kept = {
        name: (run, {column: as_published(column, values) for column, values in columns.items()})
        for name, (run, columns) in cells.items()
    }
    contents: dict[Path, bytes] = {}
    # Environments whose names differ in marks alone, as ALE/Pong-v5 and ALE-Pong-v5, share a file.
    for path in dict.fromkeys(_curves_file(into, run.environment) for run, _ in kept.values()):
        tables = {
            name: pd.DataFrame(columns)
            for name, (run, columns) in kept.items()
            if _curves_file(into, run.environment) == path
        }
        contents[path] = _parquet(pd.concat(tables, names=["cell"]).reset_index("cell"))
    contents[into / PUBLISHED_RUNS] = _lines(
        json.dumps(
            run.model_copy(update={"command": _without_folders(run.command)}).model_dump(
                mode="json", exclude_unset=True, exclude=_OF_ONE_MACHINE
            )
        )
        for run, _ in kept.values()
    )
    scores = pd.DataFrame([_scores(run, columns) for run, columns in kept.values()])
    contents[into / PUBLISHED_SCORES] = scores.to_csv(index=False).encode()
    installed = {(found.name, found.version) for found in importlib.metadata.distributions()}
    contents[into / PUBLISHED_VERSIONS] = _lines(
        f"{name}=={version}" for name, version in sorted(installed)
    )
    for path in (*contents, *(into / name for name in (PLAN_FILE, SEARCH_FILE, PUBLISHED_SUMS))):
        if path.is_dir() and not path.is_symlink():
            raise UserError(f"{path} is a folder, where a file is to be; delete or move it")
    for path, content in contents.items():
        write_whole(path, content)
    plan.write(into)
    if search is not None:
        search.write(into)
    files = sorted(path for path in into.rglob("*") if _has_sum(path.relative_to(into)))
    sums = (f"{_sha256(path)}  {path.relative_to(into)}" for path in files if path.is_file())
    write_whole(into / PUBLISHED_SUMS, _lines(sums))


def _without_folders(command: str) -> str:
    """Returns a command line whose absolute paths keep their last part alone."""
    try:
        words = shlex.split(command)
    except ValueError:  # a quote that nothing ends
        words = command.split()
    return shlex.join(re.sub(r"(?<![^=,\[\s])/(?:[^/=,]*/)*(?=[^/])", "", word) for word in words)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parquet(table: pd.DataFrame) -> bytes:
    floats = [str(name) for name, kind in table.dtypes.items() if kind == "float32"]
    content: bytes = table.to_parquet(
        index=False,
        compression="zstd",
        compression_level=19,
        use_dictionary=["cell"],
        column_encoding={
            **dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
            **dict.fromkeys(_COUNTERS, "DELTA_BINARY_PACKED"),
        },
    )
    return content


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _has_sum(path: Path) -> bool:
    """Whether a file is one of those that :func:`publish` writes."""
    whole = (PLAN_FILE, PUBLISHED_RUNS, PUBLISHED_SCORES, PUBLISHED_VERSIONS, SEARCH_FILE)
    return str(path) in whole or path.match(f"{PUBLISHED_CURVES}/*.parquet")


def _scores(run: RunRecord, columns: dict[str, NDArray[Any]]) -> dict[str, object]:
    """A cell's row of the table of scores."""
    returns = finite(columns[RETURN].astype("float64"))
    first = first_full(len(returns))
    return {
        **{
            name: inert(getattr(run, name) or "")
            for name in ("cell", "environment", "algorithm", "method", "variant")
        },
        "seed": run.seed,
        "iterations": len(returns),
        "env_steps": int(columns["env_steps"][-1]),
        "seconds": round(float(columns["seconds"].sum(dtype="float64")), 1),
        "max_score": round(max_score(returns), 3),
        "max_score_iteration": int(smoothed(returns)[first:].argmax()) + first + 1,
        "end_score": round(end_score(returns), 3),
    }
