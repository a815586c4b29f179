"""Sets with one table and one folder of images: BRSET and RSNA Pneumonia."""

from pathlib import Path

from gsco.datasets.card import DataCard, task_of
from gsco.datasets.layouts.laid import Draft, Laid, is_yes, lay, need, pictures
from gsco.datasets.row import Row
from gsco.datasets.table import read_table

_NEITHER = "No Lung Opacity / Not Normal"


def read_brset(folder: Path, card: DataCard) -> Laid[Row]:
    """Read BRSET: one column of 0 and 1 for each finding.

    Raises:
        DataError: the table or the images are missing.
    """
    task = task_of(card)
    table = read_table(
        need(folder, card, "labels.csv", "labels_brset.csv"), ("image_id", "patient_id")
    )
    findings = [name for name in table.columns if task.resolve(name)]
    drafts = [
        Draft(
            f"{table.name} line {line.number}",
            Path(line.cells["image_id"]).stem,
            tuple(name for name in findings if is_yes(line.cells.get(name))),
            None,
            line.cells["patient_id"] or None,
        )
        for line in table.lines
    ]
    return lay(folder, drafts, pictures([need(folder, card, "fundus_photos")]))


def read_rsna(folder: Path, card: DataCard) -> Laid[Row]:
    """Read RSNA Pneumonia: an image with an opacity is pneumonia, one that is `Normal` is normal.

    Raises:
        DataError: a table or the images are missing.
    """
    boxes = read_table(need(folder, card, "stage_2_train_labels.csv"), ("patientId", "Target"))
    classes = read_table(
        need(folder, card, "stage_2_detailed_class_info.csv"), ("patientId", "class")
    )
    said = {line.cells["patientId"]: line.cells["class"] for line in classes.lines}
    drafts: dict[str, Draft] = {}
    every: list[str] = []
    for line in boxes.lines:
        patient = line.cells["patientId"]
        every.append(patient)
        if said.get(patient) == _NEITHER:
            continue
        label = "pneumonia" if is_yes(line.cells["Target"]) else said.get(patient, "")
        where = f"{boxes.name} line {line.number}"
        # An image has a line for each box.
        drafts.setdefault(patient, Draft(where, patient, (label,), None, patient))
    images = pictures([need(folder, card, "stage_2_train_images")])
    laid = lay(folder, list(drafts.values()), images, every)
    left = len(set(every) - drafts.keys())
    note = f"{left} images were left out: they are neither normal nor pneumonia."
    return Laid(laid.items, laid.problems, laid.unlisted, (note,) if left else ())
