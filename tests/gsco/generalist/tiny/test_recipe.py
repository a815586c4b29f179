import csv
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image

from gsco.errors import DataError
from gsco.generalist.embedded import EmbeddedGeneralist
from gsco.generalist.tiny import recipe
from gsco.generalist.tiny.data import SOURCES, Pictures, load_pictures, tasks
from gsco.generalist.tiny.recipe import Plan, train
from gsco.generalist.tiny.samples import READING, Mix, draw_sample, encode, made_up_task
from gsco.prompts import build_prompt
from gsco.task import validate
from specialists import SpecialistError

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
    whole_steps=4,
    reading_steps=2,
    weighing_steps=2,
    batch=2,
    every=2,
    shares=(2, 2, 2, 2, 2),
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
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


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(
    data: Path, tmp_path: Path
) -> None:
    whole = EmbeddedGeneralist(train(data, tmp_path / "a", PLAN))

    class Killed(Exception):
        pass

    def kill(line: str) -> None:
        if line.startswith("whole 2/"):
            raise Killed

    with pytest.raises(Killed):
        train(data, tmp_path / "b", PLAN, kill)
    lines: list[str] = []
    again = EmbeddedGeneralist(train(data, tmp_path / "b", PLAN, lines.append))
    stages = ["whole 4/4", "reading 2/2", "weighing 2/2"]
    assert [line.split(" loss")[0] for line in lines] == stages
    image = Image.new("RGB", (20, 20), "red")
    asked = [build_prompt(task, images=[image], answer_form="label") for task in tasks()]
    for one, other in zip(whole.read(asked), again.read(asked), strict=True):
        assert one.probabilities == pytest.approx(dict(other.probabilities), abs=1e-5)


def test_only_rows_of_the_split_are_opened(data: Path) -> None:
    for path in data.glob("*/images/*.png"):
        if not path.name.startswith("train"):
            path.unlink()
    pictures = load_pictures(data, "train", 16)
    assert pictures.pixels.shape == (12, 3, 16, 16)
    with pytest.raises(SpecialistError, match=r"Cannot read image 'val0\.png'"):
        load_pictures(data, "val", 16)


def test_a_missing_folder_is_named_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.csv.*as --data"):
        load_pictures(tmp_path, "train", 16)


def test_no_set_that_forbids_shipping_weights_is_used() -> None:
    used = {source.folder for sources in SOURCES.values() for source in sources}
    assert used == set(CLASSES)


def test_every_label_of_every_task_has_pictures(data: Path) -> None:
    pictures = load_pictures(data, "train", 16)
    for examples in pictures.tasks:
        assert set(examples.targets.tolist()) == set(range(len(examples.task.texts)))


def test_the_loss_looks_at_the_answer_alone(data: Path) -> None:
    pictures = load_pictures(data, "train", 16)
    tokenizer = recipe.make_tokenizer(pictures, 0)
    draw = random.Random(1)
    (batch, *_) = recipe.batches(pictures, tokenizer, 4, 4, draw)
    said = [tokenizer.decode(row[row != -100]) for row in batch.targets]
    assert all(text.endswith("<|end|>") for text in said)
    answers = {text for task in recipe_tasks(pictures) for text in task} | {"yes", "no"}
    assert {text.removesuffix("<|end|>") for text in said} <= answers
    asked, _ = encode(draw_sample(pictures, draw), tokenizer, 4)
    assert asked.count(tokenizer.convert_tokens_to_ids("<image>")) == 4


def recipe_tasks(pictures: Pictures) -> list[tuple[str, ...]]:
    from gsco.task import builtin_tasks

    own = [examples.task.texts for examples in pictures.tasks]
    return own + [task.texts for task in builtin_tasks().values()]


def test_labels_of_made_up_tasks_have_to_be_read() -> None:
    draw = random.Random(0)
    drawn = [made_up_task(draw) for _ in range(50)]
    for task in drawn:
        validate(task)
        assert 2 <= len(task.texts) <= 5
    assert len({task.texts for task in drawn}) == 50


def test_the_reading_stage_asks_of_made_up_tasks_with_evidence(data: Path) -> None:
    pictures = load_pictures(data, "train", 16)
    draw = random.Random(0)
    samples = [draw_sample(pictures, draw, READING) for _ in range(400)]
    known = {text for task in recipe_tasks(pictures) for text in task} | {"yes", "no"}
    made_up = [s for s in samples if not set(s.prompt.options) <= known]
    assert 0.3 < len(made_up) / len(samples) < 0.5
    assert sum(bool(s.prompt.evidence) for s in made_up) > 0.8 * len(made_up)


def test_the_weighing_stage_shows_pictures_of_another_label_beside_evidence(data: Path) -> None:
    pictures = load_pictures(data, "train", 16)
    by_task = {examples.task.texts: examples for examples in pictures.tasks}
    draw = random.Random(0)
    wrong: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(1500):
        sample = draw_sample(pictures, draw, Mix(0.0, 0.0, 0.0, swapped=0.3))
        options = sample.prompt.options
        examples = next(e for texts, e in by_task.items() if set(texts) == set(options))
        if sample.answer in options:
            place = (examples.rows == sample.row).nonzero()[0, 0]
            shown = examples.task.texts[int(examples.targets[place])]
            wrong[bool(sample.prompt.evidence)].append(shown != sample.answer)
    assert 0.22 < sum(wrong[True]) / len(wrong[True]) < 0.38
    assert not any(wrong[False])


def test_fog_leaves_most_images_as_they_are_and_blurs_the_rest() -> None:
    pixels = torch.rand(200, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    found = recipe.fogged(pixels, torch.Generator().manual_seed(1))
    changed = (found != pixels).flatten(1).any(1)
    assert 0.15 < changed.float().mean() < 0.35
    assert found[changed].std() < 0.5 * pixels[changed].std()
    assert float(found.mean()) == pytest.approx(float(pixels.mean()), rel=0.02)


def test_every_probability_is_one_token(data: Path) -> None:
    tokenizer = recipe.make_tokenizer(load_pictures(data, "train", 16), 0)
    assert all(len(tokenizer(f" {i / 100:.2f}").input_ids) == 1 for i in range(101))
