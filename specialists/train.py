"""Train a specialist; killed at any moment and called again, it goes on after the last epoch.

Two recipes by name. `paper`: AdamW 1e-4, cosine, at most 100 epochs, stop after 5 without gain in
validation loss, batch 64, no augmentation (reference: the publication's specialists, which follow
Doerrich et al., Sci Rep 2025). `default`: ours, made for two cores and small sets: augmentation on
the batch, a one-cycle rate that is higher for the new head, class weights, pretrained first stages
that stay as they are, and a moving average of the weights, which is what is kept. On small sets the
weights of several such runs from the same first weights are averaged (Wortsman et al., "Model
soups", ICML 2022): what one run learns hangs on its seed more than on anything else.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specialists import backbone as backbones
from specialists.calibrate import fit_temperature
from specialists.card import Backbone
from specialists.classifier import batch_for
from specialists.errors import SpecialistError
from specialists.images import augment, normalise

RecipeName = Literal["default", "paper"]


@dataclass(frozen=True)
class Recipe:
    """How to train."""

    rate: float
    """Highest learning rate of the pretrained part."""
    head_rate: float
    """Highest learning rate of a part that starts from nothing."""
    epochs: int
    samples: int | None
    """Images seen in all, which bounds the epochs of large sets; None for no bound."""
    patience: int | None
    """Stop after so many epochs without a lower validation loss; None to run to the end."""
    batch: int
    weight_decay: float
    augmented: bool
    smoothing: float
    average: bool
    """Keep a moving average of the weights instead of the best epoch's."""
    soup: int
    """Average the weights of so many runs where the set is small and first weights are shared."""
    frozen: int
    """So many first groups of layers (the stem is one) keep their pretrained weights: edges look
    the same everywhere, small sets would only spoil them, and half of the time is spent there."""


RECIPES: dict[RecipeName, Recipe] = {
    "default": Recipe(1e-3, 3e-3, 20, 18_000, None, 32, 0.05, True, 0.05, True, 3, 3),
    "paper": Recipe(1e-4, 1e-4, 100, None, 5, 64, 0.01, False, 0.0, False, 1, 0),
}


SMALL = 600
"""Training images up to which several runs are averaged."""


@dataclass(frozen=True)
class Part:
    """Images and targets of one split."""

    pixels: NDArray[np.uint8]
    """(N, 3, S, S), possibly a memory map."""
    targets: NDArray[np.int64]
    """(N,) class numbers, or (N, C) zeros and ones."""


@dataclass(frozen=True)
class Trained:
    """A trained network with what calibration found on validation."""

    network: nn.Module
    epochs: int
    temperature: float
    logits: NDArray[np.float64]
    """(N, C) of the validation part, before the temperature."""


Progress = Callable[[int, int, float], None]
"""Told after every epoch: epochs done, epochs planned, validation loss."""


def train(
    backbone: Backbone,
    training: Part,
    validation: Part,
    n_labels: int,
    *,
    recipe: RecipeName = "default",
    seed: int = 0,
    checkpoint: Path | None = None,
    pretrained: bool = True,
    progress: Progress = lambda done, planned, loss: None,
) -> Trained:
    """Train a backbone on one task.

    Args:
        backbone: what to train.
        training: images and targets to learn from.
        validation: images and targets for stopping and for the temperature.
        n_labels: outputs.
        recipe: `default` or `paper`.
        seed: for weights, order and augmentation.
        checkpoint: file for the state after every epoch; resumed from if it fits.
        pretrained: start from the backbone's first weights where it has some.
        progress: called after each epoch.

    Raises:
        SpecialistError: first weights are missing, or the loss is not a number.
    """
    shared = _starts_from_weights(backbone, pretrained)
    runs = RECIPES[recipe].soup if shared and len(training.targets) <= SMALL else 1
    states = []
    for number in range(runs):
        run = _Run(backbone, training, n_labels, RECIPES[recipe], seed + 1000 * number, pretrained)
        file = checkpoint.with_suffix(f".{number}.pt") if checkpoint else None
        if file and file.exists():
            run.restore(file)
        while not run.finished:
            run.epoch()
            loss = run.validate(validation)
            if file:
                run.store(file)
            progress(number * run.planned + run.done, runs * run.planned, loss)
        network = run.kept()
        states.append(network.state_dict())
    network.load_state_dict(_averaged(states))
    _unweigh(network, run.loss)
    logits = _logits(network, validation.pixels, backbone).numpy().astype(np.float64)
    return Trained(network, run.done, fit_temperature(logits, validation.targets), logits)


def _starts_from_weights(backbone: Backbone, pretrained: bool) -> bool:
    return pretrained and backbone.first_weights != "scratch"


def _averaged(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of the weights; counters, which are whole numbers, are the first's."""
    return {
        # As a mean of differences: what all runs share, such as frozen weights, stays exact.
        name: value + torch.stack([state[name] - value for state in states]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }


@torch.no_grad()
def _unweigh(network: nn.Module, loss: nn.Module) -> None:
    """Take the class weights of the loss out of the logits again.

    Weights w make a network say probabilities proportional to w times the true ones; they help it
    to learn rare classes, and would make what it says too high for them.
    """
    bias, weight = backbones.head_of(network).bias, getattr(loss, "weight", None)
    if bias is not None and weight is not None:
        bias.sub_(weight.log().to(bias.device))


class _Run:
    """The state of one training: it must outlive an epoch, and survive a kill."""

    def __init__(
        self,
        backbone: Backbone,
        training: Part,
        n_labels: int,
        recipe: Recipe,
        seed: int,
        pretrained: bool,
    ) -> None:
        torch.manual_seed(seed)
        self.backbone, self.training, self.recipe = backbone, training, recipe
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        network = backbones.build(backbone, n_labels, pretrained=pretrained)
        shared = _starts_from_weights(backbone, pretrained)
        if shared:
            _freeze(network, recipe.frozen)
        self.bare = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        several = torch.cuda.device_count() > 1
        self.network = nn.DataParallel(self.bare) if several else self.bare
        bound = recipe.samples // len(training.targets) if recipe.samples else recipe.epochs
        # Whoever starts from nothing has edges to learn first.
        self.planned = min(recipe.epochs, max(bound, 4 if shared else 12))
        answers = zlib.crc32(training.targets.tobytes())
        self.plan = repr((backbone, n_labels, recipe, seed, pretrained, answers))
        self.batch = recipe.batch
        self.steps = max(len(training.targets) // self.batch, 1)
        self.optimiser = self._optimiser()
        self.schedule = self._schedule()
        decay = 1 - 1 / min(200, max(20, self.steps))
        self.average = torch.optim.swa_utils.AveragedModel(
            self.bare,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay),
            use_buffers=True,
        )
        self.loss = _loss(training.targets, n_labels, recipe).to(self.device)
        self.generator = torch.Generator().manual_seed(seed)
        self.done, self.waited, self.best = 0, 0, float("inf")
        self.best_state: dict[str, Tensor] | None = None

    def _optimiser(self) -> torch.optim.Optimizer:
        head = {id(p) for p in backbones.head_of(self.bare).parameters()}
        body = [p for p in self.bare.parameters() if id(p) not in head]
        top = [p for p in self.bare.parameters() if id(p) in head]
        rates = (self.recipe.rate, self.recipe.head_rate)
        groups = [{"params": body, "lr": rates[0]}, {"params": top, "lr": rates[1]}]
        return torch.optim.AdamW(groups, weight_decay=self.recipe.weight_decay)

    def _schedule(self) -> torch.optim.lr_scheduler.LRScheduler:
        total = self.planned * self.steps
        if not self.recipe.augmented:
            return torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, total)
        rates = [group["lr"] for group in self.optimiser.param_groups]
        return torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, rates, total_steps=total, pct_start=0.1, cycle_momentum=False
        )

    @property
    def finished(self) -> bool:
        impatient = self.recipe.patience is not None and self.waited >= self.recipe.patience
        return impatient or self.done >= self.planned

    def epoch(self) -> None:
        self.network.train()
        for module in self.bare.modules():
            parameters = list(module.parameters())
            # What is frozen keeps its batch statistics too.
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()
        order = torch.randperm(len(self.training.targets), generator=self.generator).numpy()
        for step in range(self.steps):
            rows = np.sort(order[step * self.batch : (step + 1) * self.batch])
            self._step(torch.from_numpy(self.training.pixels[rows]), self.training.targets[rows])
        self.done += 1

    def _step(self, pixels: Tensor, targets: NDArray[np.int64]) -> None:
        if self.recipe.augmented:
            pixels = augment(pixels, self.generator)
        batch = normalise(pixels.to(self.device), self.backbone.mean, self.backbone.std)
        batch = batch.contiguous(memory_format=torch.channels_last)
        # On a CPU bfloat16 makes the backward pass of depthwise convolutions half as fast.
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            logits = self.network(batch).float()
        loss = self.loss(logits, _as_targets(targets).to(self.device))
        if not torch.isfinite(loss):
            raise SpecialistError(
                f"Training {self.backbone.name!r} diverged: the loss is not a number. "
                "Try another seed (`--seed`) or the `paper` recipe."
            )
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.bare.parameters(), 5.0)
        self.optimiser.step()
        self.schedule.step()
        if self.recipe.average:
            self.average.update_parameters(self.bare)

    def validate(self, part: Part) -> float:
        """Return the loss on validation; remember the weights if it is the lowest."""
        current = self.average.module if self.recipe.average else self.bare
        logits = _logits(current, part.pixels, self.backbone)
        single = part.targets.ndim == 1
        plain: nn.Module = nn.CrossEntropyLoss() if single else nn.BCEWithLogitsLoss()
        loss = float(plain(logits, _as_targets(part.targets)))
        self.waited += 1
        if loss < self.best:
            self.best, self.waited = loss, 0
            if self.recipe.patience is not None:
                state = self.bare.state_dict()
                self.best_state = {k: v.detach().cpu().clone() for k, v in state.items()}
        return loss

    def kept(self) -> nn.Module:
        """Return the network to keep, on the CPU, ready for inference."""
        if self.recipe.average:
            kept = self.average.module
        else:
            kept = self.bare
            if self.best_state is not None:
                kept.load_state_dict(self.best_state)
        return kept.cpu().eval()

    def store(self, file: Path) -> None:
        """Write the whole state, so that a kill costs at most one epoch."""
        state = {
            "network": self.bare.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": {k: v for k, v in self.schedule.state_dict().items() if _plain(v)},
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "counts": (self.done, self.waited, self.best),
            "plan": self.plan,
            "best_state": self.best_state,
        }
        partial = file.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(file)

    def restore(self, file: Path) -> None:
        """Go on from `store`; a checkpoint of another plan is left aside."""
        state = torch.load(file, map_location=self.device, weights_only=True)
        if state.get("plan") != self.plan:
            return
        self.bare.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["torch"].cpu())
        self.done, self.waited, self.best = state["counts"]
        self.best_state = state["best_state"]


# Any: timm's models have no type that names their groups.
def _freeze(network: Any, groups: int) -> None:
    """Keep the first groups of layers as they are, where the network says what its groups are."""
    if not groups or not hasattr(network, "group_matcher"):
        return
    from timm.models import group_parameters

    found = group_parameters(network, network.group_matcher(coarse=True))
    named = dict(network.named_parameters())
    for number in sorted(found)[:groups]:
        for name in found[number]:
            named[name].requires_grad_(False)


def _plain(value: object) -> bool:
    return isinstance(value, int | float | bool | list)


def _as_targets(targets: NDArray[np.int64]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(targets))
    return tensor if targets.ndim == 1 else tensor.float()


def _loss(targets: NDArray[np.int64], n_labels: int, recipe: Recipe) -> nn.Module:
    if targets.ndim == 2:
        return nn.BCEWithLogitsLoss()
    if not recipe.augmented:
        return nn.CrossEntropyLoss()
    count = np.maximum(np.bincount(targets, minlength=n_labels), 1)
    # The square root: full weights let a class of three cases shake the whole network.
    weight = torch.tensor(np.sqrt(count.sum() / n_labels / count), dtype=torch.float32)
    return nn.CrossEntropyLoss(weight=weight, label_smoothing=recipe.smoothing)


@torch.inference_mode()
def _logits(network: nn.Module, pixels: NDArray[np.uint8], backbone: Backbone) -> Tensor:
    device = next(network.parameters()).device
    network.eval()
    parts = []
    step = batch_for(network, pixels.shape[-1])
    for start in range(0, len(pixels), step):
        rows = torch.from_numpy(np.array(pixels[start : start + step])).to(device)
        batch = normalise(rows, backbone.mean, backbone.std)
        parts.append(network(batch.contiguous(memory_format=torch.channels_last)).float().cpu())
    return torch.cat(parts)
