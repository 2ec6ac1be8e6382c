"""What a trial reserves for its cell."""

import pytest

from rllib_lpdm.grid.queue import CellQueue
from rllib_lpdm.grid.resources import check_resources, resources, usable_cpus
from rllib_lpdm.schema.cell_settings import CellSettings
from rllib_lpdm.schema.experiment import Cell
from rllib_lpdm.schema.messages import UserError


def cell(**settings):
    return Cell("CartPole-v1", "ppo", "lpdm", 0, CellSettings(**settings))


def test_a_trial_reserves_one_cpu_for_each_runner_and_each_learner():
    config = CellQueue([cell(cpus=2, env_runners=1, learners=2)]).suggest("trial")
    assert resources(config).bundles == [{"CPU": 2.0}, {"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 1.0}]


@pytest.mark.parametrize("name", ["cpus", "env_runners", "learners"])
def test_more_processes_than_the_machine_has_cpus_are_refused_by_the_settings_name(
    name, monkeypatch
):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0})
    check_resources([cell()])
    with pytest.raises(UserError, match=f"settings.{name}: "):
        check_resources([cell(**{name: 5})])


GROUPS = {
    "a group below another, of the second version": (
        {"proc/self/cgroup": "0::/a/b", "a/cpu.max": "350000 100000", "a/b/cpu.max": "max 100000"},
        3,
    ),
    "less than one": ({"proc/self/cgroup": "0::/", "cpu.max": "50000 100000"}, 1),
    "no limit": ({"proc/self/cgroup": "0::/", "cpu.max": "max 100000"}, 16),
    "of the first version": (
        {
            "proc/self/cgroup": "2:cpuset:/\n1:cpu,cpuacct:/a",
            "cpu/a/cpu.cfs_quota_us": "500000",
            "cpu/a/cpu.cfs_period_us": "100000",
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
        },
        5,
    ),
    "a path that the container does not have": (
        {"proc/self/cgroup": "0::/../host", "cpu.max": "200000 100000"},
        2,
    ),
    "none, as on macOS": ({}, 16),
}


@pytest.fixture
def sixteen_cpus(monkeypatch):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)), raising=False)


@pytest.mark.parametrize(("files", "cpus"), GROUPS.values(), ids=GROUPS.keys())
def test_a_process_may_use_what_its_affinity_and_its_control_groups_leave(
    files, cpus, tmp_path, sixteen_cpus
):
    for name, text in files.items():
        path = tmp_path / name if name.startswith("proc") else tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert usable_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("task", "cpus"), [("4", 4), ("32", 16), ("", 16), ("x", 16), ("0", 1)])
def test_a_task_of_slurm_may_use_the_cpus_it_has_asked_for(
    task, cpus, tmp_path, sixteen_cpus, monkeypatch
):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", task)
    assert usable_cpus(tmp_path) == cpus


def test_all_cpus_count_where_the_system_knows_no_affinity(tmp_path, sixteen_cpus, monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity")
    assert usable_cpus(tmp_path) == 64
