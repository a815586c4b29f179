"""Proposing a task: by likeness to its cases, and never a stranger's."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gsco.agent import GSCo
from gsco.datasets import read_dataset
from gsco.propose import propose


@pytest.fixture(scope="module")
def starter() -> GSCo:
    return GSCo.open()


def test_noise_is_no_task_s(starter: GSCo) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = propose(starter, Image.fromarray(noise))
    assert {one.task for one in found} == set(starter.tasks)
    assert not any(one.is_familiar for one in found)


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("pneumonia-cxr", "cxr_pneumonia"),
        ("breast-ultrasound", "busi_breast_us"),
        ("brain-mri", "brain_tumor_mri"),
    ],
)
def test_test_images_of_a_task_are_proposed_to_it(starter: GSCo, task: str, folder: str) -> None:
    data = os.environ.get("GSCO_DATA")
    if not data:
        pytest.skip("GSCO_DATA is not set: no real images")
    records = read_dataset(Path(data) / folder, starter.tasks[task]).split("test")[::40]
    first = [propose(starter, record.open())[0].task for record in records]
    assert first.count(task) >= 0.8 * len(first)
