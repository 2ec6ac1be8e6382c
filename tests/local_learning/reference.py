"""The formulas of the method in numpy's double precision, one pair of rows at a time.

Slow and literal on purpose: the package is checked against it, so it shares no code with it. Where
several pairs attain the maximum, the first one carries its gradient.
"""

from itertools import combinations

import numpy as np
import torch


def cosine(a, b):
    """1 - cosine similarity, where a row of zeros has similarity 0 to all rows."""
    norms = np.sqrt((a * a).sum() * (b * b).sum())
    return 1.0 - (a * b).sum() / norms if norms > 0.0 else 1.0


METRICS = {
    "l1": lambda a, b: np.abs(a - b).sum(),
    "l2": lambda a, b: np.sqrt(((a - b) ** 2).sum()),
    "squared_l2": lambda a, b: ((a - b) ** 2).sum(),
    "cosine": cosine,
    "gram": lambda a, b: (a * b).sum(),
}


def pairwise_distances(rows, metric="l1"):
    """(N, d) rows -> (N (N - 1) / 2,) distances of the pairs i < j, row by row."""
    distance = METRICS[metric]
    return np.array([distance(a, b) for a, b in combinations(np.asarray(rows, float), 2)])


def neighbours(inputs, which, fraction, metric="l1"):
    """(N, d_x) inputs -> (N (N - 1) / 2,) numbers of rows, 0 to 2, that keep each pair."""
    count = len(inputs)
    distances = squareform(pairwise_distances(inputs, metric), count)
    kept = np.zeros((count, count), int)
    for i in range(count):
        others = sorted((j for j in range(count) if j != i), key=lambda j: distances[i, j])
        others = others[::-1] if metric == "gram" else others
        k = max(1, round(fraction * (count - 1)))
        near = {"closest": k, "furthest": 0, "both": k - k // 2}[which]
        kept[i, others[:near] + others[len(others) - (k - near) :]] = 1
    return np.array([kept[i, j] + kept[j, i] for i, j in combinations(range(count), 2)])


def squareform(condensed, count):
    """(N (N - 1) / 2,) -> symmetric (N, N) with a diagonal of zeros."""
    matrix = np.zeros((count, count))
    for value, (i, j) in zip(condensed, combinations(range(count), 2), strict=True):
        matrix[i, j] = matrix[j, i] = value
    return matrix


def target_distances(inputs, values=None, metric="l1", weights=None, error=None, dimensions=None):
    """(N, d_x) inputs and (N,) values -> condensed target A, unsupervised or guided.

    ``weights`` and ``error`` have an entry for each of all pairs; the target too, and it is zero
    where the weight is.
    """
    distances = pairwise_distances(inputs, metric)
    if distances.size == 0 or not distances.any():
        return np.zeros_like(distances)
    kept = np.ones(len(distances), bool) if weights is None else weights > 0
    if error is not None and np.any(error):
        distances = distances * (1.0 + np.abs(error) / np.abs(error).max())
    distances = distances / np.abs(distances[kept]).max()
    v = np.zeros(len(inputs)) if values is None else np.asarray(values, float)
    if v.max() > v.min():
        u = (1.0 - (v - v.min()) / (v.max() - v.min())) / 2.0
        u = -u if metric == "gram" else u
        distances = distances + np.array([u_i + u_j for u_i, u_j in combinations(u, 2)])
    return kept * distances / np.abs(distances[kept]).max() / (dimensions or np.shape(inputs)[1])


def loss(outputs, target, metric="l1", weights=None):
    """``|| M - A ||_F`` over the full symmetric matrices; zero where nothing can be matched."""
    distances = pairwise_distances(outputs, metric)
    if _nothing_to_match(distances, target):
        return 0.0
    weights = np.full(len(distances), 2.0) if weights is None else weights
    matched = distances / np.abs(distances[weights > 0]).max() / np.shape(outputs)[1]
    return np.sqrt((weights * (matched - target) ** 2).sum())


def autograd_loss(outputs, target, metric="l1", weights=None):
    """:func:`loss` of a torch tensor, for autograd to differentiate, from all pairs at once."""
    first, second = np.triu_indices(len(outputs), 1)
    a, b = outputs[first], outputs[second]
    if metric == "l1":
        distances = (a - b).abs().sum(1)
    elif metric == "gram":
        distances = (a * b).sum(1)
    elif metric == "cosine":
        distances = 1.0 - torch.nn.functional.cosine_similarity(a, b, dim=1)
    else:
        squares = (a - b).square().sum(1)
        distances = squares.sqrt() if metric == "l2" else squares
    weights = torch.tensor(2.0) if weights is None else torch.as_tensor(weights)
    kept = (weights > 0).expand_as(distances)
    largest = distances[distances.detach().abs().masked_fill(~kept, -1.0).argmax()].abs()
    matched = distances / largest / outputs.shape[1]
    return (weights * (matched - torch.as_tensor(target)) ** 2).sum().sqrt()


def gradient(outputs, target):
    """(N, d_y) gradient of the L1 :func:`loss`, with the maximum differentiated and sign(0) = 0."""
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


def numerical_gradient(outputs, target, metric="l1", weights=None, step=1e-6):
    """(N, d_y) gradient of :func:`loss` by central differences."""
    outputs = np.asarray(outputs, float)
    result = np.zeros_like(outputs)
    for index in np.ndindex(outputs.shape):
        change = np.zeros_like(outputs)
        change[index] = step
        above, below = (
            loss(outputs + moved, target, metric, weights) for moved in (change, -change)
        )
        result[index] = (above - below) / (2.0 * step)
    return result


def layer_gradients(weight, bias, inputs, target):
    """Gradients of the local loss of ``tanh(H W^T + b)`` with respect to W and b."""
    outputs = np.tanh(inputs @ weight.T + bias)
    by_preactivation = gradient(outputs, target) * (1.0 - outputs**2)
    return by_preactivation.T @ inputs, by_preactivation.sum(axis=0)


def _nothing_to_match(distances, target):
    return distances.size == 0 or not distances.any() or not np.any(target)
