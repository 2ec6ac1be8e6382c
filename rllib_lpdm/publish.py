"""``python -m rllib_lpdm.publish RESULTS_DIR PUBLISHED_DIR``: finished cells in a few files."""

import argparse
from pathlib import Path

from rllib_lpdm.cli import command, end, program
from rllib_lpdm.results.published import publish
from rllib_lpdm.results.storage import results_folder
from rllib_lpdm.schema.messages import counted


@command(OSError, ValueError)
def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0 where the cells were published, 2 where they could not be.
    """
    parser = argparse.ArgumentParser(prog=program("publish"), description=__doc__)
    parser.add_argument("results", metavar="RESULTS_DIR", help="an experiment's folder, or its URL")
    parser.add_argument(
        "published", type=Path, metavar="PUBLISHED_DIR", help="new, or what the cells are added to"
    )
    options = parser.parse_args(arguments)
    added, cells = publish(results_folder(options.results), options.published)
    print(f"{counted(added, 'cell')} added, {cells} in {options.published}")
    return 0


if __name__ == "__main__":
    end(main())
