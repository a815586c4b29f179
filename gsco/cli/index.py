"""`gsco index`: build, change or describe the index of a task."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gsco.cli.options import (
    WRITTEN,
    Data,
    Json,
    LabelColumn,
    Overlap,
    SplitColumn,
    Workspace,
    print_json,
    read_data,
    task_folder,
)

if TYPE_CHECKING:
    from gsco.indexing import Changed

index_app = typer.Typer(no_args_is_help=True, help="Build, change or describe a task's index.")


@index_app.command("info", epilog="Example: gsco index info --task pneumonia-cxr")
def index_info(
    task: Annotated[str, typer.Option("--task", "-t")],
    workspace: Workspace = None,
    as_json: Json = False,
) -> None:
    """Describe the index of a task."""
    from retrieval.storage import read_manifest

    found = asdict(read_manifest(task_folder(workspace, task).index))
    if as_json:
        print_json({"version": 1, "index": found})
        return
    for key, value in found.items():
        typer.echo(f"{key}: {value}")


@index_app.command("build", epilog="Example: gsco index build -t head-ct -d DIR -w w")
def index_build(
    task: Annotated[str, typer.Option("--task", "-t")],
    data: Data,
    workspace: Annotated[Path, WRITTEN] = Path("workspace"),
    index_with: Annotated[
        str, typer.Option(help="independent, or a specialist's name.")
    ] = "independent",
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    allow_overlap: Overlap = False,
    as_json: Json = False,
) -> None:
    """Build the index of a task anew from the training cases of a data set."""
    from gsco import show
    from gsco.indexing import rebuild

    folder = task_folder(workspace, task)
    dataset = read_data(task, data, workspace, None, label_column, split_column, allow_overlap)
    with show.progress() as told:
        changed = rebuild(folder, dataset, index_with, told)
    _changed(task, changed, "{count} cases indexed, {dropped} dropped as leaks", as_json)


@index_app.command("add", epilog="Example: gsco index add -t head-ct -d NEW_CASES -w w")
def index_add(
    task: Annotated[str, typer.Option("--task", "-t")],
    data: Data,
    workspace: Annotated[Path, WRITTEN] = Path("workspace"),
    label_column: LabelColumn = "label",
    split_column: SplitColumn = "split",
    allow_overlap: Overlap = False,
    as_json: Json = False,
) -> None:
    """Add the training cases of a data set to the index of a task."""
    from gsco import show
    from gsco.indexing import add

    folder = task_folder(workspace, task)
    dataset = read_data(task, data, workspace, None, label_column, split_column, allow_overlap)
    with show.progress() as told:
        changed = add(folder, dataset, told)
    _changed(task, changed, "now {count} cases, {dropped} were there or leaked", as_json)


@index_app.command("remove", epilog="Example: gsco index remove case-17 -t head-ct -w w")
def index_remove(
    ids: Annotated[list[str], typer.Argument(help="Ids of cases.")],
    task: Annotated[str, typer.Option("--task", "-t")],
    workspace: Annotated[Path, WRITTEN] = Path("workspace"),
    as_json: Json = False,
) -> None:
    """Take cases out of the index of a task."""
    from gsco.indexing import remove

    changed = remove(task_folder(workspace, task), ids)
    _changed(task, changed, "now {count} cases, {dropped} removed", as_json)
    if absent := len(set(ids)) - changed.dropped:
        typer.echo(f"gsco: {absent} of the ids given name no case of the index.", err=True)


def _changed(task: str, changed: "Changed", sentence: str, as_json: bool) -> None:
    if as_json:
        print_json({"version": 1, "task": task, **asdict(changed)})
    else:
        typer.echo(f"{task}: {sentence.format(**asdict(changed))}.")
