"""An Entry: one labelled case as the index keeps it, without its vector."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What the index knows of one case."""

    id: str
    """Unique in the index; any text."""
    labels: tuple[str, ...]
    """Its diagnosis; more than one only in multi-label tasks."""
    patient: str | None = None
    """Pseudonym of the patient it belongs to, if known."""
    source: str | None = None
    """The data set it comes from."""
    content_hash: str = ""
    """SHA-256 of its pixels (`fingerprint`); empty if unknown, then it never matches."""
    perceptual_hash: str = ""
    """Hex digits that change little when an image is re-encoded; empty if it has none."""
    report: str | None = None
    """What was written of its images, if the data tell."""
