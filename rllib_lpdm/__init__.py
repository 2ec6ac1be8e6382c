"""Local pairwise distance matching: policies trained without backpropagation, on Ray."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("rllib-lpdm")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = ["PPOConfig", "ReinforceConfig", "__version__"]


def __getattr__(name: str) -> object:
    """Loads the configs, and Ray with them, only when they are asked for."""
    if name in ("PPOConfig", "ReinforceConfig"):
        from rllib_lpdm import algorithms

        return getattr(algorithms, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
