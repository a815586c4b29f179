"""The card of a generalist: a small file in its folder with its name and how to ask it."""

import json
from pathlib import Path

CARD = "gsco.json"
"""Holds `name` and the `answer_form` that suits the model; may be missing."""


def card_of(folder: Path) -> dict[str, str]:
    """Return the card in a model's folder; empty if there is none, or no such folder."""
    path = folder / CARD
    card: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return card
