"""Small diagnosis sets in exactly the layout of the published ones; every image differs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from painting import Painter, Writer, lines, table

from gsco.datasets.card import card_named


def medmnist(name: str, *, size: int = 28, depth: int = 0) -> Writer:
    """Return a writer of a MedMNIST archive; with a depth, of volumes."""

    def write(root: Path) -> None:
        random = np.random.default_rng(3)
        card = card_named(name)
        classes = len(card.labels)
        arrays = {}
        for split, count in (("train", 3 * classes), ("val", classes), ("test", classes)):
            shape = (count, depth, size, size) if depth else (count, size, size)
            arrays[f"{split}_images"] = random.integers(0, 256, shape, dtype=np.uint8)
            labels = np.arange(count) % classes
            one_hot = np.eye(classes, dtype=np.uint8)[labels]
            arrays[f"{split}_labels"] = (
                one_hot if card.kind == "multi" else labels.astype(np.uint8)[:, None]
            )
        ending = "" if size == 28 else f"_{size}"
        np.savez_compressed(root / f"{name}{ending}.npz", **arrays)

    return write


def class_folders(top: str, splits: dict[str, int], classes: Sequence[str]) -> Writer:
    """Return a writer of class folders below folders of splits."""

    def write(root: Path) -> None:
        painter = Painter()
        for split, count in splits.items():
            for name in classes:
                for number in range(count):
                    painter.draw(root / top / split / name / f"{split}-{number}.jpg")

    return write


def ham10000(root: Path) -> None:
    """Write the layout of Kaggle with the challenge's test part."""
    painter = Painter()
    rows = []
    codes = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    for number in range(42):
        image, lesion = f"ISIC_{number:07}", f"HAM_{number // 2:07}"
        code = codes[number // 2 % 7]
        rows.append((lesion, image, code, "histo", 50.0, "male", "back"))
        painter.draw(root / f"HAM10000_images_part_{1 + number % 2}" / f"{image}.jpg")
    columns = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    table(root / "HAM10000_metadata.csv", columns, rows)
    truth = []
    heads = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    for number in range(7):
        image = f"ISIC_{9000 + number:07}"
        truth.append((image, *(f"{float(number == column)}" for column in range(7))))
        painter.draw(root / "ISIC2018_Task3_Test_Input" / f"{image}.jpg")
    table(root / "ISIC2018_Task3_Test_GroundTruth.csv", ("image", *heads), truth)


def bcn20000(root: Path) -> None:
    painter = Painter()
    rows = []
    for number in range(160):
        code = ("MEL", "NV", "BCC", "BKL", "AK", "SCC", "DF", "VASC")[number // 2 % 8]
        name = f"BCN_{number:010}.jpg"
        rows.append((name, 60, "anterior torso", code, f"BCN_{number // 2:07}", "", "female", ""))
        painter.draw(root / "BCN_20k_train" / name)
    columns = ("bcn_filename", "age_approx", "anatom_site_general", "diagnosis", "lesion_id")
    table(root / "bcn_20k_train.csv", (*columns, "capture_date", "sex", "split"), rows)


def derm7pt(root: Path) -> None:
    painter = Painter()
    kinds = ("clark nevus", "blue nevus", "miscellaneous", "melanoma (in situ)", "melanoma")
    kinds += ("vascular lesion", "lentigo", "melanosis", "dermatofibroma")
    kinds += ("basal cell carcinoma", "seborrheic keratosis")
    rows = []
    for number in range(44):
        derm, clinic = f"N{number % 3}/D{number}.jpg", f"N{number % 3}/C{number}.jpg"
        rows.append((number + 1, kinds[number % 11], 2, f"case-{number}", derm, clinic))
        painter.draw(root / "images" / derm)
        painter.draw(root / "images" / clinic)
    columns = ("case_num", "diagnosis", "seven_point_score", "case_id", "derm", "clinic")
    table(root / "meta/meta.csv", columns, rows)
    for name, part in (
        ("train", range(22)),
        ("valid", range(22, 33)),
        ("test", range(33, 44)),
    ):
        table(root / f"meta/{name}_indexes.csv", ("indexes",), [(index,) for index in part])


CBIS_COLUMNS = (
    "patient_id",
    "breast density",
    "left or right breast",
    "image view",
    "abnormality id",
    "abnormality type",
    "pathology",
    "image file path",
    "cropped image file path",
    "ROI mask file path",
)


def cbis_ddsm(part: str, *, jpeg: bool) -> Writer:
    """Return a writer of TCIA's DICOM tree or Kaggle's JPEG tree; some crops are swapped."""

    def write(root: Path) -> None:
        painter = Painter()
        for split, count in (("train", 9), ("test", 6)):
            rows = []
            for number in range(count):
                patient = f"P_{number // 3 + (100 if split == 'test' else 0):05}"
                case = f"{part.title()}-{split.title()}{'ing' if split == 'train' else ''}"
                case = f"{case}_{patient}_LEFT_CC"
                paths = [f"{case}_{number}/1.{number}.1/2.{split}.{number}.{k}" for k in (0, 1)]
                small, large = paths if number % 2 else paths[::-1]
                for path, side in ((small, 16), (large, 40)):
                    if jpeg:
                        painter.draw(root / "jpeg" / Path(path).name / "1-001.jpg", side, side)
                    else:
                        painter.dicom(root / path / "000000.dcm", side, side)
                word = ("BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK")[number % 3]
                crop, mask = (f"{path}/000000.dcm" for path in paths)
                whole = f"{case}/1.{number}/3.{number}/000000.dcm"
                rows.append((patient, 2, "LEFT", "CC", number, part, word, whole, crop, mask))
            top = root / "csv" if jpeg else root
            table(top / f"{part}_case_description_{split}_set.csv", CBIS_COLUMNS, rows)

    return write


def vindr_spinexr(root: Path) -> None:
    painter = Painter()
    labels = [label.text for label in card_named("vindr-spinexr").labels]
    columns = ("study_id", "series_id", "image_id", "rad_id", "lesion_type", "xmin")
    for split, count in (("train", 24), ("test", 8)):
        rows = []
        for number in range(count):
            image, study = f"{split}{number:03}", f"study-{split}-{number // 2}"
            label = labels[number % 8]
            rows.append((study, "s", image, "rad1", label, 1))
            if label != "No finding":
                rows.append((study, "s", image, "rad1", label, 5))
                rows.append((study, "s", image, "rad2", "Osteophytes", 5))
            painter.dicom(root / f"{split}_images" / f"{image}.dicom")
        table(root / f"annotations/{split}.csv", columns, rows)


def vindr_pcxr(root: Path) -> None:
    painter = Painter()
    labels = [label.text for label in card_named("vindr-pcxr").labels]
    classes = [*labels, "Pleuro-pneumonia", "Lung tumor"]
    for split, count in (("train", 26), ("test", 11)):
        rows = []
        for number in range(count):
            image = f"{split}{number:03}"
            marks = [float(number % 13 == column) for column in range(13)]
            rows.append((image, "R1", *marks))
            painter.dicom(root / split / f"{image}.dicom")
        table(root / f"image_labels_{split}.csv", ("image_id", "rad_ID", *classes), rows)


def vindr_mammo(root: Path) -> None:
    painter = Painter()
    rows = []
    for number in range(60):
        split = "training" if number < 40 else "test"
        study, image = f"study{number // 4}", f"image{number:03}"
        grade = f"BI-RADS {1 + number // 4 % 5}"
        rows.append((study, "s", image, "L", "CC", 24, 20, grade, "DENSITY C", split))
        painter.dicom(root / "images" / study / f"{image}.dicom")
    columns = ("study_id", "series_id", "image_id", "laterality", "view_position", "height")
    columns += ("width", "breast_birads", "breast_density", "split")
    table(root / "breast-level_annotations.csv", columns, rows)


def medfmc(part: str) -> Writer:
    """Return a writer of the repository's lists, the images and the table of the test part."""

    def write(root: Path) -> None:
        painter = Painter()
        texts = [label.text for label in card_named(f"medfmc-{part}").labels]
        marks = texts if part == "chest" else texts[:4]
        for split, name, count in (
            ("train", "trainval.txt", 3 * len(texts)),
            ("test", "test_WithoutLabel.txt", len(texts)),
            ("other", "test_WithLabel.txt", 2),
        ):
            listed, rows = [], []
            for number in range(count):
                year = 2019 if split == "train" else 2020
                file = {
                    "colon": f"{year}-{8000 + number}-1-1_2019-05-28 23_07_27-lv1-5p{number}.png",
                    "endo": f"13333_{year}.12_{number // 2:04}_{split}{number}.png",
                    "chest": f"{split}{number}.png",
                }[part]
                one = [str(int(number % len(texts) == k)) for k in range(len(marks))]
                said = (
                    str(number % 2)
                    if part == "colon"
                    else ("," if part == "chest" else " ").join(one)
                )
                painter.draw(root / "images" / file)
                listed.append(file if split == "test" else f"{file} {said}")
                rows.append((file, "study", *([said] if part == "colon" else one)))
            lines(root / name, listed)
            if split == "test":
                columns = ["tumor"] if part == "colon" else marks
                table(root / f"{part}_val.csv", ("img_id", "study_id", *columns), rows)

    return write


BRSET_FINDINGS = (
    "diabetic_retinopathy",
    "macular_edema",
    "scar",
    "nevus",
    "amd",
    "vascular_occlusion",
    "hypertensive_retinopathy",
    "drusens",
    "hemorrhage",
    "retinal_detachment",
    "myopic_fundus",
    "increased_cup_disc",
    "other",
)


def brset(root: Path) -> None:
    painter = Painter()
    rows = []
    for number in range(280):
        marks = [int(number // 2 % 14 == column) for column in range(13)]
        rows.append((f"img{number:05}", number // 2, "Canon CR", 60, 1, 0, *marks, "Adequate"))
        painter.draw(root / "fundus_photos" / f"img{number:05}.jpg", 12, 12)
    columns = ("image_id", "patient_id", "camera", "patient_age", "patient_sex", "DR_ICDR")
    table(root / "labels.csv", (*columns, *BRSET_FINDINGS, "quality"), rows)


def rsna(root: Path) -> None:
    painter = Painter()
    boxes, classes = [], []
    kinds = ("Lung Opacity", "Normal", "No Lung Opacity / Not Normal")
    for number in range(45):
        patient, kind = f"patient-{number:03}", kinds[number % 3]
        target = int(kind == "Lung Opacity")
        for _ in range(1 + target):
            boxes.append((patient, 1.0, 2.0, 3.0, 4.0, target))
            classes.append((patient, kind))
        painter.dicom(root / "stage_2_train_images" / f"{patient}.dcm")
    columns = ("patientId", "x", "y", "width", "height", "Target")
    table(root / "stage_2_train_labels.csv", columns, boxes)
    table(root / "stage_2_detailed_class_info.csv", ("patientId", "class"), classes)


OCT_CLASSES = ("AMD", "CNV", "CSR", "DME", "DR", "DRUSEN", "MH", "NORMAL")
KAGGLE_DERMNET = [
    next((name for name in label.synonyms), label.text) for label in card_named("dermnet").labels
]
DIAGNOSIS: dict[str, Writer] = {
    **{
        name: medmnist(name)
        for name in (
            *("pneumoniamnist", "breastmnist", "octmnist"),
            *("pathmnist", "organamnist", "chestmnist"),
        )
    },
    "pcam200": class_folders("", {"train": 8, "test": 3}, ("normal", "tumor")),
    "dermnet": class_folders("", {"train": 7, "test": 1}, KAGGLE_DERMNET),
    "retoct-c8": class_folders(
        "RetinalOCT_Dataset/RetinalOCT_Dataset", {"train": 2, "val": 1, "test": 1}, OCT_CLASSES
    ),
    "ham10000": ham10000,
    "bcn20000": bcn20000,
    "derm7pt": derm7pt,
    "cbis-ddsm-calc": cbis_ddsm("calc", jpeg=True),
    "cbis-ddsm-mass": cbis_ddsm("mass", jpeg=False),
    "vindr-spinexr": vindr_spinexr,
    "vindr-pcxr": vindr_pcxr,
    "vindr-mammo": vindr_mammo,
    "medfmc-colon": medfmc("colon"),
    "medfmc-chest": medfmc("chest"),
    "medfmc-endo": medfmc("endo"),
    "brset": brset,
    "rsna-pneumonia": rsna,
}
"""A writer for each diagnosis set."""
