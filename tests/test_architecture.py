"""Imports point down: every part of the package knows only those below it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "rllib_lpdm"
PARTS = {"results", "local_learning", "methods", "algorithms", "experiment", "analysis"}
# Of each part, what it must not import: parts of this package, and others' packages.
FORBIDDEN = {
    "results": PARTS | {"ray", "torch", "gymnasium"},
    "local_learning": PARTS | {"ray", "gymnasium"},
    "methods": {"algorithms", "experiment", "analysis", "ray", "gymnasium"},
    "algorithms": {"experiment", "analysis"},
    "experiment": {"analysis"},
    "analysis": {"methods", "algorithms", "experiment", "local_learning", "ray", "torch"},
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


@pytest.mark.parametrize("part", FORBIDDEN)
def test_a_part_imports_nothing_from_above_or_beside_it(part):
    forbidden = (FORBIDDEN[part] | TOP) - {part}
    for file in (PACKAGE / part).rglob("*.py"):
        within, others = imported(file)
        assert not (within | others) & forbidden, file.relative_to(PACKAGE)


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
