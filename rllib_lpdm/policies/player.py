"""Writes the script that plays an exported policy with numpy alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_lpdm.schema.environments import EnvironmentMaker
from rllib_lpdm.schema.messages import UserError

# Lines of numpy: z -> y, and x -> x.
ACTIVATIONS = {
    "tanh": "np.tanh(z)",
    "relu": "np.maximum(z, 0)",
    "leaky_relu": "np.maximum(z, np.float32(0.01) * z)",
    "elu": "np.where(z > 0, z, np.expm1(np.minimum(z, 0)))",
    "gelu": "(z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2).astype(np.float32)",
    "silu": "z / (1 + np.exp(-z))",
}
BLACK_BOXES = {"quantise": "np.round(x * 4) / 4", "sign": "np.sign(x)"}

_SCRIPT = '''\
"""Plays the episodes of evaluation.json with numpy: python play.py [HOW_MANY]"""

import json{math}
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
from safetensors.numpy import load_file
{imports}
FOLDER = Path(__file__).resolve().parent
WEIGHTS = load_file(FOLDER / "weights.safetensors")


def linear(name, x):
    return WEIGHTS[name + ".weight"] @ x.ravel() + WEIGHTS[name + ".bias"]

{convolution}
def activation(z):
    return {activation}


def outputs(observation):
    x = {inputs}
{network}


def play(env, seed):
    observation, _ = env.reset(seed=seed)
    rewards, ended = [], False
    while not ended:
        action = {action}
        observation, reward, terminated, truncated, _ = env.step(action)
        rewards.append(float(reward))
        ended = terminated or truncated
    return sum(rewards), len(rewards)


if __name__ == "__main__":
    env = gym.make({make})
{wrappers}    count = int(sys.argv[1]) if len(sys.argv) > 1 else None
    for then in json.loads((FOLDER / "evaluation.json").read_text())["episodes"][:count]:
        total, length = play(env, then["seed"])
        print(f"return {{total!r}} (then {{then['return']!r}}), length {{length}}")
'''

_CONVOLUTION = """
def convolution(name, x, stride):
    weight = WEIGHTS[name + ".weight"]
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(1, 2))
    maps = np.einsum("chwij,fcij->fhw", windows[:, ::stride, ::stride], weight, optimize=True)
    return maps + WEIGHTS[name + ".bias"][:, None, None]

"""


@dataclass(frozen=True)
class ExportedNetwork:
    """The structure of the network that acts, with the names of its parameters.

    Attributes:
        strides: strides of the convolutions, which come first.
        layers: number of hidden layers, with the convolutions.
        activation: the activation's name.
        black_box: the name of the black box between hidden layers, or None.
        heads: the policy heads by hidden layer, from 1; layer 0 is the input. Their mean acts.
    """

    strides: Sequence[int]
    layers: int
    activation: str
    black_box: str | None
    heads: Mapping[int, str]

    def lines(self) -> list[str]:
        """Returns the body of the script's ``outputs``, whose inputs are in x."""
        lines: list[str] = []
        outputs: list[str] = []
        for number in range(self.layers + 1):
            name = f'"encoder.layers.{number - 1}"'
            if number > len(self.strides):
                lines.append(f"x = activation(linear({name}, x))")
            elif number > 0:
                stride = self.strides[number - 1]
                lines.append(f"x = activation(convolution({name}, x, stride={stride}))")
            if number in self.heads:
                outputs.append(f'linear("{self.heads[number]}", x)')
                if number < self.layers:  # x changes before the mean is taken
                    lines.append(f"output_{number} = {outputs[-1]}")
                    outputs[-1] = f"output_{number}"
            if 0 < number < self.layers and self.black_box is not None:
                lines.append(f"x = {BLACK_BOXES[self.black_box]}")
        mean = f"({' + '.join(outputs)}) / {len(outputs)}"
        return [*lines, f"return {mean if len(outputs) > 1 else outputs[0]}"]


def script(network: ExportedNetwork, env: gym.Env, maker: EnvironmentMaker) -> str:
    """Returns the script's text, in which every value from a file is a literal.

    Raises:
        UserError: no line of numpy is known for the activation.
    """
    if network.activation not in ACTIVATIONS:
        raise UserError(f"play.py has no line for the activation {network.activation!r}")
    spec, activation = maker.spec, ACTIVATIONS[network.activation]
    named: dict[str, Any] = dict(spec.kwargs)
    if spec.max_episode_steps is not None:
        named["max_episode_steps"] = spec.max_episode_steps
    wrappers = [
        f"    env = gym.wrappers.{wrapper.name}(env, **{wrapper.kwargs!r})\n"
        for wrapper in spec.wrappers
    ]
    inputs = "np.asarray(observation, np.float32)"
    if network.strides:  # channels first, bytes in [0, 1]
        inputs = f"np.moveaxis({inputs}, -1, 0)"
        inputs += " / 255" if env.observation_space.dtype == np.uint8 else ""
    space = env.action_space
    action = "np.clip(outputs(observation).reshape(space.shape), space.low, space.high)"
    action = f"{action}.astype(space.dtype)".replace("space", "env.action_space")
    if isinstance(space, gym.spaces.Discrete):
        action = "int(outputs(observation).argmax())" + (f" + {space.start}" if space.start else "")
    return _SCRIPT.format(
        math="\nimport math" if "math." in activation else "",
        imports="".join(
            f"import {module}  # registers the environment\n" for module in maker.imports
        ),
        convolution=_CONVOLUTION if network.strides else "",
        activation=activation,
        inputs=inputs,
        network="\n".join(f"    {line}" for line in network.lines()),
        action=action,
        make=f"{spec.id!r}" + (f", **{named!r}" if named else ""),
        wrappers="".join(wrappers),
    )
