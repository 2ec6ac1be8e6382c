"""``python -m rllib_lpdm.dashboard ENTITY [PROJECT]``: views of the runs in W&B.

Saves one view of the project per environment. The view groups the runs by algorithm, method and
variant: each curve is a mean over seeds. This needs an account, and ``pip install
wandb-workspaces``.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rllib_lpdm.cli import complain
from rllib_lpdm.grid.trackers.wandb import LOGIN, PROJECT, has_key
from rllib_lpdm.schema.columns import column, metric_name
from rllib_lpdm.schema.messages import UserError, one_line

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

GROUPED_BY = ("algorithm", "method", "variant")


def metrics(layers: int) -> dict[str, list[str]]:
    """Returns the sections of a view, with the metrics that have a panel in each.

    Args:
        layers: hidden layers of the largest network.
    """

    def per_layer(metric: str) -> list[str]:
        return [column(metric, layer) for layer in range(1, layers + 1)]

    norms = ["grad_norm_policy_head", "grad_norm_value_head", "grad_norm"]
    sections = {
        "Return": ["episode_return", "episode_length"],
        "Local loss per layer": per_layer("distance_loss"),
        "Gradient norms": [*per_layer("grad_norm_hidden"), *norms],
        "Distance error per layer": per_layer("distance_error"),
        "Speed": ["steps_per_second", "seconds"],
    }
    return {title: [metric_name(name) for name in names] for title, names in sections.items()}


def workspace(entity: str, project: str, environment: str, layers: int = 3) -> "Workspace":
    """Returns the unsaved view of an environment."""
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
    """Returns the environments of a project's runs."""
    import wandb

    runs = wandb.Api().runs(f"{entity}/{project}", lazy=False)
    return sorted({run.config["environment"] for run in runs if "environment" in run.config})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 2 where a package or the key is missing, W&B refuses, or the project has no runs.
    """
    parser = argparse.ArgumentParser(prog="python -m rllib_lpdm.dashboard", description=__doc__)
    parser.add_argument("entity", help="the user or team in W&B")
    parser.add_argument("project", nargs="?", default=PROJECT, help=f"default: {PROJECT}")
    parser.add_argument(
        "--environments", nargs="+", metavar="NAME", help="default: all that the project has"
    )
    parser.add_argument("--layers", type=int, default=3, help="hidden layers with panels")
    options = parser.parse_args(arguments)
    try:
        import wandb_workspaces  # noqa: F401

        with_key = has_key()
    except ImportError as error:
        return complain(f"{error}; pip install wandb-workspaces", 2)
    except UserError as error:
        return complain(error, 2)
    if not with_key:
        return complain(f"W&B has no API key here; {LOGIN}", 2)
    try:
        names = options.environments or environments(options.entity, options.project)
        for name in names:
            view = workspace(options.entity, options.project, name, options.layers).save()
            print(f"{name}: {view.url}")
    except Exception as error:  # of any class: the key is refused, the server is out of reach
        return complain(f"{options.entity}/{options.project}: {one_line(error)}", 2)
    return 0 if names else complain(f"{options.entity}/{options.project} has no cells' runs", 2)


if __name__ == "__main__":
    raise SystemExit(main())
