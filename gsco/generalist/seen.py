"""What a generalist has learnt from, by content: a test must not ask it about the same images.

The folder of a model that was trained here holds `seen.txt`, one image a line; it counts behind a
server, too, where the folder is on this machine. What a hub model or another server has learnt
from, nobody tells.
"""

from collections.abc import Iterable
from pathlib import Path

from gsco.generalist.card import data_in

FILE = "seen.txt"
DIGITS = 16
"""How much of a content hash is kept: 64 bits never fall together by chance."""


def seen_in(folder: Path) -> frozenset[str]:
    """Return the beginnings of content hashes (`retrieval.fingerprint`) that a folder names."""
    data = data_in(folder / FILE) or b""
    return frozenset(data.decode("ascii", errors="replace").split())


def write_seen(folder: Path, hashes: Iterable[str]) -> None:
    """Write content hashes, whole or their beginnings, to a model's folder."""
    lines = sorted({text[:DIGITS] + "\n" for text in hashes})
    (folder / FILE).write_text("".join(lines), encoding="ascii")
