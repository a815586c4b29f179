"""The card of a generalist: a small file in its folder with its name and how to ask it."""

import json
from dataclasses import dataclass
from pathlib import Path

from gsco.errors import GeneralistError
from gsco.prompts import Form

CARD = "gsco.json"
"""May be missing, and may hold more than is read here."""


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
    if not path.is_file():
        return Card()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        name, form, writes = found.get("name"), found.get("answer_form"), found.get("writes")
    except (ValueError, AttributeError) as error:
        raise GeneralistError(
            f"The card {CARD!r} in {folder.name!r} cannot be read ({error}). Mend or remove it."
        ) from error
    return Card(str(name or ""), "label" if form == "label" else "letter", writes is not False)


def card_served(name: str, folder: Path | None) -> Card:
    """Return how to ask a model behind a server: by the card in its folder, or by its name."""
    if folder and (folder / CARD).is_file():
        return card_of(folder)
    tiny = "gsco-tiny" in name
    return Card(name, "label" if tiny else "letter", writes=not tiny)
