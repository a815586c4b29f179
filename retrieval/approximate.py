"""Approximate indexes: faster than exact search above about a million cases, and not quite right.

The numbers of the cases are ours (`IndexIDMap2`), whatever FAISS index is inside.
"""

# Any: FAISS has no types that hold for the indexes its factory makes.
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.errors import RetrievalError


def train(factory: str, rows: NDArray[np.float32]) -> Any:
    """Return an empty index for inner products, trained on the rows.

    Raises:
        RetrievalError: FAISS does not know the factory string, or needs more rows.
    """
    try:
        inner = faiss.index_factory(rows.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if not inner.is_trained:
            inner.train(rows)
    except RuntimeError as error:
        raise RetrievalError(
            f"FAISS cannot make an index {factory!r} of {len(rows)!r} cases of {rows.shape[1]!r} "
            "values. Give a factory string such as 'IVF64,Flat' or 'HNSW32' that suits the number, "
            "or None."
        ) from error
    return tune(faiss.IndexIDMap2(inner))


def tune(index: Any) -> Any:
    """Set how thoroughly an index looks, and return it; FAISS' own defaults miss too much."""
    inner = faiss.downcast_index(index.index)
    if isinstance(inner, faiss.IndexIVF):
        inner.nprobe = min(inner.nlist, max(16, inner.nlist // 16))
    elif isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efSearch = 128
    return index


def dump(index: Any) -> bytes:
    """Return the index as bytes, with its cases numbered from 0 in the order they were added."""
    numbers = np.arange(index.ntotal, dtype=np.int64)
    if not np.array_equal(faiss.vector_to_array(index.id_map), numbers):
        # Two names: `downcast_index` does not keep the index that it looks into alive.
        copy = faiss.clone_index(index)
        index = faiss.downcast_index(copy)
        faiss.copy_array_to_vector(numbers, index.id_map)
        index.construct_rev_map()
    content: bytes = faiss.serialize_index(index).tobytes()
    return content


def restore(content: bytes) -> Any:
    """Return the index that `dump` wrote."""
    return tune(faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8)))


def on_gpus(index: Any) -> Any:
    """Return a copy on all GPUs that FAISS was built for and finds, else the index itself."""
    return faiss.index_cpu_to_all_gpus(index) if faiss.get_num_gpus() else index
