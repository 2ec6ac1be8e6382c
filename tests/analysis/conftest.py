"""The report's page in a browser, which is opened once."""

import json

import pytest

from rllib_lpdm.analysis.page import render_page
from rllib_lpdm.analysis.summary import Report, analyse
from tests.analysis.pages import PICTURES, cell
from tests.browser import chromium

LEVELS = {"Hopper-v4": 9.0, "Ant-v4": -20.0, "Pusher-v4": 100.0}


@pytest.fixture(scope="session")
def analysed(tmp_path_factory) -> Report:
    """Three environments, two methods, two seeds; a cell has failed, one runs, one is missing."""
    folder = tmp_path_factory.mktemp("results") / "small"
    planned = []
    for environment, level in LEVELS.items():
        for factor, method in enumerate(["bp", "lpdm"], 1):
            for seed in range(2):
                name = f"{environment}_ppo_{method}_s{seed}"
                planned.append(name)
                if name == "Pusher-v4_ppo_lpdm_s1":
                    continue
                made = cell(name, environment, method, seed, level * factor + seed)
                run = made.run.model_dump() | {
                    "settings": {
                        "iterations": 20,
                        "hidden_sizes": [64, 128],
                        "lr": 0.0005,
                        "unheard_of": 1,
                    },
                    "started": "2026-01-02T03:04:05+00:00",
                    "hardware": {"cpu": "A CPU", "cores": 2},
                }
                if name == "Ant-v4_ppo_lpdm_s1":
                    run |= {"status": "failed", "error": "Traceback\n  ...\nValueError: it broke"}
                if name == "Ant-v4_ppo_bp_s1":
                    run |= {"status": "running"}
                (folder / name).mkdir(parents=True)
                (folder / name / "run.json").write_text(json.dumps(run))
                rows = zip(*made.columns.values(), strict=True)
                lines = [",".join(made.columns), *(",".join(map(str, row)) for row in rows)]
                (folder / name / "iterations.csv").write_text("\n".join(lines) + "\n")
    (folder / ".experiment.json").write_text(json.dumps({"cells": planned}))
    return analyse(folder, with_paper=True)


@pytest.fixture(scope="session")
def html(analysed) -> str:
    return render_page(analysed, PICTURES)


@pytest.fixture(scope="session")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def complaints():
    """Whatever a page asks for or complains of."""
    return []


@pytest.fixture
def no_complaints(complaints):
    yield
    found = [complaints.pop() for _ in range(len(complaints))]
    assert found == []


@pytest.fixture(scope="session")
def opened(browser, complaints, tmp_path_factory):
    """Opens a page as a file."""
    folder = tmp_path_factory.mktemp("pages")
    contexts = []

    def opened(html: str, anchor: str = "", **options):
        file = folder / f"{len(contexts)}.html"
        file.write_text(html, encoding="utf-8")
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(5000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                request.url.split("#")[0] == file.as_uri() or complaints.append(request.url)
            ),
        )
        page.goto(file.as_uri() + anchor)
        return page

    return opened


@pytest.fixture
def look(opened):
    """Opens a page that the test may change."""
    pages = []
    yield lambda *args, **options: pages.append(opened(*args, **options)) or pages[-1]
    for page in pages:
        page.context.close()


@pytest.fixture(scope="session")
def page(opened, html):
    """The one page, for tests that leave it as it is."""
    return opened(html)
