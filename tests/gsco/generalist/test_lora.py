"""Tuning a vision-language model: what learns, what stays, resuming, and what comes out."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import TASK
from PIL import Image, ImageEnhance
from safetensors.torch import load_file, save_file

from gsco.cli import main
from gsco.cli.generalist import material_under
from gsco.datasets import Dataset, PairSet, Record, Split, read_dataset, read_pairs
from gsco.datasets.leaks import entries_of, without_leaks
from gsco.errors import DataError, GeneralistError, UsageError
from gsco.generalist import lora
from gsco.generalist.embedded import EmbeddedGeneralist, load_model
from gsco.generalist.lora import Plan, answer_loss, tune
from gsco.generalist.lora_material import material_of
from gsco.generalist.lora_samples import draw_sample
from gsco.generalist.seen import DIGITS, seen_in
from gsco.generalist.tiny import FOLDER
from gsco.generalist.tiny.tokens import IMAGE, PAD
from gsco.prompts import Form, build_prompt
from gsco.task import Label
from retrieval import fingerprint
from specialists import SpecialistError, torchvision_cure
from specialists.images import decode

WEIGHTS = "model.safetensors"
TUNES = "tune the generalist"
QUICK = Plan(rank=8, steps=6, batch=4, rate=3e-3, answer_form="label", every=2)


@pytest.fixture(scope="module")
def spots(data: Path) -> Dataset:
    return read_dataset(data, TASK)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tiny Qwen2-VL of random weights with gsco-tiny's tokenizer."""
    torchvision_cure.apply()
    from transformers import (
        AutoProcessor,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    folder = tmp_path_factory.mktemp("qwen")
    tokenizer = AutoProcessor.from_pretrained(FOLDER).tokenizer
    extra = ["<|vision_start|>", "<|vision_end|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": extra})
    start, end, video = tokenizer.convert_tokens_to_ids(extra)
    template = (
        "{% for m in messages %}<{{ m['role'] }}>{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<|vision_start|>" + IMAGE + "<|vision_end|>"
        "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    pixels = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=4 * 28 * 28)
    processor = Qwen2VLProcessor(pixels, tokenizer, Qwen2VLVideoProcessor(), chat_template=template)
    processor.save_pretrained(folder)
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2]},
        "pad_token_id": tokenizer.convert_tokens_to_ids(PAD),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
    torch.manual_seed(0)
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


def loss_on(source: Path, spots: Dataset, form: Form = "label") -> float:
    """Return the loss on fixed samples."""
    model, processor = load_model(source, "cpu")
    draw = random.Random(99)
    samples = [draw_sample([(TASK, spots.split("train"))], draw, form) for _ in range(24)]
    model.requires_grad_(False)
    with torch.no_grad():
        return float(answer_loss(model, processor, samples))


def kept(spots: Dataset) -> list[Record]:
    """Return the training cases that look like no held-out one; drawn ones are often alike."""
    return without_leaks(spots, entries_of(spots))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


@pytest.mark.slow
def test_tuning_gsco_tiny_lowers_its_loss_and_leaves_its_tower_alone(
    spots: Dataset, tmp_path: Path
) -> None:
    plan = Plan(rank=8, steps=40, batch=8, rate=5e-3, answer_form="label")
    made = tune(FOLDER, [spots], tmp_path, plan)
    assert loss_on(made, spots) < 0.7 * loss_on(FOLDER, spots)
    before, after = weights(FOLDER), weights(made)
    assert before.keys() == after.keys()
    # In the precision of the source, whatever it was tuned in.
    assert {name: one.dtype for name, one in before.items()} == {
        name: one.dtype for name, one in after.items()
    }
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("language_model" in name and "_proj." in name for name in changed), changed
    card = json.loads((made / "gsco.json").read_text())
    assert (card["answer_form"], card["writes"]) == ("label", False)
    assert card["base"] == str(FOLDER)
    assert card["tuned_on"] == {spots.name: spots.licence or "unknown"}
    generalist = EmbeddedGeneralist(made)
    assert generalist.name == card["name"] == "model-gsco"
    assert generalist.seen == seen_in(FOLDER) | {
        fingerprint(r.open()).content_hash[:DIGITS] for r in kept(spots)
    }
    (reading,) = generalist.read(
        [build_prompt(TASK, images=[spots.split("test")[0].open()], answer_form="label")]
    )
    assert set(reading.probabilities) == set(TASK.texts)


@pytest.mark.slow
def test_tuning_leaves_out_what_looks_like_a_held_out_case(spots: Dataset, tmp_path: Path) -> None:
    case, *others = kept(spots)
    assert others
    copy = tmp_path / "copy.png"
    ImageEnhance.Brightness(case.open()).enhance(1.1).save(copy)
    held_out = replace(case, id="copy", source=copy, split="test")
    leaky = replace(spots, records=(*spots.records, held_out))
    made = tune(FOLDER, [leaky], tmp_path / "out", replace(QUICK, steps=1))
    card = json.loads((made / "gsco.json").read_text())
    assert card["left_out"][spots.name] >= len(spots.split("train")) - len(kept(spots)) + 1
    seen = seen_in(made)
    assert fingerprint(case.open()).content_hash[:DIGITS] not in seen
    assert seen > seen_in(FOLDER)


@pytest.mark.slow
def test_another_architecture_is_tuned_by_the_same_flags(
    qwen: Path, spots: Dataset, tmp_path: Path
) -> None:
    before = loss_on(qwen, spots, "letter")
    plan = Plan(rank=8, steps=30, batch=4, rate=2e-2, answer_form="letter")
    made = tune(qwen, [spots], tmp_path, plan, name="mine")
    # Random embeddings stay frozen: there is little to gain, but it is gained.
    assert loss_on(made, spots, "letter") < before - 0.1
    generalist = EmbeddedGeneralist(made)
    assert (generalist.name, generalist.answer_form) == ("mine", "letter")
    (reading,) = generalist.read([build_prompt(TASK, images=[spots.split("test")[0].open()])])
    assert sum(reading.probabilities.values()) == pytest.approx(1)


class KilledError(Exception):
    """Stands for a kill."""


def test_a_killed_run_goes_on_and_ends_where_it_would_have(spots: Dataset, tmp_path: Path) -> None:
    whole = tune(FOLDER, [spots], tmp_path / "whole", QUICK)

    def dying(step: str, done: int, total: int) -> None:
        if step == TUNES and done == 5:
            raise KilledError

    with pytest.raises(KilledError):
        tune(FOLDER, [spots], tmp_path / "cut", QUICK, progress=dying)
    told: list[int] = []
    cut = tune(
        FOLDER,
        [spots],
        tmp_path / "cut",
        QUICK,
        progress=lambda step, done, total: told.append(done) if step == TUNES else None,
    )
    assert told == [5, 6]
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(cut)[name]), name


def test_a_model_that_counts_places_by_its_images_reads_labels_that_begin_alike(
    qwen: Path,
) -> None:
    task = replace(TASK, labels=tuple(map(Label, ("no", "no tumour", "glioma", "gliosis"))))
    asked = [
        build_prompt(task, images=[Image.new("RGB", size)], answer_form="label")
        for size in ((28, 28), (56, 28), (56, 56))
    ]
    generalist = EmbeddedGeneralist(qwen)
    for one, reading in zip(asked, generalist.read(asked), strict=True):
        (alone,) = generalist.read([one])
        assert reading.probabilities == pytest.approx(dict(alone.probabilities), abs=1e-5)
        assert sum(reading.probabilities.values()) == pytest.approx(1)


def test_a_checkpoint_of_another_base_or_other_data_is_left_aside(
    spots: Dataset, tmp_path: Path
) -> None:
    told: list[int] = []
    base = Path(shutil.copytree(FOLDER, tmp_path / "base"))

    def note(step: str, done: int, total: int) -> None:
        if step == TUNES:
            told.append(done)

    plan = Plan(rank=2, steps=2, batch=1, answer_form="label", every=1)
    tune(base, [spots], tmp_path, plan, progress=note)
    fewer = replace(spots, records=spots.records[:-1], fingerprint="other")
    tune(base, [fewer], tmp_path, plan, progress=note)
    assert told == [1, 2, 1, 2]
    tune(base, [fewer], tmp_path, plan, progress=note)
    assert told == [1, 2, 1, 2]
    # Other weights under the same path.
    changed = {name: tensor * 2 for name, tensor in load_file(base / WEIGHTS).items()}
    save_file(changed, base / WEIGHTS, metadata={"format": "pt"})
    tune(base, [fewer], tmp_path, plan, progress=note)
    assert told == [1, 2, 1, 2, 1, 2]


def test_samples_hold_every_variant_and_their_answers_are_allowed(spots: Dataset) -> None:
    draw = random.Random(0)
    tasks = [(TASK, spots.split("train"))]
    samples = [draw_sample(tasks, draw, "letter") for _ in range(200)]
    asked = [s for s in samples if s.prompt.kind == "single"]
    described = [s for s in samples if not s.prompt.options]
    assert 10 < len(samples) - len(asked) < 45
    assert all(s.answer in s.prompt.choices for s in asked)
    assert {s.answer for s in asked} == {"A", "B"}
    kinds = {("Specialist" in s.prompt.before, "imilar cases" in s.prompt.before) for s in asked}
    assert len(kinds) >= 3
    assert {s.answer for s in described} == {
        "This drawing is labelled: red spot.",
        "This drawing is labelled: blue spot.",
    }


def test_whether_a_label_holds_is_asked_and_answered_from_the_label(spots: Dataset) -> None:
    draw = random.Random(1)
    tasks = [(TASK, spots.split("train"))]
    samples = [draw_sample(tasks, draw, "label") for _ in range(300)]
    closed = [s for s in samples if s.prompt.kind == "vqa" and s.prompt.options]
    said: dict[tuple[str, str], set[bool]] = {}
    for sample in closed:
        assert sample.prompt.question.startswith("Question: Is this drawing labelled ")
        (image,) = sample.prompt.images
        red, _, blue = np.asarray(image).sum((0, 1))
        seen = "red spot" if red > blue else "blue spot"
        right = (seen in sample.prompt.question) == (sample.answer == "yes")
        said.setdefault((sample.answer, sample.prompt.answers[0]), set()).add(right)
    assert said == {(a, b): {True} for a in ("yes", "no") for b in ("yes", "no")}


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """Write a folder with two drawn images, three questions and a report."""
    folder = tmp_path / "data" / "talk"
    folder.mkdir(parents=True)
    Image.radial_gradient("L").save(folder / "a.png")
    Image.linear_gradient("L").save(folder / "b.png")
    rows = (
        "file,question,answer,answer_type,image_split",
        "a.png,Is it round?,Yes.,CLOSED,train",
        "a.png,Any squares?,no,CLOSED,train",
        "a.png,What is it?,a disc,OPEN,train",
        "a.png,,Findings: A disc. Impression: Round.,REPORT,train",
        "b.png,Is it round?,no,CLOSED,test",
    )
    (folder / "qa.csv").write_text("\n".join(rows))
    (folder / "SOURCE.md").write_text("- Licence: CC0 1.0\n")
    return folder


def test_pairs_are_asked_as_they_will_be(talk: Path, spots: Dataset) -> None:
    pairs, draw = read_pairs(talk).pairs, random.Random(0)
    samples = [draw_sample([], draw, "letter", pairs) for _ in range(60)]
    told = {(s.prompt.question, s.prompt.kind, s.prompt.answers, s.answer) for s in samples}
    assert told == {
        ("Question: Is it round?", "vqa", ("yes", "no"), "A"),
        ("Question: Is it round?", "vqa", ("no", "yes"), "B"),
        ("Question: Any squares?", "vqa", (), "no"),
        ("Question: What is it?", "vqa", (), "a disc"),
        ("", "report", (), "Findings: A disc. Impression: Round."),
    }
    tasks = [(TASK, spots.split("train"))]
    mixed = [draw_sample(tasks, draw, "letter", pairs) for _ in range(200)]
    assert 25 < sum(s.prompt.images[0].size == (256, 256) for s in mixed) < 75


def test_what_was_learnt_from_pairs_is_on_the_card_and_other_pairs_start_anew(
    talk: Path, tmp_path: Path
) -> None:
    told: list[int] = []
    plan = Plan(rank=2, steps=1, batch=4, answer_form="label", every=1)

    def note(step: str, done: int, total: int) -> None:
        if step == TUNES:
            told.append(done)

    def learn(found: PairSet) -> Path:
        return tune(FOLDER, [], tmp_path / "out", plan, pairs=[found], progress=note)

    card = json.loads((learn(read_pairs(talk)) / "gsco.json").read_text())
    assert card["tuned_on"] == {"talk": "CC0 1.0"}
    moved = read_pairs(Path(shutil.move(talk, tmp_path / "talk")))
    learn(moved)
    assert told == [1]
    learn(replace(moved, pairs=moved.pairs[1:2] * 2))
    assert told == [1, 1]


def test_what_another_set_or_split_holds_out_is_not_learnt(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    noise = [draw.integers(0, 255, (8, 8, 3), dtype=np.uint8) for _ in range(8)]
    files = [tmp_path / f"{number}.png" for number in range(8)]
    for file, pixels in zip(files, noise, strict=True):
        Image.fromarray(pixels).resize((64, 64)).save(file)

    def of(name: str, splits: str) -> Dataset:
        known: dict[str, Split] = {"t": "train", "v": "val", "e": "test"}
        records = tuple(
            Record(str(i), file, TASK.texts[i % 2], known[s], None)
            for i, (file, s) in enumerate(zip(files, splits, strict=False))
        )
        return Dataset(name, TASK, records, name)

    rows = [f"{i}.png,Is it noise?,yes,{'test' if i == 5 else 'train'}" for i in range(3, 8)]
    (tmp_path / "qa.csv").write_text("\n".join(["file,question,answer,image_split", *rows]))
    pairs = read_pairs(tmp_path)
    found = material_of([of("a", "ttvtttt"), of("b", "etttttt")], [pairs], lambda *told: None)
    # 0 and 2 are held out in the other set, 5 among the pairs.
    assert [[r.id for r in records] for _, records in found.tasks] == [list("1346"), list("1346")]
    assert [pair.image.stem for pair in found.pairs] == list("3467")
    assert found.left_out == {"a": 2, "b": 2, pairs.name: 0}
    learnt = {fingerprint(decode(files[i])).content_hash for i in (1, 3, 4, 6, 7)}
    assert found.seen() == learnt
    files[7].write_bytes(b"no image")
    with pytest.raises(SpecialistError, match=r"7\.png"):
        material_of([], [pairs], lambda *told: None)


def test_a_model_is_not_written_over_its_own_source(spots: Dataset, tmp_path: Path) -> None:
    own = Path(shutil.copytree(FOLDER, tmp_path / "model"))
    with pytest.raises(UsageError, match=r"written over its source.*another workspace"):
        tune(own, [spots], tmp_path, QUICK)


# Any: a stand-in for a model.
def test_what_cannot_be_tuned_is_refused_with_a_reason(
    spots: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = Dataset(spots.name, replace(TASK, kind="multi"), spots.records, spots.fingerprint)
    with pytest.raises(DataError, match=r"'spots' is of kind 'multi'.*single-label"):
        tune(FOLDER, [several], tmp_path, QUICK)
    with pytest.raises(GeneralistError, match="No generalist can be loaded"):
        tune(tmp_path, [spots], tmp_path, QUICK)
    with pytest.raises(DataError, match="no data sets and no pairs"):
        tune(FOLDER, [], tmp_path, QUICK)

    def foreign(source: Path, device: str) -> tuple[Any, Any]:
        return torch.nn.Sequential(torch.nn.Linear(2, 2)), None

    monkeypatch.setattr(lora, "load_model", foreign)
    with pytest.raises(GeneralistError, match="has no layers named like"):
        tune("org/odd", [spots], tmp_path, QUICK)


def test_folders_with_questions_are_found_beside_those_named_like_tasks(talk: Path) -> None:
    for folder in (talk.parent, talk):
        found = material_under(folder)
        assert found.datasets == []
        assert [(one.name, len(one.pairs)) for one in found.pairs] == [("talk", 4)]


@pytest.mark.slow
def test_the_command_tunes_on_folders_named_like_tasks_and_on_questions(
    talk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("normal", "pneumonia"):
        for split in ("train", "val", "test"):
            folder = tmp_path / "data" / "pneumonia-cxr" / split / label
            folder.mkdir(parents=True)
            for number in range(2):
                tone = (len(str(folder)) * 31 + number * 90) % 250
                Image.radial_gradient("L").rotate(tone).convert("RGB").save(folder / f"{tone}.png")
    command = "gsco construct generalist --recipe lora --steps 2 --json"
    where = ["--data", str(tmp_path / "data"), "--workspace", str(tmp_path / "w")]
    monkeypatch.setattr("sys.argv", [*command.split(), *where])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    model = Path(json.loads(capsys.readouterr().out)["model"])
    assert model == tmp_path / "w" / "generalist" / "model"
    assert EmbeddedGeneralist(model).answer_form == "label"
    card = json.loads((model / "gsco.json").read_text())
    assert card["tuned_on"] == {"pneumonia-cxr": "unknown", "talk": "CC0 1.0"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--recipe tny", "Unknown recipe 'tny'. Did you mean 'tiny'?"),
        ("--recipe lora", "holds no folder named like a task"),
        ("--recipe tiny --steps 3", "leave out `--generalist` and `--steps`"),
    ],
)
def test_a_wrong_order_for_a_generalist_is_answered_with_a_sentence(
    arguments: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = ["--data", str(tmp_path), "--workspace", str(tmp_path / "w")]
    monkeypatch.setattr("sys.argv", ["gsco", "construct", "generalist", *arguments.split(), *where])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
