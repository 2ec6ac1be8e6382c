"""What an experiment's folder says of the experiment: the cells that are planned."""

import json
from pathlib import Path
from typing import NamedTuple

from rllib_lpdm.results.layout import PLAN_FILE
from rllib_lpdm.results.messages import one_line
from rllib_lpdm.results.storage import read_file, write_whole


class Plan(NamedTuple):
    """The content of the file.

    Attributes:
        cells: names of all cells; None where the file is missing, damaged or of an older version.
        throwaway: whether the results have no value, so that the next run replaces them.
    """

    cells: list[str] | None = None
    throwaway: bool = False

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """The plan of an experiment's folder, whoever wrote it."""
        try:
            content = json.loads(read_file(folder / PLAN_FILE).decode("utf-8"))
            cells = content.get("cells")
            names = None if cells is None else [one_line(name) for name in cells]
            return cls(names, content.get("throwaway") is True)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return cls()

    def write(self, folder: Path) -> None:
        """Writes the folder's file in one piece.

        Raises:
            OSError: the disk is full or read-only.
        """
        write_whole(folder / PLAN_FILE, json.dumps(self._asdict()).encode() + b"\n")
