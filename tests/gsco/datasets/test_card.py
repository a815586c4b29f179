"""Data cards: that those shipped are whole, and that a wrong one says what to edit."""

import json

import pytest
from command import run

from gsco.datasets.card import card_named, data_card_from_toml, data_cards
from gsco.datasets.medmnist import OFFICIAL
from gsco.errors import UsageError

GOOD = """
name = "spots"
title = "Spots"
kind = "single"
modality = "drawing"
stem = "Look."
domain = "out"
metric = "accuracy"
tier = "open"
url = "https://example.org"
licence = "unknown"
citation = "unknown"
layout = "folders"
place = ["train and test"]
traps = []

[splits]
train = 3
val = 0
test = "unknown"

[[labels]]
text = "red"

[[labels]]
text = "blue"
synonyms = ["azure"]
"""


def test_all_thirty_sets_have_a_card_named_like_its_file() -> None:
    assert len(data_cards()) == 30
    kinds = [card.kind for card in data_cards().values()]
    assert (kinds.count("vqa"), kinds.count("report")) == (6, 2)
    domains = [card.domain for card in data_cards().values()]
    assert (domains.count("in"), domains.count("out"), domains.count("cross")) == (14, 14, 2)


@pytest.mark.parametrize("name", data_cards())
def test_a_card_is_a_task_where_it_is_a_diagnosis_set(name: str) -> None:
    card = card_named(name)
    assert (card.task is not None) == (card.kind in ("single", "multi"))
    if card.task:
        assert card.task.id == name
        assert len(card.task.texts) >= 2
        assert card.task.stem.startswith("Your task is disease diagnosis. You are given a")


def test_the_published_counts_of_test_items_add_up() -> None:
    single = [
        c.splits["test"] or 0 for c in data_cards().values() if c.task and c.domain != "cross"
    ]
    # The publication's metadata counts 43 more images of DermNet.
    assert sum(single) + 43 == 96_404
    asked = [c.splits["test"] or 0 for c in data_cards().values() if c.kind == "vqa"]
    assert sum(asked) == 147_727


@pytest.mark.parametrize(
    "name", [card.name for card in data_cards().values() if card.layout == "medmnist"]
)
def test_medmnist_cards_number_their_classes_as_the_files_do(name: str) -> None:
    card = card_named(name)
    assert card.task is not None
    assert card.task.texts == OFFICIAL[name]
    assert [file.size for file in card.files] == [28, 64, 128, 224]


def test_what_is_unknown_is_none_and_the_rest_is_read() -> None:
    card = data_card_from_toml(GOOD)
    assert dict(card.splits) == {"train": 3, "val": 0, "test": None}
    assert card.task is not None
    assert card.task.resolve("Azure") == "blue"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train = 3", "train = -3", "the split count -3 is no number of cases"),
        ("train = 3", "trian = 3", "has no field 'train'"),
        ("val = 0", "val = 0\nextra = 1", r"\[splits\] has the unknown field 'extra'"),
        ('tier = "open"', 'tier = "opne"', "Unknown tier 'opne'. Did you mean 'open'"),
        ('layout = "folders"', 'layout = "folder"', "Did you mean 'folders'"),
        ('domain = "out"', 'domain = "of"', "Unknown domain 'of'"),
        ('name = "spots"', 'name = "My Spots"', "name 'My Spots' is not made of small letters"),
        ('licence = "unknown"', 'licence = ""', "has '' where words belong"),
        ('stem = "Look."', "", "has no stem"),
        ('text = "blue"', 'text = "red"', "has the label 'red' twice"),
        ('kind = "single"', 'kind = "vqa"', "of kind 'vqa' and has labels"),
        ('title = "Spots"', 'title = "Spots"\ncolour = "red"', "colour"),
        ("traps = []", "", "has no field 'traps'"),
        ('place = ["train and test"]', "place = []", "which files belong where"),
        (
            "[splits]",
            '[[files]]\nname = "a"\nurl = "b"\nmd5 = "c"\n[splits]',
            "the md5 of 'a' is not 32 hex digits",
        ),
        ('title = "Spots"', "title = Spots", "cannot be read"),
    ],
)
def test_a_wrong_card_says_what_to_edit(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=message):
        data_card_from_toml(GOOD.replace(old, new), "spots.toml")


def test_an_unknown_name_gets_the_closest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "data", "show", "ham1000") == 2
    assert "Unknown data set 'ham1000'. Did you mean 'ham10000'?" in capsys.readouterr().err


def test_the_list_and_a_card_are_printed_for_people_and_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert run(monkeypatch, "data", "list") == 0
    assert "vindr-pcxr" in capsys.readouterr().out
    assert run(monkeypatch, "data", "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["version"] == 1
    assert {"name", "title", "kind", "modality", "tier", "domain", "test"} == set(listed["sets"][0])
    assert {row["name"]: row["test"] for row in listed["sets"]}["bcn20000"] is None
    assert run(monkeypatch, "data", "show", "vqa-rad") == 0
    out = capsys.readouterr().out
    assert "VQA_RAD Dataset Public.json" in out
    assert "beware" in out
    assert run(monkeypatch, "data", "show", "breastmnist", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["set"]
    assert shown["splits"] == {"train": 546, "val": 78, "test": 156}
    assert shown["files"][0]["md5"] == "750601b1f35ba3300ea97c75c52ff8f6"
