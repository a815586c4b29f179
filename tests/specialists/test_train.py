"""Training learns, survives a kill, and stops when it should."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from specialists import SpecialistError, backbone_named, train
from specialists.backbone import build
from specialists.train import RECIPES, Part, Recipe, RecipeName

torch.set_num_threads(1)


def bright_or_dark(n: int, size: int = 32, seed: int = 0) -> Part:
    chance = np.random.default_rng(seed)
    targets = np.arange(n) % 2
    level = np.where(targets == 1, 190, 60)[:, None, None, None]
    pixels = np.clip(chance.normal(level, 30, (n, 3, size, size)), 0, 255).astype(np.uint8)
    return Part(pixels, targets.astype(np.int64))


def small(name: str = "vit-tiny", size: int = 32):  # type: ignore[no-untyped-def]
    found = backbone_named(name)
    if name != "vit-tiny":
        return replace(found, input_size=size)
    options = {**found.options, "img_size": size, "depth": 2, "embed_dim": 32, "num_heads": 2}
    return replace(found, input_size=size, options=options)


def plan(monkeypatch: pytest.MonkeyPatch, recipe: RecipeName, **changes: object) -> Recipe:
    changed = replace(RECIPES[recipe], **changes)
    monkeypatch.setitem(RECIPES, recipe, changed)
    return changed


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    "name", ["vit-tiny", pytest.param("resnet18-small", marks=pytest.mark.slow)]
)
def test_bright_and_dark_images_are_learnt(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    plan(monkeypatch, "default", epochs=10, samples=None, batch=8)
    told: list[tuple[int, int, float]] = []
    found = train.train(
        small(name),
        bright_or_dark(48),
        bright_or_dark(24, seed=1),
        2,
        pretrained=False,
        progress=lambda *now: told.append(now),
    )
    right = (found.logits.argmax(axis=1) == bright_or_dark(24, seed=1).targets).mean()
    assert right > 0.9
    assert [(done, planned) for done, planned, _ in told] == [(n + 1, 10) for n in range(10)]
    assert told[-1][2] < math.log(2)
    assert found.epochs == 10
    assert found.logits.shape == (24, 2)
    assert 0.05 <= found.temperature <= 20
    assert not found.network.training


@pytest.mark.parametrize("recipe", ["default", "paper"])
@pytest.mark.parametrize("name", ["vit-tiny", "mobilenetv3-small"])
def test_a_killed_training_goes_on_and_ends_with_the_very_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: RecipeName, name: str
) -> None:
    plan(monkeypatch, recipe, epochs=5, samples=None, batch=8)
    checkpoint, parts = tmp_path / "state.pt", (bright_or_dark(24), bright_or_dark(12, seed=1))
    whole = train.train(small(name), *parts, 2, recipe=recipe, pretrained=False)

    def killer(done: int, planned: int, loss: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    told: list[int] = []

    def listener(done: int, planned: int, loss: float) -> None:
        told.append(done)

    def again(progress: train.Progress) -> train.Trained:
        return train.train(
            small(name),
            *parts,
            2,
            recipe=recipe,
            checkpoint=checkpoint,
            pretrained=False,
            progress=progress,
        )

    with pytest.raises(KeyboardInterrupt):
        again(killer)
    torch.rand(7)  # what else happens between does not matter
    resumed = again(listener)
    assert told == [4, 5]
    assert same(weights(whole.network), weights(resumed.network))
    assert np.array_equal(whole.logits, resumed.logits)
    assert whole.temperature == resumed.temperature
    told.clear()
    finished = again(listener)
    assert told == []
    assert np.array_equal(finished.logits, whole.logits)


def test_a_checkpoint_of_another_training_is_left_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(monkeypatch, "default", epochs=2, samples=None, batch=8)
    checkpoint, parts = tmp_path / "state.pt", (bright_or_dark(16), bright_or_dark(8, seed=1))

    def epochs_told(name: str = "vit-tiny", n_labels: int = 2, seed: int = 0) -> int:
        told: list[int] = []
        train.train(
            small(name),
            *parts,
            n_labels,
            seed=seed,
            checkpoint=checkpoint,
            pretrained=False,
            progress=lambda done, planned, loss: told.append(done),
        )
        return len(told)

    assert epochs_told() == 2
    assert epochs_told() == 0
    assert epochs_told(n_labels=3) == 2
    assert epochs_told(n_labels=3, seed=1) == 2
    assert epochs_told("resnet18-small") == 2


def test_the_seed_decides_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, "default", epochs=1, samples=None, batch=8)
    parts = bright_or_dark(16), bright_or_dark(8, seed=1)
    zero, again, one = (
        weights(train.train(small(), *parts, 2, seed=seed, pretrained=False).network)
        for seed in (0, 0, 1)
    )
    assert same(zero, again)
    assert not same(zero, one)


def test_the_paper_recipe_stops_five_epochs_after_the_best_and_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = bright_or_dark(16), bright_or_dark(8, seed=1)
    losses = iter([0.7, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.4])
    seen: list[dict[str, torch.Tensor]] = []
    real = train.nn.CrossEntropyLoss.forward

    def scripted(self, logits, targets):  # type: ignore[no-untyped-def]
        value = real(self, logits, targets)
        return value if value.requires_grad else torch.tensor(next(losses))

    run_epoch = train._Run.epoch

    def watched(run: train._Run) -> None:
        run_epoch(run)
        seen.append(weights(run.bare))

    monkeypatch.setattr(train.nn.CrossEntropyLoss, "forward", scripted)
    monkeypatch.setattr(train._Run, "epoch", watched)
    found = train.train(small(), *parts, 2, recipe="paper", pretrained=False)
    assert found.epochs == 7
    assert same(seen[1], weights(found.network))
    assert not same(seen[6], weights(found.network))


def test_several_labels_are_learnt_each_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, "default", epochs=12, samples=None, batch=8)

    def part(seed: int) -> Part:
        chance = np.random.default_rng(seed)
        targets = chance.integers(0, 2, (48, 2))
        red, blue = (60 + 130 * targets[:, i] for i in (0, 1))
        levels = np.stack([red, np.full(48, 100), blue], axis=1)[:, :, None, None]
        pixels = np.clip(chance.normal(levels, 20, (48, 3, 32, 32)), 0, 255)
        return Part(pixels.astype(np.uint8), targets.astype(np.int64))

    found = train.train(small(), part(0), part(1), 2, pretrained=False)
    assert ((found.logits > 0) == (part(1).targets > 0)).mean() > 0.9


def test_a_loss_that_is_not_a_number_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, "default", epochs=2, samples=None, rate=float("inf"), batch=8)
    with pytest.raises(SpecialistError) as caught:
        train.train(small(), bright_or_dark(16), bright_or_dark(8, seed=1), 2, pretrained=False)
    assert str(caught.value) == (
        "Training 'vit-tiny' diverged: the loss is not a number. "
        "Try another seed (`--seed`) or the `paper` recipe."
    )


def test_a_large_set_gets_fewer_epochs_but_more_if_it_starts_from_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def planned(n: int, samples: int | None, name: str = "vit-tiny", first: bool = False) -> int:
        part = Part(np.zeros((n, 3, 32, 32), np.uint8), np.arange(n) % 2)
        recipe = plan(monkeypatch, "default", epochs=30, samples=samples)
        return train._Run(small(name), part, 2, recipe, 0, first).planned

    assert planned(100, 2000) == 20
    assert planned(100, 200) == 12
    assert planned(100, 200, "efficientnet-lite0", first=True) == 4
    assert planned(10, 2000) == 30
    assert planned(100, None) == 30


def test_a_training_part_smaller_than_a_batch_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, "default", epochs=2, samples=None)
    part = bright_or_dark(5)
    assert train.train(small(), part, part, 2, pretrained=False).epochs == 2


def test_a_new_head_starts_from_even_odds() -> None:
    network = build(small(), 3, pretrained=False).eval()
    assert network(torch.randn(2, 3, 32, 32)).abs().max() == 0


def test_pretrained_first_stages_keep_their_weights_and_statistics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan(monkeypatch, "default", epochs=1, samples=None, batch=8)
    bare = small("efficientnet-lite0")
    before = weights(build(bare, 2, pretrained=True))
    found = train.train(bare, bright_or_dark(16), bright_or_dark(8, seed=1), 2)
    after = weights(found.network)
    first = ("conv_stem", "bn1", "blocks.0", "blocks.1")
    kept = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith(first)} <= kept
    assert not any(name.startswith(("blocks.2", "conv_head")) for name in kept)


def test_the_published_recipe_trains_every_layer() -> None:
    assert RECIPES["paper"].frozen == 0


def test_averaged_weights_are_the_mean_and_what_is_shared_stays_exact() -> None:
    shared, count = torch.tensor([0.1, 0.7]), torch.tensor(5)
    states = [
        {"own": torch.tensor([float(n)]), "shared": shared, "count": count + n} for n in range(3)
    ]
    found = train._averaged(states)
    assert found["own"].item() == pytest.approx(1.0)
    assert torch.equal(found["shared"], shared)
    assert found["count"] == count


def test_a_small_set_with_first_weights_is_trained_several_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan(monkeypatch, "default", epochs=1, samples=None, batch=8, soup=2)
    told: list[tuple[int, int, float]] = []
    train.train(
        small("efficientnet-lite0"),
        bright_or_dark(16),
        bright_or_dark(8, seed=1),
        2,
        checkpoint=tmp_path / "state.pt",
        progress=lambda *now: told.append(now),
    )
    assert [now[:2] for now in told] == [(1, 2), (2, 2)]
    assert {file.name for file in tmp_path.iterdir()} == {"state.0.pt", "state.1.pt"}


def test_class_weights_are_taken_out_of_what_the_network_says() -> None:
    """A head that learnt weighted odds says the true ones afterwards."""
    network = build(small("efficientnet-lite0"), 2, pretrained=False).eval()
    weight = torch.tensor([4.0, 1.0])
    with torch.no_grad():
        network.classifier.bias.copy_((weight * torch.tensor([0.2, 0.8])).log())  # type: ignore[operator,union-attr]  # a Linear
    train._unweigh(network, torch.nn.CrossEntropyLoss(weight=weight))
    with torch.no_grad():
        said = network(torch.zeros(1, 3, 32, 32)).softmax(1)
    assert said[0].tolist() == pytest.approx([0.2, 0.8], abs=1e-5)
