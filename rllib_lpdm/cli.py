"""``rllib-lpdm COMMAND``: the command lines under one name."""

import argparse
import gc
import importlib
import io
import sys
from pathlib import Path
from typing import NoReturn

from rllib_lpdm import __version__
from rllib_lpdm.schema.messages import one_line, unknown_name

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
    """Runs the command that the first argument names; the status is the command's."""
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
    rest = "what it takes: COMMAND --help"
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=rest).required = False
    options = parser.parse_args(arguments)
    if options.command not in COMMANDS:
        parser.error(unknown_name(options.command, COMMANDS, "command"))
    status: int = importlib.import_module(f"rllib_lpdm.{options.command}").main(options.rest)
    if arguments is None:  # the script ends with what this returns
        end(status)
    return status


def end(status: int) -> NoReturn:
    """Ends the process of a command, without a last search for garbage in all that it has loaded.

    That would take it most of a second.
    """
    gc.freeze()
    raise SystemExit(status)


def program(command: str) -> str:
    """A command as its user has called it, for usage lines and advice."""
    by_script = Path(sys.argv[0]).stem == SCRIPT
    return f"{SCRIPT} {command}" if by_script else f"python -m rllib_lpdm.{command}"


def complain(error: object, status: int) -> int:
    """Says on stderr why a command ends, whatever the text of an error holds; gives the status."""
    print(
        "error:", "\n".join(one_line(line, 600) for line in str(error).split("\n")), file=sys.stderr
    )
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


def positive(text: str) -> int:
    """An argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    end(main())
