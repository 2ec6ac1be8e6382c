"""Writes a trained policy as an ONNX model, with any number of observations at once."""

import importlib.util
import os
import uuid
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from rllib_lpdm.algorithms.module import ActorCriticModule
from rllib_lpdm.algorithms.rollouts import EpisodeRunner
from rllib_lpdm.policies.bundle import ENOUGH
from rllib_lpdm.policies.evaluation import SavedPolicy
from rllib_lpdm.schema.messages import UserError, described, one_line

OPSET = 17


def export_onnx(policy: SavedPolicy, file: Path) -> None:
    """Writes a policy's most probable action as an ONNX model.

    The input ``observation`` is ``(N, *observation shape)`` float32, as the environment gives it.
    The output ``action`` is what the environment takes: (N,) int64, or ``(N, *action shape)``
    within the bounds. The output ``outputs`` is (N, size): the logits, or the means.

    Args:
        policy: the policy.
        file: a new file, which appears when it is whole.

    Raises:
        UserError: the file exists or cannot be written, onnx or onnxruntime is missing, or
            the model would not act as the policy does.
    """
    if os.path.lexists(file):
        raise UserError(f"{file} exists; name a new file")
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--onnx needs {package}: pip install 'rllib-lpdm[onnx]'")
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with policy.runner(0) as runner:
            _write(runner.module, temporary)
            _check(runner, temporary)
        os.replace(temporary, file)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {one_line(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)


class _Acting(nn.Module):
    """(N, *observation shape) -> actions as the environment takes them, and the outputs."""

    low: Tensor
    high: Tensor

    def __init__(self, module: ActorCriticModule) -> None:
        super().__init__()
        self.module = module
        space = module.action_space
        if isinstance(space, gym.spaces.Box):
            self.register_buffer("low", torch.from_numpy(space.low.copy()))
            self.register_buffer("high", torch.from_numpy(space.high.copy()))

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        outputs, _ = self.module.policy(observation)
        space = self.module.action_space
        if isinstance(space, gym.spaces.Discrete):
            return outputs.argmax(1) + int(space.start), outputs
        actions = outputs.reshape(-1, *space.shape).to(self.low.dtype)
        return torch.maximum(torch.minimum(actions, self.high), self.low), outputs


def _write(module: ActorCriticModule, file: Path) -> None:
    names = ["observation", "action", "outputs"]
    with file.open("wb") as stream, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # this exporter needs no further package; the new one does
        torch.onnx.export(
            _Acting(module).eval(),
            (torch.zeros(2, *module.observation_space.shape),),
            stream,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes={name: {0: "batch"} for name in names},
        )


def _check(runner: EpisodeRunner, file: Path) -> None:
    """Raises UserError where the model does not act as the policy does on an episode."""
    import onnxruntime

    (episode,) = runner.sample(num_episodes=1)
    shape = runner.env.observation_space.shape
    observations = episode.observations.reshape(len(episode.observations), *shape)
    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        actions, outputs = session.run(None, {"observation": observations})
    except Exception as error:  # of several classes, which are no public names
        raise UserError(f"onnxruntime cannot run the model: {described(error)}") from None
    acts = runner.module.numpy_policy()
    expected = np.array([acts(observation).copy() for observation in episode.observations])
    agree = np.isclose(outputs, expected, rtol=1e-3, atol=1e-4).all(1)
    if len(actions) != len(observations) or agree.mean() < ENOUGH:
        raise UserError("the ONNX model would not act as the policy does; it is not exported")
