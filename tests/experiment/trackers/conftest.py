"""W&B's client without an account, beside a server of the tests' own or none."""

import os
import socket
import threading

import pytest

from rllib_lpdm.grid.trackers import wandb as tracker_module
from tests.experiment.trackers.server import Server

KEY = "0123456789abcdef" * 2 + "fedcba98"


@pytest.fixture(scope="module")
def client():
    """W&B's client, which forgets a module's settings after it."""
    wandb = pytest.importorskip("wandb")
    wandb.teardown()
    yield wandb
    wandb.teardown()


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    """An environment that knows no account."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(no_account, client, monkeypatch):
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _use(monkeypatch, server.url)
    client.teardown()
    yield server
    client.teardown()
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed_port(no_account, client, monkeypatch):
    """A server that is not there."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        _use(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}")
        client.teardown()
        yield
    client.teardown()


def _use(monkeypatch, url):
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(tracker_module, "INIT_TIMEOUT", 2)
    monkeypatch.setattr(tracker_module, "FINISH_TIMEOUT", 2)
