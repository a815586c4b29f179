"""Data cards: what each known data set is, where it comes from, and what to beware of (TOML).

    card = card_named("ham10000")
    print(card.place, card.traps, card.task)

What is not known is None here and `unknown` in the file; nothing is made up. Sources: the tables of
the publication's repository (sunanhe/MedDr, DATASET.md), the data sets' own papers and pages.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any, Literal, get_args

from gsco.datasets.record import SPLITS, Split
from gsco.errors import UsageError, unknown
from gsco.task import ID, Kind, Label, Task, validate

Tier = Literal["open", "registration", "credentialed"]
Domain = Literal["in", "out", "cross"]
LAYOUTS = (
    "medmnist",
    "folders",
    "ham10000",
    "bcn20000",
    "rsna",
    "derm7pt",
    "cbis-ddsm",
    "vindr-spinexr",
    "vindr-pcxr",
    "vindr-mammo",
    "medfmc",
    "brset",
    "slake",
    "vqa-rad",
    "vqa-med-2019",
    "omnimedvqa",
    "pmc-vqa",
    "pathvqa",
    "r2gen",
)
"""How files are laid out; `gsco.datasets.layouts` has a reader for each."""


@dataclass(frozen=True)
class DataFile:
    """A file that can be downloaded."""

    name: str
    """What it is called in the folder."""
    url: str
    md5: str
    """32 hex digits, from the publisher."""
    size: int | None = None
    """Pixels a side, where the set comes in several sizes."""


@dataclass(frozen=True)
class DataCard:
    """What is known of a data set."""

    name: str
    """Small letters, digits, hyphens."""
    title: str
    kind: Kind
    modality: str
    labels: tuple[Label, ...]
    """In the order of the set's class numbers; empty for questions and reports."""
    splits: Mapping[Split, int | None]
    """Official number of cases; 0 if there is no such part, None if it is unknown."""
    metric: str
    """What to report."""
    domain: Domain
    """In: the published generalist was trained on its source; out: not; cross: a shift target."""
    url: str
    tier: Tier
    """What it takes to get it."""
    licence: str
    citation: str
    layout: str
    """One of `LAYOUTS`."""
    place: tuple[str, ...]
    """Which files and folders to put into the folder."""
    traps: tuple[str, ...]
    """What has misled others, in sentences."""
    stem: str | None = None
    """The task sentence of the prompt; diagnosis sets only."""
    no_finding: str | None = None
    """In multi-label sets the label that stands only alone."""
    part: str | None = None
    """Which part of a larger set it is."""
    split_note: str | None = None
    """How the splits come about where they are not official."""
    shares_images: bool = False
    """Whether the official splits are known to share images."""
    files: tuple[DataFile, ...] = ()
    """What can be downloaded without asking anybody."""

    @cached_property
    def task(self) -> Task | None:
        """The task that the set diagnoses; None for questions and reports."""
        if self.kind not in ("single", "multi"):
            return None
        return Task(
            id=self.name,
            title=self.title,
            kind=self.kind,
            labels=self.labels,
            modality=self.modality,
            stem=self.stem or "",
            no_finding=self.no_finding,
        )


def data_card_from_toml(text: str, source: str = "the given text") -> DataCard:
    """Read and check a card; `source` is what errors call it.

    Raises:
        UsageError: not TOML, a field is missing, unknown or of another type, or labels clash.
    """
    try:
        data = tomllib.loads(text)
        labels = tuple(_label(row) for row in data.pop("labels", []))
        files = tuple(DataFile(**row) for row in data.pop("files", []))
        splits = dict(data.pop("splits"))
        note, shares = splits.pop("note", None), splits.pop("shares_images", False)
        place, traps = tuple(data.pop("place")), tuple(data.pop("traps"))
        counts = {split: _count(splits.pop(split), source) for split in SPLITS}
        if splits:
            raise TypeError(f"[splits] has the unknown field {min(splits)!r}")
        card = DataCard(
            labels=labels,
            files=files,
            splits=counts,
            split_note=note,
            shares_images=shares,
            place=place,
            traps=traps,
            **data,
        )
    except KeyError as error:
        raise UsageError(f"Data card {source!r} has no field {error}. Add it.") from error
    except (tomllib.TOMLDecodeError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"Data card {source!r} cannot be read: {error}. Edit the card.") from error
    _check(card, source)
    return card


# Any: rows are whatever the file holds.
def _label(row: Mapping[str, Any]) -> Label:
    return Label(row["text"], tuple(row.get("synonyms", ())), row.get("code"))


def _count(value: object, source: str) -> int | None:
    if value == "unknown":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise UsageError(
        f"Data card {source!r}: the split count {value!r} is no number of cases. "
        'Write a whole number, 0 for a part that does not exist, or "unknown".'
    )


def _check(card: DataCard, source: str) -> None:
    words = [card.name, card.title, card.modality, card.metric, card.url, card.licence]
    words += [card.citation, *card.place, *card.traps]
    for word in words:
        if not isinstance(word, str) or not word.strip():
            raise UsageError(
                f"Data card {source!r} has {word!r} where words belong. "
                'Write text in quotes, and "unknown" for what is not known.'
            )
    for field, value, known in (
        ("kind", card.kind, get_args(Kind)),
        ("tier", card.tier, get_args(Tier)),
        ("domain", card.domain, get_args(Domain)),
        ("layout", card.layout, LAYOUTS),
    ):
        if value not in known:
            raise UsageError(f"Data card {source!r}: {unknown(field, value, known, 'README')}")
    if not ID.fullmatch(card.name):
        raise UsageError(
            f"Data card {source!r}: name {card.name!r} is not made of small letters, digits, "
            "hyphens. Choose another."
        )
    if not card.place:
        raise UsageError(f"Data card {source!r} does not say which files belong where. Add place.")
    if wrong := [file.name for file in card.files if not re.fullmatch(r"[0-9a-f]{32}", file.md5)]:
        raise UsageError(
            f"Data card {source!r}: the md5 of {wrong[0]!r} is not 32 hex digits. Copy it again."
        )
    if card.task:
        if not card.stem:
            raise UsageError(f"Data card {source!r} has no stem. Add the prompt's task sentence.")
        validate(card.task)
    elif card.labels:
        raise UsageError(
            f"Data card {source!r} is of kind {card.kind!r} and has labels. Remove them."
        )


@cache
def data_cards() -> Mapping[str, DataCard]:
    """Return the shipped cards by name."""
    folder = resources.files("gsco.datasets") / "cards"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    cards = (data_card_from_toml(f.read_text(encoding="utf-8"), f.name) for f in files)
    return {card.name: card for card in cards}


def card_named(name: str) -> DataCard:
    """Return a shipped card, or raise with the closest names."""
    if name not in data_cards():
        raise UsageError(unknown("data set", name, data_cards(), "gsco data list"))
    return data_cards()[name]


def task_of(card: DataCard) -> Task:
    """Return what a diagnosis set asks.

    Raises:
        UsageError: the set has questions or reports, no diagnoses.
    """
    if card.task is None:
        raise UsageError(
            f"Data set {card.name!r} is of kind {card.kind!r} and has no labels to diagnose. "
            "Take one of kind 'single' or 'multi' from `gsco data list`."
        )
    return card.task
