"""What is wrong with an experiment file: one sentence that names the place and the way out."""

import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import pydantic

from rllib_lpdm.schema.cell_settings import every_setting
from rllib_lpdm.schema.conditions import Override, When
from rllib_lpdm.schema.environments import EnvironmentSpec, WrapperSpec
from rllib_lpdm.schema.messages import UserError, explained, nearest, one_line, shown, unknown_name
from rllib_lpdm.schema.search_section import (
    Calibration,
    Halving,
    LowerBound,
    MoreSeeds,
    SearchSection,
)
from rllib_lpdm.schema.search_space import Dimension
from rllib_lpdm.schema.settings import unknown_setting

FAULTS_LISTED = 10


def refuse(lines: Sequence[str]) -> None:
    """Raises an UserError of the first of these lines, each once, where there are any."""
    lines = list(dict.fromkeys(lines))
    more = [f"and {len(lines) - FAULTS_LISTED} more"] if len(lines) > FAULTS_LISTED else []
    if lines:
        raise UserError("\n".join([*lines[:FAULTS_LISTED], *more]))


def check_all(checks: Iterable[Callable[[], object]]) -> None:
    """Makes all checks.

    Raises:
        UserError: has the lines of every check that failed.
    """
    lines: list[str] = []
    for check in checks:
        try:
            check()
        except UserError as error:
            lines += str(error).splitlines()
    refuse(lines)


def validated(model: type[Any], content: dict[str, Any], place: str) -> Any:
    """The model of some content.

    Raises:
        UserError: a line for every fault, which names the place.
    """
    known = {key: value for key, value in content.items() if key in model.model_fields}
    lines = [
        f"{place}: {unknown_key(key, model.model_fields, 'key')}"
        for key in content
        if key not in known
    ]
    try:
        made = model(**known)
    except pydantic.ValidationError as error:
        lines += [f"{place}: {line}" for line in _faults(error, known)]
    refuse(lines)
    return made


def check_settings(place: str, values: Mapping[str, Any]) -> None:
    """Refuses unknown settings and wrong values.

    Raises:
        UserError: a line for every fault, which names the place.
    """
    known = {name: value for name, value in values.items() if name in every_setting().model_fields}
    lines = [
        f"{place}: {unknown_key(name, every_setting().model_fields)}"
        for name in values
        if name not in known
    ]
    try:
        every_setting()(**known)
    except pydantic.ValidationError as error:
        lines += [f"{place}.{line}" for line in _faults(error, known)]
    refuse(lines)


def unknown_key(name: Any, known: Iterable[str], kind: str = "setting") -> str:
    """One sentence that refuses a key, which may be no word."""
    word = name if isinstance(name, str) else shown(name)
    return unknown_setting(word, known) if kind == "setting" else unknown_name(word, known, kind)


def unknown_environment(environment: str, named: Collection[str] = ()) -> str:
    """One sentence that refuses an environment and offers the nearest one.

    Args:
        environment: what was asked for.
        named: what may be asked for besides the registered ids.
    """
    hint = "it is not registered with gymnasium; --import names a module that registers it"
    if environment.startswith("ALE/"):
        installed = importlib.util.find_spec("ale_py") is not None
        hint = f"it is ale-py's: {'' if installed else 'pip install ale-py, then '}--import ale_py"
    elif near := nearest(environment, [*named, *gym.registry]):
        hint = f"did you mean {near!r}?"
    return f"unknown environment {shown(environment)}, {hint}"


def _faults(error: pydantic.ValidationError, content: Any) -> list[str]:
    """The faults of a validation, each as one sentence with its place.

    An unknown key explains a missing one beside it. Of the faults of a union, the one that reached
    deepest into the content is of the form that was meant.
    """
    found: dict[tuple[Any, ...], Any] = {}
    for fault in error.errors(include_url=False):
        path = tuple(_path(fault["loc"], content))
        if fault["type"] == "missing":  # the first of a list's says it
            path = next((p for p, f in found.items() if _both_missing(p, f, path)), path)
        if path not in found or fault["type"] == "extra_forbidden":
            found[path] = fault
    told: dict[tuple[Any, ...], tuple[tuple[Any, ...], Any]] = {}
    for path, fault in found.items():
        union = ("search", "criterion")
        place = union if path[:2] == union else path
        deepest = told.get(place, ((), {"type": ""}))
        if place not in told or _weight(path, fault) > _weight(*deepest):
            told[place] = path, fault
    unknown = {path[:-1] for path, fault in told.values() if fault["type"] == "extra_forbidden"}
    return [
        _sentence(path, fault, content)
        for path, fault in told.values()
        if not any(other[: len(path)] == path != other for other in told)
        and not (fault["type"] == "missing" and path[:-1] in unknown)
    ]


def _both_missing(path: tuple[Any, ...], fault: Any, other: tuple[Any, ...]) -> bool:
    return fault["type"] == "missing" and path[:-1] == other[:-1] and isinstance(path[-1], int)


def _weight(path: tuple[Any, ...], fault: Any) -> tuple[bool, int]:
    return fault["type"] == "extra_forbidden", len(path)


def _sentence(path: tuple[Any, ...], fault: Any, content: Any) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    place = one_line("".join(parts)[1:], 200)
    if fault["type"] == "extra_forbidden":
        parent = place.rpartition(".")[0]
        return f"{parent}: {unknown_key(path[-1], _model(path, content).model_fields, 'key')}"
    return f"{place}: {explained(fault)}"


def _model(path: tuple[Any, ...], content: Any) -> Any:
    """That of the mapping in which a key is unknown."""
    if path[0] == "environments":
        return WrapperSpec if "wrappers" in path[:-1] else EnvironmentSpec
    if path[0] == "search" and "when" not in path[3:-1]:
        if path[1] == "criterion" and len(path) > 2:
            return Calibration if "published" in content["search"]["criterion"] else LowerBound
        parts: dict[str, Any] = {"space": Dimension, "halving": Halving, "more_seeds": MoreSeeds}
        return parts.get(path[1], SearchSection) if len(path) > 2 else SearchSection
    return When if "when" in path[:-1] else Override


def _path(location: tuple[Any, ...], content: Any) -> list[Any]:
    """The parts of a fault's location that lead into the content, without pydantic's own.

    The last one may be what is missing: a key, or an item of a list that is too short.
    """
    path = []
    for part in (part for part in location if part != "[key]"):
        in_mapping = isinstance(content, dict)
        in_list = isinstance(content, (list, tuple)) and isinstance(part, int)
        missing = part == location[-1] and (in_mapping or in_list)
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            if missing:
                path.append(part)
        else:
            path.append(part)
    return path
