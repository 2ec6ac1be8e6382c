"""W&B gets every row of every cell once, whatever happens to it, and never disturbs the cells."""

import csv
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rllib_lpdm.experiment.records import write_run
from rllib_lpdm.experiment.spec import ExperimentError
from rllib_lpdm.experiment.trackers import dashboard
from rllib_lpdm.experiment.trackers import wandb as tracker_module
from rllib_lpdm.experiment.trackers.wandb import wandb_follower
from rllib_lpdm.experiment.trackers.wandb_mode import resolve_mode
from rllib_lpdm.results.columns import metric_name

wandb = pytest.importorskip("wandb")

KEY = "0123456789abcdef" * 2 + "fedcba98"
HEADER = (
    "iteration,env_steps,episodes,episode_return,episode_length,seconds,"
    "distance_loss_1,grad_norm_hidden_1,policy_loss"
)
SETTINGS = {"lr": 0.001, "hidden_sizes": [64, 128]}
PROVENANCE = {"git_commit": "c0ffee", "versions": {"ray": "2.60"}, "hardware": {"cores": 2}}


@pytest.fixture(autouse=True)
def _client(tmp_path, monkeypatch):
    """A client that knows no account, and forgets this test's settings after it."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()
    yield
    wandb.teardown()


# -- cells ----------------------------------------------------------------------------------------


def make_cell(parent, number=0, **entries):
    """The folder of a cell without rows."""
    folder = parent / f"CartPole-v1_ppo_lpdm_s{number}"
    record = {
        "cell": folder.name,
        "environment": "CartPole-v1",
        "algorithm": "ppo",
        "method": "lpdm",
        "variant": None,
        "seed": number,
        "settings": SETTINGS,
        **PROVENANCE,
        "command": "python -m somewhere --secret",
        "status": "running",
        "run_id": f"{number:08x}",
    }
    write_run(folder, record | entries)
    return folder


def line(iteration, seconds=0.5):
    numbers = [iteration, 10 * iteration, iteration, iteration / 3, iteration / 7, seconds]
    return ",".join(map(str, [*numbers, 1 / iteration, 2 / iteration, -iteration / 9])) + "\n"


def append(folder, first, last, seconds=0.5):
    """Rows first..last, after a header where the file is new."""
    path = folder / "iterations.csv"
    with path.open("a") as file:
        if file.tell() == 0:
            file.write(HEADER + "\n")
        file.writelines(line(iteration, seconds) for iteration in range(first, last + 1))


def cut_back(folder, rows):
    path = folder / "iterations.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[: rows + 1]))


def expected(folder):
    """What W&B shall hold of a cell: (step, values) of each row."""
    logged = []
    with (folder / "iterations.csv").open() as file:
        for row in csv.DictReader(file):
            values = {metric_name(name): float(value) for name, value in row.items()}
            values["speed/steps_per_second"] = 10 / float(row["seconds"])
            del values["update/iteration"]
            logged.append((int(row["iteration"]), values))
    return logged


def log(directory, *cells, mode="offline", failed=False):
    """Follows cells from what they are to their ends."""
    sink = wandb_follower(mode, directory, "grid")
    for cell in cells:
        sink.update(cell)
        sink.finish(cell, failed)
    return sink.close()


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def idle(sink):
    """Waits until the sink has done what it was asked to."""
    done = threading.Event()
    sink._queue.put((Path("/nowhere"), None))
    follow = sink._follow

    def mark(service, folder, status):
        done.set() if folder == Path("/nowhere") else follow(service, folder, status)

    sink._follow = mark
    assert done.wait(20)
    sink._follow = follow


# -- what W&B's own reader finds in offline files -------------------------------------------------


def offline_files(directory):
    return sorted((directory / "wandb").glob("offline-run-*/run-*.wandb"))


def read(path):
    """A file's run record, its rows as (step, values), and its other records by type."""
    command = [wandb.util.get_core_path(), "leet", "inspect", "--no-observability", "--json"]
    result = subprocess.run(
        [*command, "--run-file", str(path), str(path.parent.parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    run, rows, other = None, [], {}
    for record in map(json.loads, result.stdout.splitlines()):
        content = record.get(record["type"])
        if record["type"] == "run":
            run = content
        elif record["type"] == "history":
            values = {k: v for k, v in content["item"].items() if not k.startswith("_")}
            rows.append((content["item"]["_step"], values))
        else:
            other[record["type"]] = content
    return run, rows, other


def read_one(directory):
    (path,) = offline_files(directory)
    return read(path)


# -- a server -------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Keeps runs as W&B's server does: the lines of a history by number, in ``runs``.

    Attributes:
        runs: by id, ``lines``: the history's lines by number; ``ends``: what ended it.
        views: what was asked to be saved as a view.
        hanging: whether requests are left without an answer.
    """

    daemon_threads = True

    def __init__(self):
        self.runs, self.views, self.hanging = {}, [], False
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, client_address):
        """The client may go away."""

    def query(self, operation, variables):
        if operation == "UpsertBucket":
            self.runs.setdefault(variables["name"], {"lines": {}, "ends": []})
            entity = {"id": "e", "name": "someone"}
            project = {"id": "p", "name": variables["project"], "entity": entity}
            bucket = {"id": "b", "name": variables["name"], "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if operation == "RunResumeStatus":
            return {"model": self.resume_status(variables["name"])}
        if operation == "Viewer":
            return {
                "viewer": {"id": "u", "entity": "someone", "flags": "{}", "username": "someone"}
            }
        if operation == "UpsertView2":
            self.views.append(variables)
            return {"upsertView": {"view": {"id": "v", "name": "nw-1-v"}, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [
                {"name": name, "uploadUrl": f"{self.url}/upload"} for name in variables["files"]
            ]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        return {}

    def resume_status(self, run_id):
        if run_id not in self.runs:
            return None
        lines = self.runs[run_id]["lines"]
        tail = [lines[max(lines)]] if lines else []
        described = {"id": "b", "name": run_id, "displayName": "", "notes": "", "tags": []}
        state = {"config": "{}", "summaryMetrics": "{}", "wandbConfig": '{"t": 1}'}
        events = {"logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]"}
        history = {"historyLineCount": len(lines), "historyTail": json.dumps(tail)}
        bucket = described | state | events | history
        return {"id": "p", "name": "", "entity": {"id": "e", "name": "someone"}, "bucket": bucket}

    def stream(self, run_id, content):
        run = self.runs[run_id]
        history = content.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        for number, text in enumerate(history["content"], history["offset"]):
            run["lines"][number] = text
        if content.get("preempting"):
            run["ends"].append("preempting")
        if content.get("complete"):
            run["ends"].append(content["exitcode"])

    def rows(self, number=0):
        """A run's history as (step, values)."""
        lines = self.runs[f"{number:08x}"]["lines"]
        items = [json.loads(lines[n]) for n in range(len(lines))]
        return [
            (item["_step"], {k: v for k, v in item.items() if not k.startswith("_")})
            for item in items
        ]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.hanging:
            time.sleep(60)
        answer = {}
        if self.path == "/graphql":
            content = json.loads(body)
            operation = re.search(r"(?:query|mutation)\s+(\w+)", content["query"])[1]
            answer["data"] = self.server.query(operation, content.get("variables"))
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[4], json.loads(body))
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST  # noqa: N815

    def log_message(self, *args):
        """Nothing."""


@pytest.fixture
def server(monkeypatch):
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_server(monkeypatch, server.url)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed_port(monkeypatch):
    """A server that is not there."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        use_server(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield


def use_server(monkeypatch, url):
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(tracker_module, "INIT_TIMEOUT", 2)
    monkeypatch.setattr(tracker_module, "FINISH_TIMEOUT", 2)


# -- offline --------------------------------------------------------------------------------------


def test_every_row_is_logged_once_with_its_step_and_its_values(tmp_path):
    cells = [make_cell(tmp_path, number) for number in range(3)]
    sink = wandb_follower("offline", tmp_path, "grid")
    for first in (1, 26, 51):
        for cell in cells:
            append(cell, first, first + 24)
            sink.update(cell)
        idle(sink)
    for cell in cells:
        append(cell, 76, 80)
        sink.finish(cell, failed=False)
    sink.close()
    files = offline_files(tmp_path)
    assert len(files) == 3
    for cell in cells:
        (rows,) = [rows for run, rows, _ in map(read, files) if run["display_name"] == cell.name]
        assert [step for step, _ in rows] == list(range(1, 81))
        assert rows == expected(cell)


def test_a_run_is_described_by_its_cell_and_says_nothing_of_the_machine_and_its_user(tmp_path):
    cell = make_cell(tmp_path, 3, variant="v" * 70)
    append(cell, 1, 1)
    log(tmp_path, cell)
    run, _, _ = read_one(tmp_path)
    config = run["config"]["update"]
    assert not config.pop("_wandb")
    described = {"environment": "CartPole-v1", "algorithm": "ppo", "method": "lpdm"}
    assert config == {**SETTINGS, **described, **PROVENANCE, "variant": "v" * 70, "seed": 3}
    assert (run["run_id"], run["display_name"]) == ("00000003", cell.name)
    assert (run["run_group"], run["job_type"]) == ("CartPole-v1/ppo/lpdm/" + "v" * 70, "lpdm")
    assert sorted(run["tags"]) == sorted(["grid", "CartPole-v1", "ppo", "lpdm", "v" * 64])
    assert run["project"] == "rllib_lpdm"
    known = {"config", "run_id", "display_name", "run_group", "job_type", "tags", "project"}
    assert run.keys() - known == {"start_time", "telemetry"}
    assert not list((tmp_path / "wandb").glob("*/files/*"))


def test_project_and_entity_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "ours")
    cell = make_cell(tmp_path)
    append(cell, 1, 1)
    log(tmp_path, cell)
    run, _, _ = read_one(tmp_path)
    assert (run["project"], run["entity"]) == ("mine", "ours")


def test_a_line_is_left_alone_until_it_is_whole(tmp_path):
    cell = make_cell(tmp_path)
    sink = wandb_follower("offline", tmp_path, "grid")
    for part in (HEADER[:9], HEADER[9:] + "\n" + line(1) + line(2)[:7], line(2)[7:-1], "\n"):
        with (cell / "iterations.csv").open("a") as file:
            file.write(part)
        sink.update(cell)
        idle(sink)
    append(cell, 3, 3)
    with (cell / "iterations.csv").open("a") as file:
        file.write(line(4)[:20])
    sink.finish(cell, failed=True)
    sink.close()
    cut_back(cell, 3)
    assert read_one(tmp_path)[1] == expected(cell)


@pytest.mark.parametrize("seen", [True, False], ids=["seen while short", "seen when longer"])
def test_rows_that_are_cut_back_and_grow_again_are_logged_once(tmp_path, seen):
    cell = make_cell(tmp_path)
    append(cell, 1, 50)
    sink = wandb_follower("offline", tmp_path, "grid")
    sink.update(cell)
    idle(sink)
    before = expected(cell)
    cut_back(cell, 25)
    if seen:
        sink.update(cell)
        idle(sink)
    append(cell, 26, 75, seconds=0.123456)  # the time is all that differs in another life
    sink.finish(cell, failed=False)
    sink.close()
    assert read_one(tmp_path)[1] == before + expected(cell)[50:]


def test_a_cell_that_goes_on_in_another_process_has_one_file_with_each_row_once(tmp_path):
    cell = make_cell(tmp_path)
    append(cell, 1, 50)
    sink = wandb_follower("offline", tmp_path, "grid")
    sink.update(cell)
    idle(sink)
    sink.close()
    _, rows, other = read_one(tmp_path)
    assert rows == expected(cell)
    assert "preempting" in other
    cut_back(cell, 25)
    append(cell, 26, 60)
    log(tmp_path, cell)
    run, rows, other = read_one(tmp_path)
    assert run["run_id"] == "00000000"
    assert rows == expected(cell)
    assert "preempting" not in other


def test_a_process_killed_while_it_logs_leaves_whole_rows_and_a_restart_all_of_them(tmp_path):
    cell = make_cell(tmp_path)
    append(cell, 1, 400)
    program = f"""
        import itertools, pathlib, time
        from rllib_lpdm.experiment.trackers.wandb import wandb_follower
        cell = pathlib.Path({str(cell)!r})
        text = (cell / "iterations.csv").read_text().splitlines(keepends=True)
        (cell / "iterations.csv").write_text("")
        sink = wandb_follower("offline", {str(tmp_path)!r}, "grid")
        for first in itertools.count(0, 3):
            with (cell / "iterations.csv").open("a") as file:
                file.writelines(text[first:first + 3])
            sink.update(cell)
            while sink._waiting:
                time.sleep(0.001)
            print(first, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    while int(process.stdout.readline()) < 120:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (path,) = offline_files(tmp_path)
    wait_for(lambda: path.stat().st_size > 0)
    time.sleep(0.5)  # for the service, which ends by itself
    rows = read(path)[1]
    assert len(rows) >= 100
    assert rows == expected(cell)[: len(rows)]
    log(tmp_path, cell)
    assert read_one(tmp_path)[1] == expected(cell)


def test_many_cells_need_one_process(tmp_path):
    cells = [make_cell(tmp_path, number) for number in range(20)]
    sink = wandb_follower("offline", tmp_path, "grid")
    for cell in cells:
        append(cell, 1, 5)
        sink.update(cell)
    idle(sink)
    listed = subprocess.run(["ps", "-A", "-o", "ppid=,args="], capture_output=True, text=True)
    own = [entry for entry in listed.stdout.splitlines() if int(entry.split()[0]) == os.getpid()]
    assert sum("wandb-core" in entry for entry in own) == 1
    sink.close()
    assert len(offline_files(tmp_path)) == 20


def test_a_failed_cell_has_exit_code_1_and_a_finished_one_0(tmp_path):
    for number, failed in enumerate((False, True)):
        cell = make_cell(tmp_path, number)
        append(cell, 1, 2)
        log(tmp_path, cell, failed=failed)
    exits = [(run["run_id"], other["exit"]) for run, _, other in map(read, offline_files(tmp_path))]
    assert sorted((name, content.get("exit_code", 0)) for name, content in exits) == [
        ("00000000", 0),
        ("00000001", 1),
    ]


def test_the_command_that_uploads_names_the_folder(tmp_path):
    folder = tmp_path / "my results"
    cell = make_cell(folder)
    append(cell, 1, 1)
    assert shlex.split(log(folder, cell)) == ["wandb", "sync", str(folder / "wandb")]


def test_the_key_is_in_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    cell = make_cell(tmp_path)
    append(cell, 1, 30)
    log(tmp_path, cell)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert any(path.suffix == ".log" for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_disabled_writes_nothing_and_imports_nothing(tmp_path):
    cell = make_cell(tmp_path)
    append(cell, 1, 1)
    before = sorted(tmp_path.rglob("*"))
    program = f"""
        import pathlib, sys
        from rllib_lpdm.experiment.trackers.wandb import wandb_follower
        sink = wandb_follower("disabled", pathlib.Path({str(tmp_path)!r}), "grid")
        sink.update(pathlib.Path({str(cell)!r}))
        sink.finish(pathlib.Path({str(cell)!r}), failed=False)
        assert sink.close() is None
        assert "wandb" not in sys.modules
    """
    path = str(Path(__file__).resolve().parents[2])
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert sorted(tmp_path.rglob("*")) == before


# -- online ---------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_at_the_server_after_its_last_step(tmp_path, server):
    cell = make_cell(tmp_path)
    append(cell, 1, 50)
    sink = wandb_follower("online", tmp_path, "grid")
    sink.update(cell)
    assert sink.close() is None
    assert server.runs["00000000"]["ends"] == ["preempting", 1]
    before = expected(cell)
    assert server.rows() == before
    cut_back(cell, 25)
    append(cell, 26, 40, seconds=0.25)
    sink = wandb_follower("online", tmp_path, "grid")
    sink.update(cell)
    idle(sink)
    append(cell, 41, 75, seconds=0.25)
    sink.finish(cell, failed=False)
    sink.close()
    assert server.rows() == before + expected(cell)[50:]
    assert server.runs["00000000"]["ends"][-1] == 0


def test_a_file_that_is_sent_again_after_a_resume_leaves_each_step_once(tmp_path, server):
    cell = make_cell(tmp_path)
    for first, last in ((1, 20), (21, 30)):
        append(cell, first, last)
        command = shlex.split(log(tmp_path, cell))
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
        assert server.rows() == expected(cell)


def test_a_run_that_goes_on_online_drops_its_offline_file(tmp_path, server):
    cell = make_cell(tmp_path)
    append(cell, 1, 10)
    log(tmp_path, cell)
    assert log(tmp_path, cell, mode="online") is None
    assert not offline_files(tmp_path)
    assert server.rows() == expected(cell)


def test_without_a_server_the_cells_go_on_offline_after_one_line(tmp_path, closed_port, capfd):
    cells = [make_cell(tmp_path, number) for number in range(3)]
    sink = wandb_follower("online", tmp_path, "grid")
    longest = 0.0
    for first in (1, 11):
        for cell in cells:
            append(cell, first, first + 9)
            start = time.perf_counter()
            sink.update(cell)
            longest = max(longest, time.perf_counter() - start)
    assert longest < 0.1
    sink.finish(cells[0], failed=False)
    assert sink.close() is not None
    assert [read(path)[1] for path in offline_files(tmp_path)] == [expected(c) for c in cells]
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.startswith("W&B: failed (")
    assert "connection refused" in warning
    assert warning.endswith("going on offline")


def test_when_the_server_is_lost_the_open_cells_are_written_whole_offline(tmp_path, server, capfd):
    cells = [make_cell(tmp_path, number) for number in range(2)]
    sink = wandb_follower("online", tmp_path, "grid")
    for cell in cells:
        append(cell, 1, 10)
        sink.update(cell)
    idle(sink)
    server.hanging = True
    append(cells[0], 11, 20)
    sink.finish(cells[0], failed=False)
    assert sink.close() is not None
    assert [read(path)[1] for path in offline_files(tmp_path)] == [expected(c) for c in cells]
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.endswith("going on offline")


# -- faults ---------------------------------------------------------------------------------------


def test_a_directory_that_cannot_be_used_costs_one_line_and_nothing_else(tmp_path, capfd):
    (tmp_path / "file").touch()
    cells = [make_cell(tmp_path, number) for number in range(3)]
    for cell in cells:
        append(cell, 1, 1)
    assert log(tmp_path / "file" / "below", *cells) is None
    (warning,) = capfd.readouterr().err.splitlines()
    assert warning.endswith("going on without it, the results are not touched")


def test_a_full_disk_costs_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(tracker_module, "MIN_FREE", 2**70)
    cell = make_cell(tmp_path)
    append(cell, 1, 1)
    assert log(tmp_path, cell) is None
    (warning,) = capfd.readouterr().err.splitlines()
    assert "is full" in warning


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_service_costs_one_line(tmp_path, capfd):
    cell = make_cell(tmp_path)
    append(cell, 1, 1)
    sink = wandb_follower("offline", tmp_path, "grid")
    sink.update(cell)
    idle(sink)
    service = wandb.setup()._connection._proc._process
    service.kill()
    service.wait()
    append(cell, 2, 10)
    sink.finish(cell, failed=False)
    sink.close()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("W&B: failed")
    # A thread of the client's own, which the test must not leave to the next one.
    wait_for(lambda: all(thread.name != "NetStatThr" for thread in threading.enumerate()))


def test_a_damaged_cell_is_named_once_and_the_others_are_logged(tmp_path, capfd):
    damaged, unnamed, whole = (make_cell(tmp_path, number) for number in range(3))
    for cell in (damaged, unnamed, whole):
        append(cell, 1, 2)
    (damaged / "run.json").write_text("{")
    record = json.loads((unnamed / "run.json").read_text())
    write_run(unnamed, {key: value for key, value in record.items() if key != "run_id"})
    log(tmp_path, damaged, damaged, unnamed, tmp_path / "missing", whole)
    assert read_one(tmp_path)[1] == expected(whole)
    first, second = capfd.readouterr().err.splitlines()
    assert str(damaged) in first
    assert second.endswith("run.json lacks run_id")


def test_a_row_that_is_no_numbers_ends_its_run_with_the_rows_before(tmp_path, capfd):
    cell = make_cell(tmp_path)
    append(cell, 1, 5)
    sink = wandb_follower("offline", tmp_path, "grid")
    sink.update(cell)
    idle(sink)
    before = expected(cell)
    with (cell / "iterations.csv").open("a") as file:
        file.write("6,what\n")
    sink.finish(cell, failed=True)
    sink.close()
    _, rows, other = read_one(tmp_path)
    assert rows == before
    assert other["exit"] == {"exit_code": 1}
    (warning,) = capfd.readouterr().err.splitlines()
    assert str(cell) in warning


# -- modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "variables", "meaning"),
    [
        ("auto", {}, "offline"),
        ("auto", {"WANDB_API_KEY": KEY}, "online"),
        ("auto", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "offline"),
        ("auto", {"WANDB_MODE": "disabled"}, "disabled"),
        ("auto", {"WANDB_MODE": "dryrun"}, "offline"),
        ("online", {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "online"),
        ("offline", {"WANDB_API_KEY": KEY}, "offline"),
        ("disabled", {"WANDB_MODE": "online"}, "disabled"),
    ],
)
def test_a_mode_means_what_the_environment_makes_of_it(monkeypatch, mode, variables, meaning):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert resolve_mode(mode) == meaning


def test_a_stored_login_is_a_key(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n login user\n password {KEY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert resolve_mode("auto") == "online"


@pytest.mark.parametrize(
    ("mode", "variables", "words"),
    [
        ("online", {}, ["wandb login", "WANDB_API_KEY", "--wandb offline"]),
        ("auto", {"WANDB_MODE": "online"}, ["wandb login", "WANDB_API_KEY", "--wandb offline"]),
        ("auto", {"WANDB_MODE": "shared"}, ["WANDB_MODE=shared", "online, offline, disabled"]),
    ],
)
def test_a_mode_that_cannot_be_is_refused_with_a_way_out(monkeypatch, mode, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ExperimentError) as error:
        resolve_mode(mode)
    assert all(word in str(error.value) for word in words)


def test_without_the_package_auto_is_disabled_and_the_others_say_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb.errors", None)
    assert resolve_mode("auto") == "disabled"
    assert "pip install wandb" in capsys.readouterr().err
    assert resolve_mode("disabled") == "disabled"
    with pytest.raises(ExperimentError, match="pip install wandb"):
        resolve_mode("offline")


# -- views ----------------------------------------------------------------------------------------


def test_a_panel_shows_what_is_logged():
    panels = [name for names in dashboard.metrics(2).values() for name in names]
    columns = [
        f"{what}_{layer}" for what in ("distance_loss", "distance_error") for layer in (1, 2)
    ]
    norms = [f"grad_norm_{name}" for name in ("hidden_1", "hidden_2", "policy_head", "value_head")]
    columns += ["episode_return", "episode_length", "seconds", "steps_per_second", "grad_norm"]
    assert sorted(panels) == sorted(metric_name(column) for column in [*columns, *norms])


def test_a_view_is_saved_for_each_environment(server, capsys):
    pytest.importorskip("wandb_workspaces")
    assert dashboard.main(["someone", "--environments", "Hopper-v4", "CartPole-v1"]) == 0
    hopper, cartpole = server.views
    assert (hopper["entityName"], hopper["projectName"]) == ("someone", "rllib_lpdm")
    assert (hopper["displayName"], cartpole["displayName"]) == ("Hopper-v4", "CartPole-v1")
    section = json.loads(hopper["spec"])["section"]
    banks = section["panelBankConfig"]["sections"]
    titles = {bank["name"]: [p["config"]["metrics"] for p in bank["panels"]] for bank in banks}
    assert titles == {k: [[m] for m in names] for k, names in dashboard.metrics(3).items()}
    (runs,) = section["runSets"]
    assert "Hopper-v4" in json.dumps(runs["filters"])
    grouping = [entry["name"].split(".")[0] for entry in runs["grouping"]]
    assert grouping == list(dashboard.GROUPED_BY)
    assert capsys.readouterr().out.count(server.url) == 2


def test_without_the_package_the_views_say_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert dashboard.main(["someone"]) == 2
    assert "pip install wandb-workspaces" in capsys.readouterr().err
