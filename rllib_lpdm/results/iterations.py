"""``iterations.csv``: a header, then one row of numbers for every iteration."""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from rllib_lpdm.results.layout import ITERATIONS_FILE
from rllib_lpdm.results.scores import Floats
from rllib_lpdm.results.storage import open_file, read_file, write_whole
from rllib_lpdm.schema.messages import counted, one_line

RETURN = "episode_return"
LENGTH = "episode_length"
Row = Mapping[str, float]


def read_columns(
    content: bytes, wanted: Callable[[str], bool] = lambda column: False
) -> dict[str, Floats]:
    """The columns of an ``iterations.csv``, whose last row may be half written: it is left out.

    Args:
        content: of the file.
        wanted: which columns are read besides ``episode_return``.

    Returns:
        (iterations,) each; none where the file has no whole row.

    Raises:
        ValueError: a row is damaged, or there are no returns.
    """
    whole = content[: content.rfind(b"\n") + 1]
    header, _, rows = whole.partition(b"\n")
    if not rows.strip():
        return {}
    return _parse(_names(header), rows, lambda name: name == RETURN or wanted(name))


def _names(header: bytes) -> list[str]:
    try:
        names = next(csv.reader([header.decode("utf-8")]), [])
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if len(set(names)) < len(names):
        raise ValueError("two of its columns have one name")
    if RETURN not in names:  # another file, perhaps behind a link: no later error quotes its rows
        raise ValueError(f"it has no column {RETURN}")
    return names


def _parse(header: list[str], rows: bytes, wanted: Callable[[str], bool]) -> dict[str, Floats]:
    names = [name for name in header if wanted(name)]
    table = pa.csv.read_csv(
        pa.py_buffer(rows),
        read_options=pa.csv.ReadOptions(column_names=header),
        convert_options=pa.csv.ConvertOptions(
            include_columns=names, column_types=dict.fromkeys(names, pa.float64())
        ),
    )
    return {name: table.column(name).to_numpy() for name in names}


class IterationWriter:
    """Appends rows to a cell's ``iterations.csv``, a report at a time.

    The file is begun anew under the same name, so that a process that still has the old one open,
    on a node that was believed lost, writes into nothing.

    Args:
        folder: the cell's folder.
        done: iterations already in the checkpoint the run continues from; later rows, written
            between that checkpoint and the end of the process, are dropped.

    Attributes:
        returns: (iterations,) mean episode return of every row.

    Raises:
        ValueError: the file has fewer rows than its checkpoint, other than numbers, or rows that
            are doubled, missing or out of order.
    """

    def __init__(self, folder: Path, done: int = 0) -> None:
        path = folder / ITERATIONS_FILE
        lines = read_file(path).splitlines(keepends=True) if done and path.exists() else []
        kept = [line for line in lines[: done + 1] if line.endswith(b"\n")]
        way_out = "delete the cell's folder to run it again"
        if done and len(kept) != done + 1:
            raise ValueError(
                f"{path} has {counted(max(len(kept) - 1, 0), 'whole row')}, its checkpoint {done}; "
                f"{way_out}"
            )
        columns: dict[str, Floats] = {}
        if done:
            try:
                columns = read_columns(b"".join(kept), lambda column: True)
                if not np.array_equal(columns.get("iteration", ()), np.arange(1, done + 1)):
                    raise ValueError(f"its column iteration does not count from 1 to {done}")
            except ValueError as error:
                raise ValueError(f"{path} is damaged ({one_line(error)}); {way_out}") from None
        self._columns = list(columns)
        self.returns: list[float] = columns[RETURN].tolist() if done else []
        write_whole(path, b"".join(kept))
        self._file = path.open("a", newline="", encoding="utf-8")

    def append(self, rows: Sequence[Row]) -> None:
        """Adds rows in the order of the file's columns; numbers keep every digit.

        Raises:
            ValueError: the file has other columns than the rows, which all have the same.
        """
        if not rows:
            return
        columns = self._columns or list(rows[0])
        odd = sorted(rows[0].keys() ^ set(columns))
        if odd:
            raise ValueError(
                f"{self._file.name} has other columns than this version writes: "
                f"{one_line(', '.join(odd))} {'is' if len(odd) == 1 else 'are'} in one of them "
                "only; go on with the version that wrote it, or delete the cell's folder to run "
                "it again"
            )
        writer = csv.DictWriter(self._file, fieldnames=columns, lineterminator="\n")
        if not self._columns:
            writer.writeheader()
            self._columns = columns
        writer.writerows(rows)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.returns += [row[RETURN] for row in rows]

    def close(self) -> None:
        self._file.close()


class Follower:
    """The whole rows of a growing ``iterations.csv``, each once.

    A row that was read must still stand before the place where reading goes on. If it does not,
    the file was cut back and has grown again, and is read from its start.

    Args:
        folder: the cell's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / ITERATIONS_FILE
        self._restart()

    def _restart(self) -> None:
        self._end, self._last_line = 0, b""
        self._columns: list[str] = []

    def new(self) -> list[dict[str, float]]:
        """The rows since the last call.

        Raises:
            OSError: the file cannot be read.
            ValueError: a row is not numbers, or has not one for each column.
        """
        if not self._path.exists():
            return []
        data = self._read()
        if not data.startswith(self._last_line):
            self._restart()
            data = self._read()
        lines = data[len(self._last_line) :].splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        if not lines:
            return []
        size, last_line = sum(map(len, lines)), lines[-1]
        columns = self._columns or _names(lines.pop(0).rstrip())
        rows = []
        if lines:
            found = _parse(columns, b"".join(lines), lambda name: True)
            rows = [
                dict(zip(found, values, strict=True))
                for values in zip(*(column.tolist() for column in found.values()), strict=True)
            ]
        self._end += size
        self._last_line, self._columns = last_line, columns
        return rows

    def _read(self) -> bytes:
        """From the last line that was read to the end."""
        with open_file(self._path) as file:
            file.seek(self._end - len(self._last_line))
            return file.read()
