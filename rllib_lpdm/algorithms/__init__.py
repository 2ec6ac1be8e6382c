"""RLlib's classes: configs, algorithms, learner, module and env runner."""

from rllib_lpdm.algorithms.ppo import PPO, PPOConfig
from rllib_lpdm.algorithms.reinforce import Reinforce, ReinforceConfig

__all__ = ["PPO", "PPOConfig", "Reinforce", "ReinforceConfig"]
