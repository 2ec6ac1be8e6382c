"""What the documentation says can be done can be done; ``make docs`` sees that its site builds."""

import importlib
import re

import nbformat
import pytest
import ray
from nbclient import NotebookClient

from tests.experiment.files import CONFIGS

ROOT = CONFIGS.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "cluster" / "README.md", *sorted(DOCS.glob("*.md"))]
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", flags=re.DOTALL | re.MULTILINE)
COMMANDS = ("tune", "search", "report", "evaluate", "verify", "export", "publish", "benchmark")


def prose(page):
    return BLOCK.sub("", TEXTS[page])


def anchors(page):
    """What GitHub and the site make of a page's headings."""
    heads = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_the_python_of_a_page_is_the_readmes_which_has_a_test_of_its_own():
    of_pages = [
        {code for language, code in BLOCK.findall(text) if language == "python"}
        for text in TEXTS.values()
    ]
    assert set().union(*of_pages) == of_pages[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_link_within_the_repository_leads_to_a_file_and_a_heading(page):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose(page)):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), (target, anchor)
    named = re.findall(r"\b(?:tune_configs|docs|cluster)/[\w./-]*\w", TEXTS[page])
    made = ("docs/_build",)
    assert [path for path in named if not (path.startswith(made) or (ROOT / path).exists())] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_that_a_page_gives_a_command_exists(command, capsys):
    with pytest.raises(SystemExit):
        importlib.import_module(f"rllib_lpdm.{command}").main(["--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    lines = [line for text in TEXTS.values() for line in text.replace("\\\n", "").splitlines()]
    calls = [call for line in lines for call in re.findall(rf"rllib_lpdm\.{command}\b(.*)", line)]
    given = {option for call in calls for option in re.findall(r"--[a-z-]+", call.split("`")[0])}
    assert calls
    assert given <= known


def test_the_layout_names_every_module():
    words = set(re.findall(r"\w+", TEXTS[DOCS / "layout.md"]))
    modules = {path.stem for path in (ROOT / "rllib_lpdm").rglob("*.py")} - {"__init__"}
    assert modules <= words


@pytest.mark.slow
def test_the_tour_runs_and_is_kept_with_its_outputs(tmp_path, ray_session, monkeypatch):
    notebook = nbformat.read(DOCS / "tour.ipynb", as_version=4)
    kept = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert any("image/png" in output.get("data", {}) for outputs in kept for output in outputs)
    first = notebook.cells[1]  # what it shows takes more iterations than to see that it runs
    first.source, found = re.subn(r"= (.*), 60$", r"= \1, 6", first.source, flags=re.MULTILINE)
    assert found == 1
    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)  # spares another Ray
    first.source, found = re.subn(r"num_cpus=1, include_dashboard=False, ", "", first.source)
    assert found == 1
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
