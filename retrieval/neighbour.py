"""A Neighbour: a labelled case that resembles the query."""

from typing import NamedTuple


class Neighbour(NamedTuple):
    """One labelled case of the index, with its similarity to the query.

    A tuple, because a batch of searches makes thousands, and a dataclass takes thrice as long.
    """

    id: str
    """Its id in the index."""
    labels: tuple[str, ...]
    """Its diagnosis; more than one only in multi-label tasks."""
    similarity: float
    """Cosine similarity to the query, in [-1, 1]; grows when things are alike."""
    patient: str | None = None
    """Pseudonym of the patient it belongs to, if known."""
    source: str | None = None
    """The data set it comes from."""
    report: str | None = None
    """What was written of its images, if the index knows."""
