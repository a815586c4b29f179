"""The independent embedder: ImageNet features of EfficientNet-Lite0, which saw no medical label.

A fine-tuned specialist and the neighbours in its own features err together by construction; these
features do not know the task. The published method's choice, a specialist's own features, is any
`Classifier`: it has the same `embed`.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from specialists import backbone as backbones
from specialists.card import backbone_named
from specialists.classifier import features
from specialists.images import normalise, to_tensor

NAME = "efficientnet-lite0-imagenet"
SIZE = 128


class ImageNetEmbedder:
    """Frozen ImageNet features of an installed package; nothing is downloaded."""

    name = NAME

    def __init__(self) -> None:
        self.backbone = backbone_named("efficientnet-lite0")
        network = backbones.build(self.backbone, 2, pretrained=True).eval()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.weights_hash = _hash(self.network)

    def embed(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Return (N, 1280) float32 unit rows."""
        if not images:
            return np.zeros((0, 1280), np.float32)
        return self.embed_tensor(to_tensor(images, SIZE))

    @torch.inference_mode()
    def embed_tensor(self, pixels: torch.Tensor, batch: int = 64) -> NDArray[np.float32]:
        """Return (N, 1280) float32 unit rows of (N, 3, 128, 128) uint8."""
        bare = self.backbone
        rows = [
            features(self.network, normalise(part, bare.mean, bare.std))
            for part in pixels.split(batch)
        ]
        unit = torch.nn.functional.normalize(torch.cat(rows).float(), dim=1)
        return np.ascontiguousarray(unit.numpy())


def _hash(network: torch.nn.Module) -> str:
    import hashlib

    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        if not name.startswith("classifier"):
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()


@cache
def independent_embedder() -> ImageNetEmbedder:
    """Return the one embedder of this process."""
    return ImageNetEmbedder()
