"""Grad-CAM shows where a specialist looked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from specialists import (
    Card,
    Classifier,
    Quality,
    SpecialistError,
    backbone_named,
    overlay,
    saliency,
)
from specialists.backbone import build, head_of

torch.set_num_threads(1)

LABELS = ("plain", "patch")


def specialist(name: str, size: int | None = None) -> Classifier:
    torch.manual_seed(0)
    found = backbone_named(name)
    found = replace(found, input_size=size or found.input_size)
    network = build(found, 2, pretrained=found.first_weights == "package")
    nn.init.normal_(head_of(network).weight, std=0.1)
    good = Quality(n=1, accuracy=1, balanced_accuracy=1, auc=None, ece=0)
    card = Card(
        name="drawn",
        task="patches",
        backbone=found,
        labels=LABELS,
        kind="single",
        recipe="default",
        seed=0,
        epochs=1,
        data="drawn",
        data_licence="CC0",
        data_fingerprint="a",
        n_train=1,
        temperature=1.0,
        validation=good,
        weights_sha256="0" * 64,
    )
    return Classifier(card, network)


def patched(place: tuple[int, int] | None, seed: int, size: int = 96) -> Image.Image:
    chance = np.random.default_rng(seed)
    pixels = chance.normal(80, 15, (size, size, 3))
    if place:
        x, y = place
        pixels[y : y + size // 4, x : x + size // 4] += 120
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "name", ["resnet18-small", "mobilenetv3-small", "efficientnet-lite0", "vit-tiny"]
)
@pytest.mark.parametrize("label", LABELS)
def test_a_map_has_the_images_size_and_lies_between_zero_and_one(name: str, label: str) -> None:
    image = patched((10, 20), 0).resize((120, 70))
    heat = saliency(specialist(name), image, label)
    assert (heat.shape, heat.dtype) == ((70, 120), np.float32)
    assert np.isfinite(heat).all()
    assert heat.min() >= 0
    assert heat.max() <= 1


@pytest.mark.parametrize("name", ["efficientnet-lite0", "vit-tiny"])
def test_the_labels_have_different_maps(name: str) -> None:
    model = specialist(name)
    one, other = (saliency(model, patched((10, 20), 0), label) for label in LABELS)
    assert np.abs(one - other).max() > 0.1


def test_a_map_leaves_the_specialist_as_it_was() -> None:
    model = specialist("vit-tiny")
    before = model.predict([patched(None, 0)])
    saliency(model, patched(None, 0), "patch")
    assert model.predict([patched(None, 0)]) == before
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert not any(layer._forward_hooks for layer in model.network.modules())


def test_an_unknown_label_is_named_with_those_it_knows() -> None:
    with pytest.raises(SpecialistError) as caught:
        saliency(specialist("vit-tiny"), patched(None, 0), "nodule")
    assert str(caught.value) == "Specialist 'drawn' cannot say 'nodule'. It knows: plain, patch."


def test_the_map_is_higher_on_the_patch_that_was_learnt() -> None:
    """Only the head learns, on ImageNet features: enough to know a patch."""
    model = specialist("efficientnet-lite0", size=192)
    places = [(8 * (n % 9), 8 * (n // 2 % 9)) for n in range(16)]
    images = [patched(place, n) for n, place in enumerate(places)]
    images += [patched(None, 100 + n) for n in range(16)]
    targets = torch.tensor([1] * 16 + [0] * 16)
    rows = torch.from_numpy(model.embed(images))
    head = head_of(model.network)
    direction = rows[targets == 1].mean(0) - rows[targets == 0].mean(0)
    with torch.no_grad():
        head.weight[1], head.weight[0] = direction, -direction
    inside, outside = [], []
    for n, place in enumerate([(0, 0), (72, 72), (0, 72), (72, 0)]):
        heat = saliency(model, patched(place, 200 + n), "patch")
        x, y = place
        inside.append(heat[y : y + 24, x : x + 24].mean())
        outside.append(heat[36:60, 36:60].mean())
    assert np.mean(inside) > np.mean(outside) + 0.2


def test_an_overlay_colours_where_the_map_is_high_and_nothing_else() -> None:
    image = patched(None, 0, 32)
    heat = np.zeros((32, 32), np.float32)
    heat[:16] = 1
    found = overlay(image, heat)
    before, after = np.asarray(image, float), np.asarray(found, float)
    assert (found.mode, found.size) == ("RGB", (32, 32))
    assert np.array_equal(before[16:], after[16:])
    assert np.abs(before[:16] - after[:16]).mean() > 20
    assert np.abs(np.asarray(overlay(image, heat, 0.0), float) - before).max() == 0
