"""``python -m rllib_lpdm.experiment.dashboard ENTITY [PROJECT]``: views of the runs in W&B.

Makes one saved view of the project per environment, with its runs grouped by algorithm, method and
variant, so that a curve is a mean over seeds. It needs an account, and ``pip install
wandb-workspaces``.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rllib_lpdm.experiment.wandb import PROJECT

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

GROUPED_BY = ("algorithm", "method", "variant")


def metrics(layers: int) -> dict[str, list[str]]:
    """The sections of a view, and the metrics that have a panel in each.

    Args:
        layers: hidden layers of the largest network.
    """
    hidden = [f"hidden_{number}" for number in range(1, layers + 1)]
    parts = [*hidden, "policy_head", "value_head", "network"]
    return {
        "Return": ["episode/return", "episode/length"],
        "Local loss per layer": [f"distance_loss/{name}" for name in hidden],
        "Gradient norms": [f"grad_norm/{name}" for name in parts],
        "Distance error per layer": [f"distance_error/{name}" for name in hidden],
        "Speed": ["speed/steps_per_second", "speed/seconds_per_iteration"],
    }


def workspace(entity: str, project: str, environment: str, layers: int = 3) -> "Workspace":
    """The view of an environment, not yet saved."""
    from wandb_workspaces import workspaces
    from wandb_workspaces.reports.v2.interface import LinePlot

    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=environment,
        sections=[
            workspaces.Section(
                name=name,
                panels=[LinePlot(title=metric, x="Step", y=[metric]) for metric in panels],
                is_open=True,
            )
            for name, panels in metrics(layers).items()
        ],
        settings=workspaces.WorkspaceSettings(max_runs=20),
        runset_settings=workspaces.RunsetSettings(
            filters=[workspaces.Config("environment") == environment],
            groupby=[workspaces.Config(name) for name in GROUPED_BY],
        ),
    )


def environments(entity: str, project: str) -> list[str]:
    """The environments that a project has runs of."""
    import wandb

    runs = wandb.Api().runs(f"{entity}/{project}", lazy=False)
    return sorted({run.config["environment"] for run in runs if "environment" in run.config})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 2 where the package is missing or there is nothing to show.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rllib_lpdm.experiment.dashboard", description=__doc__
    )
    parser.add_argument("entity", help="the user or team in W&B")
    parser.add_argument("project", nargs="?", default=PROJECT, help=f"default: {PROJECT}")
    parser.add_argument(
        "--environments", nargs="+", metavar="NAME", help="default: all that the project has"
    )
    parser.add_argument("--layers", type=int, default=3, help="hidden layers with panels")
    options = parser.parse_args(arguments)
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError as error:
        print(f"error: {error}; pip install wandb-workspaces", file=sys.stderr)
        return 2
    names = options.environments or environments(options.entity, options.project)
    if not names:
        print(f"error: {options.entity}/{options.project} has no cells' runs", file=sys.stderr)
        return 2
    for name in names:
        view = workspace(options.entity, options.project, name, options.layers).save()
        print(f"{name}: {view.url}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
