"""Reads experiment files: layers, changes from the command line, and what is wrong with them."""

import difflib
import os
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pydantic
import yaml

from rllib_lpdm.algorithms.settings import unknown_name
from rllib_lpdm.experiment.spec import (
    NAME,
    CellSettings,
    Experiment,
    ExperimentError,
    ExperimentFile,
    Override,
    When,
)

MAX_BYTES = 100_000  # of an experiment file; the longest here has 1500
MAX_NODES = 50_000  # scalars, lists and mappings, with every alias written out


def load_experiment(path: str | Path, changes: Sequence[str] = ()) -> Experiment:
    """Reads an experiment file with what it extends.

    Args:
        path: the YAML file.
        changes: ``PATH=VALUE`` from the command line, such as ``seeds=5`` or
            ``settings.iterations=200``; VALUE is YAML.

    Raises:
        ExperimentError: names the file and the place.
    """
    path = Path(path)
    layers = _read_layers(path)
    last_settings = _apply_changes(layers, changes)
    merged: dict[str, Any] = {"name": path.stem}
    variants: dict[str, dict[str, Any]] = {}
    for layer in layers:
        variants |= layer.variants
        for key in ("name", "environments", "algorithms", "methods", "seeds", "in_process"):
            value = getattr(layer, key)
            if value is not None and not (key == "name" and layer is not layers[-1]):
                merged[key] = value
    for key in ("environments", "algorithms", "methods"):
        if key not in merged:
            raise ExperimentError(f"{path}: {key}: missing; list at least one")
        _check_unique(f"{path}: {key}", merged[key])
    seeds = merged.get("seeds", 1)
    seeds = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not seeds:
        raise ExperimentError(f"{path}: seeds: list at least one")
    _check_unique(f"{path}: seeds", seeds)
    _check_environments(path, merged["environments"])
    if not re.fullmatch(NAME, merged["name"]):
        raise ExperimentError(
            f"{path}: name: {merged['name']!r} may have letters, digits, '.', '_' and '-' only"
        )
    return Experiment(
        name=merged["name"],
        environments=tuple(merged["environments"]),
        algorithms=tuple(merged["algorithms"]),
        methods=tuple(merged["methods"]),
        seeds=seeds,
        layers=tuple(layers),
        variants=variants,
        changes=last_settings,
        in_process=bool(merged.get("in_process", False)),
        source=str(path),
    )


def _read_layers(path: Path) -> list[ExperimentFile]:
    """The files a file extends, furthest first, and the file itself."""
    layers: list[ExperimentFile] = []
    seen: set[Path] = set()
    while True:
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:  # a link to itself
            raise ExperimentError(f"{path}: cannot be read: {error}") from None
        if resolved in seen:
            raise ExperimentError(f"{path}: extends: the files extend one another in a circle")
        seen.add(resolved)
        layer = _read_layer(path)
        layers.insert(0, layer)
        if layer.extends is None:
            return layers
        parent = path.parent / layer.extends
        if not os.path.isfile(parent):  # of a name too long Path.is_file() raises OSError
            raise ExperimentError(f"{path}: extends: there is no file {shown(layer.extends)}")
        path = parent


def _read_layer(path: Path) -> ExperimentFile:
    layer: ExperimentFile = _validated(ExperimentFile, _read_yaml(path), str(path))
    _check_settings(f"{path}: settings", layer.settings)
    for index, override in enumerate(layer.overrides):
        _check_settings(f"{path}: overrides[{index}].set", override.set)
        named = override.when.environment
        for environment in [named] if isinstance(named, str) else named or []:
            if environment not in gym.registry:
                raise ExperimentError(
                    f"{path}: overrides[{index}].when.environment: "
                    f"{unknown_environment(environment)}"
                )
    for name, variant in layer.variants.items():
        _check_settings(f"{path}: variants.{name}", variant)
    return layer


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8")
    except FileNotFoundError:
        raise ExperimentError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path}: cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise ExperimentError(f"{path}: is longer than {MAX_BYTES} bytes")
    try:
        content = yaml.load(text, _Loader)  # a SafeLoader
    except Exception as error:  # the constructors of YAML's types raise whatever they meet
        raise ExperimentError(f"{path}: is not valid YAML: {_line(str(error), 500)}") from None
    if not isinstance(content, dict):
        raise ExperimentError(f"{path}: an experiment file is a mapping of keys to values")
    return content


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses what it would take in silence, or take for ever.

    That is a key given twice, of which the last would win; a set, which has no order; and aliases
    that contain themselves or stand for more than MAX_NODES nodes.
    """

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _size(node, {}) > MAX_NODES:
            raise yaml.YAMLError(f"its aliases stand for more than {MAX_NODES} values")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        ]
        for key, count in Counter(key for key in keys if isinstance(key, str)).items():
            if count > 1:
                raise yaml.YAMLError(f"the key {shown(key)} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)

    def refuse_set(self, node: yaml.Node) -> Any:
        raise yaml.YAMLError(f"a set has no order, write a list{node.start_mark}")


_Loader.add_constructor("tag:yaml.org,2002:set", _Loader.refuse_set)


def _size(node: yaml.Node, sizes: dict[yaml.Node, int | None], place: str = "") -> int:
    """Nodes of a tree, with every alias written out.

    Args:
        node: the root.
        sizes: of the nodes met so far; None for those that are being counted.
        place: of the root in the file.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if node not in sizes:
        sizes[node] = None
        if isinstance(node, yaml.MappingNode):
            parts = (
                (part, f"{place}.{key.value[:64] if isinstance(key, yaml.ScalarNode) else '?'}")
                for key, value in node.value
                for part in (key, value)
            )
        else:
            parts = ((part, f"{place}[{index}]") for index, part in enumerate(node.value))
        sizes[node] = 1 + sum(_size(part, sizes, within) for part, within in parts)
    size = sizes[node]
    if size is None:
        raise yaml.YAMLError(f"{place[1:]}: contains itself")
    return size


def _apply_changes(layers: list[ExperimentFile], changes: Sequence[str]) -> dict[str, Any]:
    """Replaces entries of the last layer by ``--set``; returns the changed settings."""
    settings: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    for change in changes:
        place = f"--set {_line(change, 80)}"
        key, separator, text = change.partition("=")
        if not separator:
            raise ExperimentError(f"{place}: write PATH=VALUE, such as seeds=5")
        try:
            value = yaml.load(text[:MAX_BYTES], _Loader)
        except Exception:  # as in _read_yaml
            raise ExperimentError(f"{place}: the value is not valid YAML") from None
        head, _, rest = key.partition(".")
        if head == "settings" and rest:
            _check_settings("--set settings", {rest: value})
            settings[rest] = value
        elif rest or head not in _CHANGEABLE:
            known = [*_CHANGEABLE, *(f"settings.{name}" for name in CellSettings.model_fields)]
            raise ExperimentError(f"{place}: {_unknown(key, known, 'path')}")
        elif value is None:
            raise ExperimentError(f"{place}: give a value, or leave the change out")
        else:
            entries[head] = value
    if entries:
        written = layers[-1].model_dump(exclude_unset=True)
        layers[-1] = _validated(ExperimentFile, written | entries, "--set")
    return settings


_CHANGEABLE = ("name", "environments", "algorithms", "methods", "seeds", "in_process")


def _validated(model: type[Any], content: dict[str, Any], place: str) -> Any:
    unknown = [key for key in content if key not in model.model_fields]
    if unknown:
        raise ExperimentError(f"{place}: {_unknown(unknown[0], model.model_fields, 'key')}")
    try:
        return model(**content)
    except pydantic.ValidationError as error:
        raise ExperimentError(f"{place}: {_fault(error, content)}") from None


def _check_settings(place: str, values: dict[str, Any]) -> None:
    for name in values:
        if name not in CellSettings.model_fields:
            raise ExperimentError(f"{place}: {_unknown(name, CellSettings.model_fields)}")
    try:
        CellSettings(**values)
    except pydantic.ValidationError as error:
        raise ExperimentError(f"{place}.{_fault(error, values)}") from None


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
    place = _line("".join(parts)[1:], 200)
    if fault["type"] == "extra_forbidden":
        model = When if "when" in path[:-1] else Override
        parent = place.rpartition(".")[0]
        return f"{parent}: {_unknown(path[-1], model.model_fields, 'key')}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{place}: {message}, got {shown(fault['input'])}"


def _path(location: tuple[Any, ...], content: Any) -> list[Any]:
    """The parts of a fault's location that lead into the content, without pydantic's own."""
    path = []
    for part in location:
        in_mapping = isinstance(content, dict) and part in content
        in_list = isinstance(content, (list, tuple)) and isinstance(part, int)
        missing_key = isinstance(content, dict) and part == location[-1]
        if in_mapping or in_list:
            content = content[part]
        if in_mapping or in_list or missing_key:
            path.append(part)
    return path


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 3
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def _unknown(name: Any, known: Iterable[str], kind: str = "setting") -> str:
    return unknown_name((name if isinstance(name, str) else shown(name))[:80], known, kind)


def _line(text: str, length: int) -> str:
    """Text as it may stand in a message: in one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:length]


def shown(value: Any) -> str:
    """A value as it may stand in a message: short, whatever it is."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number of very many digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_unique(place: str, values: Sequence[Any]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ExperimentError(f"{place}: {shown(repeated[0])} is listed twice")


def _check_environments(path: Path, environments: Sequence[str]) -> None:
    """Only registered ids: gymnasium would import a module named before a colon."""
    for index, environment in enumerate(environments):
        if environment not in gym.registry:
            raise ExperimentError(
                f"{path}: environments[{index}]: {unknown_environment(environment)}"
            )


def unknown_environment(environment: str) -> str:
    """One sentence that refuses an environment and offers the nearest registered one."""
    matches = difflib.get_close_matches(environment, list(gym.registry), n=1)
    hint = f"did you mean {matches[0]!r}?" if matches else "it is not registered with gymnasium"
    return f"unknown environment {shown(environment)}, {hint}"
