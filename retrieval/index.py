"""The index: recalls the labelled cases that resemble a query, with FAISS.

    index = CaseIndex.build(vectors, entries, embedder="lite0", embedder_hash="3f0c...")
    index.save(Path("workspace/index"))
    for result in index.search(queries, k=10, skip=[guard(...) for _ in queries]):
        print(result.neighbours, result.dropped)

Search is exact by default. A FAISS factory string (`IVF256,Flat`, `HNSW32`) makes it approximate,
for more than about a million cases; `recall` says what that costs.
"""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from retrieval import approximate, exact, storage
from retrieval.entry import Entry
from retrieval.errors import RetrievalError
from retrieval.neighbour import Neighbour

__all__ = ["CaseIndex", "Entry", "Guard", "SearchResult"]

Vectors = NDArray[np.float32]
Guard = Callable[[Entry], bool]
"""Says whether an entry must not be a neighbour."""

_SPARE = 16
"""How many more than k are fetched first where a guard may leave some out."""
_GPU_LIMIT = 2048
"""FAISS on a GPU returns at most this many."""


class SearchResult(NamedTuple):
    """What the index recalls for one query."""

    neighbours: tuple[Neighbour, ...]
    """The nearest first; fewer than asked for only if the index holds no more allowed ones."""
    dropped: int
    """How many nearer cases the guard left out on the way."""


class CaseIndex:
    """Labelled cases by the similarity of their images.

    Vectors are kept as float16 values from the start, so that a saved and loaded index answers
    exactly as before. Searching from several threads is safe; changing the index is not.

    A centred index takes its first cases' mean away from every vector before it compares them:
    what all images of one kind share no longer hides in what they differ. Similarity is then the
    cosine of what is left.
    """

    def __init__(
        self,
        dimension: int,
        *,
        embedder: str,
        embedder_hash: str,
        factory: str | None = None,
        centre: Vectors | None = None,
    ) -> None:
        """Make an empty index; `build` and `load` are what callers want."""
        self.dimension = dimension
        self.embedder = embedder
        self.embedder_hash = embedder_hash
        self.factory = factory
        self.centre = centre
        self._cases: dict[int, Entry] = {}
        self._numbers: dict[str, int] = {}
        self._next = 0
        self._store = faiss.IndexFlatIP(dimension)
        # Any: FAISS' types do not know what its Python layer adds. All vectors, on the CPU.
        self._exact: Any = faiss.IndexIDMap2(self._store)
        # The number of the case in each row of the store.
        self._order = np.empty(0, dtype=np.int64)
        # Any: as above. Beside it if there is a factory, also on the CPU.
        self._approximate: Any = None
        # Any: as above. What is searched first: the approximate one or the exact, perhaps a copy
        # on the GPUs.
        self._first: Any = self._exact

    @classmethod
    def build(
        cls,
        vectors: Vectors,
        entries: Sequence[Entry],
        *,
        embedder: str,
        embedder_hash: str,
        factory: str | None = None,
        centred: bool = False,
    ) -> "CaseIndex":
        """Return an index of `entries`, whose vectors are the unit rows of `vectors`.

        It keeps the mean of `vectors` as its centre if `centred`.

        Raises:
            RetrievalError: rows that are no unit vectors, ids that are not unique, or a factory
                string that FAISS does not know or cannot train on so few cases.
        """
        shape = np.shape(vectors)
        if len(shape) != 2 or shape[1] == 0:
            raise RetrievalError(
                f"Cannot build an index of vectors of shape {shape!r}. Give (N, D) unit rows."
            )
        centre = np.asarray(vectors, np.float32).mean(axis=0) if centred and shape[0] else None
        index = cls(
            shape[1],
            embedder=embedder,
            embedder_hash=embedder_hash,
            factory=factory,
            centre=centre,
        )
        index.add(vectors, entries)
        return index

    def __len__(self) -> int:
        return len(self._cases)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The cases, in the order of `vectors()`."""
        return tuple(self._cases.values())

    def __contains__(self, id: str) -> bool:
        return id in self._numbers

    def __getitem__(self, id: str) -> Entry:
        """Return the case with that id; KeyError if there is none."""
        return self._cases[self._numbers[id]]

    def vectors(self) -> Vectors:
        """Return the (N, D) vectors that are compared, centred and rounded to float16."""
        rows: Vectors = self._store.reconstruct_n(0, len(self))
        return rows.reshape(len(self), self.dimension)

    def add(self, vectors: Vectors, entries: Sequence[Entry]) -> None:
        """Add cases.

        Raises:
            RetrievalError: rows that are no unit vectors, another number of rows than of entries,
                or an id that is there already; then nothing is added.
        """
        rows = self._placed(vectors, "add").astype(np.float16).astype(np.float32)
        if len(rows) != len(entries):
            raise RetrievalError(
                f"Cannot add {len(rows)!r} vectors for {len(entries)!r} entries. "
                "Give one vector for each entry."
            )
        self._refuse_duplicates(entries)
        if not len(rows):
            return
        numbers = np.arange(self._next, self._next + len(rows), dtype=np.int64)
        # Trained first: a factory that does not suit must leave the index as it was.
        if self.factory and self._approximate is None:
            self._approximate = approximate.train(self.factory, rows)
        self._exact.add_with_ids(rows, numbers)
        if self._approximate is not None:
            self._approximate.add_with_ids(rows, numbers)
        for number, entry in zip(numbers.tolist(), entries, strict=True):
            self._cases[number] = entry
            self._numbers[entry.id] = number
        self._next += len(rows)
        self._choose_first()

    def remove(self, ids: Iterable[str]) -> int:
        """Remove the cases with these ids and return how many there were.

        An approximate index is built again, which takes as long as the first time.

        Raises:
            RetrievalError: too few cases would be left for the factory; then all stay.
        """
        gone = {self._numbers[id] for id in ids if id in self._numbers}
        if not gone:
            return 0
        # Trained first: too few cases left for the factory must leave the index as it was.
        remaining = [number for number in self._cases if number not in gone]
        smaller = None
        if self.factory and remaining:
            kept = np.array([number not in gone for number in self._cases])
            rows = self.vectors()[kept]
            smaller = approximate.train(self.factory, rows)
            smaller.add_with_ids(rows, np.array(remaining, dtype=np.int64))
        self._exact.remove_ids(np.array(sorted(gone), dtype=np.int64))
        for number in gone:
            del self._numbers[self._cases.pop(number).id]
        self._approximate = smaller
        self._choose_first()
        return len(gone)

    def search(
        self, vectors: Vectors, k: int, *, skip: Guard | Sequence[Guard | None] | None = None
    ) -> list[SearchResult]:
        """Return the `k` most similar allowed cases of each query (a unit row), nearest first.

        `skip` says which entries to leave out: one question for all queries, or one for each. The
        search goes on until k allowed cases are found or the index is exhausted.

        Raises:
            RetrievalError: k below 1, queries of another dimension, or guards for another number.
        """
        queries = self._placed(vectors, "search")
        if k < 1:
            raise RetrievalError(f"Cannot search for k={k!r} neighbours. Ask for at least 1.")
        guards = _guard_each(skip, len(queries))
        found = [SearchResult((), 0)] * len(queries)
        waiting = list(range(len(queries))) if len(self) else []
        index, fetch = self._first, min(len(self), k + _SPARE if any(guards) else k)
        while waiting:
            if fetch > _GPU_LIMIT:
                index = self._exact
            some = queries if len(waiting) == len(queries) else queries[waiting]
            if index is self._exact:
                best = exact.nearest(self._store, some, fetch)
                similarities, numbers = best.similarities, self._order[best.places]
            else:
                similarities, numbers = index.search(some, fetch)
            # Rounding may leave a similarity a little outside.
            np.minimum(np.maximum(similarities, -1.0, out=similarities), 1.0, out=similarities)
            rows = zip(waiting, similarities.tolist(), numbers.tolist(), strict=True)
            for place, row, row_numbers in rows:
                found[place] = self._pick(row, row_numbers, k, guards[place])
            if index is self._exact and fetch == len(self):
                break
            waiting = [place for place in waiting if len(found[place].neighbours) < k]
            # Second helpings are exact: an approximate index may not reach the rest at all.
            index, fetch = self._exact, min(len(self), fetch * 4)
        return found

    def _pick(
        self, similarities: list[float], numbers: list[int], k: int, guard: Guard | None
    ) -> SearchResult:
        """Return the first k cases that the guard allows."""
        neighbours: list[Neighbour] = []
        dropped = 0
        for similarity, number in zip(similarities, numbers, strict=True):
            # FAISS pads with -1 what it did not find.
            if number < 0 or len(neighbours) == k:
                break
            case = self._cases[number]
            if guard is not None and guard(case):
                dropped += 1
                continue
            neighbours.append(
                Neighbour(case.id, case.labels, similarity, case.patient, case.source, case.report)
            )
        return SearchResult(tuple(neighbours), dropped)

    def recall(self, k: int, *, sample: int = 256) -> float:
        """Return the share of the true `k` nearest that the index finds: 1 if it is exact.

        Measured on up to `sample` of its own cases, evenly spaced, against exact search.
        """
        if self._approximate is None or not len(self):
            return 1.0
        count = min(sample, len(self))
        queries = self.vectors()[np.linspace(0, len(self) - 1, count).astype(int)]
        k = min(k, len(self))
        _, true = self._exact.search(queries, k)
        _, found = self._approximate.search(queries, k)
        hits = [len(set(a) & set(b)) for a, b in zip(true.tolist(), found.tolist(), strict=True)]
        return sum(hits) / (count * k)

    def manifest(self) -> storage.IndexManifest:
        """Return what identifies this index, as `save` would write it."""
        return self._describe(self._parts())

    def save(self, folder: Path) -> storage.IndexManifest:
        """Write the index to `folder` in the place of the one there, whole or not at all.

        Raises:
            RetrievalError: the disk is full or refuses; what was there is untouched.
        """
        with storage.locked(folder):
            return self._write(folder)

    def _write(self, folder: Path) -> storage.IndexManifest:
        parts = self._parts()
        manifest = self._describe(parts)
        storage.write(folder, parts, manifest)
        return manifest

    @classmethod
    def load(cls, folder: Path, *, embedder: str, embedder_hash: str) -> "CaseIndex":
        """Return the index in `folder`, to be searched with vectors of this embedder.

        Raises:
            RetrievalError: no index, a half-written or altered one, or another embedder's.
        """
        # Asked before the data are read: the answer does not need them.
        _refuse_other_embedder(storage.read_manifest(folder), folder, embedder, embedder_hash)
        manifest, parts = storage.read(folder)
        _refuse_other_embedder(manifest, folder, embedder, embedder_hash)
        tensors = load_tensors(parts["vectors.safetensors"])
        rows = tensors["vectors"].astype(np.float32)
        lines = parts["entries.jsonl"].decode("ascii").splitlines()
        if rows.shape != (manifest.count, manifest.dimension) or len(lines) != manifest.count:
            raise RetrievalError(
                f"The index in {str(folder)!r} holds {rows.shape!r} vectors and {len(lines)!r} "
                f"entries, its manifest says {manifest.count!r}. Build it again."
            )
        index = cls(
            manifest.dimension,
            embedder=embedder,
            embedder_hash=embedder_hash,
            factory=manifest.factory,
            centre=tensors.get("centre"),
        )
        if "fast.faiss" in parts:
            index._approximate = approximate.restore(parts["fast.faiss"])
        index._restore(rows, [_entry(line) for line in lines])
        return index

    @classmethod
    @contextlib.contextmanager
    def open_for_update(
        cls,
        folder: Path,
        *,
        embedder: str,
        embedder_hash: str,
        seconds: float = storage.LOCK_SECONDS,
    ) -> Iterator["CaseIndex"]:
        """Load an index, let the caller change it, and save it at the end: nobody else in between.

        Nothing is saved if the caller's block raises.

        Raises:
            RetrievalError: as `load` and `save`, or another writer kept it for `seconds`.
        """
        with storage.locked(folder, seconds):
            index = cls.load(folder, embedder=embedder, embedder_hash=embedder_hash)
            yield index
            index._write(folder)

    def _restore(self, rows: Vectors, entries: Sequence[Entry]) -> None:
        """Fill an empty index from a folder; the approximate one is there already."""
        if len(rows):
            self._exact.add_with_ids(rows, np.arange(len(rows), dtype=np.int64))
        self._cases = dict(enumerate(entries))
        self._numbers = {entry.id: number for number, entry in enumerate(entries)}
        self._next = len(rows)
        self._choose_first()

    def _parts(self) -> dict[str, bytes]:
        """Return what the folder holds."""
        rows = np.ascontiguousarray(self.vectors().astype(np.float16))
        # ASCII escapes keep any text on one line, even lone surrogates.
        lines = [json.dumps(asdict(entry)) + "\n" for entry in self._cases.values()]
        tensors = {"vectors": rows} | ({} if self.centre is None else {"centre": self.centre})
        parts = {
            "vectors.safetensors": save_tensors(tensors),
            "entries.jsonl": "".join(lines).encode("ascii"),
        }
        if self._approximate is not None:
            parts["fast.faiss"] = approximate.dump(self._approximate)
        return parts

    def _describe(self, parts: dict[str, bytes]) -> storage.IndexManifest:
        return storage.describe(
            parts,
            embedder=self.embedder,
            embedder_hash=self.embedder_hash,
            dimension=self.dimension,
            factory=self.factory,
            count=len(self),
        )

    def _choose_first(self) -> None:
        """Search on the GPUs where FAISS has any, else on the CPU; called after each change."""
        self._order = np.fromiter(self._cases, dtype=np.int64, count=len(self))
        best = self._exact if self._approximate is None else self._approximate
        self._first = approximate.on_gpus(best)

    def _placed(self, vectors: Vectors, verb: str) -> Vectors:
        """Return the vectors as they are compared: as they come, or what is left of the centre."""
        rows = self._unit_rows(vectors, verb)
        if self.centre is None:
            return rows
        moved = rows - self.centre
        # A case at the very centre has no direction left, and resembles none.
        moved /= np.maximum(np.sqrt(np.vecdot(moved, moved)), 1e-6)[:, None]
        return moved

    def _unit_rows(self, vectors: Vectors, verb: str) -> Vectors:
        """Return the vectors as FAISS wants them, if they are unit rows of our dimension."""
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise RetrievalError(
                f"Cannot {verb} vectors of shape {rows.shape!r}: this index holds rows of "
                f"{self.dimension!r} values. Embed with {self.embedder!r}."
            )
        off = np.abs(np.vecdot(rows, rows) - 1.0)
        # Written so that NaN is refused too.
        if not off.max(initial=0.0) < 0.02:
            place = int(np.argmax(~(off < 0.02)))
            raise RetrievalError(
                f"Cannot {verb} row {place!r}: its length is "
                f"{float(np.linalg.norm(rows[place]))!r}, not 1. Normalise the vectors."
            )
        return rows

    def _refuse_duplicates(self, entries: Sequence[Entry]) -> None:
        seen: set[str] = set()
        for entry in entries:
            if entry.id in self._numbers or entry.id in seen:
                raise RetrievalError(
                    f"Cannot add the id {entry.id!r} twice. Remove the old case first, or give "
                    "the new one another id."
                )
            seen.add(entry.id)


def _guard_each(skip: Guard | Sequence[Guard | None] | None, count: int) -> Sequence[Guard | None]:
    """Return one guard, or None, for each query."""
    if skip is None or callable(skip):
        return [skip] * count
    if len(skip) != count:
        raise RetrievalError(
            f"Got {len(skip)!r} guards for {count!r} queries. Give one for each, or one for all."
        )
    return skip


def _refuse_other_embedder(
    manifest: storage.IndexManifest, folder: Path, embedder: str, embedder_hash: str
) -> None:
    if (manifest.embedder, manifest.embedder_hash) != (embedder, embedder_hash):
        raise RetrievalError(
            f"The index in {str(folder)!r} was made by the embedder {manifest.embedder!r} with "
            f"weights {manifest.embedder_hash!r}, not by {embedder!r} with {embedder_hash!r}: "
            "their vectors are not comparable. Use that embedder, or build the index again."
        )


def _entry(line: str) -> Entry:
    """Return the entry that a line holds."""
    fields = json.loads(line)
    return Entry(**{**fields, "labels": tuple(fields["labels"])})
