"""Questions and reports in their published layouts, and what is said of damaged ones."""

import csv
import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from asked_layouts import QUESTIONS, REPORTS
from painting import Painter, lines, table, write_json

from gsco.datasets.card import card_named, data_cards
from gsco.datasets.known import read_known, read_questions, read_reports
from gsco.datasets.layouts import QUESTIONS as QUESTION_READERS
from gsco.datasets.layouts import REPORTS as REPORT_READERS
from gsco.datasets.question import Question, Questions, Reports
from gsco.errors import DataError, UsageError

COUNTS = {
    "slake": (12, 4, 6),
    "vqa-rad": (20, 0, 10),
    "vqa-med-2019": (8, 8, 8),
    "omnimedvqa": (0, 0, 6),
    "pmc-vqa": (6, 0, 3),
    "pathvqa": (12, 4, 4),
}


def write(name: str, root: Path) -> None:
    if name == "pathvqa":
        pytest.importorskip("pyarrow", reason="pyarrow (extra data) is not installed")
    (QUESTIONS | REPORTS)[name](root)


def read(name: str, root: Path) -> Questions:
    write(name, root)
    return read_questions(name, root)


def fails(name: str, root: Path) -> str:
    with pytest.raises(DataError) as error:
        (read_questions if name in QUESTIONS else read_reports)(name, root)
    return str(error.value)


def test_every_set_of_questions_or_reports_has_a_reader_and_a_tested_layout() -> None:
    asked = {card.name: card for card in data_cards().values() if card.kind == "vqa"}
    written = {card.name: card for card in data_cards().values() if card.kind == "report"}
    assert asked.keys() == QUESTIONS.keys() == COUNTS.keys()
    assert written.keys() == REPORTS.keys()
    assert {card.layout for card in asked.values()} == QUESTION_READERS.keys()
    assert {card.layout for card in written.values()} == REPORT_READERS.keys()


@pytest.mark.parametrize("name", COUNTS)
def test_a_published_layout_becomes_questions(name: str, tmp_path: Path) -> None:
    asked = read(name, tmp_path)
    splits = Counter(question.split for question in asked.questions)
    assert (splits["train"], splits["val"], splits["test"]) == COUNTS[name]
    assert len({question.id for question in asked.questions}) == len(asked.questions)
    for question in asked.split("test"):
        assert question.open().mode == "RGB"
        assert question.question == question.question.strip() != ""
        assert question.answer == question.answer.strip() != ""
        assert not question.options or question.answer in question.options


@pytest.mark.parametrize("name", [name for name in (*COUNTS, *REPORTS) if name != "pathvqa"])
def test_an_empty_folder_says_what_is_missing_and_where_to_get_it(
    name: str, tmp_path: Path
) -> None:
    message = fails(name, tmp_path)
    assert "has no " in message
    assert card_named(name).url in message


def test_only_the_english_questions_of_slake_are_read(tmp_path: Path) -> None:
    asked = read("slake", tmp_path)
    assert asked.notes == ("11 questions in other languages were left out.",)
    assert [(q.kind, q.answer) for q in asked.questions[:2]] == [
        ("closed", "Yes"),
        ("open", "Liver"),
    ]
    assert asked.questions[0].patient == "0"


def test_the_official_split_of_vqa_rad_shares_images_and_the_other_does_not(
    tmp_path: Path,
) -> None:
    official = read("vqa-rad", tmp_path)
    assert shared(official.questions) == {f"synpic{n}.jpg" for n in range(10)}
    assert official.questions[0].answer == "left side"
    by_image = read_questions("vqa-rad", tmp_path, split="image")
    assert shared(by_image.questions) == set()
    assert len(by_image.split("test")) == 6
    cases = [{q.patient for q in by_image.split(name)} for name in ("train", "val", "test")]
    assert not cases[0] & cases[2]
    assert "no image is shared" in by_image.notes[-1]
    assert [q.id for q in by_image.questions] == [q.id for q in official.questions]


def shared(questions: tuple[Question, ...]) -> set[str]:
    places: dict[str, set[str]] = {}
    for question in questions:
        places.setdefault(Path(question.place).name, set()).add(question.split)
    return {place for place, splits in places.items() if len(splits) > 1}


def test_lines_of_vqa_med_have_one_part_more_in_the_test_file(tmp_path: Path) -> None:
    asked = read("vqa-med-2019", tmp_path)
    first = asked.split("test")[0]
    assert (first.question, first.answer, first.kind) == (
        "is this a t1 weighted image?",
        "no",
        "closed",
    )
    name = "VQAMed2019Test/VQAMed2019_Test_Questions_w_Ref_Answers.txt"
    lines(tmp_path / name, ["synpictest0|what plane?|axial"])
    assert "line 1 has 3 parts, not 4: 'synpictest0|what plane?|axial'" in fails(
        "vqa-med-2019", tmp_path
    )


def test_options_of_omnimedvqa_are_two_to_four(tmp_path: Path) -> None:
    asked = read("omnimedvqa", tmp_path)
    assert asked.questions[0].options == ("Normal", "Glaucoma")
    assert asked.questions[1].options == ("Normal", "Glaucoma", "Cataract")


def test_choices_of_pmc_vqa_lose_their_letters(tmp_path: Path) -> None:
    question = read("pmc-vqa", tmp_path).questions[0]
    assert question.options == ("CT", "MRI", "X-ray", "PET")
    assert (question.question, question.answer) == ("What modality?", "MRI")


def test_the_checked_part_of_pmc_vqa_can_stand_alone(tmp_path: Path) -> None:
    write("pmc-vqa", tmp_path)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "test.csv").rename(tmp_path / "test_clean.csv")
    asked = read_questions("pmc-vqa", tmp_path)
    assert (len(asked.split("train")), len(asked.split("test"))) == (0, 3)
    assert asked.notes == ("There is no train.csv: the set can only be tested on.",)


@pytest.mark.parametrize("name", ["omnimedvqa", "pmc-vqa"])
def test_an_answer_that_is_no_option_is_named(name: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    file = tmp_path / "test.csv"
    if name == "omnimedvqa":
        file = tmp_path / "QA_information/Open-access/ACRIMA.json"
    text = file.read_text().replace('"gt_answer": "Glaucoma"', '"gt_answer": "Gout"', 1)
    file.write_text(text.replace("MRI", "Gout", 1).replace(",B\n", ",\n", 1))
    assert "answer 'Gout' is none of the options" in fails(name, tmp_path)


def test_rows_of_pathvqa_with_one_image_stay_on_one_side(tmp_path: Path) -> None:
    asked = read("pathvqa", tmp_path)
    assert asked.questions[0].place == asked.questions[1].place
    by_image = read_questions("pathvqa", tmp_path, split="image").questions
    assert by_image[0].split == by_image[1].split


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    write("pathvqa", tmp_path)
    next(tmp_path.rglob("test-*.parquet")).write_bytes(b"PAR1")
    assert "'test-00000-of-00001-abc.parquet' is damaged" in fails("pathvqa", tmp_path)


def test_a_missing_part_of_pathvqa_is_named(tmp_path: Path) -> None:
    write("pathvqa", tmp_path)
    next(tmp_path.rglob("validation-*.parquet")).unlink()
    assert "'data/validation-*.parquet'" in fails("pathvqa", tmp_path)


@pytest.mark.parametrize("name", REPORTS)
def test_reports_come_with_their_images_and_splits(name: str, tmp_path: Path) -> None:
    write(name, tmp_path)
    written: Reports = read_reports(name, tmp_path)
    assert [len(written.split(part)) for part in ("train", "val", "test")] == [4, 1, 2]
    first = written.split("test")[0]
    assert first.report == "Clear lungs in case 0."
    assert len(first.open()) == (2 if name == "iu-xray" else 1)
    assert first.patient == ("CXRtest0" if name == "iu-xray" else "1000test0")


def test_a_blank_report_and_a_missing_image_are_named(tmp_path: Path) -> None:
    write("iu-xray", tmp_path)
    data = json.loads((tmp_path / "annotation.json").read_text())
    data["test"][0]["report"] = "  "
    write_json(tmp_path / "annotation.json", data)
    (tmp_path / "images/CXRtest1_IM-0001/1.png").unlink()
    message = fails("iu-xray", tmp_path)
    assert "annotation.json test item 1: the report of 'CXRtest0_IM-0001' is blank" in message
    assert "test item 2: there is no image '1.png' in the folder" in message


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/secret.png"])
def test_a_name_that_leads_out_of_the_folder_is_no_image(name: str, tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    for folder in (root, tmp_path / "reports"):
        folder.mkdir(parents=True)
    write("vqa-rad", root)
    (root / "VQA_RAD Image Folder/synpic0.jpg").rename(tmp_path / "a" / "secret.png")
    file = root / "VQA_RAD Dataset Public.json"
    items = json.loads(file.read_text())
    items[0]["image_name"] = name
    write_json(file, items)
    assert "item 1: there is no image 'secret.png' in the folder" in fails("vqa-rad", root)
    write("mimic-cxr", tmp_path / "reports")
    data = json.loads((tmp_path / "reports/annotation.json").read_text())
    data["val"][0]["image_path"] = [name]
    write_json(tmp_path / "reports/annotation.json", data)
    assert "there is no image 'secret.png'" in fails("mimic-cxr", tmp_path / "reports")


@pytest.mark.parametrize("name", ["vqa-rad", "iu-xray", "slake"])
def test_the_folder_itself_may_be_given_by_two_dots(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(name, tmp_path)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    read_it = read_reports if name in REPORTS else read_questions
    assert read_it(name, Path("..")).split("test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no JSON"),
        (b"{}", "is no list of objects"),
        ('[{"qid": "für"}]'.encode("cp1252"), "is not UTF-8: line 1 "),
        (b'[{"qid": 1}]', "item 1 has no field 'phrase_type'"),
    ],
)
def test_a_wrong_file_of_questions_says_what_to_do(
    content: bytes, message: str, tmp_path: Path
) -> None:
    write("vqa-rad", tmp_path)
    (tmp_path / "VQA_RAD Dataset Public.json").write_bytes(content)
    assert message in fails("vqa-rad", tmp_path)


def test_an_id_that_stands_twice_is_named(tmp_path: Path) -> None:
    write("vqa-rad", tmp_path)
    file = tmp_path / "VQA_RAD Dataset Public.json"
    items = json.loads(file.read_text())
    write_json(file, [*items, items[0]])
    assert "item 31: id '0' stands on VQA_RAD Dataset Public.json item 1 already" in fails(
        "vqa-rad", tmp_path
    )


def test_reports_without_a_split_say_what_the_file_should_be(tmp_path: Path) -> None:
    write("iu-xray", tmp_path)
    write_json(tmp_path / "annotation.json", {"train": []})
    assert "is no JSON object of train, val and test ('val')" in fails("iu-xray", tmp_path)


def test_each_kind_of_set_has_its_own_reader(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'ham10000' is of kind 'single' and has no questions"):
        read_questions("ham10000", tmp_path)
    with pytest.raises(UsageError, match="'slake' is of kind 'vqa' and has no reports"):
        read_reports("slake", tmp_path)
    with pytest.raises(UsageError, match="'iu-xray' is of kind 'report' and has no labels"):
        read_known("iu-xray", tmp_path)


def test_vqa_rad_is_read_from_a_table_with_both_splits(tmp_path: Path) -> None:
    painter = Painter()
    lines = ["qid,file,official_split,image_split,answer_type,question,answer"]
    for number in range(12):
        if number % 2 == 0:
            painter.draw(tmp_path / "images" / f"{number // 2}.jpg")
        official, by_image = ("train", "test")[number % 2], ("train", "val", "test")[number // 4]
        kind = ("CLOSED", "OPEN")[number % 2]
        place = f"images/{number // 2}.jpg"
        lines.append(f"{number},{place},{official},{by_image},{kind},Is it {number}?, Yes ")
    (tmp_path / "qa.csv").write_text("\n".join(lines))
    official = read_questions("vqa-rad", tmp_path)
    assert len(official.split("test")) == 6
    assert {q.kind for q in official.split("test")} == {"open"}
    assert {q.answer for q in official.questions} == {"Yes"}
    by_image = read_questions("vqa-rad", tmp_path, split="image")
    assert [len(by_image.split(name)) for name in ("train", "val", "test")] == [4, 4, 4]
    assert shared(by_image.questions) == set()
    (tmp_path / "qa.csv").write_text("\n".join([*lines[:3], lines[3].replace("train", "some")]))
    with pytest.raises(DataError, match=r"qa\.csv line 4: a split is not one of"):
        read_questions("vqa-rad", tmp_path)


def test_the_real_vqa_rad_has_the_counts_of_its_card(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "vqa_rad"
    with (source / "qa.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = {row["file"]: Path(row["file"]).name for row in rows}
    phrases = ("qid", "phrase_type", "question", "answer", "answer_type")
    items = [
        {key: row[key] for key in phrases} | {"image_name": names[row["file"]]} for row in rows
    ]
    write_json(tmp_path / "VQA_RAD Dataset Public.json", items)
    (tmp_path / "VQA_RAD Image Folder").symlink_to(source / "images")
    asked = read_questions("vqa-rad", tmp_path)
    card = card_named("vqa-rad")
    assert len(asked.split("train")) == card.splits["train"]
    assert len(asked.split("test")) == card.splits["test"]
    assert len(shared(asked.questions)) > 100
    assert not shared(read_questions("vqa-rad", tmp_path, split="image").questions)
    assert asked.questions[0].open().mode == "RGB"
    tabled = read_questions("vqa-rad", source)
    assert [(q.id, q.kind, q.split, q.answer) for q in tabled.questions] == [
        (q.id, q.kind, q.split, q.answer) for q in asked.questions
    ]
    by_image = read_questions("vqa-rad", source, split="image")
    assert not shared(by_image.questions)
    assert len(by_image.split("test")) == 536


def test_a_table_of_questions_without_choices_is_refused(tmp_path: Path) -> None:
    write("pmc-vqa", tmp_path)
    table(tmp_path / "test.csv", ("Figure_path", "Question", "Answer"), [])
    assert "'test.csv' has no column 'Choice A'" in fails("pmc-vqa", tmp_path)


def test_an_answer_may_begin_like_a_choice(tmp_path: Path) -> None:
    write("pmc-vqa", tmp_path)
    file = tmp_path / "test.csv"
    text = file.read_text().replace(",B\n", ",\n").replace("MRI", "B.subtilis")
    file.write_text(text)
    assert read_questions("pmc-vqa", tmp_path).split("test")[0].answer == "B.subtilis"


def test_parquet_without_its_reader_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow, .*`pip install 'gsco\[data\]'`"):
        read_questions("pathvqa", tmp_path)
