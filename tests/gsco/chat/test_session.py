"""What a session holds: the images of a case, and cases up to a bound."""

import json
from pathlib import Path

import pytest
from PIL import Image

from gsco.chat.session import MOST_CASES, Exam, Session, Talk, open_exam
from gsco.chat.viewing import Look, default_look, seen
from gsco.datasets.samples import packaged_samples
from gsco.errors import UsageError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    for number, path in enumerate(paths):
        Image.new("RGB", (32, 20 + number), (number * 20, 40, 200)).save(path)
    return paths


def test_several_images_are_one_case_in_their_order(files: list[Path]) -> None:
    exam = open_exam(files[:3])
    assert [picture.height for picture in exam.pictures] == [20, 21, 22]
    assert exam.facts["Pixels"] == "32 x 20, 32 x 21, 32 x 22"
    assert exam.volume is None


def test_too_many_images_are_refused(files: list[Path]) -> None:
    with pytest.raises(UsageError, match="9 images are too many for one case: give 8"):
        open_exam(files)


def test_a_volume_is_asked_about_slice_by_slice() -> None:
    path = next(one.path for one in packaged_samples() if one.name == "brain-mri")
    exam = open_exam([path])
    middle = exam.pictures
    exam.turn_to(3)
    assert exam.number == 3
    assert exam.pictures != middle
    exam.turn_to(999)
    assert exam.number == 23


def test_a_window_is_for_the_eyes_and_changes_nothing_that_is_asked(files: list[Path]) -> None:
    exam = open_exam(files[:1])
    asked = exam.pictures[0].tobytes()
    assert seen(exam, default_look(exam)).tobytes() == asked
    assert seen(exam, Look(127.5, 255, invert=True)).getpixel((0, 0)) == (255, 215, 55)
    assert seen(exam, Look(127.5, 1)).getpixel((0, 0)) == (0, 0, 255)
    assert exam.pictures[0].tobytes() == asked


def test_a_session_remembers_so_many_cases_and_counts_on() -> None:
    session = Session()
    for _ in range(MOST_CASES + 3):
        session.begin(Talk(Exam((Image.new("RGB", (8, 8)),)), "modality", "stack"))
    assert len(session.talks) == MOST_CASES
    assert session.names()[0] == "Case 4: modality"
    assert session.names()[-1] == f"Case {MOST_CASES + 3}: modality"


def test_what_is_exported_holds_no_pixels() -> None:
    talk = Talk(Exam((Image.new("RGB", (8, 8)),)), "modality", "stack")
    talk.say("user", "What is it?")
    told = json.loads(json.dumps(talk.told()))
    assert told["messages"] == [{"role": "user", "content": "What is it?"}]
    assert told["diagnosis"] is None
