"""Names that settings and experiment files may use, and the calls that add to them.

A built-in entry is registered as ``"module:attribute"`` and loaded when it is first used. So the
schema knows every name and loads neither Ray nor torch.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TypeVar

from rllib_lpdm.schema.messages import unknown_name

Entry = TypeVar("Entry")

Neighbours = Literal["all", "closest", "furthest", "both"]
Scaling = Literal["own", "target", "none", "absolute"]


class Registry(Mapping[str, Entry]):
    """Entries of one kind by their names.

    Args:
        kind: such as "method", for messages.

    Attributes:
        added: the entries that a user has registered, by name.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.added: dict[str, Entry] = {}
        self._entries: dict[str, Entry | str] = {}

    def __getitem__(self, name: str) -> Entry:
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __delitem__(self, name: str) -> None:
        del self._entries[name]
        self.added.pop(name, None)

    def register(self, name: str, entry: Entry | str) -> None:
        """Adds an entry. The same one may be added again, as a module is that is loaded twice.

        Raises:
            ValueError: the name is no identifier, or stands for something else.
        """
        call = f"register_{self.kind}: "
        if not name.isidentifier():
            raise ValueError(f"{call}{name!r} must be of letters, digits and underscores")
        known = self._entries.get(name)
        if known is not None and _origin(known) != _origin(entry):
            raise ValueError(f"{call}another {self.kind} is named {name!r}; choose another name")
        self._entries[name] = entry
        if not isinstance(entry, str):
            self.added[name] = entry

    def known(self, name: str) -> str:
        """Returns a name that has an entry; raises ValueError, with the nearest one, for others."""
        if name not in self:
            raise ValueError(unknown_name(name, self, self.kind))
        return name


def _origin(entry: Any) -> Any:
    """Where a class or a function is defined; anything else stands for itself."""
    named = hasattr(entry, "__qualname__")
    return (entry.__module__, entry.__qualname__) if named else entry


#: Ways to train the hidden layers: subclasses of :class:`~rllib_lpdm.methods.method.Method`.
METHODS: Final[Registry[Any]] = Registry("method")
#: What local losses compare rows by: :class:`~rllib_lpdm.local_learning.distances.Metric` or a
#: function.
METRICS: Final[Registry[Any]] = Registry("metric")
#: Activations of hidden layers: :class:`~rllib_lpdm.local_learning.activations.Activation`.
ACTIVATIONS: Final[Registry[Any]] = Registry("activation")
#: Functions without a derivative between hidden layers, of a tensor to one of its shape.
BLACK_BOXES: Final[Registry[Any]] = Registry("black_box")

REGISTRIES: Final = (METHODS, METRICS, ACTIVATIONS)


def register_method(name: str, method: type | str) -> None:
    """Makes a way to train hidden layers known by a name, in Python and in experiment files.

    Args:
        name: letters, digits and underscores.
        method: a subclass of :class:`~rllib_lpdm.methods.method.Method`.

    Raises:
        ValueError: the name is no identifier, or another method has it.
    """
    METHODS.register(name, method)


def register_metric(name: str, metric: Callable[[Any], Any] | tuple[Any, ...] | str) -> None:
    """Makes a metric known by a name, for the setting ``metric``.

    Args:
        name: letters, digits and underscores.
        metric: a function of (N, d) rows to their (N (N - 1) / 2,) condensed distances that
            autograd can differentiate, or a
            :class:`~rllib_lpdm.local_learning.distances.Metric`, which has its derivative by hand.

    Raises:
        ValueError: the name is no identifier, or another metric has it.
    """
    METRICS.register(name, metric)


def register_activation(name: str, activation: tuple[Any, ...] | str) -> None:
    """Makes an activation known by a name, for the setting ``activation``.

    Args:
        name: letters, digits and underscores.
        activation: an :class:`~rllib_lpdm.local_learning.activations.Activation`.

    Raises:
        ValueError: the name is no identifier, or another activation has it.
    """
    ACTIVATIONS.register(name, activation)


register_method("bp", "rllib_lpdm.methods.backprop:Backpropagation")
register_method("lpdm", "rllib_lpdm.methods.matching:DistanceMatching")
register_method("lpdm_guided", "rllib_lpdm.methods.matching:GuidedDistanceMatching")
register_method("local_rl", "rllib_lpdm.methods.local_heads:LocalHeads")
register_method("dfa", "rllib_lpdm.methods.feedback:DirectFeedback")
register_method("frozen", "rllib_lpdm.methods.frozen:Frozen")
for _metric in ("l1", "l2", "squared_l2", "cosine", "gram"):
    register_metric(_metric, f"rllib_lpdm.local_learning.distances:{_metric.upper()}")
for _activation in ("tanh", "relu", "leaky_relu", "elu", "gelu", "silu"):
    register_activation(_activation, f"rllib_lpdm.local_learning.activations:{_activation.upper()}")
for _box in ("quantise", "sign"):
    BLACK_BOXES.register(_box, f"rllib_lpdm.local_learning.activations:{_box}")
