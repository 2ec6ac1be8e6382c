"""The v5 environments beside the paper's v4: the same settings, and never the paper's numbers."""

import gymnasium as gym
import pytest

from rllib_lpdm.analysis.groups import grouped, score_rows
from rllib_lpdm.analysis.summary import analyse
from rllib_lpdm.schema.loading import load_experiment
from tests.analysis.cells import seeds, write_cell
from tests.experiment.files import CONFIGS

PUSHER = {"environment": "Pusher-v4", "algorithm": "ppo"}
RENAMED = {"environment_spec": {"id": "Pusher-v5", "name": "Pusher-v4"}}


def test_a_v5_environment_has_the_settings_of_its_v4():
    old = load_experiment(CONFIGS / "grid.yaml").cells()
    new = load_experiment(CONFIGS / "grid_v5.yaml").cells()
    assert [cell.environment.replace("v5", "v4") for cell in new] == [c.environment for c in old]
    for cell, before in zip(new, old, strict=True):
        assert cell.settings == before.settings, cell.name
        assert (cell.algorithm, cell.method, cell.seed) == (
            *(before.algorithm, before.method, before.seed),
        )


@pytest.mark.parametrize("name", ["InvertedPendulum", "Pusher", "Hopper", "Walker2d", "Ant"])
def test_a_v5_environment_is_another_task(name):
    """Its rewards or observations differ, so that scores of the two are not comparable."""
    outcomes = []
    for version in ("v4", "v5"):
        try:
            env = gym.make(f"{name}-{version}", disable_env_checker=True)
        except ImportError:
            pytest.skip("mujoco 3 has no Pusher-v4")
        observation, _ = env.reset(seed=0)
        rewards, ended = [], False
        while not ended:
            observation, reward, terminated, truncated, _ = env.step(env.action_space.high)
            rewards.append(float(reward))
            ended = terminated or truncated
        outcomes.append((observation.shape, sum(rewards)))
    assert outcomes[0] != outcomes[1]


@pytest.mark.parametrize(
    "other", [{"environment": "Pusher-v5"}, RENAMED], ids=["by its id", "under the v4's name"]
)
def test_the_papers_numbers_stand_beside_its_own_environment_alone(other, tmp_path):
    def row(**entries):
        return score_rows(grouped(seeds([[1.0, 2.0]] * 5, **(PUSHER | entries))))[0]

    assert row().paper.max_score < 0
    assert str(row(**other).paper.max_score) == "nan"
    assert str(row(**other).differences.max_score) == "nan"

    def note_of_budget(folder, **entries):
        write_cell(folder, **(PUSHER | entries))
        return [note for note in analyse(folder, with_paper=True).notes if "(paper 3000)" in note]

    assert len(note_of_budget(tmp_path / "v4")) == 1
    assert note_of_budget(tmp_path / "other", **other) == []
