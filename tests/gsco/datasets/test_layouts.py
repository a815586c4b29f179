"""Diagnosis sets in their published layouts, and what is said of damaged ones."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from layouts import DIAGNOSIS, cbis_ddsm, medmnist
from painting import Painter, lines, table

from gsco.datasets import Dataset
from gsco.datasets.card import LAYOUTS, card_named, data_cards, task_of
from gsco.datasets.known import read_known
from gsco.datasets.layouts import DIAGNOSIS as READERS
from gsco.errors import DataError, UsageError

TRUTH = "ISIC2018_Task3_Test_GroundTruth"
COUNTS = {
    "pneumoniamnist": (6, 2, 2),
    "breastmnist": (6, 2, 2),
    "octmnist": (12, 4, 4),
    "pathmnist": (27, 9, 9),
    "organamnist": (33, 11, 11),
    "chestmnist": (42, 14, 14),
    "pcam200": (14, 2, 6),
    "dermnet": (138, 23, 23),
    "retoct-c8": (16, 8, 8),
    "ham10000": (42, 0, 7),
    "bcn20000": (112, 16, 32),
    "derm7pt": (22, 11, 11),
    "cbis-ddsm-calc": (9, 0, 6),
    "cbis-ddsm-mass": (9, 0, 6),
    "vindr-spinexr": (24, 0, 8),
    "vindr-pcxr": (22, 0, 11),
    "vindr-mammo": (40, 0, 20),
    "medfmc-colon": (6, 0, 2),
    "medfmc-chest": (57, 0, 19),
    "medfmc-endo": (15, 0, 5),
    "brset": (196, 28, 56),
    "rsna-pneumonia": (20, 4, 6),
}


def read(name: str, root: Path) -> Dataset:
    DIAGNOSIS[name](root)
    return read_known(name, root)


def fails(name: str, root: Path) -> str:
    with pytest.raises(DataError) as error:
        read_known(name, root)
    return str(error.value)


def test_every_diagnosis_set_has_a_reader_and_a_layout_that_is_tested() -> None:
    diagnosed = [card for card in data_cards().values() if card.task]
    assert {card.name for card in diagnosed} == DIAGNOSIS.keys() == COUNTS.keys()
    assert {card.layout for card in diagnosed} == READERS.keys()
    assert READERS.keys() <= set(LAYOUTS)


@pytest.mark.parametrize("name", COUNTS)
def test_a_published_layout_becomes_records_with_the_labels_of_the_card(
    name: str, tmp_path: Path
) -> None:
    dataset = read(name, tmp_path)
    splits = Counter(record.split for record in dataset.records)
    assert (splits["train"], splits["val"], splits["test"]) == COUNTS[name]
    labels = {label for record in dataset.records for label in record.labels}
    assert labels == set(task_of(card_named(name)).texts)
    assert dataset.licence == card_named(name).licence
    image = dataset.split("test")[0].open()
    assert image.mode == "RGB"
    assert not {r.patient for r in dataset.split("train") if r.patient} & {
        r.patient for r in dataset.split("test")
    }


@pytest.mark.parametrize("name", COUNTS)
def test_an_empty_folder_says_what_is_missing_and_where_to_get_it(
    name: str, tmp_path: Path
) -> None:
    message = fails(name, tmp_path)
    card = card_named(name)
    assert "has no " in message
    assert card.url in message
    assert card.place[0] in message


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "There is no folder 'gone'" in fails("brset", tmp_path / "gone")


def test_a_file_where_a_folder_belongs_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("")
    for name in ("brset", "dermnet"):
        assert "'labels.csv' is a file. Give the folder" in fails(name, tmp_path / "labels.csv")


def test_a_folder_beside_those_of_the_splits_is_named(tmp_path: Path) -> None:
    DIAGNOSIS["pcam200"](tmp_path)
    (tmp_path / "masks").mkdir()
    assert "holds 'masks' beside the folders of the splits" in fails("pcam200", tmp_path)


def test_a_set_of_questions_is_no_diagnosis_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'slake' is of kind 'vqa' and has no labels"):
        read_known("slake", tmp_path)


@pytest.mark.parametrize("size", [28, 64, 128, 224])
def test_medmnist_is_read_in_every_size(size: int, tmp_path: Path) -> None:
    medmnist("breastmnist", size=size)(tmp_path)
    assert read_known("breastmnist", tmp_path).records[0].open().size == (size, size)


def test_two_sizes_in_a_folder_must_be_chosen_from(tmp_path: Path) -> None:
    medmnist("breastmnist")(tmp_path)
    medmnist("breastmnist", size=64)(tmp_path)
    assert "several sizes: breastmnist.npz, breastmnist_64.npz" in fails("breastmnist", tmp_path)
    assert read_known("breastmnist", tmp_path / "breastmnist_64.npz").records


def test_an_archive_of_another_size_than_its_name_is_refused(tmp_path: Path) -> None:
    medmnist("breastmnist")(tmp_path)
    (tmp_path / "breastmnist.npz").rename(tmp_path / "breastmnist_224.npz")
    message = fails("breastmnist", tmp_path)
    assert "should hold images of 224 pixels a side, and holds some of 28" in message


def test_lesions_of_ham10000_stand_for_patients_and_the_challenge_is_the_test_part(
    tmp_path: Path,
) -> None:
    dataset = read("ham10000", tmp_path)
    assert {r.patient for r in dataset.split("train")} == {f"HAM_{n:07}" for n in range(21)}
    assert dataset.split("test")[0].id == "ISIC2018_Task3_Test_Input/ISIC_0009000.jpg"
    assert dataset.split("test")[0].label == "melanoma"


def test_dataverse_names_its_table_otherwise_and_the_diagnosis_of_test_lesions(
    tmp_path: Path,
) -> None:
    DIAGNOSIS["ham10000"](tmp_path)
    (tmp_path / "HAM10000_metadata.csv").rename(tmp_path / "HAM10000_metadata")
    images = sorted(f.stem for f in (tmp_path / "ISIC2018_Task3_Test_Input").iterdir())
    rows = [("HAM_0000000", images[0], "nv"), ("HAM_0000900", images[1], "df")]
    columns = ("lesion_id", "image_id", "dx")
    table(tmp_path / "ISIC2018_Task3_Test_GroundTruth.csv", columns, rows)
    dataset = read_known("ham10000", tmp_path)
    assert [r.label for r in dataset.split("test")] == ["melanocytic nevi", "dermatofibroma"]
    # The lesion of the first test image has two more images in training.
    assert len(dataset.split("train")) == 40
    assert dataset.notes[0].startswith("Cases were dropped (2 from train): their patient or image")


def test_ham10000_without_its_test_part_says_so(tmp_path: Path) -> None:
    DIAGNOSIS["ham10000"](tmp_path)
    (tmp_path / "ISIC2018_Task3_Test_GroundTruth.csv").unlink()
    message = fails("ham10000", tmp_path)
    assert "The test part is not there" in message
    assert "'ISIC2018_Task3_Test_GroundTruth.csv'" in message


def test_derm7pt_merges_every_nevus_and_every_melanoma(tmp_path: Path) -> None:
    dataset = read("derm7pt", tmp_path)
    assert [r.label for r in dataset.split("train")[:5]] == [
        *("nevus", "nevus", "miscellaneous", "melanoma", "melanoma")
    ]
    assert dataset.split("val")[0].patient == "case-22"
    assert all("/D" in record.id for record in dataset.records)


def test_an_index_beyond_the_table_of_derm7pt_is_named(tmp_path: Path) -> None:
    DIAGNOSIS["derm7pt"](tmp_path)
    table(tmp_path / "meta/test_indexes.csv", ("indexes",), [(33,), (44,)])
    assert "'test_indexes.csv' line 3: '44' is no row of 'meta.csv', which has 44" in fails(
        "derm7pt", tmp_path
    )


@pytest.mark.parametrize("jpeg", [True, False])
def test_the_crop_of_cbis_ddsm_is_found_where_the_tables_swap_it(
    jpeg: bool, tmp_path: Path
) -> None:
    cbis_ddsm("mass", jpeg=jpeg)(tmp_path)
    dataset = read_known("cbis-ddsm-mass", tmp_path)
    assert {record.open().size for record in dataset.records} == {(16, 16)}
    labels = [r.label for r in dataset.split("test")]
    assert labels == ["benign", "malignant", "benign"] * 2
    assert {r.patient for r in dataset.split("test")} == {"P_00100", "P_00101"}


def test_lesion_types_of_a_spine_are_the_union_over_boxes_and_readers(tmp_path: Path) -> None:
    labels = [r.label for r in read("vindr-spinexr", tmp_path).split("test")]
    assert labels[:4] == [
        ("No finding",),
        ("Foraminal stenosis", "Osteophytes"),
        ("Vertebral collapse", "Osteophytes"),
        ("Osteophytes",),
    ]


def test_classes_that_the_card_of_pcxr_lacks_are_left_out_with_a_note(tmp_path: Path) -> None:
    notes = read("vindr-pcxr", tmp_path).notes
    assert notes[0] == (
        "4 images of train were left out: they have none of the labels but "
        "Pleuro-pneumonia, Lung tumor."
    )


def test_unlabelled_lists_of_medfmc_get_their_labels_from_the_table(tmp_path: Path) -> None:
    dataset = read("medfmc-endo", tmp_path)
    assert [r.label for r in dataset.split("test")] == [
        ("ulcer",),
        ("erosion",),
        ("polyp",),
        ("tumor",),
        ("normal",),
    ]
    assert dataset.split("train")[0].patient == "13333_2019.12_0000"
    (tmp_path / "endo_val.csv").unlink()
    message = fails("medfmc-endo", tmp_path)
    assert "test_WithoutLabel.txt line 1: '13333_2020.12_0000_test0' has no label" in message
    assert "add 'endo_val.csv'" in message


def test_file_names_of_medfmc_may_hold_blanks(tmp_path: Path) -> None:
    dataset = read("medfmc-colon", tmp_path)
    assert dataset.split("train")[1].label == "positive"
    assert dataset.split("train")[1].patient == "2019-8001"


def test_a_date_in_a_file_name_of_medfmc_is_no_patient(tmp_path: Path) -> None:
    DIAGNOSIS["medfmc-colon"](tmp_path)
    name = "2019-06-11 01_00_50-lv1-1956-12720-11095-7901p0079.png"
    Painter(98).draw(tmp_path / "images" / name)
    listed = (tmp_path / "trainval.txt").read_text().splitlines()
    lines(tmp_path / "trainval.txt", [*listed, f"{name} 1"])
    dated = read_known("medfmc-colon", tmp_path).split("train")[-1]
    assert (dated.label, dated.patient) == ("positive", None)


def test_the_challenge_keeps_the_images_of_medfmc_in_two_folders(tmp_path: Path) -> None:
    for part in ("endo", "colon"):
        DIAGNOSIS[f"medfmc-{part}"](tmp_path / "lists" / part)
        images = tmp_path / "lists" / part / "images"
        for use, word in (("train", "2019"), ("val", "2020")):
            place = tmp_path / f"MedFMC_{use}" / part / "image"
            place.mkdir(parents=True)
            for file in [f for f in images.iterdir() if word in f.name]:
                file.rename(place / file.name)
    for part, count in (("endo", 5), ("colon", 2)):
        dataset = read_known(f"medfmc-{part}", tmp_path)
        assert len(dataset.split("test")) == count


def test_images_of_rsna_that_are_neither_normal_nor_pneumonia_are_left_out(
    tmp_path: Path,
) -> None:
    dataset = read("rsna-pneumonia", tmp_path)
    assert dataset.notes[0] == "15 images were left out: they are neither normal nor pneumonia."
    assert len({record.patient for record in dataset.records}) == 30


def test_a_missing_image_is_named_with_its_line(tmp_path: Path) -> None:
    DIAGNOSIS["brset"](tmp_path)
    (tmp_path / "fundus_photos/img00003.jpg").unlink()
    message = fails("brset", tmp_path)
    assert "labels.csv line 5: there is no image 'img00003'" in message
    assert "`gsco data check brset FOLDER`" in message


def test_an_image_that_stands_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    DIAGNOSIS["bcn20000"](tmp_path)
    file = tmp_path / "bcn_20k_train.csv"
    file.write_text(file.read_text() + file.read_text().splitlines()[1] + "\n")
    assert (
        "bcn_20k_train.csv line 162: image 'BCN_0000000000' stands on "
        "bcn_20k_train.csv line 2 already" in fails("bcn20000", tmp_path)
    )


def test_a_label_outside_the_card_is_named(tmp_path: Path) -> None:
    DIAGNOSIS["vindr-mammo"](tmp_path)
    file = tmp_path / "breast-level_annotations.csv"
    file.write_text(file.read_text().replace("BI-RADS 3", "BI-RADS 6", 1))
    message = fails("vindr-mammo", tmp_path)
    assert "label 'BI-RADS 6' is not in card 'vindr-mammo'" in message


def test_another_encoding_names_the_file_and_the_line(tmp_path: Path) -> None:
    DIAGNOSIS["derm7pt"](tmp_path)
    file = tmp_path / "meta/meta.csv"
    file.write_bytes(file.read_bytes().replace(b"lentigo", "lentigo für".encode("cp1252"), 1))
    assert "'meta.csv' is not UTF-8: line 8 " in fails("derm7pt", tmp_path)


def test_a_table_without_its_column_lists_those_that_are_there(tmp_path: Path) -> None:
    DIAGNOSIS["brset"](tmp_path)
    table(tmp_path / "labels.csv", ("image", "patient_id"), [])
    message = fails("brset", tmp_path)
    assert "'labels.csv' has no column 'image_id'; its columns are 'image', 'patient_id'" in message


def test_a_training_image_that_is_a_test_image_is_dropped_with_a_note(tmp_path: Path) -> None:
    DIAGNOSIS["pcam200"](tmp_path)
    content = (tmp_path / "test/tumor/test-0.jpg").read_bytes()
    (tmp_path / "train/tumor/train-0.jpg").write_bytes(content)
    dataset = read_known("pcam200", tmp_path)
    assert len(dataset.split("test")) == 6
    assert any("Cases were dropped (1 from train)" in note for note in dataset.notes)


@pytest.mark.parametrize("jpeg", [True, False])
def test_a_damaged_crop_is_named(jpeg: bool, tmp_path: Path) -> None:
    cbis_ddsm("mass", jpeg=jpeg)(tmp_path)
    file = next(tmp_path.rglob("1-001.jpg" if jpeg else "000000.dcm"))
    for content in (b"nothing", file.read_bytes()[:150]):
        file.write_bytes(content)
        assert f"{file.name!r} of {file.parent.name!r} is damaged" in fails(
            "cbis-ddsm-mass", tmp_path
        )


def test_a_line_of_medfmc_with_too_few_numbers_is_a_line_without_label(tmp_path: Path) -> None:
    DIAGNOSIS["medfmc-endo"](tmp_path)
    Painter(99).draw(tmp_path / "images/short.png")
    listed = (tmp_path / "trainval.txt").read_text().splitlines()
    lines(tmp_path / "trainval.txt", [*listed, "short.png 1 0"])
    assert "trainval.txt line 16: 'short' has no label" in fails("medfmc-endo", tmp_path)


def test_the_real_archives_have_the_counts_of_their_cards(data_root: Path) -> None:
    for name in ("pneumoniamnist", "breastmnist"):
        dataset = read_known(name, data_root / name)
        counts = Counter(record.split for record in dataset.records)
        card = card_named(name)
        assert (counts["val"], counts["test"]) == (card.splits["val"], card.splits["test"])


def test_real_dermoscopy_is_read_in_the_layout_of_kaggle(data_root: Path, tmp_path: Path) -> None:
    source = data_root / "dermoscopy_ham10000"
    with (source / "manifest.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    for name, is_test in (("HAM10000_metadata", False), (TRUTH, True)):
        rows = [row for row in found if (row["split"] == "test") == is_test]
        cells = [(row["patient_id"], Path(row["file"]).stem, row["label"]) for row in rows]
        table(tmp_path / f"{name}.csv", ("lesion_id", "image_id", "dx"), cells)
    (tmp_path / "HAM10000_images_part_1").symlink_to(source / "images")
    (tmp_path / "ISIC2018_Task3_Test_Images").symlink_to(source / "images")
    dataset = read_known("ham10000", tmp_path)
    counts = Counter(record.split for record in dataset.records)
    assert (counts["train"] + counts["val"], counts["test"]) == (998, 316)
    assert dataset.records[0].open().size == (224, 224)
