"""Reports made for tests of the page, and what is read off a page."""

import numpy as np

from rllib_lpdm.analysis.cells import CellResult, Results
from rllib_lpdm.analysis.drawing import Panel, Picture
from rllib_lpdm.analysis.groups import grouped, score_rows, speed_rows
from rllib_lpdm.analysis.summary import Report
from rllib_lpdm.results.record import RunRecord

COMMAND = "python -m rllib_lpdm.tune grid.yaml --set seeds=2"


def svg(label: str) -> str:
    return (
        '<svg role="img" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 60">'
        '<rect width="90" height="60" style="fill: var(--series-1)"/>'
        f'<text y="55" style="fill: var(--ink)">{label}</text></svg>'
    )


PICTURES = [
    Picture(
        "aggregates",
        "Aggregates",
        "More is better.",
        [],
        [Panel("all", {"": svg("all")})],
        ["a.pdf"],
    ),
    Picture(
        "learning_curves",
        "Learning curves (figure 3)",
        "Mean over seeds.",
        [("bp", 1), ("lpdm", 2)],
        [
            Panel("Hopper-v4", {"raw": svg("raw Hopper"), "normalised": svg("normal Hopper")}),
            Panel("Ant-v4", {"raw": svg("raw Ant"), "normalised": svg("normal Ant")}),
            Panel("untimed", {"raw": svg("raw untimed")}),
        ],
        ["figures/curves.pdf", "figures/curves.png"],
    ),
]


def cell(name="x", environment="Hopper-v4", method="bp", seed=0, level=10.0, **run):
    run = {"algorithm": "ppo", "status": "finished", "command": COMMAND} | run
    columns = {
        "episode_return": level * np.linspace(0.5, 1, 20),
        "env_steps": np.arange(1.0, 21) * 100,
        "seconds": np.ones(20),
    }
    run |= {"cell": name, "environment": environment, "method": method, "seed": seed}
    return CellResult(RunRecord(**run), columns)


def report(cells, notes=(), missing=(), **more) -> Report:
    """What ``analyse`` gives, without the aggregates, which take long."""
    groups = grouped(cells)
    return Report(
        Results("an experiment", cells, list(missing)),
        "bp",
        more.pop("with_paper", False),
        groups,
        score_rows(groups),
        speed_rows(groups),
        more.pop("aggregates", []),
        notes,
        **more,
    )


def column(page, table: str, label: str) -> list[str]:
    return page.locator(table).evaluate(
        """(table, label) => {
            const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent);
            const place = heads.indexOf(label);
            return [...table.tBodies[0].rows].map((row) => row.cells[place].textContent);
        }""",
        label,
    )


def scrolls_sideways(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")
