"""A saved index is whole, is what it says, and loses nothing to others or to sudden death."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import CaseIndex, Entry, IndexManifest, RetrievalError

KEY = {"embedder": "drawn", "embedder_hash": "abc"}


def unit_rows(count: int, seed: int = 0) -> Any:
    rows = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def built(count: int = 30, factory: str | None = None, seed: int = 0) -> CaseIndex:
    entries = [Entry(f"{seed}:{n}", ("a", "b"), "p", "s", "c", "d") for n in range(count)]
    return CaseIndex.build(unit_rows(count, seed), entries, factory=factory, **KEY)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize("factory", [None, "HNSW8", "IVF4,Flat"])
def test_a_loaded_index_answers_exactly_as_the_saved_one(
    tmp_path: Path, factory: str | None
) -> None:
    index, queries = built(factory=factory), unit_rows(5, seed=9)
    index.remove(["0:4", "0:20"])
    index.save(tmp_path)
    loaded = CaseIndex.load(tmp_path, **KEY)
    assert loaded.entries == index.entries
    assert np.array_equal(loaded.vectors(), index.vectors())
    assert loaded.search(queries, 7) == index.search(queries, 7)
    assert loaded.factory == factory
    assert loaded.recall(5) == index.recall(5)


def test_saving_what_was_loaded_changes_no_hash(tmp_path: Path) -> None:
    manifest = built().save(tmp_path)
    assert CaseIndex.load(tmp_path, **KEY).save(tmp_path) == manifest
    assert (
        built(factory="HNSW8").save(tmp_path)
        == CaseIndex.load(tmp_path, **KEY).save(tmp_path)
        == CaseIndex.load(tmp_path, **KEY).manifest()
    )
    assert isinstance(manifest, IndexManifest)
    assert (manifest.count, manifest.dimension, manifest.embedder) == (30, 16, "drawn")
    assert built().manifest() == manifest
    assert built(29).manifest().data_hash != manifest.data_hash


def test_an_empty_index_can_be_saved_and_filled_later(tmp_path: Path) -> None:
    built(0).save(tmp_path)
    with CaseIndex.open_for_update(tmp_path, **KEY) as index:
        index.add(unit_rows(1), [Entry("first", ())])
    assert len(CaseIndex.load(tmp_path, **KEY)) == 1


def test_a_loaded_index_can_change_like_a_built_one(tmp_path: Path) -> None:
    built(factory="IVF4,Flat").save(tmp_path)
    index = CaseIndex.load(tmp_path, **KEY)
    index.add(unit_rows(3, seed=7), [Entry(f"new {n}", ()) for n in range(3)])
    assert index.remove(["0:0"]) == 1
    assert index.search(unit_rows(3, seed=7)[1:2], 1)[0].neighbours[0].id == "new 1"


@pytest.mark.parametrize(
    "id",
    ["", "Ärztin 患者 🩻", "a\nb\r\u2028\u0085", "nul\0", "\ud800 lone", '"quoted\\', "../../x"],
)
def test_an_id_may_be_any_text(tmp_path: Path, id: str) -> None:
    entry = Entry(id, (id,), patient=id, source=id)
    CaseIndex.build(unit_rows(1), [entry], **KEY).save(tmp_path)
    assert CaseIndex.load(tmp_path, **KEY).entries == (entry,)


def test_a_save_leaves_only_the_files_of_the_new_index(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    built(factory="HNSW8").save(tmp_path)
    (tmp_path / "entries-half.jsonl.tmp").write_text("left by a killed process")
    built(seed=1).save(tmp_path)
    kinds = sorted(name.split("-")[0] for name in names(tmp_path))
    assert kinds == ["entries", "manifest.json", "notes.txt", "vectors"]


def test_another_embedder_or_other_weights_are_refused_by_name(tmp_path: Path) -> None:
    built().save(tmp_path)
    with pytest.raises(RetrievalError, match=r"'drawn'.*not by 'painted'"):
        CaseIndex.load(tmp_path, embedder="painted", embedder_hash="abc")
    with pytest.raises(RetrievalError, match=r"'abc', not by 'drawn' with 'xyz'"):
        CaseIndex.load(tmp_path, embedder="drawn", embedder_hash="xyz")


def test_a_missing_index_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match=r"No index in .*CaseIndex.build"):
        CaseIndex.load(tmp_path / "nowhere", **KEY)
    with (
        pytest.raises(RetrievalError, match="No index in"),
        CaseIndex.open_for_update(tmp_path, **KEY),
    ):
        pass


def altered(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("harm", [altered, halved, Path.unlink])
@pytest.mark.parametrize("part", ["vectors", "entries", "fast"])
def test_a_file_that_is_altered_cut_or_missing_is_refused(
    tmp_path: Path, part: str, harm: Any
) -> None:
    built(factory="HNSW8").save(tmp_path)
    (path,) = tmp_path.glob(f"{part}-*")
    harm(path)
    with pytest.raises(RetrievalError, match=f"incomplete or altered.*{part}-"):
        CaseIndex.load(tmp_path, **KEY)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "\udcff", '{"version": 1}'])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    built().save(tmp_path)
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RetrievalError, match="incomplete or altered"):
        CaseIndex.load(tmp_path, **KEY)


def test_an_altered_manifest_is_refused(tmp_path: Path) -> None:
    built().save(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"drawn"', '"other"'))
    with pytest.raises(RetrievalError, match="its own checksum"):
        CaseIndex.load(tmp_path, embedder="other", embedder_hash="abc")


def test_an_index_of_a_later_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieval import storage

    built().save(tmp_path)
    monkeypatch.setattr(storage, "VERSION", 2)
    with pytest.raises(RetrievalError, match="version 1, this program reads 2"):
        CaseIndex.load(tmp_path, **KEY)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_index_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    old = built()
    old.save(tmp_path)
    before = names(tmp_path)
    new = built(20, seed=1)
    for survived in range(9):
        with monkeypatch.context() as patch:
            fill_disk(patch, call, survived)
            try:
                new.save(tmp_path)
                break
            except RetrievalError as error:
                assert "the disk is full" in str(error)
        assert names(tmp_path) == before
        assert CaseIndex.load(tmp_path, **KEY).entries == old.entries
    assert survived >= 3
    assert CaseIndex.load(tmp_path, **KEY).entries == new.entries


def fill_disk(patch: pytest.MonkeyPatch, call: str, survived: int) -> None:
    """Let `call` fail for lack of space after it has `survived` so many times."""
    calls = iter(range(1000))

    def full(true: Any) -> Any:
        def maybe(*args: Any, **kwargs: Any) -> Any:
            if next(calls) >= survived:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return true(*args, **kwargs)

        return maybe

    if call != "write":
        patch.setattr(os, call, full(getattr(os, call)))
        return
    true_open = Path.open

    class HalfWriter:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "HalfWriter":
            return self

        def __exit__(self, *args: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            self.file.write(content[: len(content) // 2])
            full(self.file.write)(content[len(content) // 2 :])

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = true_open(path, mode, *args, **kwargs)
        return HalfWriter(file) if mode == "wb" else file

    patch.setattr(Path, "open", opened)


DYING = """
import os, signal, sys
from pathlib import Path
import numpy as np
from retrieval import CaseIndex, Entry
folder, survive = Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def dying(true):
    def call(*args):
        global calls
        if calls == survive:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return true(*args)
    return call
os.fsync, os.replace = dying(os.fsync), dying(os.replace)
index = CaseIndex.build(np.eye(16, dtype=np.float32)[:3], [Entry(f"new {n}", ()) for n in range(3)],
                        embedder="drawn", embedder_hash="abc")
index.save(folder)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills with a POSIX signal")
@pytest.mark.parametrize("has_old", [True, False])
def test_a_process_killed_while_saving_leaves_the_old_index_or_the_new_one(
    tmp_path: Path, has_old: bool
) -> None:
    processes = {}
    # Eight steps: sync and replace of three files, and two syncs of the folder.
    for survived in range(9):
        folder = tmp_path / str(survived)
        if has_old:
            built().save(folder)
        command = [sys.executable, "-c", DYING, str(folder), str(survived)]
        processes[survived] = subprocess.Popen(command)
    ends = {survived: process.wait(60) for survived, process in processes.items()}
    assert ends == {survived: -signal.SIGKILL if survived < 8 else 0 for survived in ends}
    for survived in ends:
        check_after_death(tmp_path / str(survived), has_old, is_new=survived >= 7)


def check_after_death(folder: Path, has_old: bool, *, is_new: bool) -> None:
    if is_new or has_old:
        index = CaseIndex.load(folder, **KEY)
        assert {entry.id.split()[0] for entry in index.entries} == (
            {"new"} if is_new else {f"0:{n}" for n in range(30)}
        )
    else:
        with pytest.raises(RetrievalError, match="No index in"):
            CaseIndex.load(folder, **KEY)
    # The next save works, lock or not, and clears away what was left.
    built(5, seed=2).save(folder)
    assert len(names(folder)) == 3
    assert len(CaseIndex.load(folder, **KEY)) == 5


ADDING = """
import sys
from pathlib import Path
import numpy as np
from retrieval import CaseIndex, Entry
key = {"embedder": "drawn", "embedder_hash": "abc"}
for n in range(8):
    with CaseIndex.open_for_update(Path(sys.argv[1]), **key) as index:
        index.add(np.eye(16, dtype=np.float32)[n:n + 1], [Entry(f"{sys.argv[2]} {n}", ())])
"""


def test_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    built().save(tmp_path)
    adders = [
        subprocess.Popen([sys.executable, "-c", ADDING, str(tmp_path), name]) for name in "xyz"
    ]
    # Meanwhile a reader never sees a half-written index.
    while any(adder.poll() is None for adder in adders):
        assert len(CaseIndex.load(tmp_path, **KEY)) >= 30
    assert [adder.returncode for adder in adders] == [0, 0, 0]
    added = {entry.id for entry in CaseIndex.load(tmp_path, **KEY).entries[30:]}
    assert added == {f"{name} {n}" for name in "xyz" for n in range(8)}
    assert len(names(tmp_path)) == 3


def test_an_update_that_fails_saves_nothing(tmp_path: Path) -> None:
    built().save(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    with (
        pytest.raises(ZeroDivisionError),
        CaseIndex.open_for_update(tmp_path, **KEY) as index,
    ):
        index.remove(["0:1"])
        _ = 1 / 0
    assert (tmp_path / "manifest.json").read_bytes() == before
    built(seed=1).save(tmp_path)


def test_a_writer_that_waits_too_long_is_told_why(tmp_path: Path) -> None:
    built().save(tmp_path)
    errors: list[RetrievalError] = []

    def wait() -> None:
        try:
            with CaseIndex.open_for_update(tmp_path, seconds=0.01, **KEY):
                pass
        except RetrievalError as error:
            errors.append(error)

    with CaseIndex.open_for_update(tmp_path, **KEY):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    (error,) = errors
    assert "Somebody else has been writing" in str(error)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RetrievalError, match=r"Cannot write to the index folder .*file"):
        built().save(tmp_path / "file" / "index")


def test_the_folder_holds_nothing_that_runs(tmp_path: Path) -> None:
    built().save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json", ".jsonl", ".safetensors", ""}
    (entries,) = tmp_path.glob("entries-*")
    assert json.loads(entries.read_text().splitlines()[0])["id"] == "0:0"
