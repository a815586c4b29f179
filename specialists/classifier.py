"""A specialist: a trained network behind `predict` and `embed`.

specialist = load(Path("workspace/tasks/pneumonia-cxr/specialists/resnet18-small"))
opinions = specialist.predict([image])
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from specialists import backbone as backbones
from specialists.card import Card, card_from_toml, file_sha256
from specialists.errors import SpecialistError
from specialists.images import normalise, to_tensor
from specialists.opinion import Opinion

WEIGHTS, CARD = "weights.safetensors", "card.toml"


ROOM = 16 * 2**20
"""Bytes that the largest activation of a batch may take on a CPU."""


@torch.inference_mode()
def batch_for(network: nn.Module, size: int) -> int:
    """Return how many images of `size` pixels a side go through a network at once.

    On a CPU the activations of more outgrow what the allocator keeps, and fetching fresh pages for
    every layer costs more than a large batch gains: of one network 64 were half as fast as 16, of
    smaller ones twice as fast. So one image goes first, and its largest activation decides.
    """
    device = next(network.parameters()).device
    if device.type != "cpu":
        return 256
    largest = 1

    def note(module: nn.Module, given: object, out: object) -> None:
        nonlocal largest
        if isinstance(out, Tensor):
            largest = max(largest, out.numel() * out.element_size())

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    network(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return max(8, min(64, ROOM // largest))


class Classifier:
    """A network with the card that says what its outputs mean."""

    def __init__(self, card: Card, network: nn.Module, *, device: str | None = None) -> None:
        self.card = card
        self.name = card.name
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.network: nn.Module = network.to(self.device)

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the weights."""
        return self.card.weights_sha256

    @property
    def input_size(self) -> int:
        """Side of the square input in pixels."""
        return self.card.backbone.input_size

    @cached_property
    def batch(self) -> int:
        """How many images go through the network at once."""
        return batch_for(self.network, self.input_size)

    def predict(self, images: Sequence[Image.Image]) -> list[Opinion]:
        """Return one opinion an image, with calibrated probabilities."""
        return self.predict_tensor(to_tensor(images, self.input_size)) if images else []

    def predict_tensor(self, pixels: Tensor) -> list[Opinion]:
        """Return one opinion a row of (N, 3, S, S) uint8."""
        probabilities = self.probabilities(self.logits(pixels))
        return [self._opinion(row) for row in probabilities.tolist()]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn (N, C) logits into calibrated probabilities."""
        scaled = logits.double() / self.card.temperature
        return scaled.softmax(1) if self.card.kind == "single" else scaled.sigmoid()

    def _opinion(self, row: list[float]) -> Opinion:
        return Opinion(
            specialist=self.name,
            labels=self.card.labels,
            probabilities=tuple(row),
            kind=self.card.kind,
            reliability=self.card.validation.balanced_accuracy,
        )

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Return (N, C) float32 logits of (N, 3, S, S) uint8, before calibration."""
        parts = [self.network(self._prepare(part)) for part in pixels.split(self.batch)]
        return torch.cat(parts).float().cpu()

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return (N, D) float32 unit rows: the pooled features before the head."""
        if not images:
            return np.zeros((0, backbones.head_of(self.network).in_features), np.float32)
        return self.embed_tensor(to_tensor(images, self.input_size))

    @torch.inference_mode()
    def embed_tensor(self, pixels: Tensor) -> NDArray[np.float32]:
        """Return (N, D) float32 unit rows of (N, 3, S, S) uint8."""
        rows = [features(self.network, self._prepare(part)) for part in pixels.split(self.batch)]
        unit = nn.functional.normalize(torch.cat(rows).float(), dim=1)
        return np.ascontiguousarray(unit.cpu().numpy())

    def _prepare(self, pixels: Tensor) -> Tensor:
        bare = self.card.backbone
        return normalise(pixels.to(self.device), bare.mean, bare.std)


# Any: timm and torchvision share no type that has these methods.
def features(network: Any, pixels: Tensor) -> Tensor:
    """Return the pooled features (N, D) that the head reads."""
    if hasattr(network, "forward_head"):
        hidden = network.forward_features(pixels)
        pooled: Tensor = network.forward_head(hidden, pre_logits=True)
        return pooled.flatten(1)
    flat = torch.flatten(network.avgpool(network.features(pixels)), 1)
    out: Tensor = network.classifier[:-1](flat)
    return out


def save(folder: Path, card: Card, network: nn.Module) -> Card:
    """Write weights (float16) and card into `folder`, the card last; return it with the hash."""
    from dataclasses import replace

    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: _narrowed(value) for name, value in network.state_dict().items()}
    partial = folder / (WEIGHTS + ".partial")
    save_file(state, partial)
    partial.replace(folder / WEIGHTS)
    card = replace(card, weights_sha256=file_sha256(folder / WEIGHTS))
    text = folder / (CARD + ".partial")
    text.write_text(card.to_toml(), encoding="utf-8")
    text.replace(folder / CARD)
    return card


def _narrowed(value: Tensor) -> Tensor:
    # A batch norm's variance may lie above what float16 can hold.
    fits = value.is_floating_point() and bool(value.half().isfinite().all())
    return (value.half() if fits else value).contiguous()


def load_card(folder: Path) -> Card:
    """Read the card of the specialist in `folder`."""
    try:
        return card_from_toml((folder / CARD).read_text(encoding="utf-8"), folder.name)
    except FileNotFoundError as error:
        raise SpecialistError(
            f"Specialist {folder.name!r} has no card. Run `gsco construct` again: it goes on "
            "where it stopped."
        ) from error
    except UnicodeDecodeError as error:
        raise SpecialistError(
            f"The card of specialist {folder.name!r} cannot be read ({error.reason}). "
            "Construct the task again."
        ) from error


def load(folder: Path, *, device: str | None = None) -> Classifier:
    """Load a specialist and check that its weights are those of its card.

    Raises:
        SpecialistError: card or weights are missing, or the weights were altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card = load_card(folder)
    path = folder / WEIGHTS
    if not path.exists():
        raise SpecialistError(
            f"The weights of specialist {card.name!r} are missing ({WEIGHTS}). Copy them back, or "
            "delete its folder and run `gsco construct` again."
        )
    if (found := file_sha256(path)) != card.weights_sha256:
        raise SpecialistError(
            f"The weights of specialist {card.name!r} were altered: their hash is {found[:12]!r}, "
            f"the card says {card.weights_sha256[:12]!r}. Restore them, or delete its folder and "
            "run `gsco construct` again."
        )
    network = backbones.build(card.backbone, len(card.labels), pretrained=False)
    try:
        state = load_file(path)
        network.load_state_dict(
            {name: v.float() if v.is_floating_point() else v for name, v in state.items()}
        )
    except (SafetensorError, RuntimeError) as error:
        raise SpecialistError(
            f"The weights of specialist {card.name!r} do not fit {card.backbone.architecture!r}. "
            "Delete its folder and run `gsco construct` again."
        ) from error
    return Classifier(card, network, device=device)
