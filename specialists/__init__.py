"""Specialists: light classifiers, one task each, that give opinions on an image.

A specialist is a TOML card beside its safetensors weights; `load` turns the two into an object
with `predict(images) -> list[Opinion]` and `embed(images) -> (N, D)`.
"""

from specialists.errors import SpecialistError
from specialists.opinion import Opinion

__all__ = ["Opinion", "SpecialistError"]
