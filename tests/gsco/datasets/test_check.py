"""What a check of a published set finds, and that a whole copy passes."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from asked_layouts import QUESTIONS, REPORTS
from command import run
from layouts import DIAGNOSIS

from gsco.datasets.card import DataCard, card_named
from gsco.datasets.check import Checked, check
from gsco.errors import DataError

WRITERS = {**DIAGNOSIS, **QUESTIONS, **REPORTS}


def write(name: str, root: Path) -> DataCard:
    """Write a small copy and return the card with the counts of that copy."""
    if name == "pathvqa":
        pytest.importorskip("pyarrow", reason="pyarrow (extra data) is not installed")
    WRITERS[name](root)
    card = card_named(name)
    found = check(replace(card, splits=dict.fromkeys(card.splits)), root, images=False)
    return replace(card, splits={**found.counts, **({"train": 26} if name == "vindr-pcxr" else {})})


def only_problem(card: DataCard, root: Path, *, images: bool = True) -> str:
    found = check(card, root, images=images)
    assert len(found.problems) == 1, found.problems
    return found.problems[0]


@pytest.mark.parametrize("name", WRITERS)
def test_a_whole_copy_passes(name: str, tmp_path: Path) -> None:
    card = write(name, tmp_path)
    found = check(card, tmp_path)
    assert found.problems == ()
    assert found.ok
    assert sum(found.counts.values()) > 0
    assert all(found.labels.values())


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "pathvqa"])
def test_an_empty_folder_is_one_problem_with_what_to_get(name: str, tmp_path: Path) -> None:
    card = card_named(name)
    assert card.url in only_problem(card, tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder 'gone'"):
        check(card_named("brset"), tmp_path / "gone")


def test_missing_and_surplus_cases_are_counted(tmp_path: Path) -> None:
    card = write("derm7pt", tmp_path)
    fewer = replace(card, splits={**card.splits, "test": 395})
    message = only_problem(fewer, tmp_path)
    assert message.startswith(
        "test has 11 cases, 384 of 395 are missing. Get them from https://derm"
    )
    more = replace(card, splits={**card.splits, "val": 5})
    assert "val has 11 cases, 6 more than the 5 of the card" in only_problem(more, tmp_path)


def test_without_official_splits_the_whole_is_counted(tmp_path: Path) -> None:
    DIAGNOSIS["brset"](tmp_path)
    message = only_problem(card_named("brset"), tmp_path, images=False)
    assert message.startswith("the set has 280 cases, 15,986 of 16,266 are missing")


def test_images_left_out_on_purpose_are_not_missing(tmp_path: Path) -> None:
    card = write("vindr-pcxr", tmp_path)
    assert card.splits["train"] == 26
    found = check(card, tmp_path, images=False)
    assert found.counts["train"] == 22
    assert found.ok


def test_every_missing_image_is_a_problem(tmp_path: Path) -> None:
    card = write("brset", tmp_path)
    for number in range(8):
        (tmp_path / f"fundus_photos/img{number:05}.jpg").unlink()
    found = check(replace(card, splits=dict.fromkeys(card.splits)), tmp_path, images=False)
    assert len(found.problems) == 8
    assert found.problems[0] == "labels.csv line 2: there is no image 'img00000'"


def test_an_image_that_no_line_names_is_a_problem(tmp_path: Path) -> None:
    card = write("derm7pt", tmp_path)
    content = (tmp_path / "images/N0/D0.jpg").read_bytes()
    (tmp_path / "images/N0/new.jpg").write_bytes(content + b" ")
    message = only_problem(card, tmp_path, images=False)
    assert message.startswith("1 images are named by no line: images/N0/new.jpg.")


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    card = write("retoct-c8", tmp_path)
    broken = next((tmp_path).rglob("test/CNV/*.jpg"))
    broken.write_bytes(broken.read_bytes()[:200])
    message = only_problem(card, tmp_path)
    assert message.startswith("test/CNV/test-0.jpg: 'test-0.jpg' is")
    assert check(card, tmp_path, images=False).ok


def test_a_test_image_that_stands_in_training_is_listed(tmp_path: Path) -> None:
    card = write("pcam200", tmp_path)
    for number in (0, 1):
        content = (tmp_path / f"test/tumor/test-{number}.jpg").read_bytes()
        (tmp_path / f"train/tumor/train-{number}.jpg").write_bytes(content)
    found = check(card, tmp_path)
    assert found.problems == (
        "2 images of test stand also in train: test/tumor/test-0.jpg and train/tumor/train-0.jpg, "
        "test/tumor/test-1.jpg and train/tumor/train-1.jpg. Accuracy would be too high; leave "
        "these out of train, as the readers do.",
    )
    assert [(s.kind, s.a_split, s.b_split) for s in found.overlaps] == [
        ("content", "train", "test")
    ] * 2


def test_a_patient_of_two_splits_is_listed_once_a_case(tmp_path: Path) -> None:
    card = write("vindr-mammo", tmp_path)
    file = tmp_path / "breast-level_annotations.csv"
    file.write_text(file.read_text().replace("study12,", "study0,").replace("study13,", "study1,"))
    found = check(card, tmp_path)
    assert Counter(s.kind for s in found.overlaps) == {"patient": 8}
    assert found.problems[0].startswith("8 images of test share a patient with train: ")
    assert " and 3 more. " in found.problems[0]


def test_a_near_duplicate_is_a_note(tmp_path: Path) -> None:
    from PIL import Image, ImageEnhance

    card = write("pcam200", tmp_path)
    with Image.open(tmp_path / "test/normal/test-0.jpg") as image:
        ImageEnhance.Brightness(image).enhance(0.9).save(
            tmp_path / "train/normal/train-0.jpg", quality=95
        )
    found = check(card, tmp_path)
    assert found.ok
    assert found.notes[-1].startswith("1 images of test look like one of train: ")


def test_shared_images_of_vqa_rad_are_a_note_since_its_split_is_known_for_it(
    tmp_path: Path,
) -> None:
    card = write("vqa-rad", tmp_path)
    found = check(card, tmp_path)
    assert found.ok
    assert "The official splits are known to share images." in found.notes
    assert Counter(s.kind for s in found.overlaps) == {"patient": 10, "content": 10}
    assert not check(replace(card, shares_images=False), tmp_path).ok


def test_a_label_without_a_case_is_a_note(tmp_path: Path) -> None:
    card = write("vindr-mammo", tmp_path)
    file = tmp_path / "breast-level_annotations.csv"
    file.write_text(file.read_text().replace("BI-RADS 5", "BI-RADS 4"))
    found: Checked = check(card, tmp_path, images=False)
    assert found.ok
    assert found.notes == ("No case has the label(s) 'BI-RADS 5'.",)
    assert found.labels["BI-RADS 4"] == 24


def test_a_label_outside_the_card_is_a_problem(tmp_path: Path) -> None:
    card = write("vindr-mammo", tmp_path)
    file = tmp_path / "breast-level_annotations.csv"
    file.write_text(file.read_text().replace("BI-RADS 5", "BI-RADS 0", 1))
    message = only_problem(card, tmp_path, images=False)
    assert "label 'BI-RADS 0' is not in card 'vindr-mammo'" in message


def test_the_command_exits_with_two_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    DIAGNOSIS["medfmc-endo"](tmp_path)
    assert run(monkeypatch, "data", "check", "medfmc-endo", tmp_path, "--no-images") == 2
    out = capsys.readouterr().out
    assert "train 15 of 929" in out
    assert "test has 5 cases, 2,050 of 2,055 are missing" in out
    assert run(monkeypatch, "data", "check", "medfmc-endo", tmp_path, "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {
        *("version", "ok", "name", "counts", "expected"),
        *("labels", "problems", "notes", "overlaps"),
    }
    assert (told["version"], told["ok"]) == (1, False)


def test_the_real_archives_are_whole_and_share_a_few_images(data_root: Path) -> None:
    for name, shared in (("pneumoniamnist", {"val": 8}), ("breastmnist", {"test": 1})):
        found = check(card_named(name), data_root / name)
        assert found.ok, found.problems
        content = Counter(s.b_split for s in found.overlaps if s.kind == "content")
        assert content == shared


def test_a_real_copy_passes_by_the_command(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "data", "check", "breastmnist", data_root / "breastmnist") == 0
    assert "nothing is wrong" in capsys.readouterr().out
