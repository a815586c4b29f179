"""The main job, end to end, with the shipped models and real images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.starter import datasets
from gsco.agent import GSCo
from gsco.case import Case
from gsco.datasets import read_dataset
from gsco.datasets.leaks import entry_of
from gsco.datasets.samples import packaged_samples
from gsco.demo import run
from gsco.errors import DataError
from gsco.evaluation.evaluate import evaluate
from gsco.generalist.seen import DIGITS, seen_in
from gsco.generalist.tiny import FOLDER
from gsco.task import task_named
from gsco.workspace import starter, tasks_of
from retrieval import fingerprint, overlaps

TASKS = sorted(tasks_of(starter()))
CHANCE = {"pneumonia-cxr": 1 / 2, "breast-ultrasound": 1 / 2, "brain-mri": 1 / 4, "modality": 1 / 6}


@pytest.fixture(scope="module")
def agent() -> GSCo:
    return GSCo.open()


def test_three_real_images_from_packages_are_diagnosed(agent: GSCo) -> None:
    samples = packaged_samples()
    assert len(samples) >= 3
    for sample in samples:
        made = agent.diagnose(Case(images=(sample.image,), task=TASKS[0], id=sample.name))
        assert sum(made.probabilities.values()) == pytest.approx(1)
        assert made.answer in made.probabilities


def test_a_fundus_photograph_is_outside_what_chest_specialists_know(agent: GSCo) -> None:
    retina = next(s for s in packaged_samples() if s.name == "retina")
    made = agent.diagnose(Case(images=(retina.image,), task="pneumonia-cxr"))
    assert made.in_domain is False
    assert any("outside what the specialists know" in reason for reason in made.review_reasons)


@pytest.mark.slow
def test_the_demo_asks_every_starter_task_about_test_images(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSCO_DATA", str(data_root))
    made = run(quiet=True)
    packaged = {sample.name for sample in packaged_samples()}
    assert {d.task for d in made if d.case not in packaged} == set(TASKS)
    assert all(sum(d.probabilities.values()) == pytest.approx(1) for d in made)


@pytest.mark.slow
def test_the_command_prints_a_whole_diagnosis_as_json(data_root: Path) -> None:
    image = next(
        r.source for r in datasets(data_root)["pneumonia-cxr"]().records if r.split == "test"
    )
    command = [
        sys.executable,
        "-m",
        "gsco",
        "diagnose",
        str(image),
        "-t",
        "pneumonia-cxr",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert sum(made["probabilities"].values()) == pytest.approx(1)
    assert len(made["opinions"]) >= 3
    assert len(made["neighbours"]) >= 5
    assert made["reading"]["probabilities"]
    assert {"gsco", "torch", "index sha256", "fusion sha256"} <= set(made["provenance"])


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_starter_index_and_the_test_cases_never_overlap(
    task: str, agent: GSCo, data_root: Path
) -> None:
    dataset = datasets(data_root)[task]()
    held_out = [entry_of(r, dataset.name) for r in dataset.records if r.split != "train"]
    indexed = agent.tools(task).index.entries
    assert len(indexed) > 50
    assert overlaps(indexed, held_out) == []


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_gsco_tiny_has_learnt_from_no_held_out_case(task: str, data_root: Path) -> None:
    dataset = datasets(data_root)[task]()
    seen = {"train": 0, "test": 0}
    for record in dataset.records:
        if record.split in seen:
            mark = fingerprint(record.open()).content_hash[:DIGITS]
            seen[record.split] += mark in seen_in(FOLDER)
    assert seen["train"] > 50
    assert seen["test"] == 0


@pytest.mark.slow
def test_a_split_across_what_gsco_tiny_has_learnt_from_is_refused(
    agent: GSCo, data_root: Path
) -> None:
    other = read_dataset(
        data_root / "brain_tumor_mri", task_named("brain-mri"), split_column="alt_split"
    )
    with pytest.raises(DataError, match=r"(?s)258 of 370 cases were learnt from.*--allow-overlap"):
        evaluate(agent, other, "brain-mri", ["gsco"])


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_starter_stack_beats_chance_on_test_cases(
    task: str, agent: GSCo, data_root: Path
) -> None:
    rows = evaluate(agent, datasets(data_root)[task](), task, ["specialist", "stack"], limit=120)
    assert [row.n for row in rows] == [rows[0].n] * 2
    assert rows[1].balanced_accuracy > CHANCE[task] + 0.1
    assert rows[1].balanced_accuracy_interval[0] <= rows[1].balanced_accuracy
