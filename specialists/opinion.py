"""An Opinion: what one specialist says of one image."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Opinion:
    """A specialist's calibrated distribution over its labels, for one image."""

    specialist: str
    """Name of the specialist that gave it."""
    labels: tuple[str, ...]
    """The labels it can say, in the order of its output."""
    probabilities: tuple[float, ...]
    """One for each label, in [0, 1]; they sum to 1 if `kind` is `single`."""
    kind: Literal["single", "multi"] = "single"
    """Whether exactly one label holds, or any number."""
    reliability: float | None = None
    """Its balanced accuracy on validation, in [0, 1]; None if unknown."""

    @property
    def answer(self) -> str:
        """The most probable label."""
        best = max(range(len(self.labels)), key=self.probabilities.__getitem__)
        return self.labels[best]

    @property
    def answers(self) -> tuple[str, ...]:
        """The labels it asserts: the most probable one, or all above 0.5 if `kind` is `multi`."""
        if self.kind == "single":
            return (self.answer,)
        pairs = zip(self.labels, self.probabilities, strict=True)
        return tuple(label for label, probability in pairs if probability > 0.5)
