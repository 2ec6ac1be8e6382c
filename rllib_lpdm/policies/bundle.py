"""Writes a trained policy as a folder that others can use without this package."""

import contextlib
import os
import re
import runpy
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save

from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream
from rllib_lpdm.methods import METHODS
from rllib_lpdm.policies.evaluation import Evaluation, SavedPolicy, json_text
from rllib_lpdm.policies.player import ExportedNetwork, script
from rllib_lpdm.policies.saved import CheckpointName
from rllib_lpdm.policies.video import video_name
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError, counted, one_line

WEIGHTS, PLAYER, SETTINGS, EVALUATION, CARD = (
    *("weights.safetensors", "play.py", "experiment.yaml", "evaluation.json", "README.md"),
)
Array = NDArray[Any]
NEEDED = ("numpy", "gymnasium", "mujoco")  # by the player, in the versions of the training
ENOUGH = 0.9  # share of observations on which script and policy have to agree


@contextlib.contextmanager
def appears_whole(path: Path) -> Iterator[Path]:
    """Yields another path, which becomes `path` at the end and vanishes on an error.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {one_line(error)}") from None
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


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
) -> tuple[Evaluation, str | None]:
    """Writes a folder that plays a policy, describes it and trains it again.

    It holds weights, a script that plays them, the experiment file, the episodes of an evaluation,
    a video and a model card. It appears when it is whole.

    Args:
        folder, checkpoint, episodes, seed: see :func:`evaluation.evaluate`.
        out: the new folder; an empty one may exist.
        imports: modules that register the environment.
        licence: the weights' licence, as its SPDX identifier.
        film: whether to make a video.

    Returns:
        The evaluation, and why there is no video; None where there is one, or `film` is false.

    Raises:
        UserError: the new folder holds something or cannot be written; the cell cannot be
            evaluated, or its network cannot be written as a script.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists; name a new folder")
    policy = SavedPolicy.load(folder, checkpoint, imports)
    evaluation = policy.evaluate(episodes, seed)
    run = RunRecord.read(Path(folder))
    assert run is not None  # the policy was read from it
    video, fault = (video_name() if film else None), None
    with appears_whole(out) as temporary:
        temporary.mkdir(parents=True)
        weights = {name: np.ascontiguousarray(value) for name, value in policy.weights.items()}
        (temporary / WEIGHTS).write_bytes(save(weights))
        with policy.runner(seed) as runner:
            text = script(_network(policy, runner), runner.env, policy.cell.maker)
            (temporary / PLAYER).write_text(text, encoding="utf-8")
            outputs = runpy.run_path(str(temporary / PLAYER))["outputs"]
            check_agreement(PLAYER, runner, lambda rows: np.array([outputs(row) for row in rows]))
        if video is not None:
            try:
                policy.film(temporary / video, seed)
            except UserError as error:
                video, fault = None, str(error)
        for name, text in (
            (SETTINGS, _experiment_file(policy.cell)),
            (EVALUATION, _episodes(evaluation)),
            (CARD, _card(evaluation, run, licence, video)),
        ):
            (temporary / name).write_text(text, encoding="utf-8")
    return evaluation, fault


def _network(policy: SavedPolicy, runner: EpisodeRunner) -> ExportedNetwork:
    """Returns the network that acts; ``local_heads: mean`` adds the heads of hidden layers."""
    settings, model_config = policy.cell.settings, runner.module.model_config
    layers = len(settings.conv_layers) + len(settings.hidden_sizes)
    heads = {layers: "policy_head"}
    if model_config.get("local_heads") == "mean":
        heads |= {number: f"local_policy_heads.{number - 1}" for number in range(1, layers)}
    strides = [stride for _, _, stride in settings.conv_layers]
    return ExportedNetwork(strides, layers, settings.activation, settings.black_box, heads)


def check_agreement(name: str, runner: EpisodeRunner, outputs: Callable[[Array], Array]) -> None:
    """Raises UserError where a copy of a runner's policy does not act as the policy.

    Rounding may differ. A black box between layers can turn that into a step now and then.

    Args:
        name: the copy's name.
        outputs: the copy: ``(N, *observation shape)`` observations -> (N, size) outputs.
    """
    (episode,) = runner.sample(num_episodes=1)
    policy, shape = runner.module.numpy_policy(), runner.env.observation_space.shape
    expected = np.array([policy(observation).copy() for observation in episode.observations])
    found = outputs(episode.observations.reshape(-1, *shape))
    if np.isclose(found, expected, rtol=1e-3, atol=1e-4).all(axis=1).mean() < ENOUGH:
        raise UserError(f"{name} would not act as the policy does; it is not exported")


def _experiment_file(cell: Cell) -> str:
    """Returns an experiment file with this cell alone."""
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
    """Returns the text that ``evaluate --json`` writes, with the seed of every episode's reset."""
    content = evaluation.to_json()
    for index, episode in enumerate(content["episodes"]):
        episode["seed"] = integer_seed(stream(evaluation.seed, Purpose.EVALUATION, 0, index))
    return json_text(content)


def _card(evaluation: Evaluation, run: RunRecord, licence: str, video: str | None) -> str:
    """Returns the model card, with the metadata that hubs of models read."""
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
    notes = [f"It needs the file that `{name}` names there, which is not here." for name in starts]
    notes += [
        f"`{module}` registers the environment and is not here; give `--import {module}`."
        for module in cell.maker.imports
    ]
    return _CARD.format(
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True),
        cell=cell,
        rows="\n".join(
            f"| {name} | {str(value).replace('|', ' ')} |" for name, value in rows.items()
        ),
        shows=f"`{video}` shows the first of the episodes.\n\n" if video else "",
        packages=" ".join([*packages, "safetensors"]),
        notes="".join(f"{note}\n" for note in notes),
    )


_CARD = f"""\
---
{{metadata}}---

# {{cell.name}}

A policy for `{{cell.environment}}`, trained by rllib_lpdm, which compares backpropagation with
[local pairwise distance matching](https://arxiv.org/abs/2507.11367).

| | |
|---|---|
{{rows}}

{{shows}}## Play

```
pip install {{packages}}
python {PLAYER}
```

plays the same episodes with numpy and prints each return beside the one above.

## Train again

```
python -m rllib_lpdm.tune {SETTINGS}
```

which gives the same weights, bit for bit, with the versions, commit and processor above.
{{notes}}"""
