"""Local pairwise distance matching: policies trained without backpropagation, on Ray."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("rllib-lpdm")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"

__all__ = ["PPOConfig", "ReinforceConfig", "__version__", "register_method"]


def __getattr__(name: str) -> object:
    """Loads a public name, and Ray or torch with it, only when it is asked for."""
    if name == "register_method":
        from rllib_lpdm.methods import register_method

        return register_method
    if name in ("PPOConfig", "ReinforceConfig"):
        from rllib_lpdm import algorithms

        return getattr(algorithms, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
