"""The defaults of all settings: a copy of the schema's, which needs Ray; a test compares them.

Attributes:
    TRAINING: of the settings that decide what is learned.
    HOW_RUN: of those that say how a cell is run.
"""

import importlib.resources
import json
from typing import Any

_FILE = importlib.resources.files(__package__).joinpath("settings.json")
_DEFAULTS: dict[str, dict[str, Any]] = json.loads(_FILE.read_text("utf-8"))
TRAINING, HOW_RUN = _DEFAULTS["training"], _DEFAULTS["how_run"]
