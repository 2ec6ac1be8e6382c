"""The kernels against the formulas in double precision, and on machines that are not kind."""

import os
import resource
import runpy
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rllib_lpdm
from rllib_lpdm.local_learning import LocalLoss, kernels, neighbour_pairs
from rllib_lpdm.local_learning import pair_matching as matching
from rllib_lpdm.local_learning.kernels import compilation
from rllib_lpdm.local_learning.kernels import forward as acting
from rllib_lpdm.local_learning.kernels.kernel_matching import KernelMatching
from rllib_lpdm.local_learning.pair_matching import TorchMatching, kernel_for, matching_for
from rllib_lpdm.local_learning.shards import WHOLE_BATCH, WholeBatch
from tests.local_learning.networks import assert_identical, network
from tests.local_learning.reference import pairwise_distances

TOLERANCE = 1e-5
COUNTS = [2, 3, 63, 64, 65, 130]
WIDTHS = [1, 15, 16, 17, 300]
KINDS = ["continuous", "rounded", "some rows equal", "one column constant", "all rows equal"]


def rows(count, width, kind="continuous", seed=0):
    """(count, width) outputs of a layer, of a kind that is hard in its way."""
    rng = np.random.default_rng([seed, count, width])
    x = np.tanh(rng.standard_normal((count, width)))
    if kind == "rounded":
        x = np.round(4.0 * x) / 4.0
    elif kind == "some rows equal":
        x[count // 2 :] = x[: count - count // 2]
    elif kind == "one column constant":
        x[:, width // 2] = 0.5
    elif kind == "all rows equal":
        x[:] = x[:1]
    return torch.from_numpy(x.astype(np.float32))


def reference(outputs, target, weights):
    """Loss, gradient and the largest of its terms, from dense (N, N) targets and weights.

    All in double precision. Terms may cancel, and what is left of them in single is rounding.
    """
    y = outputs.numpy().astype(float)
    differences = y[:, None] - y[None]
    distances = np.abs(differences).sum(-1) * (weights > 0)
    largest, width = distances.max(), y.shape[1]
    if largest == 0.0:
        return 0.0, np.zeros_like(y), 0.0
    matched = distances / largest / width
    loss = np.sqrt((weights * (matched - target) ** 2).sum() / 2.0)
    if loss == 0.0 or np.count_nonzero(weights) == 2:
        return loss, np.zeros_like(y), 0.0
    by_matched = weights * (matched - target) / loss
    by_distance = by_matched / (largest * width)
    term = np.abs(by_distance).max()
    i, j = np.unravel_index(np.triu(distances).argmax(), distances.shape)
    correction = (by_matched * matched).sum() / 2.0 / largest
    by_distance[i, j] -= correction
    by_distance[j, i] -= correction
    gradient = np.einsum("ij,ijc->ic", by_distance, np.sign(differences))
    return loss, gradient, max(term, np.abs(gradient).max())


def dense(tiled, shape):
    """(N, N) of the tiles of a :class:`KernelMatching` of all pairs."""
    blocks = -(-shape // 64)
    matrix = np.zeros((64 * blocks, 64 * blocks))
    for tile, (a, b) in zip(tiled, zip(*np.triu_indices(blocks), strict=True), strict=True):
        matrix[64 * a : 64 * a + 64, 64 * b : 64 * b + 64] = tile.T
        matrix[64 * b : 64 * b + 64, 64 * a : 64 * a + 64] = tile
    return matrix[:shape, :shape]


def dense_weights(pairs, count):
    if pairs is None:
        return 2.0 * (1.0 - np.eye(count))
    weights = np.zeros((count, count))
    weights[pairs.first, pairs.second] = weights[pairs.second, pairs.first] = pairs.weight
    return weights


def assert_as_reference(inputs, outputs, values=None, pairs=None):
    kernel = KernelMatching(len(inputs), pairs, WHOLE_BATCH)
    target = kernel.target(inputs, values)
    if target is None:
        assert pairwise_distances(inputs.numpy()).max(initial=0.0) == 0.0
        return
    match = kernel.step(outputs, target, False, True)
    weights = dense_weights(pairs, len(inputs))
    loss, gradient, largest = reference(outputs, dense(target.tiles, len(inputs)), weights)
    assert match.loss == pytest.approx(loss, rel=1e-4, abs=1e-7)
    np.testing.assert_allclose(match.gradient.numpy(), gradient, rtol=0.0, atol=TOLERANCE * largest)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("count", COUNTS)
def test_loss_and_gradient_are_those_of_double_precision(count, width, kind):
    assert_as_reference(rows(count, 5), rows(count, width, kind))


@settings(max_examples=40, deadline=None)
@given(
    count=st.sampled_from([0, 1, *COUNTS]) | st.integers(2, 140),
    width=st.sampled_from(WIDTHS) | st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    kind_of_inputs=st.sampled_from(KINDS),
    which=st.sampled_from(["all", "closest", "furthest", "both"]),
    guided=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_so_are_those_of_any_shape_with_guidance_and_neighbours(
    count, width, kind, kind_of_inputs, which, guided, seed
):
    inputs = rows(count, 4, kind_of_inputs, seed)
    values = rows(count, 1, seed=seed + 1)[:, 0] if guided else None
    pairs = neighbour_pairs(inputs, which, 0.5)
    assert_as_reference(inputs, rows(count, width, kind, seed + 2), values, pairs)  # not the inputs


@pytest.mark.parametrize("which", ["all", "both"])
@pytest.mark.parametrize("guided", [None, "normalised", "original"])
def test_targets_errors_and_losses_are_those_of_torch(which, guided):
    inputs, outputs, following = rows(100, 7), rows(100, 20), rows(100, 9)
    values = rows(100, 1)[:, 0] if guided else None
    pairs = neighbour_pairs(inputs, which, 0.4)
    ours = KernelMatching(100, pairs, WHOLE_BATCH)
    torchs = TorchMatching("l1", pairs, WHOLE_BATCH)
    matches = []
    for one in (ours, torchs):
        original = guided == "original"
        target = one.target(inputs, values, original=original)
        first = one.step(outputs, target, True, True)
        target = one.target(outputs, values, first.error, 7, original=original)
        matches += [first, one.step(following, target, False, True)]
    for got, expected in zip(matches[:2], matches[2:], strict=True):
        assert got.loss == pytest.approx(expected.loss, rel=1e-4)
        assert got.distance_error == pytest.approx(expected.distance_error, rel=1e-4)
        torch.testing.assert_close(got.gradient, expected.gradient, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1])
def test_without_pairs_there_is_no_target(count):
    assert KernelMatching(count, None, WHOLE_BATCH).target(rows(count, 3), None) is None


def test_equal_rows_have_no_target_and_constant_outputs_no_gradient():
    kernel = KernelMatching(70, None, WHOLE_BATCH)
    assert kernel.target(torch.ones(70, 3), None) is None
    match = kernel.step(torch.ones(70, 5), kernel.target(rows(70, 3), None), True, True)
    assert match.loss == 0.0
    assert not match.gradient.any()
    assert not match.error.any()


def test_a_constant_column_has_a_gradient_of_exactly_zero():
    kernel = KernelMatching(130, None, WHOLE_BATCH)
    outputs = rows(130, 16, "one column constant")
    match = kernel.step(outputs, kernel.target(rows(130, 3), None), False, False)
    assert not match.gradient[:, 8].any()
    assert match.gradient[:, 7].all()


@pytest.mark.parametrize(
    ("where", "bad"),
    [
        *product(["inputs", "values", "outputs"], [np.nan, np.inf, -np.inf]),
        *product(["inputs", "outputs"], [3e38]),  # of which the distance overflows
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")  # of what overflows, or stood in memory before
def test_what_is_not_finite_makes_loss_and_gradient_not_finite(where, bad):
    batch = {"inputs": rows(70, 3), "values": rows(70, 1)[:, 0], "outputs": rows(70, 5)}
    batch[where].view(-1)[[40, 43]] = torch.tensor([bad, -bad])
    kernel = KernelMatching(70, None, WHOLE_BATCH)
    match = kernel.step(
        batch["outputs"], kernel.target(batch["inputs"], batch["values"]), True, True
    )
    assert np.isnan(match.loss)
    assert match.gradient.isnan().all()


class Part(WholeBatch):
    """One of several processes, which here are threads."""

    def __init__(self, rank, sent, barrier):
        self.rank, self.processes = rank, len(sent)
        self._sent, self._barrier = sent, barrier

    def combined(self, numbers, how):
        self._sent[self.rank] = tuple(numbers)
        self._barrier.wait(20)
        combine = {"max": max, "min": min, "sum": sum}[how]
        combined = [combine(of_all) for of_all in zip(*self._sent, strict=True)]
        self._barrier.wait(20)
        return combined


def together(count, processes, inputs, outputs):
    """Every process's match."""
    sent, barrier = [()] * processes, threading.Barrier(processes)

    def match(rank):
        one = KernelMatching(count, None, Part(rank, sent, barrier))
        return one.step(outputs, one.target(inputs, None), False, True)

    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(match, range(processes)))


@pytest.mark.parametrize("count", [50, 300])
def test_several_processes_share_the_pairs_and_their_gradients_add_up(count):
    inputs, outputs = rows(count, 3), rows(count, 20)
    (expected,) = together(count, 1, inputs, outputs)
    matches = together(count, 3, inputs, outputs)
    assert {match.loss for match in matches} == {matches[0].loss}
    assert matches[0].loss == pytest.approx(expected.loss, rel=1e-6)
    assert matches[0].distance_error == pytest.approx(expected.distance_error, rel=1e-6)
    total = sum(match.gradient for match in matches)
    torch.testing.assert_close(total, expected.gradient, rtol=0.0, atol=1e-6)
    assert sum(bool(match.gradient.any()) for match in matches) == min(3, -(-count // 64))


def test_every_other_metric_precision_or_device_is_left_to_torch(monkeypatch):
    cpu = torch.device("cpu")
    assert kernel_for("l1", torch.float32, cpu) == "numba"
    assert kernel_for("l2", torch.float32, cpu) == "torch"
    assert kernel_for(torch.pdist, torch.float32, cpu) == "torch"
    assert kernel_for("l1", torch.float64, cpu) == "torch"
    assert kernel_for("l1", torch.float32, torch.device("cuda")) == "torch"
    assert isinstance(matching_for("l1", rows(5, 3), None, WHOLE_BATCH), KernelMatching)
    assert isinstance(matching_for("l1", rows(5, 3).double(), None, WHOLE_BATCH), TorchMatching)
    monkeypatch.setattr(matching.numba.config, "DISABLE_JIT", True)
    assert kernel_for("l1", torch.float32, cpu) == "torch"


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"neighbours": "both"},
        {"propagate_error": True},
        {"rows": torch.arange(0, 90, 2)},
        {"scaling": "absolute", "neighbours": "closest", "propagate_error": True},
        {"scaling": "absolute", "rows": torch.arange(2)},
    ],
    ids=str,
)
def test_layers_learn_what_they_learn_in_torch(activation, options, monkeypatch):
    x, values = rows(90, 6), rows(90, 1)[:, 0]
    chosen = options.get("rows")
    options = {name: option for name, option in options.items() if name != "rows"}

    def learned():
        mlp, optimizers = network(6, 20, 17, dtype=torch.float32, activation=activation)
        _, steps = mlp.learn(
            x, optimizers, LocalLoss(**options), values=values, rows=chosen, with_error=True
        )
        return [list(step) for step in steps]

    ours = learned()
    monkeypatch.setattr(matching.numba.config, "DISABLE_JIT", True)
    np.testing.assert_allclose(ours, learned(), rtol=1e-4, atol=1e-6)


def fingerprint(learner=None):
    """The bits of a few updates."""
    mlp, optimizers = learner or network(6, 20, 17, dtype=torch.float32)
    for seed in range(3):
        mlp.learn(rows(150, 6, seed=seed), optimizers, max_gradient_norm=0.5)
    return [parameter.detach().clone() for parameter in mlp.parameters()]


def acted():
    """The bits of a policy's outputs."""
    layers = [
        (rows(20, 9).numpy(), np.ones(20, np.float32)),
        (rows(3, 20).numpy(), np.zeros(3, "f4")),
    ]
    parameters, sizes = acting.packed(layers)
    return acting.forward(np.linspace(-3, 3, 9, dtype=np.float32), parameters, sizes)


def test_threads_compute_the_same_bits():
    learners = [network(6, 20, 17, dtype=torch.float32) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(fingerprint, learners):
            assert_identical(result, fingerprint())


def compiled():
    """How many functions were compiled, as the cache did not have them."""
    kernels.compile_kernels()
    return sum(any(function.stats.cache_misses.values()) for function, _ in compilation._entries)


def updated():
    """The bits of :func:`fingerprint`, in short."""
    return str([float(parameter.double().sum()).hex() for parameter in fingerprint()])


PROGRAM = """
import torch
torch.set_num_threads(1)
from tests.local_learning.test_kernels import *
print(compiled())
for kind in KINDS:
    assert_as_reference(rows(65, 5), rows(65, 17, kind))
print(updated())
print(acted().tobytes().hex())
"""


def python(package, **environment):
    """What a new process prints: how many functions it compiled, and the bits of updates."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=package,  # is searched first
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    number, updates, actions = done.stdout.splitlines()
    assert actions == acted().tobytes().hex()  # on every processor
    return int(number), updates


def package_in(folder, ignore=None):
    """A copy of the package, which numba's cache of its own belongs to."""
    source = Path(rllib_lpdm.__file__).parent
    shutil.copytree(source, folder / source.name, ignore=ignore)
    return next(folder.rglob("kernels"))


@pytest.mark.slow
def test_read_only_folders_and_a_generic_processor_cost_a_compilation_and_no_results(tmp_path):
    package, nowhere = tmp_path / "package", tmp_path / "file"
    loops = package_in(package, shutil.ignore_patterns("__pycache__"))
    (loops / "__pycache__").write_text("where numba would make a folder")
    nowhere.write_text("no folder")
    home = {"HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere), "TMPDIR": str(tmp_path)}
    number, _ = python(package, NUMBA_CPU_NAME="generic", **home)
    assert number == len(compilation._entries)


@pytest.mark.slow
def test_of_a_damaged_cache_only_what_is_damaged_is_compiled_and_to_the_same_bits(tmp_path):
    bits = updated()  # the cache is there now
    loops = package_in(tmp_path)
    code = acting.forward.py_func.__code__
    python_version = "py{}{}".format(*sys.version_info)
    (damaged,) = loops.rglob(f"*.{code.co_name}-{code.co_firstlineno}.{python_version}.nbi")
    damaged.write_bytes(damaged.read_bytes()[:20])
    assert python(tmp_path) == (1, bits)


def test_a_full_disk_costs_a_compilation_and_leaves_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "_entries", [])
    monkeypatch.setattr(compilation, "_ready", False)
    file = tmp_path / "small.py"
    file.write_text("def twice(x):\n    return 2.0 * x\n")
    twice = compilation.kernel("f8(f8)")(runpy.run_path(str(file))["twice"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # no byte goes into any file
    try:
        seconds = kernels.compile_kernels()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert seconds > 0.0
    assert twice(3.0) == 6.0
    assert not any(path.stat().st_size for path in tmp_path.rglob("*.nb*"))
