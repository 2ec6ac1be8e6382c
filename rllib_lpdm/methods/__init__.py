"""The ways to train hidden layers, one in each file.

:data:`~rllib_lpdm.schema.registry.METHODS` has them by their names.
"""

from rllib_lpdm.methods.method import Method
from rllib_lpdm.schema.registry import METHODS, register_method

__all__ = ["METHODS", "Method", "register_method"]
