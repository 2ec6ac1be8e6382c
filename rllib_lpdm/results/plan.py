"""What an experiment's folder says of the experiment: the cells that are planned."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from rllib_lpdm.results.layout import PLAN_FILE
from rllib_lpdm.results.storage import read_file, write_whole
from rllib_lpdm.schema.messages import one_line


class Plan(NamedTuple):
    """The content of the file.

    Attributes:
        cells: names of all cells; None where the file is missing, damaged or of an older version.
        throwaway: whether the results have no value, so that the next run replaces them.
        same: the cells that another cell stands for, by name: that cell's name, and the variant.
    """

    cells: list[str] | None = None
    throwaway: bool = False
    same: Mapping[str, tuple[str, str]] = MappingProxyType({})

    @classmethod
    def read(cls, folder: Path) -> "Plan":
        """The plan of an experiment's folder, whoever wrote it."""
        try:
            content = json.loads(read_file(folder / PLAN_FILE).decode("utf-8"))
            cells = content.get("cells")
            names = None if cells is None else [one_line(name) for name in cells]
            same = {
                one_line(name): (one_line(cell), one_line(variant))
                for name, (cell, variant) in content.get("same", {}).items()
            }
            return cls(names, content.get("throwaway") is True, same)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return cls()

    def write(self, folder: Path) -> None:
        """Writes the folder's file in one piece.

        Raises:
            OSError: the disk is full or read-only.
        """
        content = self._asdict() | {"same": dict(self.same)}
        if not self.same:  # as files of earlier versions
            del content["same"]
        write_whole(folder / PLAN_FILE, json.dumps(content).encode() + b"\n")
