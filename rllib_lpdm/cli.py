"""``rllib-lpdm COMMAND``: the command lines under one name."""

import argparse
import functools
import gc
import importlib
import io
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rllib_lpdm import __version__
from rllib_lpdm.schema.messages import UserError, one_line, unknown_name

SCRIPT = "rllib-lpdm"
COMMANDS = {  # modules of this package, imported when they are asked for
    "tune": "train every cell of an experiment file",
    "search": "find settings, with equal budgets for all methods",
    "report": "tables, figures and one page of a results folder",
    "evaluate": "returns, and a video, of a trained policy",
    "verify": "recorded cells again, compared bit for bit",
    "export": "a policy, or scores, for use without this package",
    "publish": "finished cells in a few small files",
    "benchmark": "speed and memory as ratios",
}


for _stream in (sys.stdout, sys.stderr):  # a path need not be text that a terminal can show
    if isinstance(_stream, io.TextIOWrapper):
        _stream.reconfigure(errors="backslashreplace")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command that the first argument names, and returns its status."""
    parser = argparse.ArgumentParser(
        prog=SCRIPT,
        usage=f"{SCRIPT} [--version] [--help] COMMAND ...",
        description="Local pairwise distance matching: policies trained without backpropagation.",
        epilog="\n".join(
            ["commands:", *(f"  {name:<10} {what}" for name, what in COMMANDS.items())]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    rest = "its arguments: COMMAND --help"
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=rest).required = False
    options = parser.parse_args(arguments)
    if options.command not in COMMANDS:
        parser.error(unknown_name(options.command, COMMANDS, "command"))
    status: int = importlib.import_module(f"rllib_lpdm.{options.command}").main(options.rest)
    if arguments is None:  # called by the script
        end(status)
    return status


def command(*faults: type[Exception]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Makes a function print a UserError, or an error of these classes, and return status 2."""

    def decorate(run: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(run)
        def guarded(*arguments: Any) -> int:
            try:
                return run(*arguments)
            except UserError as error:  # may list faults, one a line
                return complain(error, 2)
            except faults as error:
                return complain(one_line(error, 600), 2)

        return guarded

    return decorate


def end(status: int) -> NoReturn:
    """Ends a command's process without a last garbage collection, which would take a second."""
    gc.freeze()
    raise SystemExit(status)


def program(command: str) -> str:
    """Returns a command as its user has called it, for usage lines and advice."""
    by_script = Path(sys.argv[0]).stem == SCRIPT
    return f"{SCRIPT} {command}" if by_script else f"python -m rllib_lpdm.{command}"


def complain(error: object, status: int) -> int:
    """Prints an error on stderr, short and without control characters, and returns the status."""
    lines = [one_line(line, 600) for line in str(error).split("\n")]
    print("error:", "\n".join(lines), file=sys.stderr)
    return status


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--import``, whose modules are ``imports`` of the options."""
    parser.add_argument(
        "--import",
        action="append",
        default=[],
        dest="imports",
        metavar="MODULE",
        help="import a module that registers environments; can be given again",
    )


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of commands that evaluate a trained policy."""
    from rllib_lpdm.policies.saved import CHECKPOINT_NAMES

    parser.add_argument("--episodes", type=positive, default=20, metavar="N", help="default: 20")
    parser.add_argument(
        "--checkpoint",
        choices=CHECKPOINT_NAMES,
        default="best",
        help="the one of the highest smoothed return in training, or the last; default: best",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="seed of these episodes: the same one begins the same episodes; default: 0",
    )
    add_import_option(parser)


def begin(imports: Sequence[str] = ()) -> None:
    """Keeps Ray and environments silent, and imports the modules that ``--import`` names.

    Raises:
        UserError: a module cannot be imported.
    """
    from rllib_lpdm.grid.cell import quiet_environments
    from rllib_lpdm.schema.environments import import_modules

    quiet_environments()
    logging.getLogger("ray").setLevel(logging.ERROR)  # RLlib's advice to developers of RLlib
    try:
        import_modules(imports)
    except ValueError as error:
        raise UserError(f"--import {error}") from None


def positive(text: str) -> int:
    """Returns the number of an argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    end(main())
