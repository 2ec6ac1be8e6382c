"""``run.json``: what a cell is, how it was run, and how far it has come."""

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from rllib_lpdm.results.layout import MOST_BYTES, RUN_FILE, cell_folders, checkpoint_iteration
from rllib_lpdm.results.storage import is_remote, read_file, write_whole
from rllib_lpdm.schema.files import check_file
from rllib_lpdm.schema.messages import UserError, fault, one_line


class RecordError(UserError):
    """A ``run.json`` that cannot be used.

    Attributes:
        fault: what is wrong with it, in a few words.
    """

    def __init__(self, path: object, fault: str) -> None:
        self.fault = fault
        super().__init__(f"{path} is damaged: {fault}; delete the cell's folder to run it again")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed")
    return text


def _of_checkpoint(name: str) -> str:
    if checkpoint_iteration(name) is None:
        raise ValueError("is not the name of a checkpoint")
    return name


def _number(value: Any) -> Any:
    """JSON has no NaN and no infinity, but Python's writer once wrote them."""
    return None if value in (float("inf"), float("-inf")) or value != value else value


Name = Annotated[str, AfterValidator(_printable)]
Status = Literal["running", "finished", "failed"]


class Failure(BaseModel):
    """One end of a cell's process that was not meant.

    Attributes:
        checkpoint: iteration of the checkpoint that the cell would continue from, 0 without one.
        iteration: the number of iterations that were done when the process raised an error that
            would come again; None where it was lost, or the error is one that may pass.
        error: the traceback, or what is known of the end.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    time: str = ""
    checkpoint: int = 0
    iteration: int | None = None
    error: str = ""


class RunRecord(BaseModel):
    """The content of ``run.json``.

    Whatever else a file holds is kept, and what older ones lack has a value that says nothing.

    Attributes:
        environment: its name in the experiment.
        environment_spec: how it is made; None where the name is gymnasium's id and says all.
        run_id: names the cell in W&B.
        session: names the run of the whole experiment that had it last.
        kernel: "numba" where compiled loops compute local losses or actions, else "torch"; None in
            older records of cells without local losses.
        process: likewise the process, the only one that may write into the folder.
        started, finished: UTC, in ISO 8601.
        score: the smoothed return; None before the first iteration, or where it is no number.
        checkpoints: names of their folders, in order.
        failures: in this session.
        error: of the last failure.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    cell: Name = Field(min_length=1, max_length=300)
    environment: Name = Field(min_length=1, max_length=200)
    environment_spec: dict[str, Any] | None = None
    algorithm: Name = Field(min_length=1, max_length=100)
    method: Name = Field(min_length=1, max_length=100)
    seed: int = Field(ge=0, lt=2**32)
    variant: Name | None = Field(None, max_length=100)
    settings: dict[str, Any] = {}
    command: str = ""
    run_id: str = ""
    session: str = ""
    started: str | None = None
    finished: str | None = None
    score: Annotated[float | None, BeforeValidator(_number)] = None
    checkpoints: tuple[Annotated[str, AfterValidator(_of_checkpoint)], ...] = ()
    failures: tuple[Failure, ...] = ()
    versions: dict[str, Any] = {}
    git_commit: str | None = None
    hardware: dict[str, Any] = {}
    kernel: str | None = None
    process: str = ""
    status: Status = "running"
    error: str | None = None

    @property
    def iteration(self) -> int:
        """That of the last checkpoint, 0 without one."""
        return max((checkpoint_iteration(name) or 0 for name in self.checkpoints), default=0)

    def updated(self, **entries: Any) -> "RunRecord":
        """A record with other entries."""
        return self.model_copy(update=entries)

    @classmethod
    def parse(cls, content: bytes, path: object = RUN_FILE) -> "RunRecord":
        """The record in a file's content.

        Raises:
            RecordError: names the file and the field.
        """
        try:
            return cls.model_validate(json.loads(content.decode("utf-8-sig")))
        except ValidationError as error:
            raise RecordError(path, fault(error)) from None
        except (ValueError, RecursionError) as error:
            raise RecordError(path, one_line(error, 200)) from None

    @classmethod
    def read(cls, folder: Path) -> "RunRecord | None":
        """The record of a cell's folder; None where the folder has none.

        Raises:
            OSError: the file cannot be read.
            RecordError: it is damaged.
        """
        path = folder / RUN_FILE
        try:
            content = read_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls.parse(content, path)

    def write(self, folder: Path) -> None:
        """Writes the folder's ``run.json`` in one piece.

        Raises:
            OSError: the disk is full or read-only; the old file is as it was.
            ValueError: a number is not finite.
        """
        content = self.model_dump(mode="json", exclude_unset=True)
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        if not is_remote(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            write_whole(folder / RUN_FILE, text.encode())
        except OSError:
            if not is_remote(folder):
                with contextlib.suppress(OSError):  # a folder that was made for it
                    folder.rmdir()
            raise


def read_runs(folder: Path) -> tuple[dict[str, RunRecord], dict[str, str]]:
    """The records of an experiment's cells, by the names of their folders.

    Returns:
        Those that can be read, and of the others what is wrong with them.
    """
    runs: dict[str, RunRecord] = {}
    damaged: dict[str, str] = {}
    for name, content in _contents(folder).items():
        try:
            if isinstance(content, OSError):
                raise content
            runs[name] = RunRecord.parse(content, folder / name / RUN_FILE)
        except RecordError as error:
            damaged[name] = str(error)
        except OSError as error:
            damaged[name] = f"{folder / name / RUN_FILE} cannot be read: {one_line(error)}"
    return runs, damaged


def _contents(folder: Any) -> dict[str, bytes | OSError]:
    contents: dict[str, bytes | OSError] = {}
    if is_remote(folder):  # one request for all, because each takes tens of milliseconds
        try:
            about = folder.fs.glob(f"{folder.path.rstrip('/')}/*/{RUN_FILE}", detail=True)
        except FileNotFoundError:  # emptied, or not there yet
            about = {}
        paths = []
        for path, entry in about.items():
            try:
                check_file(path, entry, MOST_BYTES[RUN_FILE])
                paths.append(path)
            except OSError as error:
                contents[path.split("/")[-2]] = error
        found = folder.fs.cat(paths, on_error="omit") if paths else {}
        return contents | {path.split("/")[-2]: content for path, content in found.items()}
    for cell in cell_folders(folder):
        try:
            contents[cell.name] = read_file(cell / RUN_FILE)
        except FileNotFoundError:
            pass  # deleted just now
        except OSError as error:
            contents[cell.name] = error
    return contents
