"""``python -m rllib_lpdm.evaluate CELL_DIR``: evaluates and films a trained policy."""

import argparse
import sys
import types
from pathlib import Path

from rllib_lpdm.cli import add_policy_options, begin, command, complain, end, program
from rllib_lpdm.policies.evaluation import Evaluation, SavedPolicy, evaluate, json_text
from rllib_lpdm.policies.video import VIDEO_SUFFIXES, video_name
from rllib_lpdm.schema.messages import UserError, counted


@command()
def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 1 where the returns are known but a file could not be written; 2 where nothing could be
        evaluated.
    """
    options = _parser().parse_args(arguments)
    begin(options.imports)
    policy = SavedPolicy.load(options.folder, options.checkpoint)
    if changed := policy.changed_versions():
        print(f"note: trained with other versions: {'; '.join(changed)}", file=sys.stderr)
    evaluation = policy.evaluate(options.episodes, options.seed)
    print(_table(evaluation), flush=True)
    status = 0
    if options.json:
        try:
            options.json.write_text(json_text(evaluation.to_json()))
        except OSError as error:
            status = complain(error, 1)
    if options.video:
        is_named = options.video is not DEFAULT
        file = options.video if is_named else Path(options.folder) / video_name()
        try:
            episode = policy.film(file, options.seed)
            print(f"{file}: episode 1, return {episode.total_reward():.2f}, length {len(episode)}")
        except UserError as error:
            status = complain(error, 1)
    return status


DEFAULT = Path("video")


def _table(evaluation: Evaluation) -> str:
    policy = evaluation.policy
    lines = [
        f"{policy.cell.name}, {policy.status}: {policy.checkpoint} checkpoint, "
        f"after {counted(policy.iteration, 'iteration')}",
        f"most probable actions, evaluation seed {evaluation.seed}",
        "",
        f"{'episode':>7} {'return':>12} {'length':>8}",
    ]
    rows = zip(evaluation.returns, evaluation.lengths, strict=True)
    lines += [f"{k:>7} {value:>12.2f} {length:>8}" for k, (value, length) in enumerate(rows, 1)]
    lines.append(f"{'mean':>7} {evaluation.mean:>12.2f} {evaluation.lengths.mean():>8.1f}")
    if evaluation.std is not None:
        lines.append(f"{'std':>7} {evaluation.std:>12.2f} {evaluation.lengths.std(ddof=1):>8.1f}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program("evaluate"), description=__doc__)
    parser.add_argument("folder", metavar="CELL_DIR", help="such as results/grid/Ant-v4_ppo_bp_s0")
    add_policy_options(parser)
    parser.add_argument(
        "--video",
        nargs="?",
        type=_video,
        const=DEFAULT,
        metavar="FILE",
        help="film the first episode into FILE.mp4 or FILE.gif; default: CELL_DIR/video.mp4, or "
        "video.gif where no MP4 encoder is installed",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the returns to FILE too")
    return parser


def _video(text: str) -> Path:
    file = Path(text)
    if file.suffix.lower() not in VIDEO_SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(VIDEO_SUFFIXES)}")
    return file


class _Module(types.ModuleType):
    """A module that can be called, because the public ``rllib_lpdm.evaluate`` is a function."""

    __call__ = staticmethod(evaluate)


sys.modules[__name__].__class__ = _Module

if __name__ == "__main__":
    end(main())
