"""What a generalist has learnt from, by content: a test must not ask it about the same images.

The folder of a model that was trained here holds `seen.txt`, one image a line. A hub model or a
server does not tell what it has learnt from; nothing can be found out of those.
"""

from collections.abc import Iterable
from pathlib import Path

FILE = "seen.txt"
DIGITS = 16
"""How much of a content hash is kept: 64 bits never fall together by chance."""


def seen_in(folder: Path) -> frozenset[str]:
    """Return the beginnings of content hashes (`retrieval.fingerprint`) that a folder names."""
    path = folder / FILE
    return frozenset(path.read_text(encoding="ascii").split()) if path.is_file() else frozenset()


def write_seen(folder: Path, hashes: Iterable[str]) -> None:
    """Write content hashes, whole or their beginnings, to a model's folder."""
    lines = sorted({text[:DIGITS] + "\n" for text in hashes})
    (folder / FILE).write_text("".join(lines), encoding="ascii")
