"""What is wrong with an experiment file: one sentence that names the place and the way out."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import gymnasium as gym
import pydantic

from rllib_lpdm.algorithms.environments import EnvironmentSpec, WrapperSpec
from rllib_lpdm.algorithms.settings import unknown_setting
from rllib_lpdm.experiment.conditions import Override, When
from rllib_lpdm.experiment.search.section import (
    Calibration,
    Halving,
    LowerBound,
    MoreSeeds,
    SearchSection,
)
from rllib_lpdm.experiment.search.space import Dimension
from rllib_lpdm.experiment.spec import CellSettings, ExperimentError
from rllib_lpdm.results.messages import one_line, shown, unknown_name


def validated(model: type[Any], content: dict[str, Any], place: str) -> Any:
    """The model of some content.

    Raises:
        ExperimentError: names the place.
    """
    unknown = [key for key in content if key not in model.model_fields]
    if unknown:
        raise ExperimentError(f"{place}: {unknown_key(unknown[0], model.model_fields, 'key')}")
    try:
        return model(**content)
    except pydantic.ValidationError as error:
        raise ExperimentError(f"{place}: {_fault(error, content)}") from None


def check_settings(place: str, values: Mapping[str, Any]) -> None:
    """Refuses unknown settings and wrong values.

    Raises:
        ExperimentError: names the place.
    """
    for name in values:
        if name not in CellSettings.model_fields:
            raise ExperimentError(f"{place}: {unknown_key(name, CellSettings.model_fields)}")
    try:
        CellSettings(**values)
    except pydantic.ValidationError as error:
        raise ExperimentError(f"{place}.{_fault(error, values)}") from None


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
    matches = difflib.get_close_matches(environment[:80], [*named, *gym.registry], n=1)
    hint = (
        f"did you mean {matches[0]!r}?"
        if matches
        else "it is not registered with gymnasium; --import names a module that registers it"
    )
    return f"unknown environment {shown(environment)}, {hint}"


def _fault(error: pydantic.ValidationError, content: Any) -> str:
    """The most telling fault of a validation as one sentence with its place.

    An unknown key explains a missing one; of the faults of a union, the one that reached deepest
    into the content is of the form that was meant.
    """
    faults = error.errors(include_url=False)
    fault = max(
        faults, key=lambda f: (f["type"] == "extra_forbidden", len(_path(f["loc"], content)))
    )
    path = _path(fault["loc"], content)
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    place = one_line("".join(parts)[1:], 200)
    if fault["type"] == "extra_forbidden":
        parent = place.rpartition(".")[0]
        return f"{parent}: {unknown_key(path[-1], _model(path, content).model_fields, 'key')}"
    message, given = fault["msg"].removeprefix("Value error, "), fault["input"]
    hint = f", write [{given}]" if fault["type"] == "list_type" and _is_short_word(given) else ""
    got = "" if shown(given) in message else f", got {shown(given)}"
    return f"{place}: {message}{got}{hint}"


def _model(path: list[Any], content: Any) -> Any:
    """That of the mapping in which a key is unknown."""
    if path[0] == "environments":
        return WrapperSpec if "wrappers" in path[:-1] else EnvironmentSpec
    if path[0] == "search" and "when" not in path[3:-1]:
        if path[1:2] == ["criterion"] and len(path) > 2:
            return Calibration if "published" in content["search"]["criterion"] else LowerBound
        parts: dict[str, Any] = {"space": Dimension, "halving": Halving, "more_seeds": MoreSeeds}
        return parts.get(path[1], SearchSection) if len(path) > 2 else SearchSection
    return When if "when" in path[:-1] else Override


def _is_short_word(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= 80


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
