"""The views of the runs in W&B show what is logged, or say what is missing."""

import json
import sys

import pytest

from rllib_lpdm import dashboard
from rllib_lpdm.schema.columns import COLUMNS

ARGUMENTS = ["someone", "--environments", "Hopper-v4", "CartPole-v1"]


def test_a_panel_shows_what_is_logged():
    panels = [name for names in dashboard.metrics(2).values() for name in names]
    shown = {entry.shown.format(layer=layer) for entry in COLUMNS for layer in (1, 2)}
    assert set(panels) <= shown
    assert len(set(panels)) == len(panels) == 2 + 3 * 2 + 3 + 2
    assert {"episode/return", "distance_error/hidden_2", "grad_norm/network"} <= set(panels)


def test_a_view_is_saved_for_each_environment(server, capsys):
    pytest.importorskip("wandb_workspaces")
    assert dashboard.main(ARGUMENTS) == 0
    hopper, cartpole = server.views
    assert (hopper["entityName"], hopper["projectName"]) == ("someone", "rllib_lpdm")
    assert (hopper["displayName"], cartpole["displayName"]) == ("Hopper-v4", "CartPole-v1")
    section = json.loads(hopper["spec"])["section"]
    banks = section["panelBankConfig"]["sections"]
    titles = {bank["name"]: [p["config"]["metrics"] for p in bank["panels"]] for bank in banks}
    assert titles == {k: [[m] for m in names] for k, names in dashboard.metrics(3).items()}
    (runs,) = section["runSets"]
    assert "Hopper-v4" in json.dumps(runs["filters"])
    grouping = [entry["name"].split(".")[0] for entry in runs["grouping"]]
    assert grouping == list(dashboard.GROUPED_BY)
    assert capsys.readouterr().out.count(server.url) == 2


@pytest.mark.parametrize("arguments", [ARGUMENTS, ["someone"]])
def test_without_a_key_the_views_say_how_to_get_one(no_account, client, capsys, arguments):
    pytest.importorskip("wandb_workspaces")
    assert dashboard.main(arguments) == 2
    message = capsys.readouterr().err
    assert message == "error: W&B has no API key here; run `wandb login` or set WANDB_API_KEY\n"


def test_what_the_server_refuses_is_one_line(server, capsys):
    pytest.importorskip("wandb_workspaces")
    assert dashboard.main(["someone", "nothing"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: someone/nothing")


def test_without_the_package_the_views_say_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert dashboard.main(["someone"]) == 2
    assert "pip install wandb-workspaces" in capsys.readouterr().err
