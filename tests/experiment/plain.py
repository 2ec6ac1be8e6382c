"""What a cell's last weights play, without the code that is tested."""

import gymnasium as gym
import numpy as np
import torch

from rllib_lpdm.algorithms.seeding import Purpose, integer_seed, stream
from rllib_lpdm.results.checkpoints import checkpoints


def weights_file(folder):
    return checkpoints(folder)[3] / "weights.npz"


def weights(folder):
    with np.load(weights_file(folder), allow_pickle=False) as archive:
        return dict(archive)


def played(folder, environment, episodes, seed):
    """Returns and lengths, from the weights in plain torch and the bare environment."""
    arrays = {name: torch.tensor(value) for name, value in weights(folder).items()}
    env = gym.make(environment)
    outcomes = []
    for episode in range(episodes):
        start = integer_seed(stream(seed, Purpose.EVALUATION, 0, episode))
        x, _ = env.reset(seed=start)
        rewards, over = [], False
        while not over:
            x, said = torch.tensor(x, dtype=torch.float32), []
            for layer, head in enumerate(("local_policy_heads.0", "policy_head")):
                name = f"encoder.layers.{layer}"
                x = torch.tanh(arrays[f"{name}.weight"] @ x + arrays[f"{name}.bias"])
                if f"{head}.weight" in arrays:
                    said.append(arrays[f"{head}.weight"] @ x + arrays[f"{head}.bias"])
            x = torch.stack(said).mean(0).numpy()
            discrete = isinstance(env.action_space, gym.spaces.Discrete)
            action = (
                int(x.argmax()) if discrete else x.clip(env.action_space.low, env.action_space.high)
            )
            x, reward, terminated, truncated, _ = env.step(action)
            rewards.append(reward)
            over = terminated or truncated
        outcomes.append((sum(rewards), len(rewards)))
    env.close()
    return np.array(outcomes).T
