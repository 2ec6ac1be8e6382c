"""FIFOs, devices and files without end, in place of every file that is read."""

import importlib
import io
import os
import tracemalloc
import zipfile
from types import SimpleNamespace

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from rllib_lpdm.algorithms.preparation import hidden_weights, recorded_observations
from rllib_lpdm.analysis.cells import read_results
from rllib_lpdm.grid import cell
from rllib_lpdm.policies.saved import SavedWeights
from rllib_lpdm.results import layout, published
from rllib_lpdm.results.checkpoints import packed, read_arrays
from rllib_lpdm.results.iterations import Follower, IterationWriter
from rllib_lpdm.results.paper import read_table
from rllib_lpdm.results.plan import Plan
from rllib_lpdm.results.published import publish, read_published
from rllib_lpdm.results.published import read_runs as read_published_runs
from rllib_lpdm.results.record import RunRecord, read_runs
from rllib_lpdm.results.search_record import SearchRecord
from rllib_lpdm.results.storage import read_file
from rllib_lpdm.schema.environments import EnvironmentSpec
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from tests.analysis.cells import write_cell
from tests.experiment.files import write
from tests.results.test_published import write_cell as write_whole_cell

KINDS = ["FIFO", "link to a FIFO", "link to a device"]


def put(path, kind):
    """What never ends under a file's name."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.with_name(f"target of {path.name}")
    if "FIFO" in kind:
        os.mkfifo(path if kind == "FIFO" else target)
    if "link" in kind:
        path.symlink_to(target if "FIFO" in kind else "/dev/zero")
    return path


@pytest.fixture(params=KINDS)
def endless(request):
    return lambda path: put(path, request.param)


def test_no_reader_waits_for_what_is_no_regular_file(tmp_path, endless):
    for name in layout.MOST_BYTES:
        with pytest.raises(OSError, match="not a regular file"):
            read_file(endless(tmp_path / name / name))


@pytest.mark.parametrize("name", ["run.json", "iterations.csv", ".experiment.json"])
def test_a_report_leaves_it_out_and_names_it(tmp_path, endless, name):
    whole = write_cell(tmp_path, seed=0)
    write_cell(tmp_path, seed=1)
    endless((tmp_path if name.startswith(".") else whole) / name)
    results = read_results(tmp_path)
    assert len(results.cells) == (2 if name.startswith(".") else 1)
    if name != ".experiment.json":
        (note,) = [note for note in results.notes if note.startswith(whole.name)]
        assert name in note
    assert len(read_results(UPath(f"file://{tmp_path}")).cells) == len(results.cells)


def test_records_and_rows_are_refused_in_one_line(tmp_path, endless):
    folder = write_cell(tmp_path)
    endless(folder / "run.json")
    with pytest.raises(OSError, match="not a regular file"):
        RunRecord.read(folder)
    for place in (tmp_path, UPath(f"file://{tmp_path}")):
        runs, damaged = read_runs(place)
        assert not runs
        assert "not a regular file" in damaged[folder.name]
    endless(folder / "iterations.csv")
    for read in (Follower(folder).new, lambda: IterationWriter(folder, done=1)):
        with pytest.raises(OSError, match="not a regular file"):
            read()
    endless(tmp_path / "search.json")
    with pytest.raises(ValueError, match=r"search\.json .*not a regular file"):
        SearchRecord.read(tmp_path)
    endless(tmp_path / ".experiment.json")
    assert Plan.read(tmp_path) == Plan()


def test_published_files_are_refused_in_one_line(tmp_path, endless):
    write_whole_cell(tmp_path / "grid", "bp", 0)
    publish(tmp_path / "grid", tmp_path / "out")
    endless(tmp_path / "out" / "curves" / "CartPole-v1.parquet")
    with pytest.raises((OSError, UserError), match=r"CartPole-v1\.parquet"):
        read_published(tmp_path / "out")
    endless(tmp_path / "out" / "runs.jsonl")
    with pytest.raises(OSError, match="not a regular file"):
        read_published_runs(tmp_path / "out")


def test_weights_and_recordings_are_refused_in_one_line(tmp_path, endless):
    with pytest.raises(ValueError, match="not a regular file"):
        read_arrays(endless(tmp_path / "a" / "weights.npz"))
    for read in (hidden_weights, recorded_observations):
        with pytest.raises(ValueError, match="missing"):
            read(tmp_path / "a" / "weights.npz")
    folder = write_cell(tmp_path)
    endless(folder / "checkpoints" / "iteration_00000002" / "weights.npz")
    with pytest.raises(UserError, match="not a regular file"):
        SavedWeights.load(folder)


def test_a_checkpoint_with_one_is_not_restored(tmp_path, endless):
    endless(tmp_path / "learner_group" / "state.pkl")
    restored = []
    with pytest.raises(ValueError, match="cannot be read") as refusal:
        cell._restore(SimpleNamespace(restore_from_path=restored.append), tmp_path)
    assert "not a regular file" in str(refusal.value.__cause__)
    assert not restored


def test_experiment_files_and_tables_are_refused_in_one_line(tmp_path, endless):
    with pytest.raises(UserError, match="not a regular file"):
        load_experiment(endless(tmp_path / "experiment.yaml"))
    with pytest.raises(ValueError, match="not a regular file"):
        read_table(endless(tmp_path / "table.csv"))


def test_a_model_of_mujoco_is_a_regular_file_and_no_longer_than_models_are(tmp_path, endless):
    path = str(endless(tmp_path / "model.xml"))
    spec = EnvironmentSpec(id="Ant-v5", kwargs={"xml_file": path})
    with pytest.raises(ValueError, match=r"kwargs\.xml_file: .*not a regular file"):
        spec.make()
    long = tmp_path / "long.xml"
    with long.open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(ValueError, match=r"kwargs\.xml_file: .*longer than"):
        EnvironmentSpec(id="Ant-v5", kwargs={"xml_file": str(long)}).make()


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("name", layout.MOST_BYTES)
def test_a_file_longer_than_its_kind_is_not_read(tmp_path, name, remote):
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(layout.MOST_BYTES[name] + 1)
    place = UPath(f"file://{path}") if remote else path
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="longer than"):
            read_file(place)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    path.write_bytes(b"short")
    assert read_file(place) == b"short"


def test_a_file_in_a_bucket_longer_than_its_kind_is_not_read(monkeypatch):
    monkeypatch.setitem(layout.MOST_BYTES, "run.json", 10)
    path = UPath("memory://bucket/cell/run.json")
    path.write_bytes(b"0123456789")
    assert read_file(path) == b"0123456789"
    path.write_bytes(b"0123456789a")
    with pytest.raises(OSError, match="longer than 10 bytes"):
        read_file(path)
    _, damaged = read_runs(UPath("memory://bucket"))
    assert "longer than 10 bytes" in damaged["cell"]


def test_an_archive_that_unpacks_to_more_than_weights_have_is_refused_before(tmp_path):
    size, header = 3 * 2**30, io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (size // 4,)}
    np.lib.format.write_array_header_1_0(header, about)
    bomb = tmp_path / "weights.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("encoder.a.npy", header.getvalue() + bytes(1000))
    content = bomb.read_bytes()  # which says how long the member is in two places
    declared = (len(header.getvalue()) + 1000).to_bytes(4, "little")
    assert content.count(declared) == 2
    bomb.write_bytes(content.replace(declared, size.to_bytes(4, "little")))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"unpacks to {size} bytes"):
            read_arrays(bomb)
        with pytest.raises(ValueError, match="unpacks to"):
            hidden_weights(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_a_minari_dataset_that_unpacks_to_more_than_recordings_have_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    with h5py.File(tmp_path / "data" / "main_data.hdf5", "w") as file:
        for episode in range(2):
            file.create_dataset(
                f"episode_{episode}/observations", (2**28, 3), "f4", compression="gzip"
            )
    assert (tmp_path / "data" / "main_data.hdf5").stat().st_size < 2**20
    with pytest.raises(ValueError, match="unpacks to more than"):
        recorded_observations(tmp_path)


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("rows", "more than .* numbers"),
        ("columns", "more than .* numbers"),
        ("lists", "other values"),
        ("long names in other columns", "other values"),
        ("long names of cells", "unpacks to more"),
        ("no cells", "no column cell"),
    ],
)
def test_curves_that_would_not_fit_into_memory_are_refused_before(
    tmp_path, declared, reason, monkeypatch
):
    monkeypatch.setattr(published, "MOST_NUMBERS", 2**20)
    write_whole_cell(tmp_path / "grid", "bp", 0)
    publish(tmp_path / "grid", tmp_path / "out")
    path = tmp_path / "out" / "curves" / "CartPole-v1.parquet"
    count = {"rows": 300_000, "columns": 10_000}.get(declared, 2)
    cells = pa.array(["c" * (2**20 if "of cells" in declared else 1)] * count)
    if "of cells" in declared:
        monkeypatch.setitem(layout.MOST_BYTES, "curves", 2**19)
    columns = {"cell": cells} | dict.fromkeys(("episode_return", "env_steps"), np.zeros(count))
    if declared == "columns":
        columns |= {f"c{number}": columns["episode_return"] for number in range(200)}
    if declared == "lists":
        columns["episode_return"] = pa.array([list(range(1000))] * count)
    if "other" in declared:
        columns["episode_length"] = pa.array(["a" * 2**20] * count)
    if declared == "no cells":
        del columns["cell"]
    pq.write_table(pa.table(columns), path, compression="zstd")
    read = []
    monkeypatch.setattr(pq, "read_table", read.append)
    with pytest.raises(UserError, match=rf"CartPole-v1\.parquet .*{reason}"):
        read_published(tmp_path / "out")
    assert not read


def test_a_small_file_of_fifty_million_rows_is_refused(tmp_path):
    write_whole_cell(tmp_path / "grid", "bp", 0)
    publish(tmp_path / "grid", tmp_path / "out")
    path = tmp_path / "out" / "curves" / "CartPole-v1.parquet"
    zeros = np.zeros(10**6, "f4")
    columns = {"cell": pa.array(["a"] * 10**6), "episode_return": zeros, "env_steps": zeros}
    million = pa.table(columns)
    with pq.ParquetWriter(path, million.schema, compression="zstd") as file:
        for _ in range(50):
            file.write_table(million)
    with pytest.raises(UserError, match="50000000 rows"):
        read_published(tmp_path / "out")


def test_arrays_come_back_whatever_their_names_are(tmp_path):
    arrays = {name: np.arange(3.0) for name in ("file", "allow_pickle", "args", "encoder.0.bias")}
    (tmp_path / "weights.npz").write_bytes(packed(arrays))
    assert {name: [*array] for name, array in read_arrays(tmp_path / "weights.npz").items()} == {
        name: [0, 1, 2] for name in arrays
    }


@pytest.mark.parametrize("command", ["report", "verify", "publish", "tune"])
def test_a_command_names_records_that_it_cannot_read_and_overwrites_nothing(
    tmp_path, endless, capsys, command
):
    write_whole_cell(tmp_path / "grid", "bp", 0)
    out = tmp_path / "out"
    publish(tmp_path / "grid", out)
    endless(out / "runs.jsonl")
    before = (out / "curves" / "CartPole-v1.parquet").stat().st_mtime_ns
    arguments = {
        "publish": [str(tmp_path / "grid"), str(out)],
        "tune": [str(write(tmp_path)), "--dry-run", "--without", str(out)],
    }
    main = importlib.import_module(f"rllib_lpdm.{command}").main
    assert main(arguments.get(command, [str(out)])) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert f"{out / 'runs.jsonl'}" in said
    assert "not a regular file" in said
    assert (out / "curves" / "CartPole-v1.parquet").stat().st_mtime_ns == before


def test_verify_names_a_cell_s_record_that_it_cannot_read(tmp_path, endless, capsys):
    endless(write_cell(tmp_path) / "run.json")
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert importlib.import_module("rllib_lpdm.verify").main([str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder / 'run.json'} cannot be read" in line
