"""One stage of learning: optimizers, rates that rise and fall, and checkpoints to go on from."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    reading_steps: int = 6000
    tower_steps: int = 4000
    shares: tuple[int, ...] = (12, 14, 16, 22, 6)
    """Images of each task in a batch of the tower's stage."""
    features: float = 3.0
    """Weight of the ImageNet features in the loss of the tower's stage; without a GPU they take
    most of its time."""
    looking_steps: int = 500
    weighing_steps: int = 400
    prompts: float = 0.5
    """Weight of the prompts' own tokens in the loss of the reading stage: labels that come again
    are what a model first learns to copy from."""
    rate: float = 1e-3
    """Highest learning rate of AdamW: embeddings, heads, norms."""
    matrix_rate: float = 2e-3
    """Highest learning rate of Muon, which has the layers' matrices and needs far fewer steps."""
    finetune: float = 0.2
    """The tower's learning rates while the model looks, as a share; later it stays as it is."""
    batch: int = 64
    every: int = 100
    """Steps between checkpoints."""
    seed: int = 0
    workers: int = 0
    """Processes that draw samples; 0 draws them between the steps."""


Progress = Callable[[str], None]


@dataclass
class Run:
    """What a checkpoint holds; it changes with every step."""

    stage: str
    key: str
    """What a checkpoint must agree with: how to learn and what, not how often one is written."""
    step: int
    modules: nn.ModuleDict
    optimizers: tuple[torch.optim.Optimizer, ...]
    generator: torch.Generator

    def save(self, folder: Path) -> None:
        """Write the checkpoint so that a killed run leaves the last whole one."""
        state = {
            "stage": self.stage,
            "key": self.key,
            "step": self.step,
            "modules": self.modules.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
        }
        partial = folder / f"{self.stage}.partial"
        torch.save(state, partial)
        partial.replace(folder / f"{self.stage}.pt")

    def resume(self, folder: Path) -> None:
        """Go on from the stage's checkpoint, if there is one of the same plan and material."""
        path = folder / f"{self.stage}.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state.get("key") != self.key:
            return
        self.step = state["step"]
        self.modules.load_state_dict(state["modules"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.generator.set_state(state["generator"])


def new_run(
    stage: str, modules: nn.ModuleDict, plan: Plan, slower: Mapping[str, float], material: str
) -> Run:
    """Return a run at its first step.

    Args:
        stage: what its checkpoints are called.
        modules: what learns.
        plan: how fast; a checkpoint of another plan is left aside.
        slower: beginning of parameters' names to a share of the plan's rates.
        material: what tells the data it learns from; a checkpoint of others is left aside.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in modules.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = next((f for start, f in slower.items() if name.startswith(start)), 1.0)
        # Muon would turn each of an adapter's many small matrices by itself.
        is_matrix = ".layers." in name and parameter.ndim == 2 and "lora_" not in name
        groups.setdefault((is_matrix, factor), []).append(parameter)

    def chosen(matrix: bool, rate: float) -> list[dict[str, Any]]:
        kept = [(f, p) for (is_matrix, f), p in groups.items() if is_matrix == matrix]
        return [{"params": p, "lr": rate * f, "top": rate * f} for f, p in kept]

    matrices, others = chosen(True, plan.matrix_rate), chosen(False, plan.rate)
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        muon = torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
        optimizers.append(muon)
    optimizers.append(torch.optim.AdamW(others, weight_decay=0.05, betas=(0.9, 0.98)))
    generator = torch.Generator().manual_seed(plan.seed)
    key = f"{replace(plan, every=0, workers=0)!r} {material}"
    return Run(stage, key, 0, modules, tuple(optimizers), generator)


def learn(
    run: Run,
    losses: Callable[[], Iterator[Tensor]],
    steps: int,
    plan: Plan,
    out: Path,
    progress: Progress,
) -> None:
    """Take `run` to its last step, from its checkpoint below `out` if there is one.

    `losses` is called once the run is where it goes on, and yields one loss a step.
    """
    run.resume(out)
    run.modules.train()
    start, first, seen = time.monotonic(), run.step, 0.0
    device = next(run.modules.parameters()).device.type
    # Twice as fast for matrices of this size, but many times as slow on a processor that has to
    # emulate it; the weights themselves stay in full precision.
    half = device != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    source = losses()
    while run.step < steps:
        for group in (group for o in run.optimizers for group in o.param_groups):
            group["lr"] = group["top"] * _schedule(run.step, steps)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = next(source)
        run.modules.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(run.modules.parameters(), 1.0)
        for optimizer in run.optimizers:
            optimizer.step()
        run.step += 1
        seen += float(loss.detach())
        if run.step % plan.every == 0 or run.step == steps:
            run.save(out)
            done = (run.step - first) % plan.every or plan.every
            left = (time.monotonic() - start) / (run.step - first) * (steps - run.step)
            progress(f"{run.stage} {run.step}/{steps} loss {seen / done:.3f} left {left:.0f} s")
            seen = 0.0
    run.modules.eval()


def _schedule(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / 100) * (0.02 + 0.49 * (1 + math.cos(math.pi * step / steps)))
