"""How the commands that make recorded cells again, or play them, begin."""

import logging
from collections.abc import Sequence

from rllib_lpdm.grid.cell import quiet_environments
from rllib_lpdm.schema.environments import import_modules
from rllib_lpdm.schema.messages import UserError


def begin(imports: Sequence[str] = ()) -> None:
    """Keeps Ray and environments silent, and imports what registers environments.

    Args:
        imports: the modules that ``--import`` names.

    Raises:
        UserError: one cannot be imported.
    """
    quiet_environments()
    logging.getLogger("ray").setLevel(logging.ERROR)  # RLlib's advice to developers of RLlib
    try:
        import_modules(imports)
    except ValueError as error:
        raise UserError(f"--import {error}") from None
