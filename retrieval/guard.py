"""The leakage guard: cases that would hand a query its own answer are not its neighbours.

A case leaks if it belongs to the query's patient, has the same pixels, or is a near-duplicate: the
same picture re-encoded, resized or brightened. Turned, mirrored or clearly cropped copies are not
found; those need the patient.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from retrieval.entry import Entry
from retrieval.errors import RetrievalError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

HASH_SIDE = 16
"""The perceptual hash has this number squared bits. 8 x 8 confuses different chest X-rays."""

NEAR_DUPLICATE = 36
"""Hashes that differ in at most this many of 256 bits are near-duplicates.

Chosen on the images it was measured on. 1,200 chest X-rays of all splits: different patients differ
in 46 bits or more (of about 700,000 pairs); 1,200 at 28 pixels, patients unknown: 54 or more. 150
each of chest X-rays, breast ultrasound and brain MRI at 224 pixels: JPEG of quality 50, half or
double size, 15 to 20 % more brightness or contrast, or slight noise change at most 18 bits. Missed
in part: copies that two percent are cropped from each side (median 32 to 36 bits), and at 28 pixels
JPEG of quality 50 (95th percentile 40) and half size (median 42). For ultrasound and MRI the share
of false alarms is unknown: they name no patients, and hold true near-duplicates.
"""

PLAIN = 2.0
"""Grey-value spread (of 255) under which an image is too plain for a perceptual hash."""


@dataclass(frozen=True)
class Fingerprint:
    """What tells whether two images are the same picture."""

    content_hash: str
    """SHA-256 of size and RGB pixels."""
    perceptual_hash: str
    """256 bits as hex digits, alike for near-duplicates; empty for plain images."""


@dataclass(frozen=True)
class Overlap:
    """A case of one split that leaks into another."""

    a: str
    """Id in the first split."""
    b: str
    """Id in the second split."""
    kind: Literal["patient", "content", "near-duplicate"]
    """What they share."""


def fingerprint(image: "Image.Image") -> Fingerprint:
    """Return the hashes of an image; equal content hashes mean equal RGB pixels."""
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    digest = hashlib.sha256(f"RGB {rgb.width}x{rgb.height} ".encode())
    digest.update(rgb.tobytes())
    return Fingerprint(digest.hexdigest(), _perceptual_hash(rgb))


def _perceptual_hash(image: "Image.Image") -> str:
    """Return the DCT hash as hex; empty for an image whose hash would be rounding noise."""
    import imagehash
    from PIL import Image, ImageStat

    grey = image.convert("L").resize((4 * HASH_SIDE, 4 * HASH_SIDE), Image.Resampling.LANCZOS)
    if ImageStat.Stat(grey).stddev[0] < PLAIN:
        return ""
    return str(imagehash.phash(grey, hash_size=HASH_SIDE))


def hamming(a: str, b: str) -> int:
    """Return in how many bits two perceptual hashes differ.

    Raises:
        RetrievalError: they are not hex digits of the same number.
    """
    if len(a) == len(b):
        try:
            return (int(a, 16) ^ int(b, 16)).bit_count()
        except ValueError:
            pass
    raise RetrievalError(
        f"Cannot compare the perceptual hashes {a!r} and {b!r}. "
        "Make both with `fingerprint` of this version."
    )


def guard(
    query: Fingerprint,
    patient: str | None = None,
    *,
    own_id: str | None = None,
    threshold: int = NEAR_DUPLICATE,
) -> Callable[[Entry], bool]:
    """Return a question to ask of an entry: would it leak the query's answer?

    Give `own_id` if the query itself may be in the index, for example when cases of the index are
    searched for each other. Unknown patients and empty hashes match nothing.
    """

    def leaks(entry: Entry) -> bool:
        if own_id is not None and entry.id == own_id:
            return True
        if patient and entry.patient == patient:
            return True
        if query.content_hash and entry.content_hash == query.content_hash:
            return True
        if not query.perceptual_hash or not entry.perceptual_hash:
            return False
        return hamming(query.perceptual_hash, entry.perceptual_hash) <= threshold

    return leaks


def overlaps(
    entries_a: Sequence[Entry], entries_b: Sequence[Entry], *, threshold: int = NEAR_DUPLICATE
) -> list[Overlap]:
    """Return which cases of one split leak into another: one item for each pair and kind.

    A pair of equal content is not reported as a near-duplicate again.
    """
    found = [Overlap(a.id, b.id, "patient") for a, b in _sharing("patient", entries_a, entries_b)]
    for a, b in _sharing("content_hash", entries_a, entries_b):
        found.append(Overlap(a.id, b.id, "content"))
    for a, b in _near_duplicates(entries_a, entries_b, threshold):
        if not a.content_hash or a.content_hash != b.content_hash:
            found.append(Overlap(a.id, b.id, "near-duplicate"))
    return found


def _sharing(
    field: Literal["patient", "content_hash"],
    entries_a: Sequence[Entry],
    entries_b: Sequence[Entry],
) -> list[tuple[Entry, Entry]]:
    """Return the pairs whose `field` is known and equal."""
    holders: dict[str, list[Entry]] = {}
    for entry in entries_b:
        if value := getattr(entry, field):
            holders.setdefault(value, []).append(entry)
    return [(a, b) for a in entries_a for b in holders.get(getattr(a, field) or "", ())]


def _near_duplicates(
    entries_a: Sequence[Entry], entries_b: Sequence[Entry], threshold: int
) -> list[tuple[Entry, Entry]]:
    """Return the pairs whose perceptual hashes differ in at most `threshold` bits."""
    import numpy as np

    hashed_a = [entry for entry in entries_a if entry.perceptual_hash]
    hashed_b = [entry for entry in entries_b if entry.perceptual_hash]
    if not hashed_a or not hashed_b:
        return []
    bits_b = _words(hashed_b)
    pairs = []
    for start in range(0, len(hashed_a), 256):
        bits_a = _words(hashed_a[start : start + 256])
        differing = np.zeros((len(bits_a), len(bits_b)), dtype=np.uint16)
        for column_a, column_b in zip(bits_a.T, bits_b.T, strict=True):
            differing += np.bitwise_count(column_a[:, None] ^ column_b[None, :])
        for row, column in np.argwhere(differing <= threshold).tolist():
            pairs.append((hashed_a[start + row], hashed_b[column]))
    return pairs


def _words(entries: Sequence[Entry]) -> "NDArray[np.uint64]":
    """Return the perceptual hashes as rows of 64-bit words."""
    import numpy as np

    digits = HASH_SIDE * HASH_SIDE // 4
    for entry in entries:
        if len(entry.perceptual_hash) != digits:
            raise RetrievalError(
                f"Entry {entry.id!r} has the perceptual hash {entry.perceptual_hash!r}, not "
                f"{digits} hex digits. Make it with `fingerprint` of this version."
            )
    joined = bytes.fromhex("".join(entry.perceptual_hash for entry in entries))
    return np.frombuffer(joined, dtype=np.uint64).reshape(len(entries), -1)
