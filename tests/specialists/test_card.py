"""Cards of the shipped backbones, and what an unknown name is told."""

import pytest

from specialists import SpecialistError, backbone_named, backbones

PAPER = {
    "alexnet",
    "clip-vit-b16",
    "densenet121",
    "dino-vit-b16",
    "efficientnet-b4",
    "eva02-vit-b16",
    "resnet18",
    "sam-vit-b16",
    "vgg16",
    "vit-b16",
}


def test_the_ten_backbones_of_the_paper_are_there_and_small_ones() -> None:
    groups = {
        group: {b.name for b in backbones().values() if b.group == group}
        for group in ("paper", "small")
    }
    assert groups["paper"] == PAPER
    small = {"efficientnet-lite0", "mobilenetv3-small", "resnet18-small", "vit-tiny"}
    assert groups["small"] >= small


def test_only_small_backbones_do_without_the_hub() -> None:
    found = {b.group for b in backbones().values() if b.first_weights == "hub"}
    assert found == {"paper"}
    assert all(b.input_size == 224 for b in backbones().values() if b.group == "paper")


@pytest.mark.parametrize("name", sorted(PAPER | {"vit-tiny"}))
def test_pixel_contracts_are_three_numbers_in_range(name: str) -> None:
    found = backbone_named(name)
    assert len(found.mean) == len(found.std) == 3
    assert all(0 < value < 1 for value in (*found.mean, *found.std))


def test_an_unknown_backbone_is_told_the_closest() -> None:
    with pytest.raises(SpecialistError) as caught:
        backbone_named("resnet81")
    text = str(caught.value)
    assert text.startswith("Unknown backbone 'resnet81'. Did you mean 'resnet18'? Available: ")
    assert text.endswith("See `gsco specialists --backbones`.")
