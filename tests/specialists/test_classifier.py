"""A saved specialist says what it said, or why it cannot be loaded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from specialists import Card, Classifier, Quality, SpecialistError, backbone_named, load
from specialists.backbone import build, head_of
from specialists.card import file_sha256
from specialists.classifier import batch_for, save

torch.set_num_threads(1)

LABELS = ("normal", "pneumonia", "nodule")


def card(name: str = "vit-tiny", **changes: object) -> Card:
    found = Card(
        name="drawn",
        task="drawn-task",
        backbone=backbone_named(name),
        labels=LABELS,
        kind="single",
        recipe="default",
        seed=0,
        epochs=3,
        data="drawn images",
        data_licence="CC0",
        data_fingerprint="abc",
        n_train=10,
        temperature=1.5,
        validation=Quality(n=9, accuracy=0.8, balanced_accuracy=0.75, auc=None, ece=0.1),
        weights_sha256="0" * 64,
    )
    return replace(found, **changes)


def network(name: str = "vit-tiny") -> torch.nn.Module:
    torch.manual_seed(0)
    found = build(backbone_named(name), len(LABELS), pretrained=False)
    torch.nn.init.normal_(head_of(found).weight, std=0.5)
    return found


def drawn(n: int = 5) -> list[Image.Image]:
    chance = np.random.default_rng(0)
    sizes = [(40 + 9 * i, 60) for i in range(n)]
    return [Image.fromarray(chance.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def numbers(specialist: Classifier, images: list[Image.Image]) -> np.ndarray:
    return np.array([opinion.probabilities for opinion in specialist.predict(images)])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "drawn", card(), network())
    return tmp_path / "drawn"


def refusal(folder: Path) -> str:
    with pytest.raises(SpecialistError) as caught:
        load(folder)
    return str(caught.value)


@pytest.mark.parametrize("name", ["vit-tiny", "mobilenetv3-small"])
def test_a_saved_specialist_gives_the_same_opinions(tmp_path: Path, name: str) -> None:
    written = save(tmp_path, card(name), network(name))
    loaded = load(tmp_path)
    before, after = (numbers(c, drawn()) for c in (Classifier(card(name), network(name)), loaded))
    assert np.abs(before - after).max() < 5e-3
    assert before.std() > 5 * np.abs(before - after).mean()
    assert loaded.card == written
    assert loaded.weights_hash == file_sha256(tmp_path / "weights.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"card.toml", "weights.safetensors"}


def test_values_that_float16_cannot_hold_survive(tmp_path: Path) -> None:
    large = network("mobilenetv3-small")
    large.bn1.running_var.fill_(1e6)
    save(tmp_path, card("mobilenetv3-small"), large)
    assert load(tmp_path).network.bn1.running_var.max() == 1e6


def test_an_opinion_says_who_what_and_how_sure(saved: Path) -> None:
    specialist = load(saved)
    for opinion in specialist.predict(drawn()):
        assert (opinion.specialist, opinion.labels, opinion.kind) == ("drawn", LABELS, "single")
        assert sum(opinion.probabilities) == pytest.approx(1)
        assert opinion.reliability == 0.75
        assert opinion.answer == LABELS[int(np.argmax(opinion.probabilities))]


def test_several_labels_have_probabilities_of_their_own() -> None:
    specialist = Classifier(card(kind="multi"), network())
    pixels = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    logits = specialist.logits(pixels).double() / 1.5
    (opinion,) = specialist.predict_tensor(pixels)
    assert opinion.probabilities == pytest.approx(torch.sigmoid(logits)[0].tolist())
    assert opinion.kind == "multi"


def test_the_temperature_divides_the_logits() -> None:
    logits = torch.tensor([[3.0, 0.0, -1.5]])
    found = Classifier(card(), network()).probabilities(logits)
    assert torch.allclose(found, torch.tensor([[2.0, 0.0, -1.0]]).double().softmax(1))


def test_a_batch_answers_as_its_images_one_by_one(saved: Path) -> None:
    specialist, images = load(saved), drawn()
    single = np.concatenate([numbers(specialist, [image]) for image in images])
    assert np.abs(numbers(specialist, images) - single).max() < 1e-5
    pixels = torch.randint(0, 256, (5, 3, 96, 96), dtype=torch.uint8)
    whole = specialist.logits(pixels)
    specialist.batch = 2
    assert torch.allclose(whole, specialist.logits(pixels), atol=1e-4)


def test_a_network_with_large_activations_takes_fewer_images_at_once() -> None:
    network = build(backbone_named("mobilenetv3-small"), 2, pretrained=False).eval()
    assert batch_for(network, 96) == 64
    assert 8 <= batch_for(network, 448) < 64


@pytest.mark.parametrize(
    ("name", "width"), [("vit-tiny", 128), ("mobilenetv3-small", 1024), ("resnet18-small", 512)]
)
def test_features_are_unit_rows_that_the_head_reads(name: str, width: int) -> None:
    specialist = Classifier(card(name), network(name))
    rows = specialist.embed(drawn())
    assert (rows.shape, rows.dtype) == ((5, width), np.float32)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 1e-5
    assert np.abs(rows - np.concatenate([specialist.embed([i]) for i in drawn()])).max() < 1e-4
    none = specialist.embed([])
    assert (none.shape, none.dtype) == ((0, width), np.float32)


def test_no_images_have_no_opinions(saved: Path) -> None:
    assert load(saved).predict([]) == []


def test_altered_weights_are_refused(saved: Path) -> None:
    data = bytearray((saved / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (saved / "weights.safetensors").write_bytes(data)
    text = refusal(saved)
    assert text.startswith("The weights of specialist 'drawn' were altered: their hash is ")
    assert text.endswith("run `gsco construct` again.")


def test_missing_weights_and_a_missing_card_are_named(saved: Path) -> None:
    (saved / "weights.safetensors").unlink()
    expected = "The weights of specialist 'drawn' are missing (weights.safetensors)."
    assert refusal(saved).startswith(expected)
    (saved / "card.toml").unlink()
    assert refusal(saved).startswith("Specialist 'drawn' has no card. Run `gsco construct` again")


def rehashed(folder: Path) -> None:
    text = (folder / "card.toml").read_text(encoding="utf-8")
    old = next(line for line in text.splitlines() if line.startswith("weights_sha256"))
    new = f'weights_sha256 = "{file_sha256(folder / "weights.safetensors")}"'
    (folder / "card.toml").write_text(text.replace(old, new), encoding="utf-8")


def test_weights_cut_off_are_refused_even_if_their_hash_is_right(saved: Path) -> None:
    path = saved / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    rehashed(saved)
    assert refusal(saved).startswith(
        "The weights of specialist 'drawn' do not fit 'vit_tiny_patch16_224'."
    )


def test_weights_of_another_network_are_refused(saved: Path, tmp_path: Path) -> None:
    save(tmp_path / "other", card("resnet18-small"), network("resnet18-small"))
    (tmp_path / "other" / "weights.safetensors").replace(saved / "weights.safetensors")
    rehashed(saved)
    assert "do not fit 'vit_tiny_patch16_224'" in refusal(saved)


@pytest.mark.parametrize(
    "text",
    [
        "name = ",
        "",
        'backbone = "vit-tiny"\nvalidation = 3',
        "[backbone]\n[validation]",
        b"\xff\xfe",
    ],
)
def test_a_card_that_cannot_be_read_says_so(saved: Path, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    (saved / "card.toml").write_bytes(data)
    found = refusal(saved)
    assert found.startswith("The card of specialist 'drawn' cannot be read (")
    assert found.endswith("Construct the task again.")


def test_an_unknown_or_missing_field_of_a_card_is_named(saved: Path) -> None:
    whole = (saved / "card.toml").read_text(encoding="utf-8")
    (saved / "card.toml").write_text("surprise = 1\n" + whole, encoding="utf-8")
    assert "'surprise'" in refusal(saved)
    (saved / "card.toml").write_text(whole.replace("temperature", "#"), encoding="utf-8")
    assert "'temperature'" in refusal(saved)
