"""Where results are kept."""

import errno
import fcntl
import multiprocessing
import os
import uuid
from pathlib import Path, PosixPath

import pytest
from upath import UPath

from rllib_lpdm.grid.folder import prepared
from rllib_lpdm.results.storage import drop_unfinished_files, is_remote, locked, write_whole
from rllib_lpdm.schema.messages import UserError

SPAWN = multiprocessing.get_context("spawn")


class CloudPath(PosixPath):
    """A Path with a protocol, as universal_pathlib once made of URLs."""

    protocol = "s3"


@pytest.mark.parametrize(
    ("folder", "remote"),
    [
        (Path("/results"), False),
        (UPath("/results"), False),
        (UPath("file:///results"), True),
        (UPath("memory://results"), True),
        (CloudPath("/results"), True),
    ],
)
def test_what_has_a_protocol_is_remote(folder, remote):
    assert is_remote(folder) is remote


def test_a_file_is_replaced_whole_and_a_link_is_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"theirs")
    (tmp_path / "file").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "file", b"ours")
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert (tmp_path / "target").read_bytes() == b"theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "target"]


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, monkeypatch):
    def interrupted(*paths):
        raise KeyboardInterrupt

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_unfinished_files_are_deleted_and_nothing_else(tmp_path):
    unfinished = tmp_path / f".run.json.{uuid.uuid4().hex}"
    kept = [f".run.json.{uuid.uuid4()}", "run.json", ".experiment.json", f"a.{uuid.uuid4().hex}"]
    for name in (unfinished.name, *kept):
        (tmp_path / name).touch()
    (tmp_path / f".folder.{uuid.uuid4().hex}").mkdir()
    drop_unfinished_files(tmp_path)
    assert not unfinished.exists()
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_a_run_killed_as_it_wrote_its_plan_can_be_continued_and_overwritten(tmp_path, option):
    (tmp_path / f".experiment.json.{uuid.uuid4().hex}").touch()
    with prepared(tmp_path, **({"resume": False, "overwrite": False} | {option: True})) as outdated:
        assert outdated == []
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


# -- locks ----------------------------------------------------------------------------------------


def _hold(folder, held, release):
    with locked(folder):
        held.set()
        release.wait(60)


def test_a_folder_is_one_process_s_until_its_context_or_the_process_ends(tmp_path):
    held, release = SPAWN.Event(), SPAWN.Event()
    holder = SPAWN.Process(target=_hold, args=(tmp_path, held, release))
    holder.start()
    assert held.wait(60)
    with pytest.raises(UserError, match="in use by another run"), locked(tmp_path):
        pass
    with pytest.raises(UserError, match="in use by another run"):
        prepared(tmp_path, resume=True, overwrite=False).__enter__()
    holder.kill()
    holder.join()
    with locked(tmp_path, patience=10):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert not list(tmp_path.iterdir())


def test_who_waits_has_the_lock_that_the_others_see(tmp_path, monkeypatch):
    """The owner deletes the lock's file between another's opening and locking it."""
    flock, order = fcntl.flock, []

    def late(descriptor, operation):
        if not order:
            order.append("deleted")
            (tmp_path / ".lock").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path, patience=10):
        assert os.path.samestat((tmp_path / ".lock").stat(), os.fstat(_descriptor(tmp_path)))


def _descriptor(folder):
    names = Path("/proc/self/fd").iterdir()
    return next(int(name.name) for name in names if os.path.realpath(name) == f"{folder}/.lock")


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_a_run_goes_on_and_says_so_in_one_line(tmp_path, monkeypatch, capsys, code):
    def missing(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", missing)
    with prepared(tmp_path, resume=True, overwrite=False):
        pass
    with locked(tmp_path):
        pass
    first, second = capsys.readouterr().err.splitlines()
    assert first == second
    assert str(tmp_path) in first
    assert "no locks" in first


def test_another_fault_of_a_lock_is_one_error_and_no_other_run(tmp_path, monkeypatch):
    def broken(descriptor, operation):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(UserError, match="cannot be used: Input/output error"):
        prepared(tmp_path, resume=True, overwrite=False).__enter__()


def test_a_lock_writes_through_no_link(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / ".lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(OSError, match=r"\.lock"), locked(tmp_path):
        pass
    assert (tmp_path / "theirs").read_text() == "theirs"
