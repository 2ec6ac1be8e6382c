"""The paper's method in one file: REINFORCE on CartPole-v1 without backpropagation.

Every hidden layer learns to keep the pairwise distances of the observations (equation 1). Only the
policy head learns from the return. torch and Gymnasium are all that this file needs::

    python examples/single_file.py --seed 0

The mean return of 50 episodes passes 400 in about a minute.
"""

import argparse
import math

import gymnasium as gym
import torch
from torch import nn

HIDDEN, RATE, GAMMA, CLIP = (64, 64), 2e-3, 0.99, 0.5


def target_distances(x):
    """(N, d) observations -> (N (N - 1) / 2,) distances, over their maximum and d (section 3.1)."""
    distances = torch.pdist(x, p=1)
    return distances / distances.max().clamp(min=1e-30) / x.shape[1]


def distance_loss(y, target):
    """Equation 1: how far the distances of a layer's outputs are from the target (Frobenius)."""
    return math.sqrt(2) * torch.linalg.vector_norm(target_distances(y) - target)


def step(layer, optimizer, loss):
    """Makes one step of one layer. ``loss`` depends on this layer alone: nothing lies behind it."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(layer.parameters(), CLIP)
    optimizer.step()


def update(layers, head, optimizers, observations, actions, returns):
    """Makes one update of the network from an episode.

    Args:
        layers: the hidden layers, linear.
        head: the layer that predicts the logits of the actions.
        optimizers: one for each hidden layer, then the head's.
        observations: (N, d).
        actions: (N,) integers.
        returns: (N,) normalised.
    """
    target = target_distances(observations)
    x = observations
    for layer, optimizer in zip(layers, optimizers[:-1], strict=True):
        y = torch.tanh(layer(x))  # x has no gradient: the graph ends at this layer's weights
        step(layer, optimizer, distance_loss(y, target))
        x = y.detach()  # the outputs from before the step
    log_probs = torch.log_softmax(head(x), dim=1)
    chosen = log_probs.gather(1, actions.unsqueeze(1)).squeeze(1)
    step(head, optimizers[-1], -(returns * chosen).mean())


def play(env, layers, head, seed):
    """Plays one episode; returns observations, actions and rewards."""
    observations, actions, rewards = [], [], []
    observation, done = env.reset(seed=seed)[0], False
    while not done:
        x = row = torch.as_tensor(observation, dtype=torch.float32)
        with torch.no_grad():
            for layer in layers:
                x = torch.tanh(layer(x))
            action = torch.distributions.Categorical(logits=head(x)).sample()
        observation, reward, terminated, truncated, _ = env.step(int(action))
        observations.append(row)
        actions.append(action)
        rewards.append(reward)
        done = terminated or truncated
    return torch.stack(observations), torch.stack(actions), rewards


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=1500)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    env = gym.make("CartPole-v1")
    sizes = (*env.observation_space.shape, *HIDDEN)
    layers = [nn.Linear(before, size) for before, size in zip(sizes, HIDDEN)]  # noqa: B905
    head = nn.Linear(HIDDEN[-1], int(env.action_space.n))
    optimizers = [torch.optim.Adam(each.parameters(), lr=RATE) for each in (*layers, head)]
    seen, scores = torch.zeros(0, dtype=torch.float64), []
    for episode in range(1, options.episodes + 1):
        observations, actions, rewards = play(env, layers, head, options.seed + 1000 * episode)
        returns, later = torch.zeros(len(rewards), dtype=torch.float64), 0.0
        for place in reversed(range(len(rewards))):
            returns[place] = later = rewards[place] + GAMMA * later
        seen = torch.cat([seen, returns])  # normalised across episodes, by all steps so far
        normalised = ((returns - seen.mean()) / seen.std(correction=0).clamp(min=1e-8)).float()
        if len(rewards) > 1:
            update(layers, head, optimizers, observations, actions, normalised)
        scores.append(sum(rewards))
        if episode % 100 == 0:
            print(f"episode {episode:5}   mean return of 50: {sum(scores[-50:]) / 50:6.1f}")


if __name__ == "__main__":
    main()
