"""Cards: what a backbone is, and what a trained specialist knows, as TOML files.

A `Backbone` names an architecture and its pixel contract. A `Card` is a specialist's: the backbone
it grew from, its labels in output order, its training data, how good it is, and its weights' hash.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import tomli_w

from specialists.errors import SpecialistError

FirstWeights = Literal["hub", "package", "scratch"]
Group = Literal["paper", "small"]


@dataclass(frozen=True)
class Backbone:
    """An architecture with its pixel contract and where its first weights come from."""

    name: str
    title: str
    library: Literal["timm", "torchvision"]
    architecture: str
    """Name in that library, with the weights' tag if there is one."""
    input_size: int
    """Side of the square input in pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    first_weights: FirstWeights
    """`hub` downloads them, `package` finds them in an installed package, `scratch` has none."""
    group: Group
    """`paper`: one of the ten of the publication; `small`: trains on two cores."""
    options: Mapping[str, int] = field(default_factory=dict)
    """Further arguments of the architecture."""


@dataclass(frozen=True)
class Quality:
    """How good a specialist is on the validation part, after calibration."""

    n: int
    accuracy: float
    balanced_accuracy: float
    auc: float | None
    """Area under the ROC curve, macro one-against-rest; None if a class is absent."""
    ece: float
    """Expected calibration error, 15 bins, in [0, 1]."""


@dataclass(frozen=True)
class Card:
    """A trained specialist, described."""

    name: str
    task: str
    backbone: Backbone
    labels: tuple[str, ...]
    """In the order of the output."""
    kind: Literal["single", "multi"]
    recipe: str
    seed: int
    epochs: int
    """Epochs that were trained."""
    data: str
    """Name of the training data."""
    data_licence: str
    data_fingerprint: str
    n_train: int
    temperature: float
    """Logits are divided by this before the softmax."""
    validation: Quality
    weights_sha256: str
    notice: str = "Research software, not a medical device."

    def to_toml(self) -> str:
        """Return the card as TOML; values that are None are left out."""
        data = asdict(self)
        data["validation"] = {k: v for k, v in data["validation"].items() if v is not None}
        return tomli_w.dumps(data)


def card_from_toml(text: str, name: str) -> Card:
    """Read a specialist's card.

    Raises:
        SpecialistError: the text is not TOML, or a field is missing or unknown.
    """
    try:
        data = tomllib.loads(text)
        backbone, validation = data.pop("backbone"), data.pop("validation")
        return Card(
            backbone=_backbone(backbone),
            validation=Quality(**{"auc": None, **validation}),
            **{**data, "labels": tuple(data["labels"])},
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise SpecialistError(
            f"The card of specialist {name!r} cannot be read ({error}). Construct the task again."
        ) from error


def _backbone(data: Mapping[str, object]) -> Backbone:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return Backbone(**values)  # type: ignore[arg-type]  # checked by the caller's TypeError


@cache
def backbones() -> Mapping[str, Backbone]:
    """Return the shipped backbones by name."""
    folder = resources.files("specialists") / "cards"
    texts = (f.read_text() for f in folder.iterdir() if f.name.endswith(".toml"))
    found = (_backbone(tomllib.loads(text)) for text in texts)
    return {b.name: b for b in sorted(found, key=lambda b: (b.group, b.name))}


def backbone_named(name: str) -> Backbone:
    """Return a shipped backbone, or raise with the closest names."""
    if name in backbones():
        return backbones()[name]
    from difflib import get_close_matches

    close = get_close_matches(name, backbones(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise SpecialistError(
        f"Unknown backbone {name!r}.{hint} Available: {', '.join(backbones())}. "
        "See `gsco specialists --backbones`."
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
