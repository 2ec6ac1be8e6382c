"""Writes a trained policy as an ONNX model for any number of observations at once."""

import importlib.util
import os
import warnings
from pathlib import Path

import gymnasium as gym
import torch
from torch import Tensor, nn

from rllib_lpdm.algorithms.module import ActorCriticModule
from rllib_lpdm.policies.bundle import Array, appears_whole, check_agreement
from rllib_lpdm.policies.evaluation import SavedPolicy
from rllib_lpdm.schema.messages import UserError, described

OPSET = 17


def export_onnx(policy: SavedPolicy, file: Path) -> None:
    """Writes a policy's most probable action as an ONNX model.

    The input ``observation`` is ``(N, *observation shape)`` float32, as the environment gives it.
    The output ``action`` is (N,) int64, or ``(N, *action shape)`` within the bounds, as the
    environment takes it. The output ``outputs`` is (N, size): the logits, or the means. The file
    appears when it is whole.

    Raises:
        UserError: the file exists or cannot be written, onnx or onnxruntime is missing, or
            the model would not act as the policy does.
    """
    if os.path.lexists(file):
        raise UserError(f"{file} exists; name a new file")
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--onnx needs {package}: pip install 'rllib-lpdm[onnx]'")
    with appears_whole(file) as temporary, policy.runner(0) as runner:
        _write(runner.module, temporary)
        check_agreement("the ONNX model", runner, lambda rows: _outputs(temporary, rows))


class _Acting(nn.Module):
    """The policy: (N, *observation shape) -> actions for the environment, and the outputs."""

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


def _outputs(file: Path, observations: Array) -> Array:
    """Runs the model, and returns its outputs; raises UserError where it cannot be run."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        actions, outputs = session.run(None, {"observation": observations})
    except Exception as error:  # of several classes, which are no public names
        raise UserError(f"onnxruntime cannot run the model: {described(error)}") from None
    if not len(actions) == len(outputs) == len(observations):
        raise UserError("the ONNX model does not act on any number of observations")
    return outputs
