"""Licences: what lets an image be shown, and what does not."""

from pathlib import Path

import pytest

from gsco.datasets.card import data_cards
from gsco.datasets.licence import credit_of, licence_of, open_licence

COMMONS = "https://creativecommons.org"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("CC0 1.0", f"{COMMONS}/publicdomain/zero/1.0/"),
        ("cc0-1.0", f"{COMMONS}/publicdomain/zero/1.0/"),
        ("CC BY 4.0 (stated by MedMNIST)", f"{COMMONS}/licenses/by/4.0/"),
        ("CC BY 3.0", f"{COMMONS}/licenses/by/3.0/"),
        ("CC-BY-SA-4.0", f"{COMMONS}/licenses/by-sa/4.0/"),
        ("CC BY-SA", f"{COMMONS}/licenses/"),
        ("MIT (LICENSE file, Copyright (c) 2017 A)", "https://opensource.org/license/mit"),
        ("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    ],
)
def test_open_licences_are_known_with_their_address(text: str, address: str) -> None:
    assert open_licence(text) == address


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "unknown (the CAMELYON slides under it are CC0)",
        "CC BY-NC 4.0",
        "CC BY NC 4.0",
        "CC BY-ND 4.0",
        "CC BY-NC-SA 4.0",
        "CC BY 4.0 (uncertain)",
        "CC BY 4.0, for non-commercial use",
        "CC0 for annotations",
        "MIT (the code)",
        "GPL-3.0 (LICENSE file)",
        "repository states none; the original data set states CC BY 4.0",
        "PhysioNet credentialed licence",
        "mixed, by source",
        "Mitre",
    ],
)
def test_all_others_do_not_let_images_be_shown(text: str | None) -> None:
    assert open_licence(text) is None


def test_of_the_published_sets_only_open_ones_are_shown() -> None:
    shown = {name: card for name, card in data_cards().items() if open_licence(card.licence)}
    assert {card.tier for card in shown.values()} == {"open"}
    assert {"breastmnist", "cbis-ddsm-mass", "vqa-rad"} <= shown.keys()
    assert not {"ham10000", "bcn20000", "iu-xray", "pcam200", "derm7pt", "brset"} & shown.keys()


def test_a_folder_says_licence_and_source(tmp_path: Path) -> None:
    assert (licence_of(tmp_path), credit_of(tmp_path)) == (None, None)
    text = "# Lungs\n- Repository: x\n- **Original**: A. Author, 2020\n- Licence: **CC BY 4.0**\n"
    (tmp_path / "SOURCE.md").write_text(text)
    assert (licence_of(tmp_path), credit_of(tmp_path)) == ("CC BY 4.0", "A. Author, 2020")


def test_real_folders_with_a_doubt_are_not_shown(real_data: Path) -> None:
    shown = {place.name for place in real_data.iterdir() if open_licence(licence_of(place))}
    assert {"breastmnist", "chula_rbc12", "bccd_blood_cells"} <= shown
    assert not {"dermoscopy_ham10000", "wbc_seg", "busi_breast_us", "brain_tumor_mri"} & shown
