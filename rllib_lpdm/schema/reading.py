"""Reads YAML that may come from anyone: soon, in little memory, and without surprises."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from rllib_lpdm.schema.files import read_file
from rllib_lpdm.schema.messages import UserError, one_line, shown

MAX_BYTES = 100_000  # of an experiment file; the longest here has 1500


def read_yaml(path: Path, quoted: bool = True) -> dict[str, Any]:
    """The mapping in a file.

    Args:
        path: of the file.
        quoted: whether an error may quote the file.

    Raises:
        UserError: it cannot be read, is too long, or is no YAML mapping.
    """
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    try:
        content = parse_yaml(text)
    except ValueError as error:
        reason = f": {error}" if quoted else ""
        raise UserError(f"{path}: is not valid YAML{reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: an experiment file is a mapping of keys to values")
    return content


def parse_yaml(text: str) -> Any:
    """The value that YAML stands for.

    Raises:
        ValueError: why there is none, in one line.
    """
    try:
        return yaml.load(text[:MAX_BYTES], _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{one_line(error.problem)}{place}") from None
    except Exception as error:  # the constructors of YAML's types raise whatever they meet
        raise ValueError(one_line(error)) from None


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses what it would take in silence, or take for ever.

    That is a key given twice, of which the last would win; a set, which has no order; and aliases,
    of which a short file can stand for any number of values, or contain themselves.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise _refusal("an alias is not supported, write its value out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [
            self.construct_object(key, deep=True)
            for key, _ in node.value
            if key.tag != "tag:yaml.org,2002:merge"
        ]
        for key, count in Counter(key for key in keys if isinstance(key, str)).items():
            if count > 1:
                raise _refusal(f"the key {shown(key)} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def refuse_set(self, node: yaml.Node) -> Any:
        raise _refusal("a set has no order, write a list", node.start_mark)


def _refusal(problem: str, mark: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


_Loader.add_constructor("tag:yaml.org,2002:set", _Loader.refuse_set)
