"""What the commands share: options, and the small steps from words to objects."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsco.case import SYSTEMS, System
from gsco.errors import UsageError, unknown

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.datasets import Dataset
    from gsco.prompts import Style
    from gsco.workspace import TaskFolder

WORKSPACE = typer.Option(
    "--workspace", "-w", help="Folder made by construct; the starter workspace if left out."
)
Workspace = Annotated[Path | None, WORKSPACE]
WRITTEN = typer.Option("--workspace", "-w", help="Folder of the workspace, which is written to.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON (documented in the README).")]
Generalist = Annotated[
    str | None,
    typer.Option(help="Server URL, model folder or hub id; the shipped gsco-tiny if left out."),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        "-d",
        help="MedMNIST .npz, folder with manifest.csv, class folders, or a published set.",
    ),
]
LabelColumn = Annotated[str, typer.Option(help="Column of manifest.csv with the label.")]
SplitColumn = Annotated[str, typer.Option(help="Column of manifest.csv with the split.")]
Overlap = Annotated[bool, typer.Option(help="Let identical images stand in two splits.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many cases.")]


def task_folder(workspace: Path | None, task: str) -> "TaskFolder":
    """Return the folder of a constructed task."""
    from gsco.agent import GSCo
    from gsco.workspace import open_task

    return open_task(GSCo.open(workspace).workspace, task)


def open_agent(workspace: Path | None, generalist: str | None) -> "GSCo":
    """Open a workspace; the starter one if None."""
    from gsco.agent import GSCo

    return GSCo.open(workspace, generalist=generalist)


def read_data(
    task: str, data: Path, workspace: Path, card: Path | None, label: str, split: str, overlap: bool
) -> "Dataset":
    """Read data with the card given, else the workspace's, else the shipped one, else a new one.

    A task named like a published data set is read in that set's layout, or from a manifest.
    """
    from gsco.datasets import read_dataset, read_known
    from gsco.datasets.card import data_cards
    from gsco.datasets.known import is_published
    from gsco.task import ID, builtin_tasks, load_card
    from gsco.workspace import tasks_of

    if card is None and is_published(task, data, (label, split)):
        return read_known(task, data)
    published = {name: one.task for name, one in data_cards().items() if one.task}
    known = {**published, **builtin_tasks(), **(tasks_of(workspace) if workspace.is_dir() else {})}
    chosen = load_card(card) if card else known.get(task)
    if chosen is None and not ID.fullmatch(task):
        raise UsageError(f"Task {task!r} cannot name a folder. Use small letters, digits, hyphens.")
    return read_dataset(data, chosen, label_column=label, split_column=split, allow_overlap=overlap)


def system_named(name: str) -> System:
    """Return the system of that name, or raise with a suggestion."""
    if name not in SYSTEMS:
        raise UsageError(unknown("system", name, SYSTEMS, "gsco diagnose --help"))
    return name


def systems_named(text: str) -> list[System]:
    """Return the systems of `all`, or of names parted by commas."""
    return list(SYSTEMS) if text == "all" else [system_named(s.strip()) for s in text.split(",")]


def style_named(name: str) -> "Style":
    """Return the prompt style of that name, or raise with those there are."""
    if name not in ("calibrated", "paper"):
        raise UsageError(unknown("style", name, ("calibrated", "paper"), "gsco diagnose --help"))
    return "paper" if name == "paper" else "calibrated"


def print_json(data: object) -> None:
    """Print data as JSON."""
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False, default=str))
