"""Skin lesions: HAM10000 with the test part of ISIC 2018, BCN20000, Derm7pt."""

from collections.abc import Mapping
from pathlib import Path

from gsco.datasets.card import DataCard
from gsco.datasets.layouts.laid import (
    Draft,
    Laid,
    absent,
    image_files,
    is_yes,
    join,
    lay,
    need,
    pictures,
    seek,
)
from gsco.datasets.record import Split
from gsco.datasets.row import Row
from gsco.datasets.table import Table, read_table
from gsco.errors import DataError

_ISIC_TRUTH = "ISIC2018_Task3_Test_GroundTruth.csv"
_ISIC_IMAGES = ("ISIC2018_Task3_Test_Input", "ISIC2018_Task3_Test_Images")


def read_ham10000(folder: Path, card: DataCard) -> Laid[Row]:
    """Read HAM10000 as Kaggle or Dataverse has it; the lesion stands for the patient.

    Raises:
        DataError: the table or the images are missing.
    """
    names = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
    table = read_table(need(folder, card, *names), ("lesion_id", "image_id", "dx"))
    parts = sorted({p for up in ("", "*/") for p in folder.glob(f"{up}[Hh][Aa][Mm]*_part_[12]")})
    if not parts:
        raise absent(folder, card, "'HAM10000_images_part_1'")
    train = [
        Draft(_at(table, line.number), c["image_id"], (c["dx"],), "train", c["lesion_id"] or None)
        for line in table.lines
        for c in [line.cells]
    ]
    return join([lay(folder, train, pictures(parts)), _isic_test(folder, card)])


def _isic_test(folder: Path, card: DataCard) -> Laid[Row]:
    truth, images = seek(folder, _ISIC_TRUTH), seek(folder, *_ISIC_IMAGES)
    if truth is None or truth.is_dir() or images is None:
        missing = _ISIC_TRUTH if truth is None else _ISIC_IMAGES[0]
        return Laid((), (f"The test part is not there: {absent(folder, card, repr(missing))}",))
    table = read_table(truth, ())
    drafts: list[Draft] = []
    for line in table.lines:
        cells = line.cells
        image = cells.get("image_id") or cells.get("image") or ""
        # Dataverse names the diagnosis, the challenge has one column a diagnosis.
        labels = (cells["dx"],) if cells.get("dx") else _marked(cells)
        patient = cells.get("lesion_id") or None
        drafts.append(Draft(_at(table, line.number), image, labels, "test", patient))
    return lay(folder, drafts, pictures([images]))


def _marked(cells: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(name for name, cell in cells.items() if is_yes(cell))


def read_bcn20000(folder: Path, card: DataCard) -> Laid[Row]:
    """Read the labelled part of BCN20000; the lesion stands for the patient.

    Raises:
        DataError: the table or the images are missing.
    """
    table = read_table(need(folder, card, "bcn_20k_train.csv"), ("bcn_filename", "diagnosis"))
    images = pictures([need(folder, card, "BCN_20k_train", "bcn_20k_train")])
    drafts = [
        Draft(
            _at(table, line.number),
            Path(line.cells["bcn_filename"]).stem,
            (line.cells["diagnosis"],),
            None,
            line.cells.get("lesion_id") or None,
        )
        for line in table.lines
    ]
    return lay(folder, drafts, images)


def read_derm7pt(folder: Path, card: DataCard) -> Laid[Row]:
    """Read the dermoscopic images of Derm7pt; indexes are row numbers of `meta.csv`.

    Raises:
        DataError: a table is missing, or an index is no row of it.
    """
    meta = read_table(need(folder, card, "meta/meta.csv", "meta.csv"), ("diagnosis", "derm"))
    root = need(folder, card, "images")
    images = {file.relative_to(root).as_posix(): file for file in image_files(root)}
    drafts: list[Draft] = []
    for split, name in _INDEXES:
        indexes = read_table(need(folder, card, f"meta/{name}", name), ("indexes",))
        for line in indexes.lines:
            row = int(line.cells["indexes"]) if line.cells["indexes"].isdigit() else -1
            if not 0 <= row < len(meta.lines):
                raise DataError(
                    f"{name!r} line {line.number}: {line.cells['indexes']!r} is no row of "
                    f"'meta.csv', which has {len(meta.lines)}. Take the files of one release."
                )
            cells, where = meta.lines[row].cells, _at(meta, meta.lines[row].number)
            case = cells.get("case_id") or cells.get("case_num") or None
            drafts.append(Draft(where, cells["derm"], (_merged(cells["diagnosis"]),), split, case))
    # The clinical images of the same cases lie beside the dermoscopic ones.
    return lay(folder, drafts, images, [line.cells.get("clinic", "") for line in meta.lines])


_INDEXES: tuple[tuple[Split, str], ...] = (
    ("train", "train_indexes.csv"),
    ("val", "valid_indexes.csv"),
    ("test", "test_indexes.csv"),
)


def _merged(diagnosis: str) -> str:
    """Return one word for all kinds of nevus, and one for all stages of melanoma."""
    if "nevus" in diagnosis:
        return "nevus"
    return "melanoma" if diagnosis.startswith("melanoma") else diagnosis


def _at(table: Table, number: int) -> str:
    return f"{table.name} line {number}"
