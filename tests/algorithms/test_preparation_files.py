"""Files of hidden layers and of observations: what is read of them, and what is refused."""

import functools
import pickle
import zipfile
from pathlib import Path

import gymnasium as gym
import h5py
import numpy as np
import pytest

from rllib_lpdm.algorithms.preparation import (
    check_hidden_weights,
    check_observations,
    hidden_source,
    hidden_weights,
    recorded_observations,
)
from rllib_lpdm.local_learning import LocalMLP


class Bomb:
    """Raises where it is unpickled."""

    def __reduce__(self):
        return functools.partial(pytest.fail, "a pickle was loaded"), ()


OBJECT = np.array([Bomb()], dtype=object)


# -- files of hidden layers -----------------------------------------------------------------------


def test_a_cells_folder_stands_for_its_newest_checkpoint_and_a_checkpoint_for_its_weights(tmp_path):
    for iteration in (5, 20, 100):
        folder = tmp_path / "checkpoints" / f"iteration_{iteration:08d}"
        folder.mkdir(parents=True)
        np.savez(folder / "weights.npz", **{"encoder.layers.0.bias": np.full(2, float(iteration))})
    unfinished = tmp_path / "checkpoints" / ".half"
    unfinished.mkdir()
    for source, iteration in (
        (tmp_path, 100),
        (tmp_path / "checkpoints/iteration_00000020", 20),
        (tmp_path / "checkpoints/iteration_00000005/weights.npz", 5),
    ):
        _, arrays = hidden_weights(source)
        assert list(arrays) == ["layers.0.bias"]
        assert arrays["layers.0.bias"][0] == iteration


def test_heads_and_other_arrays_are_left_behind(tmp_path):
    np.savez(tmp_path / "w.npz", **{"encoder.a": np.ones(2), "policy_head.bias": OBJECT[:0] == 1})
    assert list(hidden_weights(tmp_path / "w.npz")[1]) == ["a"]


def test_the_seed_replaces_its_name_and_no_other_braces_mean_anything():
    assert hidden_source("cells/s{seed}/{seed}.npz", 7) == "cells/s7/7.npz"
    literal = "{0}/{seed.__class__}/{seed!r}/{}/{x/%d"
    assert hidden_source(literal, 7) == literal


def _write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        with path.open("wb") as file:
            np.save(file, content, allow_pickle=True)
    return path


def _archive_of_text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("encoder.readme", "text")
    return path.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04 and then nothing", "cannot be read"),
        (pickle.dumps(Bomb()), "cannot be read"),
        (np.ones(3), "one array"),
        (OBJECT, "cannot be read"),
        ({"encoder.w": OBJECT}, "cannot be read"),
        ({"other": np.ones(2)}, "holds no hidden layers"),
        ({"encoder.w": np.array(["text"])}, "no floating-point numbers"),
        ({"encoder.w": np.array([1.0, np.nan])}, "w is not finite"),
    ],
)
def test_a_file_without_plain_finite_hidden_layers_is_refused_and_nothing_unpickled(
    tmp_path, content, message
):
    path = _write(tmp_path / "weights.npz", content)
    with pytest.raises(ValueError, match=message) as error:
        hidden_weights(path)
    assert str(error.value).startswith(f"init_hidden_from: {path}")


def test_an_archive_of_other_things_than_arrays_is_refused(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(_archive_of_text(tmp_path / "text.zip"))
    with pytest.raises(ValueError, match=r"init_hidden_from: .*other things than arrays"):
        hidden_weights(path)


@pytest.mark.parametrize("name", ["missing", "missing.npz", "x" * 300, "nul\0byte", "\ud800"])
def test_a_path_that_leads_nowhere_is_refused_with_the_way_out(tmp_path, name):
    with pytest.raises(ValueError, match=r"init_hidden_from: .* is missing; name a cell's folder"):
        hidden_weights(f"{tmp_path}/{name}")
    with pytest.raises(ValueError, match=r"pretrain_from: .* is missing; name an .npz file"):
        recorded_observations(f"{tmp_path}/{name}")


def test_a_folder_without_a_checkpoint_is_refused_as_such(tmp_path):
    with pytest.raises(ValueError, match=r"holds no weights\.npz, nor checkpoints"):
        hidden_weights(tmp_path)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ((4, (16, 13)), r"\(12,\) for layers.1.bias, this network \(13,\)"),
        ((4, (16,)), r"\(12,\) for layers.1.bias, this network nothing"),
        ((4, (16, 12, 5)), r"nothing for layers.2.bias, this network \(5,\)"),
        ((6, (16, 12)), r"\(16, 4\) for layers.0.weight, this network \(16, 6\)"),
    ],
)
def test_layers_of_other_shapes_are_refused_with_both(network, message):
    theirs, ours = LocalMLP(4, (16, 12)).state_dict(), LocalMLP(*network).state_dict()
    with pytest.raises(ValueError, match=message):
        check_hidden_weights(Path("weights.npz"), theirs, ours)
    check_hidden_weights(Path("weights.npz"), ours, ours)


# -- files of observations ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.uint8, bool])
def test_observations_of_any_shape_and_kind_of_number_become_flat_rows(tmp_path, dtype):
    pixels = np.arange(24).reshape(4, 2, 3).astype(dtype)
    np.savez(tmp_path / "o.npz", observations=pixels, rewards=np.zeros(4))
    found = recorded_observations(tmp_path / "o.npz")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, pixels.reshape(4, 6).astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an archive", "cannot be read"),
        (np.ones((3, 4)), "one array"),
        ({"observations": OBJECT}, "cannot be read"),
        ({"obs": np.ones((3, 4))}, r"no array 'observations'; write it with numpy\.savez"),
        ({"observations": np.array(1.0)}, "no rows of numbers"),
        ({"observations": np.array(["a", "b"])}, "no rows of numbers"),
        ({"observations": np.ones((3, 4)) * 1j}, "no rows of numbers"),
        ({"observations": np.ones((1, 4))}, "holds 1 observation; distances need two"),
        ({"observations": np.ones((0, 4))}, "holds 0 observations"),
        ({"observations": np.array([[1.0], [np.inf]])}, "not finite"),
        ({"observations": np.array([[1.0], [1e300]])}, "not finite"),
    ],
)
def test_a_file_without_rows_of_finite_numbers_is_refused(tmp_path, content, message):
    path = _write(tmp_path / "recorded.npz", content)
    with pytest.raises(ValueError, match=message) as error:
        recorded_observations(path)
    assert str(error.value).startswith(f"pretrain_from: {path}")


def minari(folder, episodes):
    """A dataset in Minari's layout: a group an episode, with T + 1 observations and T actions."""
    file = folder / "data" / "main_data.hdf5"
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as data:
        for name, observations in episodes.items():
            group = data.create_group(name)
            group.attrs["total_steps"] = len(observations) - 1
            group.create_dataset("actions", data=np.zeros(len(observations) - 1))
            if isinstance(observations, dict):
                for key, value in observations.items():
                    group.create_dataset(f"observations/{key}", data=value)
            else:
                group.create_dataset("observations", data=observations)
    return folder


def test_a_minari_dataset_gives_all_observations_in_the_order_of_its_episodes(tmp_path):
    lengths = {0: 3, 1: 2, 2: 4, 10: 2, 11: 5}  # by name, 10 and 11 would come before 2
    episodes = {f"episode_{k}": np.full((n, 2), float(k)) for k, n in lengths.items()}
    found = recorded_observations(minari(tmp_path, episodes))
    assert found[:, 1].tolist() == [k for k, n in lengths.items() for _ in range(n)]


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ({}, "no rows of numbers"),
        ({"episode_0": {"position": np.ones((3, 2))}}, "several kinds of observations"),
        ({"episode_0": np.ones((3, 2)), "episode_1": np.ones((3, 4))}, "no rows of numbers"),
        ({"other": np.ones((3, 2))}, "cannot be read"),
    ],
)
def test_a_minari_dataset_of_another_form_is_refused(tmp_path, episodes, message):
    with pytest.raises(ValueError, match=message):
        recorded_observations(minari(tmp_path, episodes))


def test_a_damaged_minari_file_and_a_folder_without_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no Minari dataset"):
        recorded_observations(tmp_path)
    minari(tmp_path, {})
    (tmp_path / "data" / "main_data.hdf5").write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match=r"main_data\.hdf5 cannot be read"):
        recorded_observations(tmp_path)


def test_rows_of_another_width_than_the_environments_are_refused():
    check_observations("file", 6, gym.spaces.Box(0, 1, (2, 3)))
    with pytest.raises(ValueError, match="observations of 4 numbers, the environment's have 6"):
        check_observations("file", 4, gym.spaces.Box(0, 1, (2, 3)))
