"""Imports point down: every part of the package knows only those below it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rllib_lpdm"
# Every part, with the parts that it may import; and packages of others that it must not import.
BELOW = {
    "schema": set(),
    "results": {"schema"},
    "local_learning": {"schema"},
    "methods": {"schema", "local_learning"},
    "algorithms": {"schema", "results", "local_learning", "methods"},
    "grid": {"schema", "results", "local_learning", "methods", "algorithms"},
    "searches": {"schema", "results", "grid"},
    "policies": {"schema", "results", "local_learning", "methods", "algorithms", "grid"},
    "analysis": {"schema", "results"},
}
PARTS = set(BELOW)
STRANGERS = {
    "schema": {"ray", "torch"},
    "results": {"ray", "torch", "gymnasium"},
    "local_learning": {"ray", "gymnasium"},
    "methods": {"ray", "gymnasium"},
    "analysis": {"ray", "torch", "gymnasium"},
}
TOP = {path.stem for path in PACKAGE.iterdir() if path.name != "__init__.py"} - PARTS


def imported(file):
    """What a file imports: parts and modules of this package by their name in it, and packages."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    within, others = set(), set()
    for name in names:
        first, *rest = name.split(".")
        if first == PACKAGE.name:
            within.add(rest[0])
        else:
            others.add(first)
    return within, others


@pytest.mark.parametrize("part", BELOW)
def test_a_part_imports_nothing_from_above_or_beside_it(part):
    forbidden = (PARTS | TOP | STRANGERS.get(part, set())) - BELOW[part] - {part}
    for file in (PACKAGE / part).rglob("*.py"):
        within, others = imported(file)
        assert not (within | others) & forbidden, file.relative_to(PACKAGE)


def imports_at_once(module):
    """Packages that are loaded where a module is imported."""
    code = f"import {module}, sys; print(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


@pytest.mark.parametrize("module", ["rllib_lpdm.schema.loading", "rllib_lpdm.analysis.summary"])
def test_what_reads_files_loads_neither_ray_nor_torch(module):
    assert not imports_at_once(module) & {"ray", "torch", "numba"}


def module_of(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle(uses):
    """Modules that use one another in turn, or nothing."""
    left = {module: set(used) for module, used in uses.items()}
    while free := [module for module, used in left.items() if not used & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def test_no_file_uses_one_that_uses_it_in_turn_not_even_for_its_types():
    files = {module_of(file): file for file in PACKAGE.rglob("*.py")}
    uses = {}
    for module, file in files.items():
        within = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    within.add(whole if whole in files else node.module)
        uses[module] = within - {module, PACKAGE.name}
    assert not circle(uses)
    assert circle(uses | {"rllib_lpdm.methods.method": {"rllib_lpdm.algorithms.learner"}})


def test_no_two_files_of_the_package_have_one_name():
    names = [path.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    assert [name for name in set(names) if names.count(name) > 1] == []
