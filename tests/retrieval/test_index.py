"""The index recalls the nearest allowed cases, and stays right as it changes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import CaseIndex, Entry, RetrievalError


def unit_rows(count: int, dimension: int = 16, seed: int = 0) -> Any:
    rows = np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clustered(count: int, dimension: int = 32, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(20, dimension))
    rows = centres[random.integers(0, 20, count)] + 0.5 * random.normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def cases(count: int, start: int = 0) -> list[Entry]:
    return [Entry(f"case {n}", (f"label {n % 3}",)) for n in range(start, start + count)]


def built(count: int = 50, dimension: int = 16, **settings: Any) -> CaseIndex:
    return CaseIndex.build(
        unit_rows(count, dimension),
        cases(count),
        embedder="drawn",
        embedder_hash="abc",
        **settings,
    )


def ids(index: CaseIndex, query: Any, k: int, **settings: Any) -> list[str]:
    (result,) = index.search(query[None], k, **settings)
    return [neighbour.id for neighbour in result.neighbours]


def test_neighbours_are_those_of_a_plain_sort_by_cosine_nearest_first() -> None:
    index, queries = built(), unit_rows(7, seed=1)
    true = np.argsort(-(queries @ unit_rows(50).T), axis=1)[:, :5]
    for result, row in zip(index.search(queries, 5), true, strict=True):
        assert [neighbour.id for neighbour in result.neighbours] == [f"case {n}" for n in row]
        similarities = [neighbour.similarity for neighbour in result.neighbours]
        assert similarities == sorted(similarities, reverse=True)
        assert result.dropped == 0


def test_many_queries_in_several_blocks_find_what_faiss_finds_for_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from retrieval import exact

    index, queries = built(300), unit_rows(40, seed=1)
    index.remove(["case 0", "case 150"])
    monkeypatch.setattr(exact, "_SCORES", 298 * 7)
    for result, query in zip(index.search(queries, 9), queries, strict=True):
        (alone,) = index.search(query[None], 9)
        assert [n.id for n in result.neighbours] == [n.id for n in alone.neighbours]
        assert [n.similarity for n in result.neighbours] == pytest.approx(
            [n.similarity for n in alone.neighbours], abs=1e-6
        )


def shifted(count: int, dimension: int = 16, seed: int = 0) -> Any:
    """Unit rows that all lean the same way, as images of one kind do."""
    rows = unit_rows(count, dimension, seed) + 3 * unit_rows(1, dimension, seed=99)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_centred_index_compares_what_is_left_of_its_mean() -> None:
    vectors, queries = shifted(50), shifted(7, seed=1)
    index = CaseIndex.build(vectors, cases(50), embedder="drawn", embedder_hash="abc", centred=True)
    mean = vectors.mean(axis=0)
    left, asked = vectors - mean, queries - mean
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    true = asked @ left.T
    for result, row in zip(index.search(queries, 5), true, strict=True):
        assert [n.id for n in result.neighbours] == [f"case {n}" for n in np.argsort(-row)[:5]]
        assert [n.similarity for n in result.neighbours] == pytest.approx(
            sorted(row, reverse=True)[:5], abs=2e-3
        )


def test_a_centred_index_keeps_its_centre_when_saved_and_when_cases_come(tmp_path: Path) -> None:
    vectors, queries = shifted(50), shifted(7, seed=1)
    index = CaseIndex.build(
        vectors[:40], cases(40), embedder="drawn", embedder_hash="abc", centred=True
    )
    index.add(vectors[40:], cases(10, start=40))
    index.save(tmp_path / "index")
    loaded = CaseIndex.load(tmp_path / "index", embedder="drawn", embedder_hash="abc")
    assert loaded.centre == pytest.approx(vectors[:40].mean(axis=0))
    assert loaded.search(queries, 5) == index.search(queries, 5)


def test_a_case_at_the_very_centre_resembles_none() -> None:
    index = CaseIndex.build(
        unit_rows(1), cases(1), embedder="drawn", embedder_hash="abc", centred=True
    )
    (result,) = index.search(unit_rows(1), 1)
    assert result.neighbours[0].similarity == 0.0


def test_a_neighbour_carries_what_the_entry_says() -> None:
    entry = Entry("x", ("a", "b"), patient="p", source="set")
    index = CaseIndex.build(unit_rows(1), [entry], embedder="drawn", embedder_hash="abc")
    (result,) = index.search(unit_rows(1), 1)
    (neighbour,) = result.neighbours
    assert (neighbour.id, neighbour.labels) == ("x", ("a", "b"))
    assert (neighbour.patient, neighbour.source) == ("p", "set")
    assert neighbour.similarity == pytest.approx(1.0, abs=1e-3)
    assert neighbour.similarity <= 1.0


def test_fewer_cases_than_asked_for_give_all_of_them() -> None:
    assert len(ids(built(3), unit_rows(1)[0], 10)) == 3
    assert built(0).search(unit_rows(2), 10)[1].neighbours == ()


def test_no_queries_give_no_results() -> None:
    assert built().search(np.empty((0, 16), np.float32), 3) == []


def test_the_guard_leaves_out_cases_counts_them_and_goes_on_to_the_next() -> None:
    index, query = built(), unit_rows(1, seed=1)[0]
    nearest = ids(index, query, 50)
    barred = set(nearest[:3]) | {nearest[4]}
    (result,) = index.search(query[None], 3, skip=lambda entry: entry.id in barred)
    assert [n.id for n in result.neighbours] == [nearest[3], nearest[5], nearest[6]]
    assert result.dropped == 4


def test_the_guard_may_leave_out_far_more_than_is_fetched_at_first() -> None:
    index, query = built(400), unit_rows(1, seed=1)[0]
    nearest = ids(index, query, 400)
    allowed = set(nearest[-5:])
    (result,) = index.search(query[None], 3, skip=lambda entry: entry.id not in allowed)
    assert [n.id for n in result.neighbours] == nearest[-5:-2]
    assert result.dropped == 395


def test_a_guard_that_bars_everything_ends_with_nothing() -> None:
    (result,) = built().search(unit_rows(1), 3, skip=lambda entry: True)
    assert (result.neighbours, result.dropped) == ((), 50)


def test_each_query_may_have_its_own_guard_or_none() -> None:
    index, queries = built(), unit_rows(3)
    guards: list[Callable[[Entry], bool] | None] = [
        lambda entry: entry.id == "case 0",
        None,
        lambda entry: entry.id == "case 2",
    ]
    first, second, third = index.search(queries, 1, skip=guards)
    assert first.neighbours[0].id != "case 0"
    assert second.neighbours[0].id == "case 1"
    assert third.neighbours[0].id != "case 2"
    with pytest.raises(RetrievalError, match="Got 3 guards for 2 queries"):
        index.search(queries[:2], 1, skip=guards)


def test_added_cases_are_found_and_removed_ones_are_not() -> None:
    index, more = built(), unit_rows(10, seed=2)
    index.add(more, cases(10, start=50))
    assert ids(index, more[4], 1) == ["case 54"]
    assert index.remove(["case 54", "case 3", "case 3", "nobody"]) == 2
    assert ids(index, more[4], 1) != ["case 54"]
    assert len(index) == 58
    assert "case 54" not in index
    index.add(more[4:5], [Entry("case 54", ("again",))])
    assert index["case 54"].labels == ("again",)


def test_vectors_stay_aligned_with_entries_after_removing() -> None:
    index = built()
    index.remove([f"case {n}" for n in range(0, 50, 7)])
    index.add(unit_rows(2, seed=3), cases(2, start=90))
    for vector, entry in zip(index.vectors(), index.entries, strict=True):
        assert ids(index, vector, 1) == [entry.id]


def test_an_id_that_is_there_already_is_refused_and_nothing_is_added() -> None:
    index = built()
    with pytest.raises(RetrievalError, match="'case 7' twice"):
        index.add(unit_rows(2, seed=3), [Entry("new", ()), Entry("case 7", ())])
    with pytest.raises(RetrievalError, match="'same' twice"):
        index.add(unit_rows(2, seed=3), [Entry("same", ()), Entry("same", ())])
    assert len(index) == len(index.vectors()) == 50
    assert "new" not in index


def test_vectors_that_are_no_unit_rows_are_refused_with_the_row() -> None:
    rows = unit_rows(3)
    for bad in (np.nan, 0.0, 2.0):
        wrong = rows.copy()
        wrong[1] *= bad
        with pytest.raises(RetrievalError, match="row 1: its length"):
            built(0).add(wrong, cases(3))
        with pytest.raises(RetrievalError, match="Normalise"):
            built().search(wrong, 1)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(RetrievalError, match=r"\(3, 8\).*rows of 16"):
        built().search(unit_rows(3, 8), 1)
    with pytest.raises(RetrievalError, match=r"\(16,\)"):
        built().search(unit_rows(1)[0], 1)
    with pytest.raises(RetrievalError, match="3 vectors for 2 entries"):
        built().add(unit_rows(3), cases(2, start=90))
    with pytest.raises(RetrievalError, match=r"\(0,\)"):
        CaseIndex.build(np.empty(0, np.float32), [], embedder="drawn", embedder_hash="abc")
    with pytest.raises(RetrievalError, match="k=0"):
        built().search(unit_rows(1), 0)


@pytest.mark.parametrize("factory", ["IVF32,Flat", "HNSW16"])
def test_approximate_indexes_recall_nearly_what_exact_search_does(factory: str) -> None:
    rows = clustered(2000)
    index = CaseIndex.build(
        rows, cases(2000), embedder="drawn", embedder_hash="abc", factory=factory
    )
    assert 0.9 < index.recall(10) <= 1.0
    # The same share, counted here from the answers of two indexes.
    exact = CaseIndex.build(rows, cases(2000), embedder="drawn", embedder_hash="abc")
    queries = clustered(50, seed=5)
    hits = sum(
        len({n.id for n in a.neighbours} & {n.id for n in b.neighbours})
        for a, b in zip(index.search(queries, 10), exact.search(queries, 10), strict=True)
    )
    assert hits / 500 > 0.85


def test_recall_falls_when_an_approximate_index_looks_at_little() -> None:
    import faiss

    index = CaseIndex.build(
        clustered(2000), cases(2000), embedder="drawn", embedder_hash="abc", factory="IVF64,Flat"
    )
    good = index.recall(10)
    faiss.downcast_index(index._approximate.index).nprobe = 1
    assert index.recall(10) < good


def test_an_exact_index_recalls_everything() -> None:
    assert built().recall(10) == 1.0


@pytest.mark.parametrize("factory", ["IVF32,Flat", "HNSW16"])
def test_an_approximate_index_can_change_and_finds_every_allowed_case(factory: str) -> None:
    rows = clustered(1500)
    index = CaseIndex.build(
        rows[:1490], cases(1490), embedder="drawn", embedder_hash="abc", factory=factory
    )
    index.add(rows[1490:], cases(10, start=1490))
    assert index.remove(["case 5", "case 1495"]) == 2
    assert ids(index, rows[5], 1) != ["case 5"]
    assert ids(index, rows[1492], 1) == ["case 1492"]
    # The far end of the index, where its own search would not look.
    (result,) = index.search(rows[:1], 3, skip=lambda entry: entry.id < "case 997")
    assert len(result.neighbours) == 3


def test_a_factory_that_faiss_does_not_know_or_cannot_train_is_refused() -> None:
    with pytest.raises(RetrievalError, match="'Nonsense9'"):
        built(factory="Nonsense9")
    with pytest.raises(RetrievalError, match="'IVF64,Flat' of 50 cases"):
        built(factory="IVF64,Flat")


def test_removing_more_than_a_factory_can_do_without_keeps_all_cases() -> None:
    index = built(factory="IVF32,Flat")
    with pytest.raises(RetrievalError, match="of 10 cases"):
        index.remove([f"case {n}" for n in range(40)])
    assert len(index) == len(index.vectors()) == 50
    assert ids(index, unit_rows(50)[0], 1) == ["case 0"]


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import sys, retrieval; from retrieval import Entry, vote, guard;"
        "print([m for m in ('faiss', 'numpy', 'PIL', 'imagehash') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_names_functions_even_after_their_modules_are_loaded() -> None:
    import retrieval

    for name in retrieval.__all__:
        assert callable(getattr(retrieval, name)), name
    with pytest.raises(AttributeError, match="'Indx'"):
        _ = retrieval.Indx
