"""Test cases that someone has learnt from: figures on those would flatter."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gsco.errors import DataError
from gsco.generalist.seen import DIGITS
from retrieval import Entry, fingerprint, overlaps
from specialists import SpecialistError

if TYPE_CHECKING:
    from gsco.datasets import Record
    from gsco.workflow import Tools


def refuse_learnt(records: "Sequence[Record]", tools: "Tools", *, allowed: bool = False) -> str:
    """Find the cases that the index, and so the specialists, or the generalist learnt from.

    Same pixels and near-duplicates of indexed cases are found; of the generalist's training images,
    which it tells by content only, the same pixels.

    Args:
        records: the cases of a test.
        tools: the index and the generalist of the test, if one is asked.
        allowed: whether such cases may stay.

    Returns:
        A sentence for the result if cases were found and are allowed, else nothing.

    Raises:
        DataError: cases were found and are not allowed; up to five are listed.
    """
    asked = [entry for record in records if (entry := _entry(record)) is not None]
    found = {o.a: f"indexed as {o.b}" for o in overlaps(asked, tools.index.entries)}
    seen = tools.generalist.seen if tools.generalist else frozenset()
    for entry in asked:
        if entry.content_hash[:DIGITS] in seen:
            found.setdefault(entry.id, "learnt by the generalist")
    if not found:
        return ""
    count = f"{len(found)} of {len(records)} cases were learnt from"
    if allowed:
        return f"{count}: the figures flatter."
    listed = "".join(f"\n  {id}: {why}" for id, why in list(found.items())[:5])
    more = f"\n  and {len(found) - 5} more" if len(found) > 5 else ""
    raise DataError(
        f"{count}; figures on them would flatter:{listed}{more}\n"
        "Test on other cases, or mark the result with `--allow-overlap`."
    )


def _entry(record: "Record") -> Entry | None:
    """Return what tells a case's image from others; None where there is none to see."""
    try:
        prints = fingerprint(record.open())
    except SpecialistError:
        # A damaged image is a failure of its own case when it is asked about.
        return None
    # Pseudonyms of two data sets may be the same by chance, so patients are left to the reader.
    return Entry(record.id, (), None, None, prints.content_hash, prints.perceptual_hash)
