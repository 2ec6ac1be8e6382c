"""The files of a cell survive readers, kills and continuations."""

import itertools
import json
import threading

import numpy as np
import pytest

from rllib_lpdm.analysis.cells import read_results
from rllib_lpdm.grid.provenance import provenance
from rllib_lpdm.results.checkpoints import (
    best_iteration,
    checkpoints,
    drop_unfinished_checkpoints,
    newest_checkpoint,
    save_checkpoint,
)
from rllib_lpdm.results.iterations import IterationWriter, read_columns
from rllib_lpdm.results.record import RunRecord
from rllib_lpdm.schema.messages import UserError
from tests.experiment.files import read_run, write_run

AWKWARD = (0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, np.pi, -1 / 3, 1e23)


RECORD = RunRecord(
    cell="CartPole-v1_ppo_bp_s0", environment="CartPole-v1", algorithm="ppo", method="bp", seed=0
)


def rows(count, start=1):
    return [{"iteration": i, "episode_return": 1 / i} for i in range(start, start + count)]


class FakeAlgorithm:
    """Saves one small file, and may fail half-way."""

    def __init__(self, iterations_done, fails=False):
        self.iterations_done, self.fails = iterations_done, fails

    def save_to_path(self, path):
        path.mkdir(parents=True)
        (path / "state").write_text(path.name)
        if self.fails:
            raise OSError("no space left")

    def numpy_weights(self):
        return {"policy_head.bias": np.full(3, self.iterations_done, np.float32)}


def save(folder, iteration, returns=None, **options):
    """Saves a checkpoint; by default of a run whose score rises."""
    returns = np.arange(iteration) if returns is None else returns[:iteration]
    return save_checkpoint(folder, FakeAlgorithm(iteration, **options), returns)


def test_a_reader_sees_the_old_run_file_or_the_new_one_and_never_a_part(tmp_path):
    RECORD.write(tmp_path)
    faults, seen, done = [], set(), threading.Event()

    def read():
        while not done.is_set():
            try:
                run = RunRecord.read(tmp_path)
                assert len(run.command) == 997 * run.seed
                seen.add(run.seed)
            except Exception as error:
                faults.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for version in range(200):
        RECORD.updated(seed=version, command="x" * 997 * version).write(tmp_path)
    done.set()
    reader.join()
    assert not faults
    assert len(seen) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_run_that_cannot_be_written_leaves_the_old_one(tmp_path):
    RECORD.write(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        RECORD.updated(score=float("nan")).write(tmp_path)
    assert RunRecord.read(tmp_path) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_folder_without_a_run_file_has_no_run(tmp_path):
    assert RunRecord.read(tmp_path) is None
    assert RunRecord.read(tmp_path / "missing") is None


def test_a_record_keeps_what_it_does_not_know_and_adds_nothing(tmp_path):
    content = {**RECORD.model_dump(exclude_unset=True), "later": [1]}
    write_run(tmp_path, content)
    RunRecord.read(tmp_path).write(tmp_path)
    assert read_run(tmp_path) == content


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity"])
def test_a_score_that_is_no_number_is_read_as_none(tmp_path, score):
    RECORD.updated(score=1.5).write(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(path.read_text().replace("1.5", score))
    assert RunRecord.read(tmp_path).score is None


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ({"settings": None}, "settings"),
        ({"checkpoints": 5}, "checkpoints"),
        ({"checkpoints": ["../../elsewhere"]}, "checkpoints.0"),
        ({"failures": [{"checkpoint": "first"}]}, "failures.0.checkpoint"),
        ({"status": "done"}, "status"),
    ],
)
def test_a_damaged_record_is_an_error_that_names_the_file_and_the_field(tmp_path, entry, place):
    write_run(tmp_path, {**RECORD.model_dump(exclude_unset=True), **entry})
    with pytest.raises(UserError) as error:
        RunRecord.read(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'run.json'} is damaged: {place}: ")
    assert "delete the cell's folder" in str(error.value)


def test_numbers_keep_every_bit(tmp_path):
    values = [*AWKWARD, *np.random.default_rng(0).standard_normal(100) * 1e-7]
    RECORD.write(tmp_path / "cell")
    IterationWriter(tmp_path / "cell").append([{"episode_return": value} for value in values])
    (cell,) = read_results(tmp_path).cells
    assert cell.returns.tobytes() == np.array(values, dtype=np.float64).tobytes()


def test_the_header_stands_once_above_the_rows_of_all_reports(tmp_path):
    for start in (1, 4):
        IterationWriter(tmp_path, done=start - 1).append(rows(3, start))
    lines = (tmp_path / "iterations.csv").read_text().splitlines()
    assert lines[0] == "iteration,episode_return"
    assert [line.split(",")[0] for line in lines[1:]] == list("123456")


@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_continuing_drops_the_rows_past_the_checkpoint(tmp_path, done):
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
        IterationWriter(tmp_path / name).append(rows(5))
    IterationWriter(tmp_path / "killed", done).append(rows(5 - done, start=done + 1))
    killed, straight = (tmp_path / n / "iterations.csv" for n in ("killed", "straight"))
    assert killed.read_text() == straight.read_text()


def test_a_continued_file_is_byte_for_byte_the_uninterrupted_one(tmp_path):
    for name in ("straight", "killed"):
        (tmp_path / name).mkdir()
        IterationWriter(tmp_path / name).append(rows(5))
    IterationWriter(tmp_path / "killed", done=3).append(rows(2, start=4))
    killed, straight = (tmp_path / n / "iterations.csv" for n in ("killed", "straight"))
    assert killed.read_bytes() == straight.read_bytes()


def test_a_row_cut_off_by_a_kill_is_dropped_on_continuing(tmp_path):
    IterationWriter(tmp_path).append(rows(3))
    with (tmp_path / "iterations.csv").open("a") as file:
        file.write("4,0.")
    IterationWriter(tmp_path, done=3).append(rows(1, start=4))
    lines = (tmp_path / "iterations.csv").read_text().splitlines()
    assert lines[1:] == [f"{i},{1 / i!r}" for i in range(1, 5)]


@pytest.mark.parametrize("written", ["iteration\n1\n2\n", "iteration\n", "", None])
def test_fewer_rows_than_the_checkpoint_is_an_error_that_names_the_file(tmp_path, written):
    path = tmp_path / "iterations.csv"
    if written is not None:
        path.write_text(written)
    with pytest.raises(ValueError, match="checkpoint") as error:
        IterationWriter(tmp_path, done=3)
    assert str(path) in str(error.value)


def resumed(folder, text):
    """What a file of two iterations holds after a third, by column."""
    path = folder / "iterations.csv"
    path.write_text(text)
    row = {"iteration": 3, "env_steps": 15, "episode_return": 12.0, "kl": 0.5}
    IterationWriter(folder, done=2).append([row])
    return {name: values.tolist() for name, values in read_columns(path.read_bytes(), bool).items()}


@pytest.mark.parametrize("order", itertools.permutations(range(4)))
def test_a_resumed_file_takes_values_by_name_whatever_the_order_of_its_columns(tmp_path, order):
    lines = ["iteration,env_steps,episode_return,kl", "1,5,2.0,0.1", "2,10,3.0,0.2"]
    lines = [",".join(line.split(",")[column] for column in order) for line in lines]
    assert resumed(tmp_path, "\n".join(lines) + "\n") == {
        "iteration": [1, 2, 3],
        "env_steps": [5, 10, 15],
        "episode_return": [2.0, 3.0, 12.0],
        "kl": [0.1, 0.2, 0.5],
    }


@pytest.mark.parametrize(
    ("header", "odd"),
    [
        ("iteration,env_steps,episode_return,kl,entropy", "entropy is in one"),
        ("iteration,env_steps,episode_return", "kl is in one"),
        ("iteration,steps,episode_return,kl", "env_steps, steps are in one"),
    ],
)
def test_a_file_with_other_columns_is_refused_by_name_and_left_as_it_is(tmp_path, header, odd):
    values = [",".join(str(row) for _ in header.split(",")) for row in (1, 2)]
    text = "\n".join([header, *values]) + "\n"
    with pytest.raises(ValueError, match=f"{odd}.*delete the cell's folder") as error:
        resumed(tmp_path, text)
    assert str(tmp_path / "iterations.csv") in str(error.value)
    assert (tmp_path / "iterations.csv").read_text() == text


@pytest.mark.parametrize("order", ["113", "321", "112", "012", "234", "132", "1n3"])
def test_rows_that_are_doubled_missing_or_reversed_are_refused(tmp_path, order):
    path = tmp_path / "iterations.csv"
    lines = [f"{number.replace('n', 'nan')},0.5,{number.replace('n', '2')}" for number in order]
    text = "\n".join(["iteration,episode_return,kl", *lines]) + "\n"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"does not count from 1 to 3.*delete the cell's folder"):
        IterationWriter(tmp_path, done=3)
    assert path.read_text() == text


def test_while_the_score_rises_only_the_newest_checkpoint_is_kept(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for iteration in (9, 10, 100, 1000):
        saved = save(tmp_path, iteration)
        assert newest_checkpoint(tmp_path) == (saved, iteration)
        assert list((tmp_path / "checkpoints").iterdir()) == [saved]
        assert (saved / "state").is_file()


def test_the_best_checkpoint_is_kept_beside_the_last(tmp_path):
    returns = [0.0] * 100 + [9.0] * 100 + [1.0] * 200
    scores = {i: np.mean(returns[max(0, i - 50) : i]) for i in range(40, 401, 40)}
    for iteration in scores:
        save(tmp_path, iteration, returns)
        made = [i for i in scores if i <= iteration]
        best = max(made, key=lambda i: (scores[i], -i))
        assert set(checkpoints(tmp_path)) == {best, iteration}
        assert best_iteration(returns, checkpoints(tmp_path)) == best
    assert set(checkpoints(tmp_path)) == {160, 400}


def test_a_checkpoint_holds_the_weights_without_pickles(tmp_path):
    saved = save(tmp_path, 7)
    with np.load(saved / "weights.npz", allow_pickle=False) as weights:
        np.testing.assert_array_equal(weights["policy_head.bias"], [7, 7, 7])


def test_a_checkpoint_may_be_saved_again(tmp_path):
    for _ in range(2):
        saved = save(tmp_path, 5)
    assert list((tmp_path / "checkpoints").iterdir()) == [saved]


def test_an_unfinished_checkpoint_is_never_taken_and_leaves_nothing(tmp_path):
    kept = save(tmp_path, 5)
    with pytest.raises(OSError, match="no space"):
        save(tmp_path, 6, fails=True)
    assert newest_checkpoint(tmp_path) == (kept, 5)
    assert list((tmp_path / "checkpoints").iterdir()) == [kept]


def test_what_a_killed_process_left_of_a_checkpoint_is_never_taken_and_can_be_dropped(tmp_path):
    (tmp_path / "checkpoints" / ".abandoned" / "learner_group").mkdir(parents=True)
    assert newest_checkpoint(tmp_path) is None
    saved = save(tmp_path, 6)
    drop_unfinished_checkpoints(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == [saved]


def test_a_process_that_was_believed_lost_writes_no_row_into_the_file_of_its_successor(tmp_path):
    lost = IterationWriter(tmp_path)
    lost.append(rows(3))
    successor = IterationWriter(tmp_path, done=2)
    lost.append(rows(1, start=4))
    successor.append(rows(1, start=3))
    lines = (tmp_path / "iterations.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == list("123")


def test_provenance_says_versions_commit_and_hardware_and_no_secret(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "planted-secret")
    provenance.cache_clear()
    found = provenance()
    assert set(found) == {"versions", "git_commit", "hardware"}
    assert {"python", "rllib-lpdm", "ray", "torch", "numpy", "gymnasium", "mujoco"} <= set(
        found["versions"]
    )
    assert {"machine", "cpu", "cores", "gpus"} <= set(found["hardware"])
    assert found["hardware"]["cores"] >= 1
    assert "planted-secret" not in json.dumps(found)
