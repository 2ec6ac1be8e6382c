"""Tables for the terminal."""

from collections import defaultdict
from collections.abc import Sequence

from rllib_lpdm.analysis.results import CellResult
from rllib_lpdm.analysis.statistics import Floats, final_score, max_score

METHOD_ORDER = ("bp", "lpdm", "lpdm_guided", "frozen")


def score_table(cells: Sequence[CellResult]) -> str:
    """Max score, and the last smoothed score in brackets, of every method side by side.

    Args:
        cells: any cells; seeds of one configuration are averaged.

    Returns:
        Lines of text, one per environment, algorithm and variant.
    """
    curves: dict[tuple[str, ...], dict[str, list[Floats]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        key = (cell.run["environment"], cell.run["algorithm"], cell.run["variant"] or "")
        curves[key][cell.run["method"]].append(cell.returns)
    methods = sorted({method for row in curves.values() for method in row}, key=METHOD_ORDER.index)
    lines = [["environment", "algorithm", "", *methods]]
    for place, row in curves.items():
        lines.append([*place, *(_scores(row.get(method, [])) for method in methods)])
    if not any(line[2] for line in lines):
        lines = [line[:2] + line[3:] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _scores(curves: Sequence[Floats]) -> str:
    if not curves:
        return "-"
    return f"{max_score(curves):.1f} ({final_score(curves):.1f})"
