"""Environments that cannot be trained are named, all of them, before anything starts."""

import importlib.metadata

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from rllib_lpdm.grid import preflight
from rllib_lpdm.grid.preflight import check_environments
from rllib_lpdm.schema.environments import EnvironmentSpec
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import CONFIGS

UNIT = Box(-1.0, 1.0, (2,))


class Tiny(gym.Env):
    """Spaces to be checked, and a count of those that are still open."""

    open = 0

    def __init__(self, observations=UNIT, actions=UNIT, fault=None, reset=None, step=None):
        self.observation_space, self.action_space, self.fault = observations, actions, fault
        zeros = np.zeros(observations.shape or (), observations.dtype)
        self._reset = (zeros, {}) if reset is None else reset
        self._step = (zeros, 0.5, False) if step is None else step
        Tiny.open += 1

    def reset(self, *, seed=None, options=None):
        if self.fault:
            raise self.fault
        return self._reset

    def step(self, action):
        assert self.action_space.contains(action)
        return self._step if len(self._step) != 3 else (*self._step, False, {})

    def close(self):
        Tiny.open -= 1


@pytest.fixture
def tiny(monkeypatch):
    """Registers a tiny environment for one test."""
    monkeypatch.setattr(Tiny, "open", 0)
    registered = []

    def register(name, **kwargs):
        gym.register(name, Tiny, kwargs=kwargs)
        registered.append(name)
        return name

    yield register
    for name in registered:
        del gym.registry[name]


def specs(*ids):
    return [EnvironmentSpec(id=one) for one in ids]


def faults(environments):
    with pytest.raises(UserError) as error:
        check_environments(specs(*environments))
    return str(error.value).splitlines()


def mujoco_version(monkeypatch, version):
    """Pretends that MuJoCo has this version, or is missing, and that no environment loads."""

    def installed(name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    def fail(*args):
        raise AttributeError("'MjData' object has no attribute 'solver_iter'")

    monkeypatch.setattr(importlib.metadata, "version", installed)
    monkeypatch.setattr(preflight, "create_environment", fail)


def test_arrays_with_discrete_or_continuous_actions_pass(tiny):
    check_environments(
        specs(
            tiny("TinyContinuous-v0"),
            tiny("TinyDiscrete-v0", actions=Discrete(3, start=-1)),
            tiny("TinyImage-v0", observations=Box(0, 255, (4, 4), np.uint8)),
            "CartPole-v1",
        )
    )
    assert Tiny.open == 0


def test_all_environments_that_cannot_be_trained_are_listed_with_their_places(tiny):
    found = faults(
        [
            tiny("TinyDict-v0", observations=Dict({"x": UNIT})),
            tiny("TinyFine-v0"),
            tiny("TinyMulti-v0", actions=MultiDiscrete([2, 3])),
            tiny("TinyBinary-v0", actions=MultiBinary(2)),
            tiny("TinyInteger-v0", actions=Box(0, 5, (1,), np.int64)),
            tiny("TinyState-v0", observations=Discrete(5)),
        ]
    )
    assert [line.partition(": unsupported ")[0] for line in found] == [
        "environments[0]: TinyDict-v0",
        "environments[2]: TinyMulti-v0",
        "environments[3]: TinyBinary-v0",
        "environments[4]: TinyInteger-v0",
        "environments[5]: TinyState-v0",
    ]
    assert all("wrap" in line for line in found)
    assert Tiny.open == 0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(RuntimeError("no display\n  here"), "no display here"), (KeyError(), "KeyError")],
)
def test_an_environment_that_fails_on_reset_is_named_with_its_reason_and_closed(
    tiny, fault, reason
):
    assert faults(["CartPole-v1", tiny("TinyBroken-v0", fault=fault)]) == [
        f"environments[1]: TinyBroken-v0: {reason}"
    ]
    assert Tiny.open == 0


ZEROS = np.zeros(2, np.float32)
WRONG_ANSWERS = {
    "reset without info": ({"reset": np.zeros(3)}, "reset() must return observation and info"),
    "reset without info, of two numbers": ({"reset": ZEROS}, "of shape (), but"),
    "step with four values": ({"step": (ZEROS, 1.0, False, {})}, "step() observation, reward"),
    "step with six values": ({"step": (ZEROS, 1.0, False, False, {}, 0)}, "step() observation"),
    "reward of shape (1,)": ({"step": (ZEROS, np.ones(1), False)}, "as reward, which must be one"),
    "reward that is nothing": ({"step": (ZEROS, None, False)}, "gave None as reward"),
    "ends of a batch": ({"step": (ZEROS, 1.0, np.array([False]))}, "as terminated, which must"),
    "short reset": ({"reset": (np.zeros(1), {})}, "of shape (1,), but"),
    "short step": ({"step": (np.zeros(1), 1.0, False)}, "of shape (1,), but"),
    "observation of words": ({"reset": (["a", "b"], {})}, "of type <U1, but"),
    "observation of objects": ({"step": (np.array([None, 1]), 1.0, False)}, "of type object, but"),
    "fractions for bytes": (
        {"observations": Box(0, 255, (2,), np.uint8), "step": (ZEROS, 1.0, False)},
        "of type float32, but its observation_space declares uint8",
    ),
}


@pytest.mark.parametrize("case", WRONG_ANSWERS)
def test_what_training_cannot_take_of_reset_and_step_is_one_line_with_the_environment(tiny, case):
    answers, fragment = WRONG_ANSWERS[case]
    (line,) = faults(["CartPole-v1", tiny("TinyWrong-v0", **answers)])
    assert line.startswith("environments[1]: TinyWrong-v0: ")
    assert fragment in line
    assert Tiny.open == 0


def test_other_numbers_than_declared_and_an_early_end_pass(tiny):
    check_environments(
        specs(
            tiny("TinyDouble-v0", reset=(np.zeros(2), {}), step=([0, 1], np.float32(1), False)),
            tiny("TinyShort-v0", step=(ZEROS, 1, np.True_)),
            tiny("TinyBytes-v0", observations=Box(0, 255, (2,), np.uint8), reset=([1, 2], {})),
        )
    )
    assert Tiny.open == 0


def test_pusher_under_mujoco_3_says_which_mujoco_and_which_python_or_which_pusher(monkeypatch):
    mujoco_version(monkeypatch, "3.2.7")
    (line,) = faults(["Pusher-v4"])
    for part in ("environments[0]: Pusher-v4: 'MjData'", "3.2.7", "2.3.7", "3.11", "Pusher-v5"):
        assert part in line


def test_missing_mujoco_says_how_to_install_it(monkeypatch):
    mujoco_version(monkeypatch, None)
    (line,) = faults(["Hopper-v4"])
    assert "pip install 'mujoco==2.3.7'" in line


def test_mujoco_is_not_blamed_for_other_environments(monkeypatch):
    mujoco_version(monkeypatch, "3.2.7")
    found = faults(["CartPole-v1", "Hopper-v4"])
    assert "mujoco" not in found[0]
    assert "mujoco 3.2.7 is installed" in found[1]
    assert "Pusher" not in found[1]


@pytest.mark.skipif(
    importlib.metadata.version("mujoco") >= "3", reason="Pusher-v4 needs MuJoCo before 3"
)
def test_the_papers_environments_pass():
    check_environments(load_experiment(CONFIGS / "grid.yaml").environments)
