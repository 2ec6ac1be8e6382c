"""The formulas of the method in numpy's double precision, one pair of rows at a time.

Slow and literal on purpose: the package is checked against it, so it shares no code with it. Where
several pairs attain the maximum, the first one carries its gradient.
"""

from itertools import combinations

import numpy as np


def pairwise_distances(rows):
    """(N, d) rows -> (N (N - 1) / 2,) L1 distances of the pairs i < j, row by row."""
    return np.array([np.abs(a - b).sum() for a, b in combinations(np.asarray(rows, float), 2)])


def target_distances(inputs, values=None):
    """(N, d_x) inputs and (N,) values -> condensed target A, unsupervised or guided."""
    distances = pairwise_distances(inputs)
    if distances.size == 0 or distances.max() == 0.0:
        return np.zeros_like(distances)
    distances = distances / distances.max()
    v = np.zeros(len(inputs)) if values is None else np.asarray(values, float)
    if v.max() > v.min():
        u = (1.0 - (v - v.min()) / (v.max() - v.min())) / 2.0
        distances = distances + np.array([u_i + u_j for u_i, u_j in combinations(u, 2)])
    return distances / distances.max() / np.shape(inputs)[1]


def loss(outputs, target):
    """``|| M - A ||_F`` over the full symmetric matrices; zero where nothing can be matched."""
    distances = pairwise_distances(outputs)
    if _nothing_to_match(distances, target):
        return 0.0
    matched = distances / distances.max() / np.shape(outputs)[1]
    return np.sqrt(2.0 * ((matched - target) ** 2).sum())


def gradient(outputs, target):
    """(N, d_y) gradient of :func:`loss`, with the maximum differentiated too and sign(0) = 0."""
    outputs = np.asarray(outputs, float)
    result = np.zeros_like(outputs)
    distances = pairwise_distances(outputs)
    if _nothing_to_match(distances, target) or loss(outputs, target) == 0.0:
        return result
    maximum, width = distances.max(), outputs.shape[1]
    matched = distances / maximum / width
    by_matched = 2.0 * (matched - target) / loss(outputs, target)
    by_distance = by_matched / (maximum * width)
    by_distance[distances.argmax()] -= (by_matched * matched).sum() / maximum
    for pair, (i, j) in enumerate(combinations(range(len(outputs)), 2)):
        direction = np.sign(outputs[i] - outputs[j])
        result[i] += by_distance[pair] * direction
        result[j] -= by_distance[pair] * direction
    return result


def numerical_gradient(outputs, target, step=1e-6):
    """(N, d_y) gradient of :func:`loss` by central differences."""
    outputs = np.asarray(outputs, float)
    result = np.zeros_like(outputs)
    for index in np.ndindex(outputs.shape):
        change = np.zeros_like(outputs)
        change[index] = step
        rise = loss(outputs + change, target) - loss(outputs - change, target)
        result[index] = rise / (2.0 * step)
    return result


def layer_gradients(weight, bias, inputs, target):
    """Gradients of the local loss of ``tanh(H W^T + b)`` with respect to W and b."""
    outputs = np.tanh(inputs @ weight.T + bias)
    by_preactivation = gradient(outputs, target) * (1.0 - outputs**2)
    return by_preactivation.T @ inputs, by_preactivation.sum(axis=0)


def _nothing_to_match(distances, target):
    return distances.size == 0 or distances.max() == 0.0 or np.max(target) == 0.0
