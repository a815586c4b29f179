"""The folders that gsco-tiny learns from, with one drawn image a class and split."""

import csv
import random
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from gsco.generalist.tiny.learning import Plan

CLASSES: Mapping[str, tuple[str, ...]] = {
    "cxr_pneumonia": ("normal", "pneumonia"),
    "busi_breast_us": ("benign", "malignant", "normal"),
    "brain_tumor_mri": ("glioma", "meningioma", "pituitary", "no"),
    "bccd_blood_cells": ("blood_smear",),
    "fundus_chasedb1": ("vessel",),
    "dsb2018_nuclei": ("fluorescence",),
}
PLAN = Plan(
    tower_steps=2,
    looking_steps=4,
    reading_steps=2,
    weighing_steps=2,
    features=0.0,
    batch=2,
    every=2,
    shares=(2, 2, 2, 2, 2),
)


def draw_sets(root: Path) -> Path:
    """Draw all of them below `root`, which is returned."""
    draw = random.Random(0)
    for folder, classes in CLASSES.items():
        (root / folder / "images").mkdir(parents=True)
        rows = [
            {"file": f"images/{split}{i}.png", "split": split, "label": label}
            for split in ("train", "val", "test")
            for i, label in enumerate(classes)
        ]
        for row in rows:
            colour = tuple(draw.randrange(256) for _ in range(3))
            Image.new("RGB", (20, 16), colour).save(root / folder / row["file"])
        with (root / folder / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return root
