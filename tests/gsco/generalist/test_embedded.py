import functools
import shutil
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file

from gsco.errors import GeneralistError, TextCutError
from gsco.generalist.embedded import EmbeddedGeneralist
from gsco.generalist.tiny import FOLDER
from gsco.prompts import Form, Prompt, build_prompt
from gsco.task import Label, Task, task_named
from retrieval import Neighbour
from specialists import Opinion

CHEST = task_named("pneumonia-cxr")


@functools.cache
def tiny() -> EmbeddedGeneralist:
    torch.set_num_threads(1)
    return EmbeddedGeneralist(device="cpu")


def picture(seed: int) -> Image.Image:
    image = Image.new("RGB", (90, 70), (seed * 37 % 200, seed * 91 % 200, seed * 53 % 200))
    ImageDraw.Draw(image).ellipse((10 + seed, 10, 50, 60 - seed), fill=(230, 230, 230))
    return image


def prompt(
    task: Task = CHEST, seed: int = 1, form: Form = "label", opinions: tuple[Opinion, ...] = ()
) -> Prompt:
    return build_prompt(task, images=[picture(seed)], answer_form=form, opinions=opinions)


def opinion(task: Task, label: str, name: str = "resnet18") -> Opinion:
    rest = 0.04 / (len(task.texts) - 1)
    chances = tuple(0.96 if text == label else rest for text in task.texts)
    return Opinion(name, task.texts, chances, reliability=0.95)


@pytest.mark.parametrize("form", ["label", "letter"])
@pytest.mark.parametrize("name", ["pneumonia-cxr", "brain-mri", "dermoscopy", "breast-ultrasound"])
def test_probabilities_of_all_labels_sum_to_one(name: str, form: Form) -> None:
    task = task_named(name)
    (reading,) = tiny().read([prompt(task, form=form)])
    assert set(reading.probabilities) == set(task.texts)
    assert sum(reading.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert reading.answer == max(task.texts, key=lambda text: reading.probabilities[text])
    assert reading.model == "gsco-tiny"
    assert not tiny().writes


def test_an_image_in_several_option_orders_is_looked_at_once_and_read_the_same() -> None:
    prompts = [prompt(seed=1), prompt(seed=9), prompt(seed=1)]
    orders = [p.permuted(order) for p in prompts for order in ((0, 1), (1, 0))]
    apart = [tiny()._score([one])[0] for one in orders]
    sizes: list[int] = []
    tower = tiny()._model.model.vision_tower
    hook = tower.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len((*args, kwargs.get("pixel_values"))[0])),
        with_kwargs=True,
    )
    together = tiny()._score(orders)
    hook.remove()
    # Prompts 1 and 3 hold equal images, but not the same one: only orders share theirs.
    assert sizes == [3]
    for one, other in zip(apart, together, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def test_a_model_that_takes_no_features_gets_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [prompt(), prompt(seed=9)]
    before = tiny().read(prompts)

    # The argument of transformers before 5.18, which swallows what it does not know.
    def older(**known: Any) -> Any:
        assert known.get("pixel_values") is not None or "past_key_values" in known
        return type(model).forward(model, **known)

    model = tiny()._model
    other = EmbeddedGeneralist(device="cpu")
    monkeypatch.setattr(other, "_model", model)
    monkeypatch.setattr(model, "forward", older)
    for one, again in zip(before, other.read(prompts), strict=True):
        assert again.probabilities == pytest.approx(dict(one.probabilities), abs=1e-4)


def test_tokens_are_counted_once() -> None:
    tiny().spent()
    tiny().read([prompt()], permutations=1)
    alone = tiny().spent()
    # 64 of the image, and at least a word or two.
    assert alone > 70
    assert tiny().spent() == 0
    tiny().read([prompt(), prompt(task_named("dermoscopy"))], permutations=1)
    assert tiny().spent() > 2 * alone
    tiny().read([prompt()] * 3, permutations=2)
    assert tiny().spent() == 6 * alone
    spent = []
    for longest in (1, 8):
        pieces: list[str] = []
        with suppress(TextCutError):
            pieces.extend(tiny().write(prompt(), longest))
        spent.append(tiny().spent())
        assert "".join(pieces)
    assert alone - 10 < spent[0] < spent[1]


def test_another_image_changes_the_reading() -> None:
    seen = [reading.probabilities["normal"] for reading in tiny().read([prompt(), prompt(seed=9)])]
    assert abs(seen[0] - seen[1]) > 0.01


@pytest.mark.parametrize(
    "name",
    [
        "pneumonia-cxr",
        "brain-mri",
        "dermoscopy",
        "white-cells",
    ],
)
def test_reliable_opinions_for_a_label_make_it_likelier_than_for_any_other(name: str) -> None:
    task = task_named(name)
    names = ("resnet18", "densenet121", "vit-tiny")
    told = [tuple(opinion(task, label, name) for name in names) for label in task.texts]
    readings = tiny().read([prompt(task, opinions=opinions) for opinions in told])
    for label, reading in zip(task.texts, readings, strict=True):
        others = [r.probabilities[label] for r in readings if r is not reading]
        assert reading.probabilities[label] > max(others)


def test_neighbours_are_heard() -> None:
    def near(label: str) -> Prompt:
        cases = tuple(Neighbour(str(i), (label,), 0.95) for i in range(5))
        return build_prompt(CHEST, images=[picture(1)], neighbours=cases, answer_form="label")

    normal, ill = tiny().read([near("normal"), near("pneumonia")])
    assert normal.probabilities["normal"] > ill.probabilities["normal"] + 0.1


def test_a_batch_says_the_same_as_one_by_one() -> None:
    prompts = [
        prompt(),
        prompt(task_named("dermoscopy"), seed=3),
        prompt(task_named("brain-mri"), seed=5, form="letter"),
        prompt(seed=7, opinions=(opinion(CHEST, "normal"),)),
    ] * 5
    together = tiny().read(prompts)
    for one, reading in zip(prompts, together, strict=True):
        (alone,) = tiny().read([one])
        assert alone.probabilities == pytest.approx(dict(reading.probabilities), abs=1e-4)


def test_labels_that_begin_alike_part_where_one_ends() -> None:
    task = Task(
        id="x",
        title="x",
        kind="single",
        labels=(Label("no"), Label("no tumour"), Label("no tumour, but a cyst")),
        modality="brain MRI",
        stem=task_named("brain-mri").stem,
    )
    (reading,) = tiny().read([prompt(task)])
    assert sum(reading.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert min(reading.probabilities.values()) > 0


def test_reading_prompts_anew_says_the_same_as_going_on_from_cached_states() -> None:
    labels = ("no", "no tumour", "no tumour, but a cyst", "glioma", "glioblastoma")
    task = replace(task_named("brain-mri"), labels=tuple(map(Label, labels)))
    asked = [prompt(task, seed=n) for n in range(3)]
    generalist = EmbeddedGeneralist()
    before = generalist.read(asked)
    generalist.__dict__["_goes_on"] = False
    for one, other in zip(before, generalist.read(asked), strict=True):
        assert one.probabilities == pytest.approx(dict(other.probabilities), abs=1e-5)


def test_an_answer_may_end_with_any_token_that_ends_a_text() -> None:
    task = replace(task_named("brain-mri"), labels=(Label("no"), Label("no tumour")))
    generalist = EmbeddedGeneralist()
    (one,) = generalist.read([prompt(task)])
    config = generalist._model.generation_config
    # Any likely token will do; the comma goes on with neither label.
    config.eos_token_id = [config.eos_token_id, generalist._tokenizer(",").input_ids[0]]
    generalist.__dict__.pop("_ends")
    generalist.__dict__.pop("_vocabulary")
    (more,) = generalist.read([prompt(task)])
    assert more.probabilities["no"] > one.probabilities["no"]
    assert sum(more.probabilities.values()) == pytest.approx(1)


def test_the_constrained_reading_is_the_models_own_next_token() -> None:
    generalist = tiny()
    asked = prompt(form="letter")
    (reading,) = generalist.read([asked], permutations=1)
    with torch.inference_mode():
        logits = generalist._model(**generalist._inputs([asked])).logits[0, -1].float()
    letters = [generalist._tokenizer(letter).input_ids[-1] for letter in "AB"]
    expected = logits[letters].softmax(0).tolist()
    assert list(reading.probabilities.values()) == pytest.approx(expected, abs=1e-5)


def test_a_multi_label_task_gets_a_probability_for_each_label() -> None:
    task = Task(
        id="x",
        title="x",
        kind="multi",
        labels=(Label("no finding"), Label("effusion"), Label("edema")),
        modality="chest X-ray",
        stem=CHEST.stem,
        no_finding="no finding",
    )
    (reading,) = tiny().read([prompt(task)])
    assert set(reading.probabilities) == set(task.texts)
    assert all(0 < chance < 1 for chance in reading.probabilities.values())


def test_writing_streams_pieces_of_text() -> None:
    pieces = list(tiny().write(prompt(), longest=8))
    assert "".join(pieces).strip()
    assert "<|" not in "".join(pieces)


def test_text_that_is_longer_than_wanted_is_told_to_be_cut() -> None:
    pieces: list[str] = []
    with pytest.raises(TextCutError, match="cut after 1 tokens"):
        pieces.extend(tiny().write(prompt(), longest=1))


def test_a_model_that_fails_while_it_writes_is_an_error_and_reads_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(**given: object) -> None:
        raise RuntimeError("out of memory")

    generalist = EmbeddedGeneralist()
    monkeypatch.setattr(generalist._model, "generate", fail)
    with pytest.raises(GeneralistError, match=r"broke off while it wrote \(out of memory\)"):
        list(generalist.write(prompt()))
    assert generalist.read([prompt()])[0].answer


def test_a_reader_that_goes_away_ends_the_writing() -> None:
    before = threading.active_count()
    writing = tiny().write(prompt(), longest=500)
    next(writing)
    writing.close()  # type: ignore[attr-defined]  # it is a generator
    assert threading.active_count() == before


def test_a_prompt_longer_than_the_model_reads_says_so_and_costs_the_others_nothing() -> None:
    many = tuple(opinion(CHEST, "normal", f"specialist number {i}") for i in range(80))
    long, short = tiny().read([prompt(opinions=many), prompt()])
    assert long.too_long
    assert long.answer is None
    assert long.probabilities == {}
    assert "reads 1024. Recall fewer neighbours" in str(long.failure)
    (alone,) = tiny().read([prompt()])
    assert short.failure is None
    assert short.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


def test_other_weights_under_the_same_name_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(FOLDER, folder)
    tensors = load_file(folder / "model.safetensors")
    first = sorted(tensors)[0]
    save_file(
        {**tensors, first: tensors[first] + 1}, folder / "model.safetensors", {"format": "pt"}
    )
    other = EmbeddedGeneralist(folder)
    assert other.name == tiny().name
    assert other.identity != tiny().identity
    assert EmbeddedGeneralist().identity == tiny().identity


def test_a_folder_without_a_model_is_refused_with_what_else_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(GeneralistError, match=r"No generalist can be loaded.*hub id"):
        EmbeddedGeneralist(tmp_path)


def test_the_shipped_model_is_small_and_holds_no_code() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".jinja", ".md", ".txt"}
