"""Train gsco-tiny from nothing; killed at any moment and called again, it goes on.

    python -m gsco.generalist.tiny.recipe --data DIR --out DIR

Four stages. `reading`: the language part alone learns to weigh what is written, on made-up tasks.
`tower`: the vision tower learns all tasks by linear heads on its pooled patches, which is fast,
and to say of each patch what an ImageNet network's features say: labels alone are few.
`looking`: the whole model learns to answer from pictures alone, and goes on reading.
`weighing`: pictures that it has never seen, with evidence: how far to trust its eyes, and how far
what it reads. That hangs on what the evidence is like, so it is learnt once for each of several
mixes, and the weights are averaged (model soups, Wortsman et al., 2022).
A shuffled letter cannot be learnt by a model this small: it would have to bind letters to labels.
A GPU is used where there is one; other processes draw the samples beside it, as it would wait for
them. What is drawn hangs on the seed alone.
"""

import argparse
import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from gsco.generalist.seen import write_seen
from gsco.generalist.tiny import architecture
from gsco.generalist.tiny.data import Pictures, load_pictures
from gsco.generalist.tiny.export import export
from gsco.generalist.tiny.learning import Plan, Progress, learn, new_run
from gsco.generalist.tiny.samples import (
    GROUP,
    LOOKING,
    READING,
    WEIGHINGS,
    Batch,
    Mix,
    batches,
    draw_sample,
)
from gsco.generalist.tiny.tokens import BEGIN, END, IMAGE, PAD, train_tokenizer
from specialists.embedder import DIMENSION, ImageNetEmbedder, maps_of
from specialists.images import augment, normalise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

HALF = (0.5, 0.5, 0.5)
VOCABULARY = 1200


def beside_gpu() -> int:
    """Return how many processes should draw samples: some where a GPU would wait for them."""
    return min(8, (os.cpu_count() or 1) - 1) if torch.cuda.is_available() else 0


def train(
    data: Path,
    out: Path,
    plan: Plan | None = None,
    progress: Progress = lambda line: None,
    *,
    device: str | None = None,
) -> Path:
    """Train on the sets under `data` and write the model to `out / "model"`, which is returned.

    The device is the GPU if there is one and None is given.
    """
    plan = plan or Plan()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    out.mkdir(parents=True, exist_ok=True)
    pictures = load_pictures(data, "train", architecture.SIZE)
    if pictures.left_out:
        progress(f"{pictures.left_out} training images look like held-out ones; left out")
    torch.manual_seed(plan.seed)
    tokenizer = make_tokenizer(pictures, plan.seed)
    model = new_model(tokenizer).to(device)
    train_stages(model, pictures, tokenizer, out, plan, progress)
    folder = export(model, tokenizer, out / "model")
    write_seen(folder, pictures.content)
    return folder


# Any: transformers' models have no types.
def train_stages(
    model: Any,
    pictures: Pictures,
    tokenizer: "PreTrainedTokenizerFast",
    out: Path,
    plan: Plan,
    progress: Progress,
) -> None:
    """Take a model through the four stages, on the device where it is."""
    train_reading(model, pictures, tokenizer, out, plan, progress)
    tower = train_tower(pictures, out, plan, progress, model.device)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    looking = Stage("looking", plan.looking_steps, LOOKING, 0.5, plan.finetune)
    train_whole(model, pictures, tokenizer, out, plan, looking, progress)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    mean = {name: torch.zeros_like(value) for name, value in start.items()}
    for number, mix in enumerate(WEIGHINGS, 1):
        model.load_state_dict(start)
        weighing = Stage(f"weighing-{number}", plan.weighing_steps, mix, 0.4)
        train_whole(model, pictures, tokenizer, out, plan, weighing, progress)
        for name, value in model.state_dict().items():
            mean[name] += value / len(WEIGHINGS)
    model.load_state_dict(mean)


def make_tokenizer(pictures: Pictures, seed: int) -> "PreTrainedTokenizerFast":
    """Return the tokenizer, trained on prompts as they come."""
    draw = random.Random(seed)
    prompts = [draw_sample(pictures, draw).prompt for _ in range(2000)]
    return train_tokenizer([f"{p.system}{p.before}{p.after}" for p in prompts], VOCABULARY)


# Any: transformers' models have no types.
def train_tower(
    pictures: Pictures,
    out: Path,
    plan: Plan,
    progress: Progress,
    device: torch.device | str = "cpu",
) -> Any:
    """Return a tower that tells the classes of every task apart."""
    tower = architecture.new_tower().to(device)
    heads = nn.ModuleList(
        nn.Linear(architecture.WIDTH, len(examples.task.texts)) for examples in pictures.tasks
    ).to(device)
    pupil = nn.ModuleDict({"tower": tower, "heads": heads})
    teacher = Teacher().to(device) if plan.features else None
    if teacher:
        pupil["copy"] = teacher.copy
    run = new_run("tower", pupil, plan, {}, pictures.fingerprint)

    def losses() -> Iterator[Tensor]:
        while True:
            yield _tower_loss(tower, heads, teacher, pictures, plan, run.generator)

    learn(run, losses, plan.tower_steps, plan, out, progress)
    return tower


def _tower_loss(
    tower: nn.Module,
    heads: nn.ModuleList,
    teacher: "Teacher | None",
    pictures: Pictures,
    plan: Plan,
    draw: torch.Generator,
) -> Tensor:
    rows, targets = [], []
    for examples, share in zip(pictures.tasks, plan.shares, strict=True):
        counts = torch.bincount(examples.targets, minlength=len(examples.task.texts))
        chance = (1 / counts.clamp(min=1).float()[examples.targets]) * ~examples.fresh
        drawn = torch.multinomial(chance, share, replacement=True, generator=draw)
        rows.append(examples.rows[drawn])
        targets.append(examples.targets[drawn])
    device = next(tower.parameters()).device
    drawn = augment(pictures.pixels[torch.cat(rows)], draw)
    pixels = normalise(shaken(drawn, draw), HALF, HALF).to(device)
    patches = tower(pixel_values=pixels).last_hidden_state[:, 1:]
    parts = pooled(patches).split(list(plan.shares))
    losses = [
        functional.cross_entropy(head(part), target.to(device), label_smoothing=0.05)
        for head, part, target in zip(heads, parts, targets, strict=True)
    ]
    loss = torch.stack(losses).sum()
    return loss + plan.features * teacher.loss(patches, drawn.to(device)) if teacher else loss


class Teacher(nn.Module):
    """An ImageNet network's features as a second thing to learn (FitNets, Romero et al., 2015).

    They are those of the independent embedder, a place of its last map for each patch.
    """

    def __init__(self) -> None:
        super().__init__()
        embedder = ImageNetEmbedder()
        self._backbone = embedder.backbone
        self.network = embedder.network.requires_grad_(False)
        self.copy = nn.Linear(architecture.WIDTH, DIMENSION)

    def loss(self, patches: Tensor, pixels: Tensor) -> Tensor:
        """Return how far (N, P, WIDTH) patches are from the features of (N, 3, S, S) pixels.

        That is the mean squared error of features with mean 0 and deviation 1 in the batch.
        """
        with torch.no_grad():
            places = architecture.SIZE // architecture.PATCH
            # The network's last map is a 32nd of its input's side.
            large = functional.interpolate(pixels, size=32 * places, mode="bilinear")
            given = normalise(large, self._backbone.mean, self._backbone.std).contiguous(
                memory_format=torch.channels_last
            )
            said = maps_of(self.network, given).float().flatten(2).transpose(1, 2)
            wanted = (said - said.mean((0, 1))) / (said.std((0, 1)) + 1e-5)
        copied = self.copy(functional.layer_norm(patches, (architecture.WIDTH,)))
        return functional.mse_loss(copied.float(), wanted)


def pooled(patches: Tensor) -> Tensor:
    """Return (N, WIDTH): the mean of an image's (N, P, WIDTH) patches."""
    return functional.layer_norm(patches.mean(1), (architecture.WIDTH,))


# Any: transformers' models have no types.
def new_model(tokenizer: "PreTrainedTokenizerFast") -> Any:
    """Return a model that has learnt nothing yet."""
    image, *others = tokenizer.convert_tokens_to_ids([IMAGE, PAD, BEGIN, END])
    return architecture.new_model(architecture.language_config(len(tokenizer), *others), image)


@dataclass(frozen=True)
class Stage:
    """One stage of learning to answer prompts."""

    name: str
    steps: int
    mix: Mix
    factor: float
    """Share of the plan's learning rates."""
    tower: float = 0.0
    """Share of these that the tower has."""


# Any: transformers' models have no types.
def train_reading(
    model: Any,
    pictures: Pictures,
    tokenizer: "PreTrainedTokenizerFast",
    out: Path,
    plan: Plan,
    progress: Progress,
) -> None:
    """Teach the language part to weigh what is written."""
    language = nn.ModuleDict({"language": model.model.language_model, "head": model.lm_head})
    stage = Stage("reading", plan.reading_steps, READING, 1.0)
    run = new_run(stage.name, language, plan, {}, _material(pictures, tokenizer))

    def losses() -> Iterator[Tensor]:
        for drawn in _batches(run.step, pictures, tokenizer, plan, stage):
            batch = drawn.to(model.device)
            states = model.model.language_model(input_ids=batch.tokens).last_hidden_state
            loss = _answer_loss(model, states, batch)
            if plan.prompts:
                loss = loss + plan.prompts * _prompt_loss(model, states, batch)
            yield loss

    learn(run, losses, stage.steps, plan, out, progress)


def _material(pictures: Pictures, tokenizer: "PreTrainedTokenizerFast") -> str:
    """Return what tells the images, their labels and the tokens from others."""
    tokens = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    return f"{pictures.fingerprint} {tokens}"


def _batches(
    start: int,
    pictures: Pictures,
    tokenizer: "PreTrainedTokenizerFast",
    plan: Plan,
    stage: Stage,
) -> Iterator[Batch]:
    first, done = divmod(start, GROUP)
    # Samples name their pictures by number: who draws them needs no pixels.
    numbered = replace(pictures, pixels=pictures.pixels.new_empty((len(pictures.pixels), 0)))
    loader = DataLoader(
        _Groups(numbered, tokenizer, plan, stage, first),
        batch_size=None,
        num_workers=plan.workers,
        prefetch_factor=1 if plan.workers else None,
        # A process that holds a GPU must not be forked.
        multiprocessing_context="spawn" if plan.workers else None,
        # It would draw from torch's own, which the tower's first weights come from.
        generator=torch.Generator(),
    )
    for drawn in loader:
        yield from drawn[done:]
        done = 0


@dataclass(frozen=True)
class _Groups(Dataset[list[Batch]]):
    """Groups of batches, each with a seed of its own, so that a run can go on inside a group."""

    pictures: Pictures
    tokenizer: "PreTrainedTokenizerFast"
    plan: Plan
    stage: Stage
    first: int

    def __len__(self) -> int:
        return -(-self.stage.steps // GROUP) - self.first

    def __getitem__(self, number: int) -> list[Batch]:
        draw = random.Random(f"{self.plan.seed} {self.stage.name} {self.first + number}")
        patches = (architecture.SIZE // architecture.PATCH) ** 2
        mix = self.stage.mix
        return batches(self.pictures, self.tokenizer, patches, self.plan.batch, draw, mix)


# Any: transformers' models have no types.
def train_whole(
    model: Any,
    pictures: Pictures,
    tokenizer: "PreTrainedTokenizerFast",
    out: Path,
    plan: Plan,
    stage: Stage,
    progress: Progress,
) -> None:
    """Teach the whole model to answer prompts."""
    slower = {"model.model.vision_tower": stage.tower}
    slowed = replace(
        plan, rate=plan.rate * stage.factor, matrix_rate=plan.matrix_rate * stage.factor
    )
    whole = nn.ModuleDict({"model": model})
    run = new_run(stage.name, whole, slowed, slower, _material(pictures, tokenizer))

    def losses() -> Iterator[Tensor]:
        for drawn in _batches(run.step, pictures, tokenizer, plan, stage):
            batch = drawn.to(model.device)
            clear = augment(pictures.pixels[drawn.rows], run.generator)
            hazy = fogged(shaken(clear, run.generator), run.generator)
            pixels = normalise(hazy, HALF, HALF).to(model.device)
            states = model.model(input_ids=batch.tokens, pixel_values=pixels).last_hidden_state
            yield _answer_loss(model, states, batch)

    learn(run, losses, stage.steps, plan, out, progress)


# Any, here and below: transformers' models have no types.
def _answer_loss(model: Any, states: Tensor, batch: Batch) -> Tensor:
    """Return the cross entropy to what should be said, where the answers part.

    Only tokens that a constraint lets follow there are compared, as in a reading.
    """
    logits = model.lm_head(states[batch.parts]).float()
    return functional.cross_entropy(logits.masked_fill(batch.wanted == 0, -1e4), batch.wanted)


def _prompt_loss(model: Any, states: Tensor, batch: Batch) -> Tensor:
    """Return the cross entropy of the prompts' own tokens, from the one before."""
    places = torch.arange(1, batch.tokens.shape[1], device=batch.tokens.device)
    follows = (places < batch.ends[:, None]) & ~batch.parts[:, :-1]
    return functional.cross_entropy(
        model.lm_head(states[:, :-1][follows]), batch.tokens[:, 1:][follows]
    )


def shaken(pixels: Tensor, draw: torch.Generator, share: float = 0.5) -> Tensor:
    """Return (N, 3, S, S) pixels in [0, 255], a share as another scanner might show them.

    That is with another gamma, from 0.5 to 2, and up to 20 grey levels of noise.
    """
    chosen = torch.rand(len(pixels), generator=draw) < share
    some = pixels[chosen]
    gamma = 2 ** (2 * torch.rand(len(some), 1, 1, 1, generator=draw) - 1)
    strength = 20 * torch.rand(len(some), 1, 1, 1, generator=draw)
    noise = strength * torch.randn(some.shape, generator=draw)
    shown = (255 * (some / 255) ** gamma + noise).clamp(0, 255)
    return pixels.index_put((chosen,), shown)


def fogged(pixels: Tensor, draw: torch.Generator, share: float = 0.25) -> Tensor:
    """Return (N, 3, S, S) pixels, a share of the images blurred until little can be told.

    A training image is soon known by heart; without this the model would learn that it can always
    trust its eyes, and ignore the evidence on images that it has never seen.
    """
    chosen = torch.rand(len(pixels), generator=draw) < share
    coarse = functional.avg_pool2d(pixels[chosen], architecture.SIZE // 8)
    blurred = functional.interpolate(coarse, size=pixels.shape[-2:], mode="bilinear")
    return pixels.index_put((chosen,), blurred)


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description="Train gsco-tiny.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--workers", type=int, default=beside_gpu(), help="processes that draw samples"
    )
    parser.add_argument("--seed", type=int, default=0)
    stages = ("reading", "tower", "looking", "weighing")
    for stage in stages:
        most = getattr(Plan, f"{stage}_steps")
        parser.add_argument(f"--{stage}-steps", type=int, default=most)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    steps = {f"{stage}_steps": getattr(given, f"{stage}_steps") for stage in stages}
    plan = Plan(**steps, seed=given.seed, workers=given.workers)
    train(given.data, given.out, plan, lambda line: print(line, flush=True))  # noqa: T201


if __name__ == "__main__":
    main()
