"""Visual question answering: SLAKE, VQA-RAD, VQA-Med 2019, OmniMedVQA, PMC-VQA."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gsco.datasets.card import DataCard
from gsco.datasets.layouts.laid import Laid, absent, image_files, is_inside, need, seek
from gsco.datasets.question import Form, Question
from gsco.datasets.record import Split
from gsco.datasets.row import split_named
from gsco.datasets.table import decode, read_bytes, read_table
from gsco.errors import DataError

LETTERS = "ABCD"
Item = Mapping[str, Any]
"""Any: what a JSON file holds."""


def read_slake(folder: Path, card: DataCard) -> Laid[Question]:
    """Read the English questions of SLAKE.

    Raises:
        DataError: a file is missing or is not what it should be.
    """
    gathered = _Gathered(folder)
    images = need(folder, card, "imgs")
    parts: tuple[tuple[Split, str], ...] = (
        ("train", "train.json"),
        ("val", "validate.json"),
        ("test", "test.json"),
    )
    foreign = 0
    for split, name in parts:
        for number, item in enumerate(read_items(need(folder, card, name)), 1):
            if item.get("q_lang") != "en":
                foreign += 1
                continue
            where = f"{name} item {number}"
            gathered.add(
                where,
                Question(
                    id=f"{split}-{_text(item, 'qid', where)}",
                    image=images / _text(item, "img_name", where),
                    question=_text(item, "question", where),
                    answer=_text(item, "answer", where),
                    options=(),
                    kind="closed" if item.get("answer_type") == "CLOSED" else "open",
                    split=split,
                    patient=_text(item, "img_id", where),
                ),
            )
    note = f"{foreign} questions in other languages were left out."
    # Masks lie beside the images.
    return gathered.laid(notes=(note,) if foreign else ())


def read_vqa_rad(folder: Path, card: DataCard) -> Laid[Question]:
    """Read VQA-RAD with its official split: by the kind of phrase, so that images are shared.

    A `qa.csv` with its questions, and a second split by image, will do as well.

    Raises:
        DataError: the file or the images are missing.
    """
    if (folder / "qa.csv").is_file():
        return _read_rad_table(folder)
    gathered = _Gathered(folder)
    images = need(folder, card, "VQA_RAD Image Folder")
    file = need(folder, card, "VQA_RAD Dataset Public.json")
    for number, item in enumerate(read_items(file), 1):
        where = f"{file.name} item {number}"
        closed = str(item.get("answer_type", "")).strip().upper() == "CLOSED"
        is_test = _text(item, "phrase_type", where).startswith("test")
        gathered.add(
            where,
            Question(
                id=_text(item, "qid", where),
                image=images / _text(item, "image_name", where),
                question=_text(item, "question", where),
                answer=_text(item, "answer", where),
                options=(),
                kind="closed" if closed else "open",
                split="test" if is_test else "train",
                patient=item.get("image_case_url") or None,
            ),
        )
    return gathered.laid(image_files(images))


def _read_rad_table(folder: Path) -> Laid[Question]:
    gathered = _Gathered(folder)
    needed = ("qid", "file", "question", "answer", "answer_type", "official_split", "image_split")
    table = read_table(folder / "qa.csv", needed)
    for line in table.lines:
        where, cells = f"{table.name} line {line.number}", line.cells
        split, by_image = split_named(cells["official_split"]), split_named(cells["image_split"])
        if split is None or by_image is None:
            gathered.problems.append(f"{where}: a split is not one of train, val, test")
            continue
        question = Question(
            id=_text(cells, "qid", where),
            image=folder / _text(cells, "file", where),
            question=_text(cells, "question", where),
            answer=_text(cells, "answer", where),
            options=(),
            kind="closed" if cells["answer_type"].upper() == "CLOSED" else "open",
            split=split,
            by_image=by_image,
        )
        gathered.add(where, question)
    return gathered.laid(image_files(folder))


_MED_2019: tuple[tuple[Split, str, str], ...] = (
    ("train", "ImageClef-2019-VQA-Med-Training/All_QA_Pairs_train.txt", "Train_images"),
    ("val", "ImageClef-2019-VQA-Med-Validation/All_QA_Pairs_val.txt", "Val_images"),
    (
        "test",
        "VQAMed2019Test/VQAMed2019_Test_Questions_w_Ref_Answers.txt",
        "VQAMed2019_Test_Images",
    ),
)


def read_vqa_med_2019(folder: Path, card: DataCard) -> Laid[Question]:
    """Read VQA-Med 2019: lines of image, (category in the test part,) question and answer.

    Raises:
        DataError: a file or a folder of images is missing, or a line has too few parts.
    """
    gathered = _Gathered(folder)
    every: list[Path] = []
    for split, name, place in _MED_2019:
        file = need(folder, card, name, Path(name).name)
        images = need(file.parent, card, place)
        every += image_files(images)
        found = {image.stem: image for image in image_files(images)}
        columns = 4 if split == "test" else 3
        for number, line in enumerate(decode(read_bytes(file), file.name).splitlines(), 1):
            if not line.strip():
                continue
            parts = [part.strip() for part in line.split("|")]
            if len(parts) != columns:
                raise DataError(
                    f"{file.name!r} line {number} has {len(parts)} parts, not {columns}: "
                    f"{line[:80]!r}. Take the file as it was published."
                )
            where, answer = f"{file.name} line {number}", parts[-1]
            image = found.get(parts[0], images / f"{parts[0]}.jpg")
            kind, id = _form(answer), f"{split}-{number}"
            question = Question(id, image, parts[-2], answer, (), kind, split, parts[0])
            gathered.add(where, question)
    return gathered.laid(every)


def read_omnimedvqa(folder: Path, card: DataCard) -> Laid[Question]:
    """Read the open-access part of OmniMedVQA: one file a source, all of it for testing.

    Raises:
        DataError: there is no folder of files, or a file is not what it should be.
    """
    gathered = _Gathered(folder)
    place = need(folder, card, "QA_information/Open-access", "Open-access")
    root = need(folder, card, "Images").parent
    files = sorted(place.glob("*.json"))
    if not files:
        raise absent(folder, card, f"'.json' file in {place.name!r}")
    for file in files:
        for number, item in enumerate(read_items(file), 1):
            options = tuple(
                str(item[f"option_{letter}"]).strip()
                for letter in LETTERS
                if str(item.get(f"option_{letter}") or "").strip()
            )
            where = f"{file.name} item {number}"
            answer = _text(item, "gt_answer", where)
            if answer not in options:
                gathered.problems.append(f"{where}: answer {answer!r} is none of the options")
                continue
            image, id = root / _text(item, "image_path", where), _text(item, "question_id", where)
            words = _text(item, "question", where)
            gathered.add(where, Question(id, image, words, answer, options, "closed", "test"))
    return gathered.laid()


def read_pmc_vqa(folder: Path, card: DataCard) -> Laid[Question]:
    """Read PMC-VQA: train.csv and test.csv, or the checked test_clean.csv where test.csv is absent.

    Raises:
        DataError: a table or the images are missing, or a column is.
    """
    gathered = _Gathered(folder)
    images = need(folder, card, "images", "figures")
    found = {image.name: image for image in image_files(images)}
    files: list[tuple[Split, Path]] = []
    if train := seek(folder, "train.csv"):
        files.append(("train", train))
    files.append(("test", need(folder, card, "test.csv", "test_clean.csv")))
    choices = [f"Choice {letter}" for letter in LETTERS]
    for split, file in files:
        table = read_table(file, ("Figure_path", "Question", "Answer", *choices))
        for line in table.lines:
            cells = line.cells
            options = tuple(_choice(cells[column]) for column in choices)
            label = cells.get("Answer_label", "").strip()
            answer = (
                options[LETTERS.index(label)]
                if label and label in LETTERS
                else _answer(cells["Answer"], options)
            )
            where = f"{file.name} line {line.number}"
            if answer is None:
                said = cells["Answer"]
                gathered.problems.append(f"{where}: answer {said!r} is none of the options")
                continue
            image = found.get(cells["Figure_path"], images / cells["Figure_path"])
            id, words = f"{split}-{line.number}", cells["Question"]
            gathered.add(where, Question(id, image, words, answer, options, "closed", split))
    notes = () if train else ("There is no train.csv: the set can only be tested on.",)
    return gathered.laid(found.values(), notes)


def _choice(cell: str) -> str:
    """Take the letter off a choice (` A:Pleural effusion `)."""
    text = cell.strip()
    return text[2:].strip() if len(text) > 1 and text[0] in LETTERS and text[1] in ":." else text


def _answer(said: str, options: Sequence[str]) -> str | None:
    """Return the option that a text or a letter names."""
    said = said.strip()
    if said in options:
        return said
    if len(said) == 1 and said in LETTERS[: len(options)]:
        return options[LETTERS.index(said)]
    return _choice(said) if _choice(said) in options else None


def _form(answer: str) -> Form:
    return "closed" if answer.strip().casefold() in ("yes", "no") else "open"


def _text(item: Item, field: str, where: str) -> str:
    if field not in item:
        raise DataError(f"{where} has no field {field!r}. Take the file as it was published.")
    return str(item[field]).strip()


class _Gathered:
    """Questions as they are read, with what is wrong with them."""

    def __init__(self, root: Path) -> None:
        self.problems: list[str] = []
        self._root = root
        self._questions: dict[str, Question] = {}
        self._first: dict[str, str] = {}
        self._there: dict[Path, bool] = {}

    def add(self, where: str, question: Question) -> None:
        """Keep a question if its image is there and its id is new."""
        image = question.image
        if isinstance(image, Path) and not self._is_there(image):
            self.problems.append(f"{where}: there is no image {image.name!r} in the folder")
        elif question.id in self._questions:
            before = self._first[question.id]
            self.problems.append(f"{where}: id {question.id!r} stands on {before} already")
        else:
            self._questions[question.id] = question
            self._first[question.id] = where

    def _is_there(self, image: Path) -> bool:
        if image not in self._there:
            self._there[image] = is_inside(self._root, image) and image.is_file()
        return self._there[image]

    def laid(self, every: Iterable[Path] = (), notes: tuple[str, ...] = ()) -> Laid[Question]:
        """Return all; `every` image that could be asked about, to find those that are not."""
        spare = set(every) - self._there.keys()
        names = sorted(image.relative_to(self._root).as_posix() for image in spare)
        return Laid(tuple(self._questions.values()), tuple(self.problems), tuple(names), notes)


def read_items(file: Path) -> list[Item]:
    """Return the objects of a JSON list.

    Raises:
        DataError: it is not UTF-8, not JSON, or not a list of objects.
    """
    try:
        items = json.loads(decode(read_bytes(file), file.name))
    except json.JSONDecodeError as error:
        raise DataError(f"{file.name!r} is no JSON ({error}). Download it again.") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f"{file.name!r} is no list of objects. Take the file as it was published.")
    return items
