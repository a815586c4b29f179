"""Specialists: light classifiers, one task each, that give opinions on an image.

A specialist is a TOML card beside its safetensors weights; `load` turns the two into an object
with `predict(images) -> list[Opinion]` and `embed(images) -> (N, D)`. Foreign specialists are any
object with a `name`, a `weights_hash` and those two methods (entry point `gsco.specialists`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from specialists.card import Backbone, Card, Quality, backbone_named, backbones
from specialists.errors import SpecialistError
from specialists.opinion import Opinion

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from specialists.classifier import Classifier, load
    from specialists.grad_cam import overlay, saliency

__all__ = [
    "Backbone",
    "Card",
    "Classifier",
    "Opinion",
    "Quality",
    "Specialist",
    "SpecialistError",
    "backbone_named",
    "backbones",
    "load",
    "overlay",
    "saliency",
]

_HOMES = {
    "Classifier": "specialists.classifier",
    "load": "specialists.classifier",
    "overlay": "specialists.grad_cam",
    "saliency": "specialists.grad_cam",
}


class Specialist(Protocol):
    """Whoever gives opinions on images."""

    name: str

    @property
    def weights_hash(self) -> str:
        """Something that changes when its answers may."""
        ...

    def predict(self, images: "Sequence[Image.Image]") -> list[Opinion]:
        """Return one opinion an image."""
        ...

    def embed(self, images: "Sequence[Image.Image]") -> "NDArray[np.float32]":
        """Return (N, D) float32 unit rows."""
        ...


# Any: module attributes have no common type.
def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is used."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'specialists' has no attribute {name!r}")
