"""Suites: which sets they name, and what is said of those that cannot be asked."""

import json
from collections import Counter
from pathlib import Path

import asked_layouts
import command
import pytest
from layouts import DIAGNOSIS

from gsco.agent import GSCo
from gsco.datasets import read_known
from gsco.errors import UsageError
from gsco.evaluation.bench import local_items
from gsco.evaluation.suites import choose, members
from gsco.settings import Settings


def test_the_publication_has_twenty_eight_sets() -> None:
    kinds = Counter(card.kind for card in members("gsco28").values())
    assert len(members("gsco28")) == 28
    assert kinds["single"] + kinds["multi"] == 20
    assert (kinds["vqa"], kinds["report"]) == (6, 2)
    assert not {"bcn20000", "rsna-pneumonia"} & members("gsco28").keys()


def test_the_open_suite_has_what_anybody_may_have() -> None:
    assert {card.tier for card in members("open").values()} == {"open"}
    assert "bcn20000" in members("open")


def test_each_set_is_asked_or_it_is_said_what_to_do(tmp_path: Path) -> None:
    for name in ("slake", "derm7pt", "cbis_ddsm_mass"):
        (tmp_path / name).mkdir()
    (tmp_path / "breastmnist.npz").touch()
    chosen = choose("gsco28", ["derm7pt", "modality"], tmp_path)
    assert (chosen.tasks, chosen.words) == (["derm7pt"], ["slake"])
    assert f"`gsco construct cbis-ddsm-mass --data {tmp_path}" in chosen.left["cbis-ddsm-mass"]
    assert "breastmnist.npz" in chosen.left["breastmnist"]
    assert "`gsco data show brset`" in chosen.left["brset"]
    assert len(chosen.left) == 26
    with pytest.raises(UsageError, match=r"Unknown suite 'gsco27'. Did you mean 'gsco28'"):
        choose("gsco27", [], tmp_path)


def test_a_constructed_published_set_is_read_as_it_is_published(tmp_path: Path) -> None:
    (tmp_path / "derm7pt").mkdir()
    DIAGNOSIS["derm7pt"](tmp_path / "derm7pt")
    dataset = read_known("derm7pt", tmp_path / "derm7pt")
    folder = tmp_path / "workspace" / "tasks" / "derm7pt"
    folder.mkdir(parents=True)
    facts = {"name": dataset.name, "fingerprint": dataset.fingerprint, "columns": dataset.columns}
    for name, text in (
        ("task.toml", dataset.task.to_toml()),
        ("data.json", json.dumps(facts)),
        ("done.json", "{}"),
    ):
        (folder / name).write_text(text)
    (item,), left = local_items(GSCo.open(tmp_path / "workspace", settings=Settings()), tmp_path)
    assert left == {}
    assert len(item.dataset.split("test")) == 11


def test_names_and_suites_are_mixed_and_absent_sets_are_listed(
    workspace: Path, data: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    sets = tmp_path / "sets"
    (sets / "vqa-rad").mkdir(parents=True)
    asked_layouts.vqa_rad(sets / "vqa-rad")
    (sets / "slake").mkdir()
    (sets / "spots").symlink_to(data)
    common = ["-d", sets, "-w", workspace, "--system", "specialist", "--json", "-o"]
    words = ["bench", "run", "spots", "--suite", "open", *common, tmp_path / "out"]
    assert command.run(monkeypatch, *words) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert [row["set"] for row in told["rows"]] == ["spots"]
    assert [row["set"] for row in told["words"]] == ["vqa-rad"]
    assert "slake is left out" in said.err
    assert "dermnet is left out: it is not under 'sets'; see `gsco data show dermnet`." in said.err
    (tmp_path / "none").mkdir()
    common[1] = tmp_path / "none"
    words = ["bench", "run", "--suite", "gsco28", *common, tmp_path / "none-out"]
    assert command.run(monkeypatch, *words) == 2
    assert "No constructed task has its data under 'none'" in capsys.readouterr().err
