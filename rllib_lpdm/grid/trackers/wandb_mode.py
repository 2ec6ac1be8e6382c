"""Whether and how W&B is used here, from ``--wandb``, the environment and a stored login."""

import os
import sys

import pydantic

from rllib_lpdm.schema.messages import UserError, one_line

#: What ``--wandb`` takes.
MODES = ("auto", "online", "offline", "disabled")
LOGIN = "run `wandb login` or set WANDB_API_KEY"


def resolve_mode(mode: str) -> str:
    """What a mode means here: ``online``, ``offline`` or ``disabled``.

    ``auto`` is what WANDB_MODE says, else online where there is an API key, else offline; and
    disabled, with a line on stderr, where the package is missing.

    Raises:
        UserError: the mode is unknown, the package or, for ``online``, the key is missing,
            or W&B refuses what the environment sets.
    """
    asked, variable = mode, os.environ.get("WANDB_MODE") if mode == "auto" else None
    if variable:
        mode = {"run": "online", "dryrun": "offline"}.get(variable.lower(), variable.lower())
    if mode not in MODES or (variable and mode == "auto"):
        source = f"WANDB_MODE={variable}" if variable else f"--wandb {mode}"
        raise UserError(f"{source}: must be one of {', '.join(MODES[1:])}")
    if mode == "disabled":
        return mode
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else even offline runs report usage
    try:
        with_key = has_key()
    except ImportError as error:
        if asked != "auto":
            raise UserError(
                f"--wandb {asked}: wandb cannot be imported ({error}); pip install wandb"
            ) from None
        say("nothing is logged there, as the package is missing (pip install wandb)")
        return "disabled"
    if mode == "auto":
        return "online" if with_key else "offline"
    if mode == "online" and not with_key:
        raise UserError(f"W&B online: there is no API key; {LOGIN}, or use --wandb offline")
    return mode


def has_key() -> bool:
    """Whether the environment or a stored login has credentials for the server in use.

    Raises:
        ImportError: the package is missing.
        UserError: W&B refuses one of its variables in the environment.
    """
    # Private, as the public ways ask for a key where there is none.
    from wandb import Settings
    from wandb.errors import AuthenticationError
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    try:
        Settings().update_from_env_vars(dict(os.environ))
    except pydantic.ValidationError as error:
        fault = error.errors()[0]
        raise UserError(
            f"W&B refuses its setting {'.'.join(map(str, fault['loc']))!r}, which a variable "
            f"WANDB_... of the environment gives: {one_line(fault['msg'])}; correct or unset it"
        ) from None
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        return bool(wbauth.read_netrc_auth(host=wandb_setup.singleton().settings.base_url))
    except AuthenticationError:  # what is stored is no key
        return False


def say(message: str) -> None:
    """A line of W&B's on stderr."""
    print(f"W&B: {message}", file=sys.stderr, flush=True)
