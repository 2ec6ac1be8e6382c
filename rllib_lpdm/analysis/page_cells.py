"""The cells as the page lists them."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rllib_lpdm.analysis.cells import CellResult, Series
from rllib_lpdm.analysis.groups import Place
from rllib_lpdm.analysis.statistics import first_full, smoothed
from rllib_lpdm.analysis.summary import APPENDICES, Report
from rllib_lpdm.analysis.tables import number
from rllib_lpdm.schema.cell_settings import DEFAULTS

LONGEST = 500  # characters of a setting or an error


@dataclass(frozen=True)
class Cell:
    """A cell as the page lists it, the settings that are not the default's apart."""

    anchor: str
    name: str
    status: str
    score: str
    iterations: str
    facts: Sequence[tuple[str, str]]
    changed: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    command: str
    error: str


@dataclass(frozen=True)
class CellGroup:
    """Cells under one heading."""

    anchor: str
    title: str
    cells: Sequence[Cell]


def list_cells(report: Report) -> tuple[list[CellGroup], dict[tuple[Place, Series], str]]:
    """All cells in groups, and the anchor of the first cell of every place and series."""
    taken: set[str] = set()
    found: dict[str, list[Cell]] = {}
    first: dict[tuple[Place, Series], str] = {}
    for cell in report.results.cells:
        anchor = _anchor(f"cell-{cell.run.cell}", taken)
        first.setdefault((Place(cell.run.environment, cell.run.algorithm), cell.series), anchor)
        found.setdefault(cell.run.environment, []).append(_cell(cell, anchor))
    for name, groups in report.appendices.items():
        if name != report.results.name:
            found[APPENDICES.get(name, name)] = [
                _cell(cell, _anchor(f"cell-{name}-{cell.run.cell}", taken))
                for row in groups.values()
                for group in row.values()
                for cell in group.cells
            ]
    listed = [
        CellGroup(_anchor(f"cells-{title}", taken), title, cells) for title, cells in found.items()
    ]
    return listed, first


def _anchor(text: str, taken: set[str]) -> str:
    """An id of plain characters that was not given before."""
    plain = anchor = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    count = 1
    while anchor in taken:
        count += 1
        anchor = f"{plain}-{count}"
    taken.add(anchor)
    return anchor


def _cell(cell: CellResult, anchor: str) -> Cell:
    run, scores = cell.run, smoothed(cell.returns)
    changed: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for name, value in run.settings.items():
        default = DEFAULTS.get(name, value)
        (changed if value != default else others).append((_short(name), _short(_text(value))))
    error = (run.error or "").strip() if not cell.finished else ""
    facts = [
        ("seed", str(run.seed)),
        ("last score", number(scores[-1])),
        ("started", time_text([run.started])),
        ("finished", time_text([run.finished])),
        ("git commit", (run.git_commit or "")[:10]),
        ("machine", machine(run.hardware) if run.hardware else ""),
    ]
    return Cell(
        anchor=anchor,
        name=run.cell,
        status=run.status,
        score=number(scores[first_full(len(scores)) :].max()),
        iterations=f"{len(scores)} of {_text(run.settings.get('iterations', '?'))[:20]}",
        facts=[(term, text) for term, text in facts if text],
        changed=changed,
        settings=others,
        command=run.command,
        error=_short(error.splitlines()[-1]) if error else "",
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def time_text(texts: Iterable[str | None], last: bool = False) -> str:
    times = []
    for text in filter(None, texts):
        with suppress(ValueError, OverflowError):
            times.append(datetime.fromisoformat(text).astimezone(UTC))
    if not times:
        return ""
    return (max(times) if last else min(times)).strftime("%Y-%m-%d %H:%M UTC")


def machine(hardware: Mapping[str, Any]) -> str:
    gpus = hardware.get("gpus")
    cores = hardware.get("cores")
    parts = [
        hardware.get("cpu", "unknown CPU"),
        f"{cores} cores" if cores else "",
        *(gpus if isinstance(gpus, list) else []),
    ]
    return ", ".join(str(part) for part in parts if part)
