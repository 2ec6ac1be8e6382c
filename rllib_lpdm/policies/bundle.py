"""A trained policy as a folder that others can use without this package."""

import json
import os
import re
import runpy
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import save

from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream
from rllib_lpdm.methods import METHODS
from rllib_lpdm.policies.evaluation import Evaluation, SavedPolicy
from rllib_lpdm.policies.player import Network, script
from rllib_lpdm.policies.saved import CheckpointName
from rllib_lpdm.policies.video import has_mp4_encoder
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError, counted, one_line

WEIGHTS, PLAYER, SETTINGS, EVALUATION, CARD = (
    *("weights.safetensors", "play.py", "experiment.yaml", "evaluation.json", "README.md"),
)
NEEDED = ("numpy", "gymnasium", "mujoco")  # by the player, in the versions of the training
ENOUGH = 0.9  # share of observations on which script and policy have to agree


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        evaluation: the score that the card gives.
        video: its file; None where there is none.
        fault: why there is none, where one was asked for.
    """

    evaluation: Evaluation
    video: str | None
    fault: str | None


def export_cell(
    folder: str | Path,
    out: Path,
    *,
    checkpoint: CheckpointName = "best",
    imports: Sequence[str] = (),
    episodes: int = 20,
    seed: int = 0,
    licence: str = "MIT",
    film: bool = True,
) -> Exported:
    """Writes a policy with everything that plays, describes and makes it again.

    The folder appears when it is whole: weights, a script that plays them, the experiment file that
    trains them again, the episodes of an evaluation, a video and a model card.

    Args:
        folder: the cell's.
        out: where to; a new folder, or an empty one.
        checkpoint: "best", of the highest smoothed return in training, or "last".
        imports: modules that register the environment.
        episodes: of the evaluation, at least 1.
        seed: of the evaluation.
        licence: of the weights, as its SPDX identifier.
        film: whether there is to be a video.

    Raises:
        UserError: the new folder holds something or cannot be written; the cell's cannot be
            evaluated, or its network cannot be written as a script.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists; name a new folder")
    policy = SavedPolicy.load(folder, checkpoint)
    policy = replace(policy, cell=replace(policy.cell, imports=tuple(imports)))
    evaluation = policy.evaluate(episodes, seed)
    run = RunRecord.read(Path(folder))
    assert run is not None  # the policy was read from it
    temporary = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        weights = {name: np.ascontiguousarray(value) for name, value in policy.weights.items()}
        (temporary / WEIGHTS).write_bytes(save(weights))
        (temporary / SETTINGS).write_text(experiment_file(policy.cell), encoding="utf-8")
        (temporary / EVALUATION).write_text(_episodes(evaluation), encoding="utf-8")
        with policy.runner(seed) as runner:
            text = script(network_of(policy, runner), runner.env, policy.cell.maker)
            (temporary / PLAYER).write_text(text, encoding="utf-8")
            _check(temporary / PLAYER, runner)
        video, fault = f"video{'.mp4' if has_mp4_encoder() else '.gif'}" if film else None, None
        if video is not None:
            try:
                policy.film(temporary / video, seed)
            except UserError as error:
                video, fault = None, str(error)
        text = card(evaluation, run, licence, video)
        (temporary / CARD).write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {one_line(error)}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(evaluation, video, fault)


def network_of(policy: SavedPolicy, runner: EpisodeRunner) -> Network:
    """What of the weights acts: with ``local_heads: mean`` the heads of all hidden layers."""
    settings, own = policy.cell.settings, runner.module.model_config
    layers = len(settings.conv_layers) + len(settings.hidden_sizes)
    heads = {layers: "policy_head"}
    if own.get("local_heads") == "mean":
        heads |= {number: f"local_policy_heads.{number - 1}" for number in range(1, layers)}
    strides = [stride for _, _, stride in settings.conv_layers]
    return Network(strides, layers, settings.activation, settings.black_box, heads)


def _check(player: Path, runner: EpisodeRunner) -> None:
    """Raises UserError where the script's network is not the policy.

    Rounding may differ, and where a function without a derivative stands between layers, it can
    turn that into a step now and then.
    """
    (episode,) = runner.sample(num_episodes=1)
    acts, outputs = runner.module.numpy_policy(), runpy.run_path(str(player))["outputs"]
    shape = runner.env.observation_space.shape
    agree = [
        np.allclose(outputs(observation.reshape(shape)), acts(observation), rtol=1e-3, atol=1e-4)
        for observation in episode.observations
    ]
    if np.mean(agree) < ENOUGH:
        raise UserError(f"{player.name} would not act as the policy does; it is not exported")


def experiment_file(cell: Cell) -> str:
    """The experiment file whose only cell this is."""
    content: dict[str, Any] = {
        "name": cell.name[:64],
        "environments": [cell.environment_record or cell.environment],
        "algorithms": [cell.algorithm],
        "methods": [cell.method],
        "seeds": [cell.seed],
        "settings": cell.settings.model_dump(mode="json"),
    }
    if cell.variant is not None:
        content["variants"] = {cell.variant: {}}
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def _episodes(evaluation: Evaluation) -> str:
    """What ``evaluate --json`` writes, and the seed of every episode's reset."""
    content = evaluation.to_json()
    for index, episode in enumerate(content["episodes"]):
        address = stream(evaluation.seed, Purpose.EVALUATION, 0, index)
        episode["seed"] = integer_seed(address)
    strict = json.loads(json.dumps(content), parse_constant=lambda _: None)
    return json.dumps(strict, indent=2) + "\n"


def card(evaluation: Evaluation, run: RunRecord, licence: str, video: str | None) -> str:
    """The model card, with the metadata that hubs of models read."""
    policy, cell = evaluation.policy, evaluation.policy.cell
    deviation = "" if evaluation.std is None else f" ± {evaluation.std:.2f}"
    score = f"{evaluation.mean:.2f}{deviation}"
    metric = {"type": "mean_reward", "name": "mean_reward", "value": score, "verified": False}
    of = {"type": cell.maker.spec.id, "name": cell.environment}
    task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
    metadata = {
        "license": licence.lower(),
        "library_name": "rllib-lpdm",
        "tags": ["reinforcement-learning", cell.maker.spec.id, cell.algorithm, cell.method],
        "model-index": [
            {"name": cell.name, "results": [{"task": task, "dataset": of, "metrics": [metric]}]}
        ],
    }
    trained = f"iteration {policy.iteration} of {cell.settings.iterations}"
    rows = {
        "environment": f"`{cell.environment}`",
        "algorithm": f"`{cell.algorithm}`",
        "method": f"`{cell.method}`: hidden layers are trained by "
        f"{METHODS[cell.method].description}",
        "seed of the training": cell.seed,
        "checkpoint": f"{policy.checkpoint}, after {trained}",
        "return": f"{score} in {counted(len(evaluation.returns), 'episode')} of the most probable "
        f"actions, whose seeds are in `{EVALUATION}` (evaluation seed {evaluation.seed})",
        "score in training": "none"
        if run.score is None
        else f"{run.score:.2f}, the mean return over the last 50 iterations",
        "trained with": ", ".join(f"{name} {one_line(v, 40)}" for name, v in run.versions.items()),
        "commit": f"`{one_line(run.git_commit or 'not known', 60)}`",
        "processor": one_line(run.hardware.get("cpu") or "not known", 100),
        "licence": licence,
    }
    packages = [
        f"{name}=={run.versions[name]}"
        for name in NEEDED
        if re.fullmatch(r"[\w.+-]+", str(run.versions.get(name, "")))
    ]
    starts = [name for name in ("init_hidden_from", "pretrain_from") if run.settings.get(name)]
    notes = [f"It needs what `{name}` names in that file, which is not here." for name in starts]
    notes += [
        f"`{module}` registers the environment and is not here; give `--import {module}`."
        for module in cell.maker.imports
    ]
    shows = [f"`{video}` shows the first of the episodes.", ""] if video else []
    text = [
        "---",
        yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        f"# {cell.name}",
        "",
        f"A policy for `{cell.environment}`, trained by rllib_lpdm, which compares backpropagation "
        "with",
        "[local pairwise distance matching](https://arxiv.org/abs/2507.11367).",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {str(value).replace('|', ' ')} |" for name, value in rows.items()),
        "",
        *shows,
        "## Play",
        "",
        "```",
        f"pip install {' '.join([*packages, 'safetensors'])}",
        f"python {PLAYER}",
        "```",
        "",
        "plays the same episodes with numpy and prints each return beside the one above.",
        "",
        "## Train again",
        "",
        "```",
        f"python -m rllib_lpdm.tune {SETTINGS}",
        "```",
        "",
        "which gives the same weights, bit for bit, with the versions, commit and processor above.",
        *notes,
    ]
    return "\n".join(text) + "\n"
