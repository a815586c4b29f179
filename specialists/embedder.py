"""The independent embedder: ImageNet features of EfficientNet-Lite0, which saw no medical label.

They are the mean of the last block's 320 channels: the layer behind it has 1,280 that say little
more (`benchmarks/LOG.md`), and an index four times as large.

A fine-tuned specialist and the neighbours in its own features err together by construction; these
features do not know the task. The published method's choice, a specialist's own features, is any
`Classifier`: it has the same `embed`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from specialists import backbone as backbones
from specialists.card import backbone_named
from specialists.classifier import batch_for
from specialists.images import normalise, to_tensor

NAME = "efficientnet-lite0-imagenet"
SIZE = 128
DIMENSION = 320
_BEHIND = ("conv_head", "bn2", "classifier")
"""Layers that the features do not pass."""


class ImageNetEmbedder:
    """Frozen ImageNet features of an installed package; nothing is downloaded."""

    name = NAME

    def __init__(self) -> None:
        self.backbone = backbone_named("efficientnet-lite0")
        network = backbones.build(self.backbone, 2, pretrained=True).eval()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.weights_hash = _hash(self.network)
        self.batch = batch_for(self.network, SIZE)

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return (N, 320) float32 unit rows."""
        if not images:
            return np.zeros((0, DIMENSION), np.float32)
        return self.embed_tensor(to_tensor(images, SIZE))

    @torch.inference_mode()
    def embed_tensor(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        """Return (N, 320) float32 unit rows of (N, 3, 128, 128) uint8."""
        bare = self.backbone
        rows = [
            maps_of(self.network, normalise(part, bare.mean, bare.std)).mean((2, 3))
            for part in pixels.split(self.batch)
        ]
        unit = torch.nn.functional.normalize(torch.cat(rows).float(), dim=1)
        return np.ascontiguousarray(unit.numpy())


# Any: timm's models have no type that names their layers.
def maps_of(network: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Return the (N, 320, H / 32, W / 32) last maps of (N, 3, H, W) normalised pixels."""
    maps: torch.Tensor = network.blocks(network.bn1(network.conv_stem(pixels)))
    return maps


def _hash(network: torch.nn.Module) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        if not name.startswith(_BEHIND):
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()


@cache
def independent_embedder() -> ImageNetEmbedder:
    """Return the one embedder of this process."""
    return ImageNetEmbedder()
