"""A tiny workspace, constructed once from drawn images, that the tests of gsco share."""

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import TASK, tell
from PIL import Image

from gsco.agent import GSCo
from gsco.construct import Outcome, Plan, construct
from gsco.datasets import Dataset, read_dataset
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.settings import Settings
from gsco.task import Task
from specialists import train

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BACKBONES = ("mobilenetv3-small", "vit-tiny", "resnet18-small")
SPLITS = (("train", 40), ("val", 30), ("test", 20))
FINDINGS = replace(TASK, id="findings", kind="multi", title="Drawn findings")


def draw_spot(labels: tuple[str, ...], seed: int, size: int = 64) -> Image.Image:
    """Draw smooth random tissue, different for every seed, tinted by what it has."""
    generator = np.random.default_rng(seed)
    field = Image.fromarray(generator.integers(40, 200, (14, 14), dtype=np.uint8))
    grey = np.asarray(field.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = np.repeat(grey[:, :, None], 3, axis=2) * 0.7
    pixels[:, :, 0] += 45 * ("red spot" in labels)
    pixels[:, :, 2] += 45 * ("blue spot" in labels)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_data(folder: Path, labels_of: Callable[[int], tuple[str, ...]]) -> Path:
    """Write PNG files and a manifest; two images a patient in training, one elsewhere."""
    folder.mkdir(parents=True)
    rows = []
    for split, count in SPLITS:
        for number in range(count):
            labels, seed = labels_of(number), len(rows)
            file = f"{split}-{number:02}.png"
            draw_spot(labels, seed).save(folder / file)
            patient = f"{split}-{number // 2 if split == 'train' else number}"
            rows.append([file, split, "|".join(labels), patient])
    with (folder / "manifest.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["file", "split", "label", "patient_id"], *rows])
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def draw() -> Callable[..., Image.Image]:
    return draw_spot


@pytest.fixture
def generalist() -> ScriptedGeneralist:
    return ScriptedGeneralist(tell)


@pytest.fixture(scope="session", autouse=True)
def short_recipe() -> Iterator[None]:
    """Two epochs instead of thirty."""
    recipe = train.RECIPES["default"]
    train.RECIPES["default"] = replace(recipe, epochs=2, batch=20)
    yield
    train.RECIPES["default"] = recipe


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "spots"
    return write_data(folder, lambda n: (("red spot", "blue spot")[n % 2],))


@pytest.fixture
def own_data(data: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(data, tmp_path / "spots"))


@pytest.fixture(scope="session")
def dataset(data: Path) -> Dataset:
    return read_dataset(data, TASK)


@pytest.fixture(scope="session")
def task() -> Task:
    return TASK


@pytest.fixture(scope="session")
def plan() -> Plan:
    return Plan(backbones=BACKBONES)


@pytest.fixture(scope="session")
def constructed(
    dataset: Dataset, plan: Plan, short_recipe: None, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    """The outcome of the one construction; its workspace is for reading only."""
    workspace = tmp_path_factory.mktemp("work") / "workspace"
    return construct(dataset, workspace, "spots", plan, generalist=ScriptedGeneralist(tell))


@pytest.fixture(scope="session")
def workspace(constructed: Outcome) -> Path:
    return constructed.folder.parent.parent


@pytest.fixture
def own_workspace(workspace: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(workspace, tmp_path / "workspace"))


@pytest.fixture
def agent(workspace: Path, generalist: ScriptedGeneralist) -> GSCo:
    return GSCo.open(workspace, generalist=generalist, settings=Settings())


@pytest.fixture(scope="session")
def multi_workspace(short_recipe: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of a multi-label task with one specialist."""
    folder = tmp_path_factory.mktemp("multi")
    combinations = (("red spot",), ("blue spot",), ("red spot", "blue spot"))
    found = read_dataset(write_data(folder / "findings", lambda n: combinations[n % 3]), FINDINGS)
    construct(
        found,
        folder / "workspace",
        "findings",
        Plan(backbones=("resnet18-small",)),
        generalist=ScriptedGeneralist(tell),
    )
    return folder / "workspace"


# Not for the session: while it runs, no test of this process can run an event loop of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()
