"""Questions and reports about images, as they are read from a qa.csv."""

from pathlib import Path

import pytest

from gsco.datasets import Pair, read_pairs
from gsco.errors import DataError

HEAD = "qid,file,image_split,official_split,answer_type,question,answer\n"
ROWS = (
    "0,a.png,train,test,CLOSED,Is it red?, Yes \n"
    "1,a.png,training,train,OPEN,What is it?,a spot\n"
    "2,b.png,test,train,CLOSED,Is it red?,No\n"
    '3,c.png,train,train,REPORT,,"Findings: A spot.\nImpression: Red."\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three files; their pixels are not looked at."""
    made = tmp_path / "talk"
    made.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (made / name).write_bytes(b"pixels")
    return made


def test_pairs_are_those_whose_image_is_in_the_split(folder: Path) -> None:
    (folder / "qa.csv").write_text(HEAD + ROWS)
    (folder / "SOURCE.md").write_text("- Licence: CC0 1.0\n")
    found = read_pairs(folder)
    assert (found.name, found.licence) == ("talk", "CC0 1.0")
    assert found.pairs == (
        Pair(folder / "a.png", "Is it red?", "Yes"),
        Pair(folder / "a.png", "What is it?", "a spot"),
        Pair(folder / "c.png", None, "Findings: A spot.\nImpression: Red."),
    )
    assert [pair.answer for pair in read_pairs(folder, "test").pairs] == ["No"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD.replace("image_split", "split") + ROWS, "no column 'image_split'. It needs file"),
        ("", "no column 'file'"),
        (HEAD, "has no row of 'train'. Add some"),
        (HEAD + "0,d.png,train,,OPEN,Why?,so\n", "row 1: there is no file 'd.png'"),
        (HEAD + "0,../x.png,train,,OPEN,Why?,so\n", "lies outside of the folder"),
        (HEAD + ROWS + "4,b.png,train,,OPEN,Why?,so\n", "row 5: 'b.png' stands in test and in tr"),
        (HEAD + "0,a.png,tset,,OPEN,Why?,so\n", "'tset' is not one of train, val, test"),
        (HEAD + "0,a.png,train,,OPEN,Why?, \n", "answer is blank"),
        (HEAD + "0,a.png,train,,OPEN, ,so\n", "question is blank; if the answer is a report"),
        (HEAD + "0,a.png,train\n", "answer is blank"),
        (HEAD + "0,a.png,train,,OPEN,Why?,so, and so\n", "quote text that has a comma"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_with_what_to_do(
    text: str, said: str, folder: Path
) -> None:
    (folder.parent / "x.png").write_bytes(b"pixels")
    (folder / "qa.csv").write_text(text)
    with pytest.raises(DataError) as error:
        read_pairs(folder)
    assert said in str(error.value)


def test_a_file_that_is_missing_or_not_utf_8_is_a_sentence(folder: Path) -> None:
    with pytest.raises(DataError, match=r"'qa.csv' of 'talk' cannot be read"):
        read_pairs(folder)
    (folder / "qa.csv").write_bytes(HEAD.encode() + b"0,a.png,train,,OPEN,Pr\xe4?,so\n")
    with pytest.raises(DataError, match="CSV in UTF-8"):
        read_pairs(folder)


def test_the_questions_of_vqa_rad_are_read_by_image(data_root: Path) -> None:
    folder = data_root / "vqa_rad"
    parts = {name: read_pairs(folder, name) for name in ("train", "val", "test")}  # type: ignore[arg-type]  # a split each
    assert [len(part.pairs) for part in parts.values()] == [1494, 218, 536]
    images = [{pair.image for pair in part.pairs} for part in parts.values()]
    assert not images[0] & images[1] | images[0] & images[2] | images[1] & images[2]
