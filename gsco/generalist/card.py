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
    path = folder / CARD
    if not can_see(path):
        return Card()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        name, form, writes = found.get("name"), found.get("answer_form"), found.get("writes")
    except (ValueError, AttributeError) as error:
        raise GeneralistError(
            f"The card {CARD!r} in {folder.name!r} cannot be read ({error}). Mend or remove it."
        ) from error
    return Card(str(name or ""), "label" if form == "label" else "letter", writes is not False)


def can_see(path: Path) -> bool:
    """Whether there is a file: a server may have loaded its model where nobody else may look."""
    try:
        return path.is_file()
    except OSError:
        return False


def weights_in(folder: Path) -> str:
    """Return what tells the weights in a folder from others; empty if it holds none.

    The SHA-256 of each safetensors file, of a large one that of its size and of blocks spread over
    it: what was tuned differs everywhere, and nobody waits for all of it to be read.
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
    if folder and can_see(folder / CARD):
        return card_of(folder)
    tiny = "gsco-tiny" in name
    return Card(name, "label" if tiny else "letter", writes=not tiny)
