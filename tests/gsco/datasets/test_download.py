"""Downloads against a local server: whole, cut off, killed, refused, and altered."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command import run
from filelock import FileLock
from layouts import DIAGNOSIS
from range_server import Shop, serve

from gsco.datasets import card as cards
from gsco.datasets.card import DataCard, DataFile, card_named
from gsco.datasets.check import check
from gsco.datasets.download import download
from gsco.datasets.prepare import prepare
from gsco.errors import DataError, UsageError

CONTENT = bytes(range(256)) * 6000
HALF = len(CONTENT) // 2
MD5 = hashlib.md5(CONTENT).hexdigest()


def file_at(url: str, md5: str = MD5) -> DataFile:
    return DataFile("spots.npz", url, md5, 28)


def left(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir() if not f.name.endswith(".lock"))


def test_a_file_is_fetched_checked_and_named_last(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    with serve(Shop(CONTENT)) as url:
        done = download(file_at(url), tmp_path / "new", lambda *step: told.append(step))
    assert done.read_bytes() == CONTENT
    assert left(tmp_path / "new") == ["spots.npz"]
    assert told[-1] == ("spots.npz (KiB)", 1500, 1500)


def test_a_download_that_is_killed_half_way_goes_on(tmp_path: Path) -> None:
    shop = Shop(CONTENT, stop_after=HALF, stall=True)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from gsco.datasets.card import DataFile\n"
        "from gsco.datasets.download import download\n"
        "file = DataFile('spots.npz', sys.argv[1], sys.argv[2], 28)\n"
        "download(file, Path(sys.argv[3]), lambda *step: print(step[1], flush=True))\n"
    )
    with serve(shop) as url:
        words = [sys.executable, "-c", code, url, MD5, str(tmp_path)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert int(process.stdout.readline()) > 0
            os.kill(process.pid, signal.SIGKILL)
        kept = (tmp_path / "spots.npz.partial").stat().st_size
        assert 0 < kept <= HALF
        assert not (tmp_path / "spots.npz").exists()
        assert download(file_at(url), tmp_path).read_bytes() == CONTENT
    assert shop.ranges == [None, f"bytes={kept}-"]
    assert shop.sent[1] == len(CONTENT) - kept
    assert left(tmp_path) == ["spots.npz"]


def test_a_connection_that_breaks_says_how_to_go_on(tmp_path: Path) -> None:
    with serve(Shop(CONTENT, stop_after=HALF)) as url:
        with pytest.raises(DataError, match=r"stopped after [\d,]+ bytes .* goes on from there"):
            download(file_at(url), tmp_path)
        assert left(tmp_path) == ["spots.npz.partial"]
        assert download(file_at(url), tmp_path).read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_sends_all_again(tmp_path: Path) -> None:
    (tmp_path / "spots.npz.partial").write_bytes(b"something else")
    with serve(Shop(CONTENT, ignores_range=True)) as url:
        assert download(file_at(url), tmp_path).read_bytes() == CONTENT


def test_a_partial_file_that_is_whole_is_only_named(tmp_path: Path) -> None:
    (tmp_path / "spots.npz.partial").write_bytes(CONTENT)
    shop = Shop(CONTENT)
    with serve(shop) as url:
        assert download(file_at(url), tmp_path).read_bytes() == CONTENT
    assert shop.sent == []


def test_a_file_of_another_hash_is_removed_and_reported(tmp_path: Path) -> None:
    removed = pytest.raises(DataError, match=r"is not the published file .* was removed")
    with serve(Shop(CONTENT[:-1] + b"x")) as url, removed:
        download(file_at(url), tmp_path)
    assert left(tmp_path) == []


def test_a_file_that_is_there_is_checked_and_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "spots.npz").write_bytes(CONTENT)
    assert download(file_at("http://127.0.0.1:9/nothing"), tmp_path).read_bytes() == CONTENT
    (tmp_path / "spots.npz").write_bytes(b"mine")
    with pytest.raises(DataError, match="is there already, and is not the published file"):
        download(file_at("http://127.0.0.1:9/nothing"), tmp_path)
    assert (tmp_path / "spots.npz").read_bytes() == b"mine"


def test_a_server_that_refuses_or_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    refused = pytest.raises(DataError, match=r"refused 'spots.npz' \(404 Not Found\)")
    with serve(Shop(CONTENT, status=404)) as url, refused:
        download(file_at(url), tmp_path)
    with pytest.raises(DataError, match="stopped after 0 bytes"):
        download(file_at(url), tmp_path)


def test_two_downloads_of_one_file_do_not_mix(tmp_path: Path) -> None:
    busy = pytest.raises(DataError, match=r"is being downloaded into .* by another process")
    with FileLock(tmp_path / ".spots.npz.lock"), busy:
        download(file_at("http://127.0.0.1:9/nothing"), tmp_path)


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="The folder 'file' cannot be made: File exists"):
        download(file_at("http://127.0.0.1:9/nothing"), tmp_path / "file")


def test_sizes_are_chosen_by_name(tmp_path: Path) -> None:
    card = card_named("pneumoniamnist")
    with pytest.raises(UsageError, match=r"has no size 32\. Available: 28, 64, 128, 224"):
        prepare(card, tmp_path, 32)
    with pytest.raises(UsageError, match="'brset' comes in one size"):
        prepare(card_named("brset"), tmp_path, 64)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ham10000", "Download it from https://doi.org/10.7910/DVN/DBW86T."),
        ("derm7pt", "Register and download it from https://derm.cs.sfu.ca"),
        ("mimic-cxr", "Apply for access at https://physionet.org/content/mimic-cxr"),
    ],
)
def test_what_cannot_be_fetched_is_explained(name: str, words: str, tmp_path: Path) -> None:
    made = prepare(card_named(name), tmp_path / "new")
    assert made.file is None
    assert made.todo[0].startswith(words)
    assert made.todo[1].startswith("Put into 'new': ")
    assert len(made.todo) == 2 + len(card_named(name).place)


def test_a_set_that_is_there_needs_nothing(tmp_path: Path) -> None:
    DIAGNOSIS["derm7pt"](tmp_path)
    card = card_named("derm7pt")
    assert prepare(card, tmp_path).todo
    counts = check(card, tmp_path, images=False).counts
    assert prepare(replace(card, splits=counts), tmp_path).todo == ()


def test_the_command_downloads_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(Shop(CONTENT)) as url:
        spots: DataCard = replace(card_named("breastmnist"), name="spots", files=(file_at(url),))
        monkeypatch.setattr(cards, "data_cards", lambda: {"spots": spots})
        assert run(monkeypatch, "data", "prepare", "spots", tmp_path / "d") == 0
        assert "`gsco data check spots" in capsys.readouterr().out
        assert run(monkeypatch, "data", "prepare", "spots", tmp_path / "d", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "version": 1,
        "name": "spots",
        "file": str(tmp_path / "d" / "spots.npz"),
        "todo": [],
    }


def test_the_command_exits_with_two_where_a_person_must_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "data", "prepare", "brset", tmp_path / "brset") == 2
    assert "Put into 'brset': fundus_photos with the images." in capsys.readouterr().out
