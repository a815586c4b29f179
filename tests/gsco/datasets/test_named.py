"""What the command line reads for a task that has the name of a published data set."""

from pathlib import Path

import pytest
from layouts import DIAGNOSIS, medmnist

from gsco.cli.options import read_data
from gsco.datasets import Dataset
from gsco.datasets.card import card_named
from gsco.errors import DataError


def read(task: str, data: Path, label: str = "label", card: Path | None = None) -> Dataset:
    return read_data(task, data, data / "no-workspace", card, label, "split", overlap=False)


def test_a_published_set_is_read_in_its_own_layout(tmp_path: Path) -> None:
    DIAGNOSIS["derm7pt"](tmp_path)
    dataset = read("derm7pt", tmp_path)
    assert dataset.task == card_named("derm7pt").task
    assert len(dataset.split("test")) == 11


def test_a_manifest_gets_the_labels_of_the_published_set(tmp_path: Path) -> None:
    DIAGNOSIS["pcam200"](tmp_path)
    files = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*.jpg"))
    rows = [f"{file},{file.parts[0]},{file.parts[1].replace('tumor', 'tumour')}" for file in files]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,split,label", *rows]))
    dataset = read("pcam200", tmp_path)
    assert dataset.name == tmp_path.name
    assert {record.label for record in dataset.records} == {"normal", "tumor"}


def test_columns_are_asked_of_a_manifest_only(tmp_path: Path) -> None:
    DIAGNOSIS["derm7pt"](tmp_path)
    with pytest.raises(DataError, match=r"has no manifest\.csv, so no columns"):
        read("derm7pt", tmp_path, label="diagnosis")


def test_a_card_of_your_own_wins(tmp_path: Path) -> None:
    medmnist("breastmnist")(tmp_path)
    card = tmp_path / "card.toml"
    task = card_named("breastmnist").task
    assert task is not None
    card.write_text(task.to_toml().replace("malignant", "cancer"))
    assert read("breastmnist", tmp_path, card=card).task.texts[0] == "cancer"
