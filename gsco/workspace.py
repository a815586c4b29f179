"""A workspace: the folder that construction writes and inference reads.

W/tasks/<task>/task.toml         the card: labels and words, for a person to edit
               data.json         which data, how many cases, their fingerprint, their size if small
               specialists/<name>/card.toml, weights.safetensors
               index/            vectors, labels and ids of the training cases; no images
               voices.npz        what everyone said of the validation cases
               fusion.json       what validation taught about combining them
               report/           a page and its plots
               done.json         written last: the plan that all of it belongs to
               build/            checkpoints and pixels, gone when it is done
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from gsco.errors import UsageError, WorkspaceError, unknown
from gsco.fusion import Fusion, fusion_from_json
from gsco.task import Task, builtin_tasks, load_card


def starter() -> Path:
    """Return the workspace that ships with the package."""
    return Path(str(resources.files("gsco") / "starter"))


def write_text(path: Path, text: str) -> None:
    """Write a file so that a kill or a full disk leaves the old one or the new one, never a part.

    Raises:
        WorkspaceError: the disk is full, or the folder cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes as `write_text` writes text."""
    with writing(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(path)
        except OSError:
            Path(partial).unlink(missing_ok=True)
            raise


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Say what could not be written where the disk is full or the folder refuses.

    Raises:
        WorkspaceError: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise WorkspaceError(
            f"Cannot write {what!r}: {error.strerror or error}. Free some space or choose another "
            "`--workspace`; what was written before is unharmed."
        ) from error


class TaskFolder:
    """The files of one task in a workspace."""

    def __init__(self, workspace: Path, task: str) -> None:
        self.name = task
        self.path = workspace / "tasks" / task
        self.index = self.path / "index"
        self.report = self.path / "report"
        self.build = self.path / "build"
        self.voices = self.path / "voices.npz"

    def specialist(self, name: str) -> Path:
        """Return the folder of a specialist."""
        return self.path / "specialists" / name

    def specialists(self) -> list[str]:
        """Return the names of the specialists that are whole, in order."""
        cards = sorted(self.path.glob("specialists/*/card.toml"))
        return [card.parent.name for card in cards]

    def read_task(self) -> Task:
        """Return the card, as the user may have edited it."""
        return load_card(self.path / "task.toml")

    def read_fusion(self) -> Fusion:
        """Return the fusion.

        Raises:
            WorkspaceError: it is missing.
        """
        return fusion_from_json(self.read("fusion.json"))

    @property
    def learnt_size(self) -> tuple[int, int] | None:
        """Width and height of the training images where all are small and alike, else None."""
        size = self.read_json("data.json").get("image_size")
        return (int(size[0]), int(size[1])) if isinstance(size, list) and len(size) == 2 else None

    def read_json(self, name: str) -> Mapping[str, object]:
        """Return a JSON file of the task."""
        try:
            data: Mapping[str, object] = json.loads(self.read(name))
        except json.JSONDecodeError as error:
            raise WorkspaceError(
                f"{name!r} of task {self.name!r} is damaged. {self._again}"
            ) from error
        return data

    def read(self, name: str) -> str:
        """Return a text file of the task."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as error:
            raise WorkspaceError(
                f"Task {self.name!r} is not complete: {name!r} is missing. {self._again}"
            ) from error

    @property
    def _again(self) -> str:
        workspace = self.path.parent.parent
        return (
            f"Run `gsco construct {self.name} --data DIR --workspace {workspace}` again: "
            "it goes on where it stopped."
        )

    def check_done(self) -> None:
        """Check that construction came to its end.

        Raises:
            WorkspaceError: it did not.
        """
        if not self.is_done:
            raise WorkspaceError(
                f"Task {self.name!r} is not complete: its construction stopped early. {self._again}"
            )

    @property
    def is_done(self) -> bool:
        """Whether construction came to its end."""
        return (self.path / "done.json").is_file()


def tasks_of(workspace: Path) -> dict[str, Task]:
    """Return the cards of all tasks begun in a workspace, by id."""
    cards = sorted((workspace / "tasks").glob("*/task.toml"))
    return {card.parent.name: load_card(card) for card in cards}


def open_task(workspace: Path, name: str) -> TaskFolder:
    """Return a task that can be used.

    Raises:
        WorkspaceError: the folder is no workspace, or the task is half constructed.
        UsageError: the workspace has no such task.
    """
    if not (workspace / "tasks").is_dir():
        raise WorkspaceError(
            f"{workspace.name!r} is not a workspace: it has no folder 'tasks'. "
            "Run `gsco construct TASK --data DIR --workspace W` first, or leave `--workspace` out."
        )
    tasks = tasks_of(workspace)
    if name not in tasks and name in builtin_tasks():
        raise UsageError(
            f"There is a card for task {name!r}, but nothing is constructed from it here. "
            f"Run `gsco construct {name} --data DIR --workspace W`, then ask with `--workspace W`."
        )
    if name not in tasks:
        raise UsageError(unknown("task", name, tasks, "gsco tasks"))
    folder = TaskFolder(workspace, name)
    folder.check_done()
    return folder
