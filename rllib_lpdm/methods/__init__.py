"""The ways to train hidden layers that an experiment can compare, one in each file."""

from typing import Annotated

from pydantic import AfterValidator

from rllib_lpdm.methods.backprop import Backpropagation
from rllib_lpdm.methods.feedback import DirectFeedback
from rllib_lpdm.methods.frozen import Frozen
from rllib_lpdm.methods.local_heads import LocalHeads
from rllib_lpdm.methods.matching import DistanceMatching, GuidedDistanceMatching
from rllib_lpdm.methods.method import Method
from rllib_lpdm.schema.messages import unknown_name

#: Every method by its name.
METHODS: dict[str, type[Method]] = {}


def own_methods() -> dict[str, type[Method]]:
    """Returns the methods that are registered from outside this package, by name."""
    inside = f"{__name__}."
    return {name: each for name, each in METHODS.items() if not each.__module__.startswith(inside)}


def register_method(name: str, method: type[Method]) -> None:
    """Makes a method known by a name, in Python and in experiment files.

    Args:
        name: letters, digits and underscores.
        method: its class.

    Raises:
        ValueError: the name is no identifier, or another method has it.
    """
    if not name.isidentifier():
        raise ValueError(f"register_method: {name!r} must be of letters, digits and underscores")
    known = METHODS.setdefault(name, method)
    if (known.__module__, known.__qualname__) != (method.__module__, method.__qualname__):
        raise ValueError(f"register_method: another method is named {name!r}; choose another name")
    METHODS[name] = method  # the same class, of a module that was loaded again


def _known(name: str) -> str:
    if name not in METHODS:
        raise ValueError(unknown_name(name, METHODS, "method"))
    return name


MethodName = Annotated[str, AfterValidator(_known)]

register_method("bp", Backpropagation)
register_method("lpdm", DistanceMatching)
register_method("lpdm_guided", GuidedDistanceMatching)
register_method("local_rl", LocalHeads)
register_method("dfa", DirectFeedback)
register_method("frozen", Frozen)
