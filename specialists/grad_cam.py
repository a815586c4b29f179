"""Where a specialist looked: Grad-CAM (Selvaraju et al., ICCV 2017), for CNNs and ViTs.

The map is the class gradient's mean a channel times the channel, over the last layer that still
knows places: the last feature map of a CNN, the patch tokens before the last block of a ViT.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from specialists.classifier import Classifier
from specialists.errors import SpecialistError
from specialists.images import normalise, to_tensor


def saliency(specialist: Classifier, image: Image.Image, label: str) -> NDArray[np.float32]:
    """Return (H, W) in [0, 1], the size of the image: what speaks for `label`.

    Raises:
        SpecialistError: the specialist cannot say `label`.
    """
    labels = specialist.card.labels
    if label not in labels:
        raise SpecialistError(
            f"Specialist {specialist.name!r} cannot say {label!r}. It knows: {', '.join(labels)}."
        )
    bare = specialist.card.backbone
    pixels = to_tensor([image], specialist.input_size).to(specialist.device)
    batch = normalise(pixels, bare.mean, bare.std).requires_grad_()
    with torch.enable_grad():
        maps, logits = _places_and_logits(specialist.network, batch)
        (gradient,) = torch.autograd.grad(logits[0, labels.index(label)], maps)
    return _resized(_weighted(maps.detach(), gradient), image.size)


# Any: timm and torchvision share no type that has these methods.
def _places_and_logits(network: Any, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last maps that still know places, and the logits computed from them."""
    if hasattr(network, "blocks") and hasattr(network, "patch_embed"):
        kept: list[Tensor] = []
        layer = network.blocks[-1].norm1
        handle = layer.register_forward_hook(lambda _layer, _inputs, out: kept.append(out))
        try:
            logits = network(batch)
        finally:
            handle.remove()
        return kept[0], logits
    if hasattr(network, "forward_head"):
        maps = network.forward_features(batch)
        return maps, network.forward_head(maps)
    maps = network.features(batch)
    return maps, network.classifier(torch.flatten(network.avgpool(maps), 1))


def _weighted(maps: Tensor, gradient: Tensor) -> Tensor:
    if maps.ndim == 3:
        side = int(maps.shape[1] ** 0.5)
        extra = maps.shape[1] - side * side
        maps, gradient = (t[:, extra:].transpose(1, 2) for t in (maps, gradient))
        maps, gradient = (t.reshape(1, -1, side, side) for t in (maps, gradient))
    elif maps.shape[1] == maps.shape[2] != maps.shape[3]:
        maps, gradient = maps.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1)[0].clamp(min=0)


def _resized(heat: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    peak = float(heat.max())
    scaled = (heat / peak if peak > 0 else heat).float().cpu().numpy()
    image = Image.fromarray(scaled).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float32).clip(0, 1)


def overlay(image: Image.Image, heat: NDArray[np.float32], strength: float = 0.45) -> Image.Image:
    """Return the RGB image with the map laid over it, warm where it is high."""
    from matplotlib import colormaps

    colours = (colormaps["inferno"](heat)[..., :3] * 255).astype(np.float32)
    share = (heat * strength)[..., None]
    mixed = np.asarray(image.convert("RGB"), dtype=np.float32) * (1 - share) + colours * share
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
