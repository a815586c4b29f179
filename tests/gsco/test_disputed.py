"""Disputed cases in the report: shown where the licence allows, else with the reason."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import command
import numpy as np
import pytest
from PIL import Image

from gsco.agent import GSCo
from gsco.case import System
from gsco.datasets import Dataset, read_dataset
from gsco.evaluation import stored
from gsco.evaluation.bench import Item, Scope, run
from gsco.evaluation.disputed import (
    ABSENT,
    FORBIDDEN,
    IMAGES,
    SHOWN,
    SIDE,
    Dispute,
    images_of,
    keep_images,
)
from gsco.evaluation.page import write
from gsco.evaluation.stored import RESULTS, merge, verify
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.settings import Settings
from gsco.thumbnail import data_url

SYSTEMS: tuple[System, ...] = ("specialist", "generalist")
IMG = '<img src="data:image/jpeg'


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "RESAMPLED", 50)


@pytest.fixture
def agent(workspace: Path) -> GSCo:
    """Whose generalist is wrong of every blue spot."""
    always = ScriptedGeneralist(lambda prompt: {"red spot": 0.9, "blue spot": 0.1})
    return GSCo.open(workspace, generalist=always, settings=Settings())


@pytest.fixture
def open_data(dataset: Dataset) -> Dataset:
    return replace(dataset, licence="CC BY 4.0", credit="A. Author <b>2020</b>")


def report(agent: GSCo, data: Dataset, out: Path) -> str:
    """Run, write the report with the data at hand, return the page."""
    rows = run(agent, [Item("spots", "spots", data)], SYSTEMS, out)
    return write(out, rows or [], [], {"spots": data}).read_text()


def test_images_of_an_open_licence_are_shown_with_their_credit(
    agent: GSCo, open_data: Dataset, tmp_path: Path
) -> None:
    page = report(agent, open_data, tmp_path / "out")
    count = page.count('<figure class="case">')
    assert 0 < count <= SHOWN
    assert page.count(IMG) == count
    assert page.count('alt="A case of red spot"') + page.count('alt="A case of blue spot"') == count
    assert "Images: spots (A. Author &lt;b&gt;2020&lt;/b&gt;)" in page
    assert (
        '<a href="https://creativecommons.org/licenses/by/4.0/" rel="license">CC BY 4.0</a>' in page
    )
    assert "No image" not in page
    assert verify(tmp_path / "out") == []


@pytest.mark.parametrize("licence", [None, "CC BY-NC 4.0", "GPL-3.0"])
def test_without_an_open_licence_it_is_said_why_no_image_is_shown(
    licence: str | None, agent: GSCo, open_data: Dataset, tmp_path: Path
) -> None:
    page = report(agent, replace(open_data, licence=licence), tmp_path / "out")
    assert page.count(FORBIDDEN) == page.count('<figure class="case">') > 0
    assert IMG not in page
    assert "A. Author" not in page
    assert json.loads((tmp_path / "out" / "spots" / IMAGES).read_text()) == {}


def test_a_licence_that_was_withdrawn_takes_the_images_along(
    agent: GSCo, open_data: Dataset, tmp_path: Path
) -> None:
    report(agent, open_data, tmp_path / "out")
    closed = Item("spots", "spots", replace(open_data, licence="CC BY-NC 4.0"))
    rows = run(agent, [closed], SYSTEMS, tmp_path / "out") or []
    assert IMG not in write(tmp_path / "out", rows, []).read_text()


def test_an_old_folder_shows_what_it_keeps_and_says_what_it_does_not(
    agent: GSCo, open_data: Dataset, tmp_path: Path, monkeypatch, capsys
) -> None:
    out = tmp_path / "out"
    page = report(agent, open_data, out)
    assert command.run(monkeypatch, "bench", "report", out) == 0
    assert (out / "report.html").read_text().count(IMG) == page.count(IMG) > 0
    (out / "spots" / IMAGES).unlink()
    assert command.run(monkeypatch, "bench", "report", out) == 0
    again = (out / "report.html").read_text()
    assert again.count(ABSENT) == page.count('<figure class="case">')
    assert IMG not in again


def test_a_run_of_gathered_shards_shows_images_once_it_is_run_where_the_data_are(
    agent: GSCo, open_data: Dataset, tmp_path: Path
) -> None:
    item, shards = Item("spots", "spots", open_data), [tmp_path / "a", tmp_path / "b"]
    for part, shard in enumerate(shards, start=1):
        run(agent, [item], SYSTEMS, shard, Scope(shard=(part, 2)))
    rows = merge(tmp_path / "all", shards) or []
    assert ABSENT in write(tmp_path / "all", rows, []).read_text()
    before = (tmp_path / "all" / RESULTS).read_bytes()
    assert IMG in report(agent, open_data, tmp_path / "all")
    assert (tmp_path / "all" / RESULTS).read_bytes() == before


def test_an_image_that_cannot_be_read_is_absent_alone(own_data: Path, tmp_path: Path) -> None:
    data = replace(read_dataset(own_data), licence="CC0 1.0")
    cases = [record.id for record in data.split("test")[:2]]
    (own_data / cases[0]).write_bytes(b"no image")
    keep_images(tmp_path, disputes(cases), data)
    assert list(images_of(tmp_path, data.licence)) == cases[1:]


def test_images_are_small_whatever_they_were(tmp_path: Path, dataset: Dataset) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    records = tuple(
        replace(record, id=f"{n}.png", source=tmp_path / "noise.png")
        for n, record in enumerate(dataset.split("test"))
    )
    data = replace(dataset, records=records, licence="CC0 1.0")
    keep_images(tmp_path, disputes([record.id for record in records[:SHOWN]]), data)
    shown = images_of(tmp_path, data.licence)
    assert len(shown) == SHOWN
    assert (tmp_path / IMAGES).stat().st_size < SHOWN * 65_536
    for url in shown.values():
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
            assert image.size == (SIDE, SIDE * 9 // 16)


def test_what_would_be_loaded_from_elsewhere_is_not_shown(tmp_path: Path) -> None:
    kept = {"a": "https://example.org/a.jpg", "b": "data:text/html,x", "c": 1, "d": "x" * 100_000}
    (tmp_path / IMAGES).write_text(json.dumps(kept))
    assert images_of(tmp_path, "CC0 1.0") == {}
    for damaged in ("[1]", "{damaged"):
        (tmp_path / IMAGES).write_text(damaged)
        assert images_of(tmp_path, "CC0 1.0") == {}


def test_a_picture_carries_no_comment_of_its_file(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8))
    image.save(tmp_path / "named.jpg", comment=b"Doe^Jane", exif=image.getexif())
    with Image.open(tmp_path / "named.jpg") as named:
        assert named.info["comment"] == b"Doe^Jane"
        assert b"Doe" not in base64.b64decode(data_url(named).partition(",")[2])


def test_answers_are_told_with_the_true_one_first() -> None:
    one = Dispute("a.png", "malignant", {"vote": "benign", "gsco": "malignant", "mean": "benign"})
    assert list(one.answers.items()) == [("malignant", ["gsco"]), ("benign", ["vote", "mean"])]


@pytest.mark.slow
def test_the_page_fits_a_phone_and_a_sheet_of_paper(
    browser: Any, agent: GSCo, open_data: Dataset, tmp_path: Path
) -> None:
    report(agent, open_data, tmp_path / "out")
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    phone.goto((tmp_path / "out" / "report.html").as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.evaluate("document.querySelector('.case img').naturalWidth") == 64
    # An A4 sheet that lies, between its margins.
    phone.set_viewport_size({"width": 1047, "height": 718})
    phone.emulate_media(media="print")
    assert phone.evaluate("document.documentElement.scrollWidth") == 1047
    phone.close()


def disputes(cases: Sequence[str]) -> list[Dispute]:
    return [Dispute(case, "red spot", {}) for case in cases]
