"""The independent embedder sees what an image shows."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from skimage import data

from specialists.embedder import ImageNetEmbedder, independent_embedder
from specialists.images import decode

torch.set_num_threads(1)


def crops(pixels: np.ndarray, n: int = 4) -> list[Image.Image]:
    image = Image.fromarray(pixels).convert("RGB").resize((200, 200))
    return [image.crop((8 * i, 4 * i, 150 + 8 * i, 150 + 4 * i)) for i in range(n)]


def test_rows_are_unit_float32_and_repeatable() -> None:
    embedder = independent_embedder()
    images = crops(data.astronaut())
    rows = embedder.embed(images)
    assert (rows.shape, rows.dtype) == ((4, 320), np.float32)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    assert np.abs(rows[2:3] - embedder.embed(images[2:3])).max() < 1e-4
    assert embedder.embed([]).shape == (0, 320)


def test_images_of_one_kind_lie_closer_than_of_two() -> None:
    kinds = [crops(pixels) for pixels in (data.astronaut(), data.coffee(), data.retina())]
    rows = independent_embedder().embed([image for kind in kinds for image in kind])
    alike = rows @ rows.T
    same = np.kron(np.eye(3), np.ones((4, 4))) > 0
    assert alike[same].min() > alike[~same].max() + 0.1


def test_a_blurred_copy_is_its_originals_nearest() -> None:
    originals = [Image.fromarray(p).convert("RGB") for p in (data.coffee(), data.chelsea())]
    copies = [image.filter(ImageFilter.GaussianBlur(1)) for image in originals]
    alike = independent_embedder().embed(copies) @ independent_embedder().embed(originals).T
    assert alike.argmax(axis=1).tolist() == [0, 1]


def test_the_hash_is_that_of_the_weights() -> None:
    one, other = ImageNetEmbedder(), ImageNetEmbedder()
    assert one.weights_hash == other.weights_hash
    assert len(one.weights_hash) == 64


@pytest.mark.skipif("GSCO_DATA" not in os.environ, reason="GSCO_DATA names no folder of images")
def test_chest_and_skin_images_lie_apart() -> None:
    def some(name: str) -> list[Image.Image]:
        folder = Path(os.environ["GSCO_DATA"]) / name
        with (folder / "manifest.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[:6]
        return [decode(folder / row["file"]) for row in rows]

    rows = independent_embedder().embed(some("cxr_pneumonia") + some("dermoscopy_ham10000"))
    alike = rows @ rows.T
    assert min(alike[:6, :6].min(), alike[6:, 6:].min()) > alike[:6, 6:].max()
