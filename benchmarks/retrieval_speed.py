"""How fast the index searches: beside FAISS alone, and beside the published method's search.

    python -m benchmarks.retrieval_speed cxr_pneumonia

All search the same cases of the same images. FAISS alone gets the very vectors of our index, so
its ratio is what our bookkeeping costs. The published method searches un-pooled, flattened feature
maps by brute force with scikit-learn: of ResNet-18 (25,088 values at 224 pixels) for the main
figures, and as long as those of two more of its ten backbones. What the numbers are does not change
the speed, so the first has random weights and the others are drawn. Embedding is not timed.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from benchmarks.rounds import ratio_of
from retrieval import CaseIndex, Entry, fingerprint, guard
from specialists.embedder import independent_embedder

NEIGHBOURS = 10
REPEATS = 15
LENGTHS = {"DenseNet-121": 50_176, "ViT-B/16": 151_296}
"""Values of a flattened map at 224 pixels; five of the ten backbones are of the last kind."""
REST = 0.1
"""Seconds before each timed call: the threads of linear algebra libraries spin for some 25 ms after
their work, and the next call would share the cores with them."""
FEW = 4
"""Queries that the published search is timed on one by one."""


def measure(images: Sequence[Image.Image], *, queries: int = 256) -> dict[str, Any]:
    """Return medians (seconds for all queries) and ratios with intervals: above 1, ours is faster.

    A fifth of the images, at most `queries`, ask; the others are indexed.
    """
    asking = min(queries, max(1, len(images) // 5))
    embedder = independent_embedder()
    vectors = embedder.embed(images)
    maps = _feature_maps(images)
    prints = [fingerprint(image) for image in images]
    entries = [
        Entry(str(n), ("case",), None, None, one.content_hash, one.perceptual_hash)
        for n, one in enumerate(prints[asking:])
    ]
    index = CaseIndex.build(
        vectors[asking:],
        entries,
        embedder=embedder.name,
        embedder_hash=embedder.weights_hash,
        centred=True,
    )
    plain = faiss.IndexFlatIP(vectors.shape[1])
    plain.add(index.vectors())
    published = _published(maps[asking:])
    ask, ask_maps = vectors[:asking], maps[:asking]
    guards = [guard(one) for one in prints[:asking]]
    times = interleaved(
        {
            "ours": lambda: index.search(ask, NEIGHBOURS),
            "ours_guarded": lambda: index.search(ask, NEIGHBOURS, skip=guards),
            "faiss": lambda: plain.search(ask, NEIGHBOURS),
            "ours_one_by_one": lambda: [index.search(row[None], NEIGHBOURS) for row in ask],
            "faiss_one_by_one": lambda: [plain.search(row[None], NEIGHBOURS) for row in ask],
            "published": lambda: published.kneighbors(ask_maps),
            # Each call prepares all maps again: a few queries show what one costs.
            "ours_few": lambda: [index.search(row[None], NEIGHBOURS) for row in ask[:FEW]],
            "published_few": lambda: [
                published.kneighbors(row[None], NEIGHBOURS) for row in ask_maps[:FEW]
            ],
        }
    )
    return {
        "indexed": len(entries),
        "queries": asking,
        "neighbours": NEIGHBOURS,
        "repeats": REPEATS,
        "dimension": vectors.shape[1],
        "published_dimension": maps.shape[1],
        "threads": faiss.omp_get_max_threads(),
        "seconds": medians(times),
        "ratio_to_faiss": ratio_of(times["faiss"], times["ours"]),
        "ratio_to_faiss_guarded": ratio_of(times["faiss"], times["ours_guarded"]),
        "ratio_to_faiss_one_by_one": ratio_of(times["faiss_one_by_one"], times["ours_one_by_one"]),
        "ratio_to_published": ratio_of(times["published"], times["ours"]),
        "ratio_to_published_one_by_one": ratio_of(times["published_few"], times["ours_few"]),
        "ratio_to_published_guarded": ratio_of(times["published"], times["ours_guarded"]),
        "longer_maps": {name: _longer(index, ask, length) for name, length in LENGTHS.items()},
        "large": _large(vectors.shape[1]),
    }


def _published(maps: NDArray[np.float32]) -> NearestNeighbors:
    """Return the published search over (N, D) flattened maps."""
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine", algorithm="brute")
    return search.fit(maps)


def _longer(index: CaseIndex, ask: NDArray[np.float32], length: int) -> dict[str, Any]:
    """Compare with the published search over as many maps of that length; they are drawn."""
    drawn = np.random.default_rng(0).random((len(index.entries) + len(ask), length), np.float32)
    published, maps = _published(drawn[len(ask) :]), drawn[: len(ask)]
    times = interleaved(
        {
            "ours": lambda: index.search(ask, NEIGHBOURS),
            "published": lambda: published.kneighbors(maps),
        },
        repeats=5,
    )
    return {
        "published_dimension": length,
        **medians(times),
        "ratio_to_published": ratio_of(times["published"], times["ours"]),
    }


def _large(dimension: int, count: int = 50_000, queries: int = 32) -> dict[str, Any]:
    """Compare with FAISS alone where the search itself takes the time; vectors are drawn."""
    rows = np.random.default_rng(0).normal(size=(count + queries, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    entries = [Entry(str(n), ("case",)) for n in range(count)]
    index = CaseIndex.build(
        rows[queries:], entries, embedder="drawn", embedder_hash="", centred=True
    )
    plain = faiss.IndexFlatIP(dimension)
    plain.add(index.vectors())
    ask = rows[:queries]
    times = interleaved(
        {
            "ours": lambda: index.search(ask, NEIGHBOURS),
            "faiss": lambda: plain.search(ask, NEIGHBOURS),
            "ours_one_by_one": lambda: [index.search(row[None], NEIGHBOURS) for row in ask],
            "faiss_one_by_one": lambda: [plain.search(row[None], NEIGHBOURS) for row in ask],
        }
    )
    return {
        "indexed": count,
        "queries": queries,
        "seconds": medians(times),
        "ratio_to_faiss": ratio_of(times["faiss"], times["ours"]),
        "ratio_to_faiss_one_by_one": ratio_of(times["faiss_one_by_one"], times["ours_one_by_one"]),
    }


def interleaved(
    calls: Mapping[str, Callable[[], object]], repeats: int = REPEATS
) -> dict[str, list[float]]:
    """Return each call's time in each round, of which each goes through all: drift hits alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(repeats + 1):
        for name, call in calls.items():
            time.sleep(REST)
            start = time.perf_counter()
            call()
            # The first round warms up.
            if round_number:
                times[name].append(time.perf_counter() - start)
    return times


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return each call's median time."""
    return {name: median(values) for name, values in times.items()}


@torch.inference_mode()
def _feature_maps(images: Sequence[Image.Image], batch: int = 32) -> NDArray[np.float32]:
    """Return the published method's vectors: (N, 25088) flattened maps as unit rows."""
    import timm

    from specialists.images import normalise, to_tensor

    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False).eval()
    rows = []
    for start in range(0, len(images), batch):
        pixels = normalise(
            to_tensor(images[start : start + batch], 224),
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
        )
        rows.append(network.forward_features(pixels).flatten(1))
    unit: NDArray[np.float32] = torch.nn.functional.normalize(torch.cat(rows), dim=1).numpy()
    return unit


def main() -> None:
    """Measure on a folder of images and print the result."""
    files = sorted((Path(sys.argv[1])).glob("images/*"))
    images = []
    for file in files:
        with Image.open(file) as image:
            images.append(image.convert("RGB"))
    print(json.dumps(measure(images), indent=1))


if __name__ == "__main__":
    main()
