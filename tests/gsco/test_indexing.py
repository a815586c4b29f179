"""Changing the index of a constructed task."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gsco.agent import GSCo
from gsco.case import Case
from gsco.datasets import Dataset
from gsco.errors import DataError
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.indexing import add, rebuild, remove
from gsco.settings import Settings
from gsco.workspace import TaskFolder, open_task
from retrieval.storage import read_manifest


@pytest.fixture
def folder(own_workspace: Path) -> TaskFolder:
    return open_task(own_workspace, "spots")


def quiet(step: str, done: int, total: int) -> None:
    """Show nothing."""


def test_cases_are_removed_and_added_again(folder: TaskFolder, dataset: Dataset) -> None:
    before = read_manifest(folder.index)
    gone = remove(folder, ["train-00.png", "train-01.png", "never-there.png"])
    assert (gone.count, gone.dropped) == (38, 2)
    back = add(folder, dataset, quiet)
    assert (back.count, back.dropped) == (40, 38)
    assert read_manifest(folder.index).embedder_hash == before.embedder_hash


def test_adding_what_is_there_changes_nothing(folder: TaskFolder, dataset: Dataset) -> None:
    before = read_manifest(folder.index).data_hash
    assert add(folder, dataset, quiet).count == 40
    assert read_manifest(folder.index).data_hash == before


def test_an_index_can_be_built_with_the_features_of_a_specialist(
    folder: TaskFolder, dataset: Dataset
) -> None:
    fewer = tuple(r for r in dataset.records if r.split != "train" or r.id < "train-20")
    made = rebuild(folder, replace(dataset, records=fewer), "resnet18-small", quiet)
    assert (made.count, made.dropped) == (20, 0)
    assert read_manifest(folder.index).embedder == "resnet18-small"


def test_held_out_cases_never_enter_the_index(folder: TaskFolder, dataset: Dataset) -> None:
    add(folder, dataset, quiet)
    text = next(folder.index.glob("entries-*")).read_text()
    assert "train-00.png" in text
    assert "test-" not in text
    assert "val-" not in text


def test_what_was_written_of_a_case_is_shown_where_a_report_is_asked_for(
    folder: TaskFolder, own_workspace: Path, dataset: Dataset
) -> None:
    told = tuple(replace(r, report=f"Seen in {r.id}.") for r in dataset.records)
    rebuild(folder, replace(dataset, records=told), "independent", quiet)
    writer = ScriptedGeneralist(lambda prompt: {}, text=("Findings: A tint.",))
    agent = GSCo.open(own_workspace, generalist=writer, settings=Settings())
    agent.report(Case(images=(dataset.split("test")[0].open(),), task="spots"))
    shown = writer.asked[0].before.split("Reports of the similar cases, nearest first:\n")[1]
    assert re.fullmatch(r'(- "Seen in train-\d\d\.png\."\n){3}', shown)


def test_data_without_training_cases_are_refused(folder: TaskFolder, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="no training case"):
        rebuild(
            folder, replace(dataset, records=tuple(dataset.split("test"))), "independent", quiet
        )
