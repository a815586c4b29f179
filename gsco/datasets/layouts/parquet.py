"""PathVQA as the hub has it: Parquet files with the image inside each row."""

from pathlib import Path
from typing import TYPE_CHECKING

from gsco.datasets.card import DataCard
from gsco.datasets.layouts.laid import Laid, absent
from gsco.datasets.question import Cell, Question
from gsco.datasets.record import Split
from gsco.errors import DataError, UsageError

if TYPE_CHECKING:
    from types import ModuleType

_PARTS: tuple[tuple[Split, str], ...] = (
    ("train", "train"),
    ("val", "validation"),
    ("test", "test"),
)


def read_pathvqa(folder: Path, card: DataCard) -> Laid[Question]:
    """Read PathVQA; all encoded images are held in memory (about 0.8 GB).

    Raises:
        DataError: a file is missing, damaged, or has not the columns image, question, answer.
        UsageError: pyarrow is not installed.
    """
    root = folder / "data" if (folder / "data").is_dir() else folder
    questions: list[Question] = []
    problems: list[str] = []
    for split, word in _PARTS:
        files = sorted(root.glob(f"{word}-*.parquet"))
        if not files:
            problems.append(str(absent(folder, card, f"'data/{word}-*.parquet'")))
        questions += [question for file in files for question in _rows(file, split)]
    if not questions:
        raise absent(folder, card, "'data/test-*.parquet'")
    return Laid(tuple(questions), tuple(problems))


def _rows(file: Path, split: Split) -> list[Question]:
    arrow = _pyarrow()
    import pyarrow.parquet

    try:
        rows = pyarrow.parquet.read_table(file, columns=["image", "question", "answer"]).to_pylist()
        return [
            Question(
                id=f"{file.stem}-{number}",
                image=Cell(file, number, row["image"]["bytes"]),
                question=row["question"].strip(),
                answer=row["answer"].strip(),
                options=(),
                kind="closed" if row["answer"].strip().casefold() in ("yes", "no") else "open",
                split=split,
            )
            for number, row in enumerate(rows)
        ]
    except (arrow.ArrowException, OSError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file.name!r} is damaged, or has not the columns image, question and answer "
            f"({error}). Download it again."
        ) from error


def _pyarrow() -> "ModuleType":
    try:
        import pyarrow
    except ImportError as error:
        raise UsageError(
            "Reading Parquet files needs pyarrow, which is not installed. "
            "Run `pip install 'gsco[data]'`."
        ) from error
    module: ModuleType = pyarrow
    return module
