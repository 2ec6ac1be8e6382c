"""Behind a URL a grid ends as in a local folder, however often its processes are lost."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from upath import UPath

from rllib_lpdm import tune
from rllib_lpdm.analysis.cells import read_results
from rllib_lpdm.grid.cell import CellRun
from rllib_lpdm.grid.run import run_experiment
from rllib_lpdm.results.checkpoints import checkpoints
from rllib_lpdm.results.record import read_runs
from rllib_lpdm.results.remote import RemoteCell
from rllib_lpdm.results.storage import results_folder
from rllib_lpdm.schema.loading import load_experiment
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import CONFIGS, read_run, write
from tests.experiment.processes import family, needs_proc, wait_until

moto_server = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

SETTINGS = {
    "hidden_sizes": [8, 8],
    "iterations": 18,
    "iterations_per_report": 1,
    "checkpoint_interval": 3,
    "return_normalization": "running",
}
ALGORITHMS = ["reinforce_baseline", "ppo"]


# -- a server, and the same cells in a local folder -----------------------------------------------


@pytest.fixture(scope="module")
def bucket():
    """The URL of an empty bucket; this process and those it starts know its server."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("RAY_ADDRESS", raising=False)
        UPath("s3://bucket").mkdir()
        yield "s3://bucket"
        UPath("s3://bucket").fs.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """An experiment of two cells: its file, and the same read."""
    folder = tmp_path_factory.mktemp("files")
    file = write(
        folder,
        "grid.yaml",
        extends=str(CONFIGS / "debug.yaml"),
        in_process=False,
        algorithms=ALGORITHMS,
        settings=SETTINGS,
    )
    return SimpleNamespace(file=file, cells=load_experiment(file).cells())


@pytest.fixture(scope="module")
def local(grid, tmp_path_factory, ray_session):
    """The folder of the experiment, trained on this machine's disk without an interruption."""
    folder = tmp_path_factory.mktemp("local") / "grid"
    for cell in grid.cells:
        train(cell, folder)
    return folder


def train(cell, folder, reports=None):
    """Trains a cell, to its end or for some reports, after which its process is lost."""
    run = CellRun(cell, folder / cell.name, "a command")
    while not run.finished and reports != 0:
        run.step()
        reports = None if reports is None else reports - 1
    run.close()


def curve(folder):
    """The lines of iterations.csv as written, without the time they took."""
    lines = (folder / "iterations.csv").read_text().splitlines()
    column = lines[0].split(",").index("seconds")
    return [line.split(",")[:column] + line.split(",")[column + 1 :] for line in lines]


def weights(folder):
    """The bytes of every array of the last checkpoint."""
    with (folder / "checkpoints" / "iteration_00000018" / "weights.npz").open("rb") as file:
        return {name: array.tobytes() for name, array in np.load(file).items()}


def assert_same(folder, local, cells):
    for cell in cells:
        there, here = folder / cell.name, local / cell.name
        assert curve(there) == curve(here)
        assert weights(there) == weights(here)
        runs = read_run(there), read_run(here)
        assert runs[0]["status"] == "finished"
        for key in ("cell", "settings", "score", "checkpoints"):
            assert runs[0][key] == runs[1][key]
        published = {path.name for path in (there / "checkpoints").iterdir()}
        assert published == set(runs[0]["checkpoints"])


def start(grid, *arguments):
    """Starts the command line in a process of its own, which trains one cell at a time.

    It joins the tests' Ray, which spares another one; its workers are told of the server.
    """
    words = [str(grid.file), "--wandb", "disabled", "--max-concurrent", "1", *arguments]
    words += ["--address", ray.get_runtime_context().gcs_address]
    server = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    job = json.dumps({"runtime_env": {"env_vars": server}})
    return subprocess.Popen(
        [sys.executable, "-m", "rllib_lpdm.tune", *words],
        cwd=CONFIGS.parent,
        env=os.environ | {"RAY_JOB_CONFIG_JSON_ENV_VAR": job},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# -- claims ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(bucket, grid, ray_session):
    """A grid under Tune, killed when one cell is finished and the other has a checkpoint.

    Where its first cell goes was a cell of another run.
    """
    folder = results_folder(f"{bucket}/killed") / "grid"
    stale = folder / grid.cells[0].name / "run.json"
    stale.write_text(json.dumps({"cell": "of another run", "status": "failed"}))
    others = set(family(os.getpid()))
    process = start(grid, "--output", f"{bucket}/killed", "--overwrite")

    def begun():
        assert process.poll() is None, process.communicate()
        try:
            second = read_run(folder / grid.cells[1].name)
        except OSError:  # s3fs: it was replaced between its size and its content
            return False
        return second and second["checkpoints"] and second["status"] == "running"

    try:
        for line in process.stdout:  # to ask the server so long would cost more than the run
            if line.startswith("[1/2] "):
                break
        wait_until(begun, "one cell was finished and the other had a checkpoint")
    finally:
        for one in set(family(os.getpid())) - others:  # at once, whatever they do
            one.kill()
        process.communicate()
    return folder


@needs_proc
@pytest.mark.slow
def test_a_cell_under_tune_behind_s3_ends_as_on_a_disk_though_its_run_is_killed_later(
    killed, grid, local
):
    (cell,) = [cell for cell in grid.cells if read_run(killed / cell.name)["status"] == "finished"]
    assert_same(killed, local, [cell])


@needs_proc
@pytest.mark.slow
def test_a_grid_killed_behind_s3_goes_on_from_what_it_had_published_and_ends_the_same(
    bucket, killed, grid, local, capsys
):
    left, _ = read_runs(killed)
    words = [str(grid.file), "--output", f"{bucket}/killed", "--wandb", "disabled", "--resume"]
    assert tune.main([*words, "--set", "in_process=true"]) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 cells are finished already, 1 go on from a checkpoint" in printed
    assert str(killed) in printed
    assert_same(killed, local, grid.cells)
    for name, run in left.items():
        assert read_run(killed / name)["run_id"] == run.run_id
    here = {cell.run.cell: cell for cell in read_results(local).cells}
    there = {cell.run.cell: cell for cell in read_results(killed).cells}
    assert there.keys() == here.keys() == {cell.name for cell in grid.cells}
    for name, cell in there.items():
        assert cell.returns.tobytes() == here[name].returns.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("interruption", [1, 4])
def test_a_cell_behind_a_file_url_ends_as_on_a_disk(tmp_path, grid, local, interruption):
    folder = results_folder(f"file://{tmp_path}/results") / "grid"
    train(grid.cells[0], folder, interruption)
    train(grid.cells[0], folder)
    assert_same(folder, local, grid.cells[:1])
    assert (tmp_path / "results" / "grid" / grid.cells[0].name / "run.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("iteration", [6, 99])
def test_a_checkpoint_that_is_half_uploaded_is_ignored_and_goes_with_the_next(
    bucket, grid, local, iteration
):
    """It lies behind the URL, but ``run.json`` does not name it."""
    folder = results_folder(f"{bucket}/half-{iteration}") / "grid"
    (cell, _) = grid.cells
    train(cell, folder, 4)
    assert read_run(folder / cell.name)["checkpoints"][-1] == "iteration_00000003"
    half = folder / cell.name / "checkpoints" / f"iteration_{iteration:08d}"
    (half / "weights.npz").write_bytes(b"half")
    (half / "state" / "state.pkl").write_bytes(b"half")
    train(cell, folder)
    assert_same(folder, local, [cell])


def test_fetching_brings_the_named_checkpoints_only(bucket, tmp_path):
    remote = results_folder(f"{bucket}/fetch/cell")
    for name in ("iteration_00000002", "iteration_00000004", "iteration_00000006"):
        (remote / "checkpoints" / name / "state" / "deep").write_text(name)
    named = ["iteration_00000002", "iteration_00000004"]
    place = {"environment": "CartPole-v1", "algorithm": "ppo", "method": "bp", "seed": 0}
    (remote / "run.json").write_text(json.dumps({"cell": "cell", **place, "checkpoints": named}))
    (remote / "iterations.csv").write_text("iteration\n1\n")
    RemoteCell(remote, tmp_path / "cell").fetch()
    found = checkpoints(tmp_path / "cell")
    assert sorted(path.name for path in found.values()) == named
    assert all((path / "state" / "deep").read_text() == path.name for path in found.values())
    assert (tmp_path / "cell" / "iterations.csv").read_text() == "iteration\n1\n"


class RecordedFileSystem:
    """Writes down what is asked of it."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*paths, **options):
            self.calls.append((name, paths[-1].rstrip("/").rpartition("cell/")[2]))

        return call


def test_the_record_is_published_after_what_it_names_and_before_anything_is_deleted(tmp_path):
    recorded = RecordedFileSystem()
    remote = RemoteCell(SimpleNamespace(fs=recorded, path="bucket/cell/"), tmp_path)
    for name in ("iterations.csv", "run.json"):
        (tmp_path / name).touch()
    for name in ("iteration_00000002", "iteration_00000004"):
        recorded.calls.clear()
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        remote.publish()
        (tmp_path / "checkpoints" / name).rmdir()
    assert [call for call in recorded.calls if call[0] != "makedirs"] == [
        ("put", "checkpoints/iteration_00000004"),
        ("put_file", "iterations.csv"),
        ("put_file", "run.json"),
        ("rm", "checkpoints/iteration_00000002"),
    ]


def test_an_existing_url_is_refused_continued_or_overwritten_as_told(
    bucket, tmp_path, ray_session, capsys
):
    settings = SETTINGS | {"iterations": 2}
    file = write(tmp_path, "tiny.yaml", in_process=True, settings=settings)
    experiment, output = load_experiment(file), f"{bucket}/existing"
    assert not run_experiment(experiment, output).failed
    run_file = results_folder(output) / "tiny" / experiment.cells()[0].name / "run.json"
    before = run_file.read_bytes()
    with pytest.raises(UserError, match=r"exists: --resume continues it"):
        run_experiment(experiment, output)
    assert len(run_experiment(experiment, output, resume=True).finished) == 1
    assert run_file.read_bytes() == before
    assert len(run_experiment(experiment, output, overwrite=True).finished) == 1
    assert json.loads(run_file.read_bytes())["run_id"] != json.loads(before)["run_id"]
    assert tune.main([str(file), "--output", output, "--dry-run"]) == 0
    assert "1 cell, 1 finished, 0 to run" in capsys.readouterr().out


def test_overwriting_behind_a_url_deletes_nothing_that_is_no_cell(bucket, tmp_path):
    thesis = results_folder(f"{bucket}/home/file/thesis.txt")
    thesis.write_text("years of work")
    with pytest.raises(UserError, match=r"would delete 'thesis\.txt'"):
        run_experiment(load_experiment(write(tmp_path)), f"{bucket}/home", overwrite=True)
    assert thesis.read_text() == "years of work"


def test_a_damaged_run_file_behind_a_url_is_an_error_that_names_it(bucket):
    results_folder(f"{bucket}/damaged/grid/cell/run.json").write_text('{"status": ')
    runs, damaged = read_runs(results_folder(f"{bucket}/damaged") / "grid")
    assert runs == {}
    assert "cell/run.json is damaged" in damaged["cell"]


@pytest.mark.parametrize(
    "url",
    ["hdfs://host/x", "foo://x", "s3://", "s3:///x", "jar://x", "dask://x", "zip://x"],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_url_of_no_installed_file_system_is_one_clear_line(tmp_path, capsys, url, options):
    assert tune.main([str(write(tmp_path)), "--output", url, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --output {url}: ")


def test_a_server_out_of_reach_is_one_clear_line(tmp_path, bucket, capsys, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    UPath(bucket).fs.clear_instance_cache()
    try:
        assert tune.main([str(write(tmp_path)), "--output", "s3://far/x"]) == 2
    finally:
        UPath(bucket).fs.clear_instance_cache()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --output s3://far/x: ")
    assert "connect" in line
