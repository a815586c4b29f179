"""The card of a generalist: a small file in its folder with its name and how to ask it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from gsco.errors import GeneralistError
from gsco.prompts import Form
from specialists.card import file_sha256

CARD = "gsco.json"
"""May be missing, and may hold more than is read here."""
LARGEST_WHOLE = 2**30
"""Bytes up to which a file of weights is read from end to end."""
BLOCK, BLOCKS = 2**16, 1024
"""Bytes of a block of a larger one, and how many are read."""


@dataclass(frozen=True)
class Card:
    """What a folder says of its model."""

    name: str = ""
    answer_form: Form = "letter"
    writes: bool = True
    """Whether it can write free text; a small model can only choose."""


def card_of(folder: Path) -> Card:
    """Return the card in a model's folder; the defaults if there is none, or no such folder.

    Raises:
        GeneralistError: the card is no JSON object.
    """
    return _card_in(folder) or Card()


def _card_in(folder: Path) -> Card | None:
    data = data_in(folder / CARD)
    if data is None:
        return None
    try:
        found = json.loads(data.decode())
        name, form, writes = found.get("name"), found.get("answer_form"), found.get("writes")
    except (ValueError, AttributeError) as error:
        raise GeneralistError(
            f"The card {CARD!r} in {folder.name!r} cannot be read ({error}). Mend or remove it."
        ) from error
    return Card(str(name or ""), "label" if form == "label" else "letter", writes is not False)


def data_in(path: Path) -> bytes | None:
    """Return what a file holds; None if there is none, or only the server may look there."""
    try:
        return path.read_bytes()
    except OSError:
        return None


def weights_in(folder: Path) -> str:
    """Return what tells the weights in a folder from others; empty if it holds none.

    The SHA-256 of each safetensors file, of a large one that of its size and of blocks spread over
    it: a tuning changes whole matrices, and nobody waits for all of it to be read.
    """
    try:
        return "+".join(map(_sampled, sorted(folder.glob("*.safetensors"))))
    except OSError:
        return ""


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    if size <= LARGEST_WHOLE:
        return file_sha256(path)
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(BLOCKS):
            file.seek((size - BLOCK) * number // (BLOCKS - 1))
            digest.update(file.read(BLOCK))
    return digest.hexdigest()


def card_served(name: str, folder: Path | None) -> Card:
    """Return how to ask a model behind a server: by the card in its folder, or by its name."""
    if folder and (card := _card_in(folder)):
        return card
    tiny = "gsco-tiny" in name
    return Card(name, "label" if tiny else "letter", writes=not tiny)
