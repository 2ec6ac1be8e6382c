"""What ``--wandb`` means, by the environment and the logins that are stored."""

import sys

import pytest

from rllib_lpdm.grid.trackers.wandb import resolve_mode
from rllib_lpdm.schema.messages import UserError
from tests.experiment.trackers.conftest import KEY

pytestmark = pytest.mark.usefixtures("no_account", "client")


@pytest.mark.parametrize(
    ("mode", "variables", "meaning"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": KEY}, "online"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("auto", {"WANDB_MODE": "dryrun"}, "offline"),
        ("online", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "online"),
        ("offline", {"WANDB_API_KEY": KEY}, "offline"),
        ("disabled", {"WANDB_MODE": "online"}, "disabled"),
    ],
)
def test_a_mode_means_what_the_environment_makes_of_it(monkeypatch, mode, variables, meaning):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert resolve_mode(mode) == meaning


@pytest.mark.parametrize(("stored", "meaning"), [(KEY, "online"), ("no-key", "offline")])
def test_a_stored_login_is_a_key_if_it_looks_like_one(tmp_path, monkeypatch, stored, meaning):
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n login user\n password {stored}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert resolve_mode("auto") == meaning


@pytest.mark.parametrize(
    ("mode", "variables", "words"),
    [
        ("online", {}, ["wandb login", "WANDB_API_KEY", "--wandb offline"]),
        ("auto", {"WANDB_MODE": "online"}, ["wandb login", "WANDB_API_KEY", "--wandb offline"]),
        ("auto", {"WANDB_MODE": "shared"}, ["WANDB_MODE=shared", "online, offline, disabled"]),
    ],
)
def test_a_mode_that_cannot_be_is_refused_with_a_way_out(monkeypatch, mode, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        resolve_mode(mode)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("WANDB_BASE_URL", "nowhere", "base_url"),
        ("WANDB_LAUNCH", "7", "launch"),
        ("WANDB_FORK_FROM", "x", "fork_from"),
    ],
)
@pytest.mark.parametrize("key", [KEY, ""])
def test_a_variable_that_wandb_refuses_is_one_line(
    client, monkeypatch, key, variable, value, setting
):
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv(variable, value)
    client.teardown()
    with pytest.raises(UserError, match=f"^W&B refuses its setting '{setting}', .*unset it$"):
        resolve_mode("auto")
    monkeypatch.delenv(variable)
    client.teardown()


def test_without_the_package_auto_is_disabled_and_the_others_say_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb.errors", None)
    assert resolve_mode("auto") == "disabled"
    assert "pip install wandb" in capsys.readouterr().err
    assert resolve_mode("disabled") == "disabled"
    with pytest.raises(UserError, match="pip install wandb"):
        resolve_mode("offline")
