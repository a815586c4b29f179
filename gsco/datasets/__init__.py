"""Data sets: labelled images in three splits, questions and reports.

Your own stand in a folder or a MedMNIST file; published ones are read as they are published.

    dataset = read_dataset(Path("breast"), task_named("breast-ultrasound-3"))
    image = dataset.split("train")[0].open()
    lesions = read_known("ham10000", Path("ham10000"))
    asked = read_questions("vqa-rad", Path("vqa-rad"), split="image")

Training, index and test cases stay apart: what would mix them is an error, not a warning.
"""

from gsco.datasets.known import read_known, read_questions, read_reports
from gsco.datasets.pairs import Pair, PairSet, read_pairs
from gsco.datasets.question import Question, Questions, Report, Reports
from gsco.datasets.read import read_dataset
from gsco.datasets.record import Dataset, NpzRow, Record, Split, targets_of

__all__ = [
    "Dataset",
    "NpzRow",
    "Pair",
    "PairSet",
    "Question",
    "Questions",
    "Record",
    "Report",
    "Reports",
    "Split",
    "read_dataset",
    "read_known",
    "read_pairs",
    "read_questions",
    "read_reports",
    "targets_of",
]
