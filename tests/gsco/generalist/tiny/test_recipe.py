import random
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_sets import CLASSES, PLAN, draw_sets

from gsco.errors import DataError
from gsco.generalist.embedded import EmbeddedGeneralist
from gsco.generalist.tiny import recipe
from gsco.generalist.tiny.data import SOURCES, Examples, Pictures, load_pictures, tasks
from gsco.generalist.tiny.recipe import Stage, train
from gsco.generalist.tiny.samples import LOOKING, READING, Mix, draw_sample, encode, made_up_task
from gsco.prompts import build_prompt
from gsco.task import validate
from specialists import SpecialistError


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_sets(tmp_path / "data")


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("reading 2/2", ["tower 2/2", "looking 2/4", "looking 4/4", "weighing 2/2"]),
        ("looking 2/4", ["looking 4/4", "weighing 2/2"]),
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
    doubled = Pictures(pictures.pixels, tuple(tasks))
    draw = random.Random(0)
    for mix in (Mix(0, 0, weighs=False), Mix(0, 0, weighs=True)):
        samples = [draw_sample(doubled, draw, mix) for _ in range(200)]
        assert all((s.row >= 100) == bool(s.prompt.evidence) for s in samples)
        assert any(s.prompt.evidence for s in samples) == mix.weighs


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
