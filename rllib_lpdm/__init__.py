"""Local pairwise distance matching: policies trained without backpropagation, on Ray."""

import importlib
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("rllib-lpdm")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

# The module of each public name. It is loaded, and Ray or torch with it, when a name is used.
_MODULES = {
    "PPOConfig": "algorithms.ppo",
    "ReinforceConfig": "algorithms.reinforce",
    "analyse": "analysis.summary",
    "load_experiment": "schema.loading",
    "load_iterations": "analysis.cells",
    "register_activation": "schema.registry",
    "register_algorithm": "schema.catalogue",
    "register_method": "schema.registry",
    "register_metric": "schema.registry",
    "run_experiment": "grid.run",
}

__all__ = ["__version__", "evaluate", *_MODULES]


def __getattr__(name: str) -> object:
    if name == "evaluate":  # the command's module, which can be called
        return importlib.import_module(f"{__name__}.evaluate")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
