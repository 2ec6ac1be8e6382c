"""``python -m rllib_lpdm.evaluate CELL_DIR``: returns, and a video, of a trained policy."""

import argparse
import json
import sys
import types
from pathlib import Path

from rllib_lpdm.cli import add_import_option, complain, end, positive, program
from rllib_lpdm.policies.command import begin
from rllib_lpdm.policies.evaluation import Evaluation, SavedPolicy, evaluate
from rllib_lpdm.policies.saved import CHECKPOINT_NAMES
from rllib_lpdm.policies.video import VIDEO_SUFFIXES, has_mp4_encoder
from rllib_lpdm.schema.messages import UserError, counted


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0; 1 where the returns are known but a file could not be written; 2 where nothing could be
        evaluated.
    """
    options = _parser().parse_args(arguments)
    try:
        begin(options.imports)
        policy = SavedPolicy.load(options.folder, options.checkpoint)
        changed = policy.changed_versions()
        if changed:
            print(f"note: trained with other versions: {'; '.join(changed)}", file=sys.stderr)
        evaluation = policy.evaluate(options.episodes, options.seed)
    except UserError as error:
        return complain(error, 2)
    print(_table(evaluation), flush=True)
    status = 0
    if options.json:
        try:
            text = json.dumps(evaluation.to_json())
            content = json.loads(text, parse_constant=lambda _: None)  # no NaN, no Infinity
            options.json.write_text(json.dumps(content, indent=2) + "\n")
        except OSError as error:
            status = complain(error, 1)
    if options.video:
        file = _default_video(options.folder) if options.video is DEFAULT else options.video
        try:
            episode = policy.film(file, options.seed)
            print(f"{file}: episode 1, return {episode.total_reward():.2f}, length {len(episode)}")
        except UserError as error:
            status = complain(error, 1)
    return status


DEFAULT = Path("video")


def _default_video(folder: str) -> Path:
    return Path(folder) / f"video{'.mp4' if has_mp4_encoder() else '.gif'}"


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
    add_import_option(parser)
    return parser


def _video(text: str) -> Path:
    file = Path(text)
    if file.suffix.lower() not in VIDEO_SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(VIDEO_SUFFIXES)}")
    return file


class _Module(types.ModuleType):
    """This module can be called, as the public name ``rllib_lpdm.evaluate`` is a function."""

    __call__ = staticmethod(evaluate)


sys.modules[__name__].__class__ = _Module

if __name__ == "__main__":
    end(main())
