"""``python -m rllib_lpdm.schema.settings_table``: all settings in Markdown, by the schema."""

import json
from collections.abc import Iterable
from typing import Any

from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.registry import ACTIVATIONS, BLACK_BOXES, METHODS, METRICS

# These are checked by a validator, not by the schema.
NAMES: dict[str, Iterable[str]] = {
    "activation": ACTIVATIONS,
    "metric": METRICS,
    "black_box": BLACK_BOXES,
}
HEADS = ("setting", "values", "default", "paper", "meaning", "cost")


def settings_table() -> str:
    """Every setting of an experiment file in a Markdown table, with a heading."""
    properties = CellSettings.model_json_schema()["properties"]
    rows = [
        [
            f"`{name}`",
            ", ".join(map(_code, NAMES.get(name, ()))) + (", none" if name == "black_box" else "")
            or _values(schema),
            _code(schema["default"]),
            schema["section"],
            schema["description"],
            schema["cost"],
        ]
        for name, schema in properties.items()
    ]
    descriptions = [entry.description for entry in METHODS.values()]
    what = f"{', '.join(descriptions[:-1])}, or {descriptions[-1]}"
    method = [
        "`method`",
        ", ".join(map(_code, METHODS)),
        "`lpdm`",
        "3, D",
        f"What trains the hidden layers: {what}. Experiment files list them as `methods`.",
        "see the benchmark",
    ]
    lines = [HEADS, ["---"] * len(HEADS), method, *rows]
    table = "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)
    return (
        "# Settings\n\nOf experiment files (`settings:`), and of `training()` in Python but for "
        "those that say how a cell is run.\n`paper` is the section or appendix of the paper; cost "
        "is against the default. Settings\nof distances act under `lpdm` and "
        "`lpdm_guided`, and in pre-training; one whose meaning names methods acts\nunder "
        "those.\n\n" + table + "\n"
    )


def _values(schema: dict[str, Any]) -> str:
    """What a setting may be, in words."""
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " or ".join(_values(option) for option in options)
    if "enum" in schema:
        return ", ".join(map(_code, schema["enum"]))
    kind = schema["type"]
    if kind == "array":
        items = schema.get("prefixItems")
        inner = f"{len(items)} of {_values(items[0])}" if items else _values(schema["items"])
        return f"list of {inner}"
    words = {"integer": "whole number", "boolean": "`true`, `false`", "null": "none"}
    limits = [
        f"{sign} {schema[key]:g}"
        for key, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    return " ".join([words.get(kind, kind), ", ".join(limits)]).strip()


def _code(value: Any) -> str:
    return (
        "none" if value is None else f"`{value if isinstance(value, str) else json.dumps(value)}`"
    )


if __name__ == "__main__":
    print(settings_table(), end="")
