"""Retrieval: similar labelled cases, found by the similarity of their images.

    index = CaseIndex.build(vectors, entries, embedder="lite0", embedder_hash="...")
    index.save(folder)
    results = index.search(queries, k=10, skip=guards)

An `Embedder` makes the vectors, `guard` leaves out cases that would leak the answer, and `vote`
turns neighbours into probabilities. Importing this package loads neither FAISS nor numpy.
"""

from typing import TYPE_CHECKING, Any

from retrieval.embedder import Embedder
from retrieval.entry import Entry
from retrieval.errors import RetrievalError

# Not lazy: `guard` and `vote` are also modules, and a module imported later would take the name.
from retrieval.guard import Fingerprint, Overlap, fingerprint, guard, hamming, overlaps
from retrieval.neighbour import Neighbour
from retrieval.vote import vote, vote_multi

if TYPE_CHECKING:
    from retrieval.index import CaseIndex, SearchResult
    from retrieval.storage import IndexManifest

__all__ = [
    "CaseIndex",
    "Embedder",
    "Entry",
    "Fingerprint",
    "IndexManifest",
    "Neighbour",
    "Overlap",
    "RetrievalError",
    "SearchResult",
    "fingerprint",
    "guard",
    "hamming",
    "overlaps",
    "vote",
    "vote_multi",
]

_HOMES = {
    "CaseIndex": "retrieval.index",
    "SearchResult": "retrieval.index",
    "IndexManifest": "retrieval.storage",
}


# Any: module attributes have no common type.
def __getattr__(name: str) -> Any:
    """Import what needs numpy or FAISS only when it is used."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'retrieval' has no attribute {name!r}")
