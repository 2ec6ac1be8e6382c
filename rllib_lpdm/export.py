"""Writes a policy, or scores, for use without this package.

``python -m rllib_lpdm.export CELL OUT`` or ``python -m rllib_lpdm.export CELL --onnx FILE``.
"""

import argparse
import re
import sys
from pathlib import Path

from rllib_lpdm.analysis.cells import read_results
from rllib_lpdm.analysis.exchange import write_scores
from rllib_lpdm.cli import add_policy_options, begin, command, complain, end, program
from rllib_lpdm.policies.bundle import export_cell
from rllib_lpdm.policies.evaluation import SavedPolicy
from rllib_lpdm.policies.onnx import export_onnx
from rllib_lpdm.results.storage import given_folder
from rllib_lpdm.schema.messages import counted, one_line


@command()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 1 where all but the video was written; 2 where nothing was.
    """
    parser = _parser()
    options = parser.parse_intermixed_args(arguments)  # OUT may follow an option
    if options.out is None and (options.scores or options.onnx is None):
        parser.error("name OUT, a new folder")
    if options.scores and options.onnx is not None:
        parser.error("--onnx writes a policy, --scores writes none")
    return _export_scores(options) if options.scores else _export_cell(options)


@command(OSError, ValueError)
def _export_scores(options: argparse.Namespace) -> int:
    files, notes = write_scores(read_results(given_folder(options.source)), options.out)
    for note in notes:
        print(f"note: {one_line(note, 600)}", file=sys.stderr)
    print(*files, sep="\n")
    return 0


def _export_cell(options: argparse.Namespace) -> int:
    begin(options.imports)
    if options.onnx is not None:
        policy = SavedPolicy.load(options.source, options.checkpoint, options.imports)
        export_onnx(policy, options.onnx.absolute())
        print(options.onnx)
    if options.out is None:
        return 0
    score, fault = export_cell(
        options.source,
        options.out.absolute(),
        checkpoint=options.checkpoint,
        imports=options.imports,
        episodes=options.episodes,
        seed=options.seed,
        licence=options.licence,
        film=not options.no_video,
    )
    episodes = counted(len(score.returns), "episode")
    print(f"{options.out}: mean return {score.mean:.2f} in {episodes}")
    return 0 if fault is None else complain(f"no video: {fault}", 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program("export"), description=__doc__)
    parser.add_argument(
        "source", metavar="CELL", help="a cell's folder; with --scores, an experiment's"
    )
    parser.add_argument("out", metavar="OUT", type=Path, nargs="?", help="a new folder")
    parser.add_argument(
        "--onnx",
        type=Path,
        metavar="FILE",
        help="write the policy as an ONNX model; OUT may be left out then",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="write the scores of an experiment's finished runs as rliable and marl-eval read them",
    )
    add_policy_options(parser)
    parser.add_argument(
        "--licence",
        type=_licence,
        default="MIT",
        metavar="SPDX",
        help="of the weights, such as MIT, Apache-2.0 or CC-BY-4.0; default: MIT",
    )
    parser.add_argument("--no-video", action="store_true", help="without a video")
    return parser


def _licence(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.+-]{1,60}", text):
        raise argparse.ArgumentTypeError("must be an identifier of SPDX, such as Apache-2.0")
    return text


if __name__ == "__main__":
    end(main())
