"""Data sets: labelled images in three splits, read from a folder or a MedMNIST file.

    dataset = read_dataset(Path("breast"), task_named("breast-ultrasound-3"))
    image = dataset.split("train")[0].open()

Training, index and test cases stay apart: what would mix them is an error, not a warning.
"""

from gsco.datasets.pairs import Pair, PairSet, read_pairs
from gsco.datasets.read import read_dataset
from gsco.datasets.record import Dataset, NpzRow, Record, Split, targets_of

__all__ = [
    "Dataset",
    "NpzRow",
    "Pair",
    "PairSet",
    "Record",
    "Split",
    "read_dataset",
    "read_pairs",
    "targets_of",
]
