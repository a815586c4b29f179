import csv
import random
import re
import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from tiny_sets import CLASSES, PLAN, draw_sets

from gsco.errors import DataError
from gsco.generalist.embedded import EmbeddedGeneralist
from gsco.generalist.seen import DIGITS, seen_in
from gsco.generalist.tiny import FOLDER, architecture, recipe
from gsco.generalist.tiny import data as drawn_data
from gsco.generalist.tiny.data import (
    SOURCES,
    Examples,
    Pictures,
    doubts_of,
    load_pictures,
    tasks,
)
from gsco.generalist.tiny.recipe import HALF, Stage, train
from gsco.generalist.tiny.samples import LOOKING, READING, Mix, draw_sample, encode, made_up_task
from gsco.prompts import build_prompt
from gsco.task import validate
from retrieval import Entry, fingerprint, overlaps
from specialists import SpecialistError
from specialists.images import decode, normalise

WEIGHED = [f"weighing-{number} 2/2" for number in (1, 2, 3)]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_sets(tmp_path / "data")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the model a quarter as wide: what is tested does not hang on it, and steps are quick."""
    monkeypatch.setattr(architecture, "WIDTH", 48)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("reading 2/2", ["tower 2/2", "looking 2/4", "looking 4/4", *WEIGHED]),
        ("looking 2/4", ["looking 4/4", *WEIGHED]),
        ("weighing-2 2/2", ["weighing-3 2/2"]),
    ],
)
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(
    data: Path, tmp_path: Path, moment: str, left: list[str]
) -> None:
    whole = EmbeddedGeneralist(train(data, tmp_path / "a", PLAN, device="cpu"))

    class Killed(Exception):
        pass

    def kill(line: str) -> None:
        if line.startswith(moment):
            raise Killed

    with pytest.raises(Killed):
        train(data, tmp_path / "b", PLAN, kill, device="cpu")
    # Another process has drawn other numbers before.
    torch.rand(3)
    lines: list[str] = []
    again = EmbeddedGeneralist(train(data, tmp_path / "b", PLAN, lines.append, device="cpu"))
    assert [line.split(" loss")[0] for line in lines] == left
    image = Image.new("RGB", (20, 20), "red")
    asked = [build_prompt(task, images=[image], answer_form="label") for task in tasks()]
    for one, other in zip(whole.read(asked), again.read(asked), strict=True):
        assert one.probabilities == pytest.approx(dict(other.probabilities), abs=1e-5)


@pytest.mark.usefixtures("narrow")
def test_a_checkpoint_of_another_plan_is_left_aside(data: Path, tmp_path: Path) -> None:
    pictures = load_pictures(data, "train", 64)
    lines: list[str] = []
    for plan in (PLAN, PLAN, replace(PLAN, every=1, workers=1), replace(PLAN, seed=1)):
        lines.append(f"seed {plan.seed}")
        recipe.train_tower(pictures, tmp_path, plan, lines.append)
    assert [line.split(" loss")[0] for line in lines] == [
        "seed 0",
        "tower 2/2",
        "seed 0",
        "seed 0",
        "seed 1",
        "tower 2/2",
    ]


@pytest.mark.usefixtures("narrow")
def test_a_checkpoint_of_other_images_is_left_aside(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path, PLAN, device="cpu")
    manifest = next(data.glob("*/manifest.csv"))
    row = next(line for line in manifest.read_text().splitlines() if ",train" in line)
    file = manifest.parent / row.split(",")[0]
    ImageOps.invert(Image.open(file)).save(file)
    lines: list[str] = []
    folder = train(data, tmp_path, PLAN, lines.append, device="cpu")
    steps = [line.split(" loss")[0] for line in lines]
    assert ["reading 2/2", "tower 2/2", "looking 2/4", "looking 4/4", *WEIGHED] == steps[-7:]
    assert len(seen_in(folder)) == len(set(load_pictures(data, "train", 16).content))


def test_validation_opens_no_other_images(data: Path) -> None:
    for path in data.glob("*/images/*.png"):
        if not path.name.startswith("val"):
            path.unlink()
    assert load_pictures(data, "val", 16).pixels.shape == (12, 3, 16, 16)
    with pytest.raises(SpecialistError, match=r"Cannot read image 'train0\.png'"):
        load_pictures(data, "train", 16)


@pytest.mark.parametrize("split", ["val", "test"])
def test_training_leaves_out_what_looks_like_a_held_out_image(
    data: Path, tmp_path: Path, split: str
) -> None:
    folder = data / "busi_breast_us"
    grain = Image.effect_noise((64, 48), 80)
    for name, image in (("copy", grain), (split, ImageEnhance.Brightness(grain).enhance(1.1))):
        image.save(folder / "images" / f"{name}.png")
    with (folder / "manifest.csv").open("a", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["images/copy.png", "train", "benign"])
        writer.writerow([f"images/{split}.png", split, "malignant"])
    before = load_pictures(data, "train", 16)
    assert fingerprint(grain.convert("RGB")).content_hash not in before.content
    assert len(before.content) == len(before.pixels) == 12
    assert before.left_out == 1
    (folder / "images" / f"{split}.png").unlink()
    Image.effect_noise((64, 48), 80).save(folder / "images" / f"{split}.png")
    after = load_pictures(data, "train", 16)
    assert fingerprint(grain.convert("RGB")).content_hash in after.content
    assert len(after.content) == len(after.pixels) == 13


def test_nothing_that_gsco_tiny_learns_looks_like_a_held_out_image(data_root: Path) -> None:
    kept = set(load_pictures(data_root, "train", 8).content)
    learnt, held_out = [], []
    for folder in CLASSES:
        with (data_root / folder / "manifest.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                prints = fingerprint(decode(data_root / folder / row["file"]))
                named = Entry("", (), row["patient_id"] and f"{folder} {row['patient_id']}")
                entry = replace(named, id=row["file"], **asdict(prints))
                if row["split"] != "train":
                    held_out.append(entry)
                elif prints.content_hash in kept:
                    learnt.append(entry)
    assert len(learnt) > 3000
    assert not overlaps(learnt, held_out)
    assert seen_in(FOLDER) == {content[:DIGITS] for content in kept}


def test_what_looks_like_a_fresh_picture_is_fresh_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn_data, "_is_drawn", lambda patient: patient == "first")
    # One bit more differs from each to the next than makes a near-duplicate of the one before last.
    bits = [(1 << shift) - 1 for shift in (0, 30, 60, 200)]
    names = ("first", "like it", "like that", "other")
    entries = [
        Entry(name, (), perceptual_hash=f"{value:064x}")
        for name, value in zip(names, bits, strict=True)
    ]
    assert drawn_data._fresh(entries) == {"first", "like it", "like that"}


def test_a_class_whose_images_are_all_held_out_is_named(data: Path) -> None:
    folder = data / "busi_breast_us" / "images"
    number = CLASSES["busi_breast_us"].index("benign")
    shutil.copy(folder / f"test{number}.png", folder / f"train{number}.png")
    with pytest.raises(DataError, match=r"No training image of 'benign'.*Add some"):
        load_pictures(data, "train", 16)


def test_an_image_that_looks_like_another_label_is_doubted_in_its_direction() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(90) % 3
    features = (np.eye(3)[targets] + rng.normal(0, 0.3, (90, 3))).astype(np.float32)
    # It is of label 0, and all who look at it see label 2.
    features[0] = np.eye(3)[2]
    people = [str(number) for number in range(90)]
    doubts = doubts_of(features, targets, people, 3)
    assert doubts is not None
    assert doubts[0].argmax() == 2
    assert doubts[0, 2] - doubts[0, 0] > 3
    assert doubts.std(0, correction=0).tolist() == pytest.approx([(2 / 3) ** 0.5] * 3)
    for label in range(3):
        assert doubts[targets == label].mean(0).tolist() == pytest.approx([0] * 3, abs=1e-5)
    assert doubts_of(features[:40], targets[:40], people[:40], 3) is None


def test_an_image_is_not_what_its_own_doubts_were_fitted_to() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 50)).astype(np.float32)
    targets = np.arange(60) % 2
    alone = doubts_of(features, targets, [str(number) for number in range(60)], 2)
    # Twins of one person: fitted to one, a reading knows the other by heart.
    doubled = [*features, *features], [*targets, *targets]
    twins = doubts_of(
        np.stack(doubled[0]), np.array(doubled[1]), [str(number % 60) for number in range(120)], 2
    )
    assert alone is not None
    assert twins is not None
    assert torch.allclose(twins[:60], twins[60:], atol=1e-4)


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


def test_the_loss_looks_where_the_answers_part(data: Path) -> None:
    pictures = load_pictures(data, "train", 16)
    tokenizer = recipe.make_tokenizer(pictures, 0)
    draw = random.Random(1)
    (batch, *_) = recipe.batches(pictures, tokenizer, 4, 4, draw)
    assert batch.wanted.sum(1).tolist() == pytest.approx([1.0] * len(batch.wanted))
    assert len(batch.wanted) == int(batch.parts.sum()) >= 4
    places = batch.parts.nonzero().tolist()
    for (row, place), wanted in zip(places, batch.wanted, strict=True):
        shown = tokenizer.decode(batch.tokens[row, : place + 1])
        begun = shown.rsplit("<|assistant|>", 1)[1]
        following = [tokenizer.decode([t]) for t in wanted.nonzero()[:, 0].tolist()]
        assert len(following) > 1
        for text in following:
            end = text == "<|end|>"
            said = begun + ("" if end else text)
            assert "yes".startswith(said) or "no".startswith(said) or f'"{said}' in shown
    asked = encode(draw_sample(pictures, draw).prompt, tokenizer, 4)
    assert asked.count(tokenizer.convert_tokens_to_ids("<image>")) == 4


def test_labels_of_made_up_tasks_have_to_be_read() -> None:
    draw = random.Random(0)
    drawn = [made_up_task(draw) for _ in range(50)]
    for task in drawn:
        validate(task)
        assert 2 <= len(task.texts) <= 8
    assert len({task.texts for task in drawn}) == 50


def test_some_labels_of_made_up_tasks_are_as_long_as_the_longest_real_ones() -> None:
    draw = random.Random(0)
    texts = [text for _ in range(200) for text in made_up_task(draw).texts]
    words = [len(re.findall(r"[^\s/-]+", text)) for text in texts]
    assert 1 in words
    assert 0.1 < sum(count >= 4 for count in words) / len(words) < 0.4
    assert any("-" in text for text in texts)


def test_labels_of_made_up_tasks_begin_with_every_token_in_time() -> None:
    draw = random.Random(0)
    pieces = ("qwx", "zzv", "kkj")
    texts = [text for _ in range(100) for text in made_up_task(draw, pieces).texts]
    assert all(any(text.startswith(piece) for text in texts) for piece in pieces)


def test_where_the_picture_cannot_tell_the_evidence_says_what_to_answer(data: Path) -> None:
    pictures = load_pictures(data, "train", 16)
    draw = random.Random(0)
    samples = [draw_sample(pictures, draw, READING) for _ in range(300)]
    known = {text for examples in pictures.tasks for text in examples.task.texts}
    made_up = [s for s in samples if not set(s.prompt.options) <= known]
    assert 0.6 < len(made_up) / len(samples) < 0.8
    assert all(sum(s.chances.values()) == pytest.approx(1) for s in samples)
    unsure = [s for s in samples if s.prompt.evidence and 0.01 < s.chances[s.answer] < 0.99]
    assert len(unsure) > 50


def test_evidence_stands_beside_pictures_that_no_earlier_stage_has_seen(data: Path) -> None:
    pictures = load_pictures(data, "train", 16)
    tasks = []
    for examples in pictures.tasks:
        rows = examples.rows.repeat(2)
        fresh = torch.arange(len(rows)) < len(examples.rows)
        # The fresh pictures get numbers of their own.
        tasks.append(Examples(examples.task, rows + 100 * fresh, examples.targets.repeat(2), fresh))
    doubled = Pictures(pictures.pixels, tuple(tasks), pictures.content, 0)
    draw = random.Random(0)
    for mix in (Mix(0, 0, weighs=False), Mix(0, 0, weighs=True)):
        samples = [draw_sample(doubled, draw, mix) for _ in range(200)]
        assert all((s.row >= 100) == bool(s.prompt.evidence) for s in samples)
        assert any(s.prompt.evidence for s in samples) == mix.weighs


def test_a_picture_that_misleads_leaves_the_answer_to_the_evidence(data: Path) -> None:
    pictures = load_pictures(data, "train", 16)
    draw = random.Random(0)
    mix = Mix(0, 0, weighs=True, misleading=0.5)
    samples = [draw_sample(pictures, draw, mix) for _ in range(400)]
    beside = [s for s in samples if s.prompt.evidence]
    led = [s for s in beside if 1e-6 < max(s.chances.values()) < 1]
    assert 0.4 < len(led) / len(beside) < 0.6
    alone = [s for s in samples if not s.prompt.evidence]
    assert alone
    assert all(s.chances[s.answer] == 1 for s in alone)


def test_the_tower_learns_what_an_imagenet_network_says_of_each_patch(data: Path) -> None:
    pictures = load_pictures(data, "train", architecture.SIZE)
    pixels = pictures.pixels[:4].float()
    torch.manual_seed(0)
    tower, teacher = architecture.new_tower(), recipe.Teacher()
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    learning = [p for p in (*tower.parameters(), *teacher.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, 1e-3)
    losses = []
    for _ in range(12):
        patches = tower(pixel_values=normalise(pixels, HALF, HALF)).last_hidden_state[:, 1:]
        loss = teacher.loss(patches, pixels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(value, before[n]) for n, value in teacher.network.state_dict().items())


def test_features_are_learnt_beside_labels(data: Path, tmp_path: Path) -> None:
    pictures = load_pictures(data, "train", architecture.SIZE)
    lines: list[str] = []
    for plan in (PLAN, replace(PLAN, features=3.0)):
        recipe.train_tower(pictures, tmp_path, replace(plan, tower_steps=1), lines.append)
    alone, both = (float(line.split(" loss ")[1].split()[0]) for line in lines)
    assert both > alone + 1


def test_fog_leaves_most_images_as_they_are_and_blurs_the_rest() -> None:
    pixels = torch.rand(200, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    found = recipe.fogged(pixels, torch.Generator().manual_seed(1))
    changed = (found != pixels).flatten(1).any(1)
    assert 0.15 < changed.float().mean() < 0.35
    assert found[changed].std() < 0.5 * pixels[changed].std()
    assert float(found.mean()) == pytest.approx(float(pixels.mean()), rel=0.02)


def test_another_scanner_changes_half_of_the_images_and_keeps_their_range() -> None:
    pixels = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    found = recipe.shaken(pixels, torch.Generator().manual_seed(1))
    changed = (found != pixels).flatten(1).any(1)
    assert 0.4 < changed.float().mean() < 0.6
    assert 0 <= float(found.min()) <= float(found.max()) <= 255


def test_every_probability_is_one_token(data: Path) -> None:
    tokenizer = recipe.make_tokenizer(load_pictures(data, "train", 16), 0)
    assert all(len(tokenizer(f" {i / 100:.2f}").input_ids) == 1 for i in range(101))


def test_workers_draw_what_would_be_drawn_without_them(data: Path) -> None:
    pictures = load_pictures(data, "train", 64)
    tokenizer = recipe.make_tokenizer(pictures, 0)
    stage = Stage("looking", 12, LOOKING, 1.0)
    alone, beside = (
        list(recipe._batches(3, pictures, tokenizer, replace(PLAN, workers=workers), stage))
        for workers in (0, 2)
    )
    # Two groups of eight, without the three that were learnt before.
    assert len(alone) == len(beside) == 13
    for one, other in zip(alone, beside, strict=True):
        assert all(torch.equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
