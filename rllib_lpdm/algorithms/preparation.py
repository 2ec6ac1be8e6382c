"""The start of hidden layers: another run's layers, or recorded observations (section 5)."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from rllib_lpdm.algorithms.module import ActorCriticModule
from rllib_lpdm.algorithms.seeding import Purpose, stream
from rllib_lpdm.local_learning import LocalLoss
from rllib_lpdm.local_learning.shards import WholeBatch
from rllib_lpdm.methods.method import hidden_optimizers
from rllib_lpdm.results.checkpoints import checkpoints, read_arrays
from rllib_lpdm.results.layout import MIB, MOST_BYTES, WEIGHTS_FILE
from rllib_lpdm.schema.columns import column
from rllib_lpdm.schema.messages import counted, one_line

Array = NDArray[Any]

MINARI_FILE = Path("data") / "main_data.hdf5"
OBSERVATIONS = "observations"
MOST_RECORDED = 4096 * MIB  # bytes of recorded observations


def load_hidden_layers(module: ActorCriticModule, source: str | None, seed: int) -> None:
    """Gives a network the hidden layers of another run; None leaves them as they are."""
    if source is not None:
        path, arrays = hidden_weights(hidden_source(source, seed))
        check_hidden_weights(path, arrays, module.encoder.state_dict())
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        module.encoder.load_state_dict(tensors)


def pretrain(
    module: ActorCriticModule, config: Any, local_loss: LocalLoss, shards: WholeBatch
) -> Iterator[list[dict[str, float]]]:
    """Trains the hidden layers on the observations of ``pretrain_from``, without guidance.

    Yields each pass's metrics, one dictionary a minibatch.

    """
    if config.pretrain_from is None:
        return
    device = module.policy_head.weight.device
    recorded = torch.from_numpy(recorded_observations(config.pretrain_from)).to(device)
    check_observations(config.pretrain_from, recorded.shape[1], module.observation_space)
    # Optimizers for this alone: Adam's averages of recorded rows say nothing of the run.
    optimizers = hidden_optimizers(module, config)
    for epoch in range(config.pretrain_epochs):
        rng = stream(config.seed, Purpose.PRETRAINING, epoch)
        order = torch.from_numpy(rng.permutation(len(recorded))).to(device)
        metrics = []
        for rows in order.split(config.pretrain_batch_size):
            if len(rows) < 2:  # a last single row has no distances
                continue
            with torch.inference_mode():
                _, steps = module.encoder.learn(
                    module.inputs(recorded[rows]),
                    optimizers,
                    local_loss,
                    max_gradient_norm=config.grad_clip,
                    with_error=True,
                    shards=shards,
                )
            losses = {column("distance_loss", k): step.loss for k, step in enumerate(steps, 1)}
            errors = {column("distance_error", k): step.error for k, step in enumerate(steps, 1)}
            metrics.append(losses | errors)
        yield metrics


def hidden_weights(source: str | Path) -> tuple[Path, dict[str, Array]]:
    """Reads the parameters of another run's hidden layers, without unpickling.

    Args:
        source: a cell's folder, of which the newest checkpoint is taken; a checkpoint's folder; or
            a ``weights.npz``.

    Returns:
        The file, and its arrays by their names within the hidden layers.

    Raises:
        ValueError: there is no such file, it holds no hidden layers, or they are not finite.
    """
    path = Path(source)
    if os.path.isdir(path):  # Path.is_dir() raises where a name is too long
        folders = [path, *reversed(checkpoints(path).values())]
        found = (folder / WEIGHTS_FILE for folder in folders)
        path = next((file for file in found if file.is_file()), path)
    if not os.path.isfile(path):
        what = f"holds no {WEIGHTS_FILE}, nor checkpoints" if os.path.isdir(path) else "is missing"
        raise ValueError(
            f"init_hidden_from: {source} {what}; name a cell's folder that has a checkpoint, a "
            f"checkpoint or a {WEIGHTS_FILE}"
        )
    prefix = "encoder."
    arrays = {
        name.removeprefix(prefix): array
        for name, array in _arrays(path, "init_hidden_from").items()
        if name.startswith(prefix)
    }
    if not arrays:
        raise ValueError(
            f"init_hidden_from: {path} holds no hidden layers, which would be named {prefix}*"
        )
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise ValueError(f"init_hidden_from: {path}: {name} holds no floating-point numbers")
        if not np.isfinite(array).all():
            raise ValueError(f"init_hidden_from: {path}: {name} is not finite")
    return path, arrays


def hidden_source(setting: str, seed: int) -> str:
    """Returns the path that ``init_hidden_from`` names for a seed; other braces stay."""
    return setting.replace("{seed}", str(seed))


def check_hidden_weights(
    path: Path, arrays: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
    """Raises ValueError unless a file's arrays have the shapes of a network's hidden layers."""
    for name in sorted(arrays.keys() | expected.keys()):
        theirs = tuple(arrays[name].shape) if name in arrays else "nothing"
        ours = tuple(expected[name].shape) if name in expected else "nothing"
        if theirs != ours:
            raise ValueError(
                f"init_hidden_from: {path} has {theirs} for {name}, this network {ours}: both need "
                "the same observations and hidden layers"
            )


def recorded_observations(source: str | Path) -> Array:
    """Reads the observations that hidden layers learn from before a run.

    Args:
        source: an ``.npz`` file with an array ``observations``, ``(N, *observation shape)``; or the
            folder of a Minari dataset, whose ``data/main_data.hdf5`` has one group an episode.

    Returns:
        (N, d_x) float32, flattened.

    Raises:
        ValueError: there is no such file, it holds fewer than two rows, or they are not finite.
    """
    path = Path(source)
    if os.path.isdir(path):
        parts = list(_minari_observations(path))
    elif os.path.isfile(path):
        arrays = _arrays(path, "pretrain_from", MOST_RECORDED)
        if OBSERVATIONS not in arrays:
            raise ValueError(
                f"pretrain_from: {path} has no array {OBSERVATIONS!r}; write it with "
                f"numpy.savez(file, {OBSERVATIONS}=rows)"
            )
        parts = [arrays[OBSERVATIONS]]
    else:
        raise ValueError(
            f"pretrain_from: {path} is missing; name an .npz file or a Minari dataset's folder"
        )
    try:
        observations = np.concatenate([_rows(part) for part in parts])
    except ValueError as error:
        raise ValueError(f"pretrain_from: {path} holds no rows of numbers: {error}") from None
    if len(observations) < 2:
        raise ValueError(
            f"pretrain_from: {path} holds {counted(len(observations), 'observation')}; distances "
            "need two"
        )
    if not np.isfinite(observations).all():
        raise ValueError(f"pretrain_from: {path} holds observations that are not finite")
    return observations


def check_observations(source: str | Path, width: int, space: gym.Space) -> None:
    """Raises ValueError unless rows of a width fit an environment's observations."""
    wanted = math.prod(space.shape or ())
    if width != wanted:
        raise ValueError(
            f"pretrain_from: {source} has observations of {width} numbers, the environment's have "
            f"{wanted}"
        )


def _rows(observations: Array) -> Array:
    if observations.ndim == 0 or observations.dtype.kind not in "fiub":
        raise ValueError(f"shape {observations.shape}, {observations.dtype}")
    width = math.prod(observations.shape[1:])
    with np.errstate(over="ignore"):  # such numbers are refused as not finite
        return observations.reshape(len(observations), width).astype(np.float32)


def _minari_observations(folder: Path) -> Iterator[Array]:
    file = folder / MINARI_FILE
    if not file.is_file():
        raise ValueError(f"pretrain_from: {folder} is no Minari dataset: it has no {MINARI_FILE}")
    try:
        import h5py
    except ImportError:
        raise ValueError(
            "pretrain_from: a Minari dataset needs h5py: pip install 'rllib-lpdm[minari]'"
        ) from None
    try:
        with h5py.File(file, "r") as data:
            names = sorted(data, key=lambda name: int(name.rpartition("_")[2]))
            episodes = {name: data[name][OBSERVATIONS] for name in names}
            for name, observations in episodes.items():
                if not isinstance(observations, h5py.Dataset):
                    raise ValueError(f"{name} has several kinds of observations")
            if sum(observations.nbytes for observations in episodes.values()) > MOST_RECORDED:
                raise ValueError(f"it unpacks to more than {MOST_RECORDED} bytes")
            for observations in episodes.values():
                yield observations[()]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"pretrain_from: {file} cannot be read: {error}") from None


def _arrays(path: Path, setting: str, limit: int = MOST_BYTES[WEIGHTS_FILE]) -> dict[str, Array]:
    try:
        return read_arrays(path, limit)
    except (OSError, ValueError) as error:
        raise ValueError(f"{setting}: {path} cannot be read: {one_line(error)}") from None
