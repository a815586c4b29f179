"""An Embedder: whoever turns images into vectors that are close when the images are alike."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


class Embedder(Protocol):
    """Makes the vectors of an index and of its queries: the two must come from the same one."""

    @property
    def name(self) -> str:
        """Its name, which the index's manifest records."""
        ...

    @property
    def weights_hash(self) -> str:
        """Something that changes when its vectors may."""
        ...

    def embed(self, images: "Sequence[Image.Image]") -> "NDArray[np.float32]":
        """Return (N, D) float32 unit rows, one for each RGB image."""
        ...
