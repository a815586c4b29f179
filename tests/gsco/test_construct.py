"""Construction: whole, repeatable, and going on where a kill or a full disk stopped it."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import tell
from narrow import Narrow
from PIL import Image

from gsco import fusing
from gsco.agent import GSCo
from gsco.case import Case
from gsco.construct import Outcome, Plan, construct
from gsco.datasets import Dataset, read_dataset
from gsco.errors import DataError, FusionError, UsageError, WorkspaceError
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.prompts import Prompt
from gsco.settings import Settings
from gsco.task import Task
from gsco.voices import READ_SYSTEMS
from gsco.workspace import TaskFolder, open_task
from retrieval import CaseIndex, fingerprint, hamming
from retrieval.guard import NEAR_DUPLICATE
from specialists import Opinion, registry
from specialists.embedder import NAME, independent_embedder

STAGES = (
    "after the first specialist",
    "while training the second",
    "while saving the index",
    "while fitting",
    "before the end",
)
SECOND = "train mobilenetv3-small"
SMALL = Plan(backbones=("resnet18-small",))


def times(folder: Path) -> dict[str, int]:
    found = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in found}


def index_of(folder: Path) -> CaseIndex:
    weights = independent_embedder().weights_hash
    return CaseIndex.load(folder / "index", embedder=NAME, embedder_hash=weights)


def test_construction_writes_everything_and_cleans_up(constructed: Outcome) -> None:
    folder = constructed.folder
    for name in ("mobilenetv3-small", "vit-tiny", "resnet18-small"):
        assert (folder / "specialists" / name / "card.toml").is_file()
        assert (folder / "specialists" / name / "weights.safetensors").is_file()
    for file in ("task.toml", "data.json", "voices.npz", "fusion.json", "done.json"):
        assert (folder / file).is_file(), file
    assert (folder / "index" / "manifest.json").is_file()
    assert (folder / "report" / "report.md").is_file()
    assert (folder / "report" / "reliability.png").is_file()
    assert not (folder / "build").exists()
    assert not [p for p in folder.rglob("*") if "partial" in p.name or p.suffix == ".tmp"]
    assert constructed.trained == ("mobilenetv3-small", "vit-tiny", "resnet18-small")


def test_the_index_holds_no_image(constructed: Outcome) -> None:
    assert not [p for p in constructed.folder.rglob("*.png") if p.parent.name != "report"]
    data = json.loads((constructed.folder / "data.json").read_text())
    assert data["trained_on"] == 40
    assert data["counts"]["val"] == {"red spot": 15, "blue spot": 15}


def test_what_learnt_small_images_sees_larger_ones_as_small(constructed: Outcome) -> None:
    agent = GSCo.open(constructed.folder.parents[1])
    fine = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    large = Image.fromarray(fine)
    small = large.resize((64, 64), Image.Resampling.BICUBIC)
    one, other = (agent.diagnose(Case((i,), "spots"), "stack") for i in (large, small))
    assert one.probabilities == other.probabilities
    assert one.neighbours == other.neighbours
    assert "saw it at 64 x 64 pixels" in one.explanation
    assert "saw it at" not in other.explanation
    assert "64 x 64 pixels" in (constructed.folder / "report" / "report.md").read_text()


@pytest.mark.parametrize("size", [(96, 96), (48, 48)], ids=["large", "of two sizes"])
def test_other_images_are_seen_as_they_are(
    size: tuple[int, int], dataset: Dataset, tmp_path: Path
) -> None:
    first, *others = dataset.records
    first.open().resize(size).save(tmp_path / "first.png")
    records = (replace(first, source=tmp_path / "first.png"), *others)
    construct(replace(dataset, records=records), tmp_path, "spots", SMALL)
    assert open_task(tmp_path, "spots").learnt_size is None


def test_the_report_says_what_validation_showed(constructed: Outcome) -> None:
    page = (constructed.folder / "report" / "report.md").read_text()
    assert "not a medical device" in page
    assert "30 validation cases" in page
    assert "| vit-tiny |" in page


def test_a_second_run_does_nothing(
    constructed: Outcome,
    workspace: Path,
    dataset: Dataset,
    plan: Plan,
    generalist: ScriptedGeneralist,
) -> None:
    before = times(workspace)
    again = construct(dataset, workspace, "spots", plan, generalist=generalist)
    assert again.nothing_to_do
    assert times(workspace) == before
    assert generalist.asked == []


def test_index_training_and_test_cases_never_overlap(
    constructed: Outcome, dataset: Dataset
) -> None:
    entries = index_of(constructed.folder).entries
    held_out = [r for r in dataset.records if r.split != "train"]
    assert {e.id for e in entries} <= {r.id for r in dataset.split("train")}
    assert not {e.patient for e in entries} & {r.patient for r in held_out}
    prints = [fingerprint(record.open()) for record in held_out]
    assert not {e.content_hash for e in entries} & {p.content_hash for p in prints}
    nearest = min(hamming(e.perceptual_hash, p.perceptual_hash) for e in entries for p in prints)
    assert nearest > NEAR_DUPLICATE


@pytest.mark.slow
def test_a_near_duplicate_of_a_test_image_is_dropped_and_counted(
    own_data: Path, task: Task, tmp_path: Path
) -> None:
    with Image.open(own_data / "test-00.png") as image:
        image.resize((60, 60)).save(own_data / "train-00.png")
    said: list[str] = []
    found = read_dataset(own_data, task)
    done = construct(found, tmp_path / "w", "spots", SMALL, say=said.append)
    assert done.dropped == 1
    assert any(text.startswith("1 training cases look like") for text in said)
    assert "train-00.png" not in index_of(done.folder)
    assert json.loads((done.folder / "data.json").read_text())["near_duplicates_dropped"] == 1
    assert "1 near-duplicates" in (done.folder / "report" / "report.md").read_text()


def test_one_patient_in_two_splits_is_refused(own_data: Path, task: Task) -> None:
    manifest = own_data / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",test-4\n", ",train-4\n"))
    with pytest.raises(DataError, match="one patient stand in two splits"):
        read_dataset(own_data, task)


@pytest.mark.slow
def test_changed_data_are_learnt_anew_and_strangers_go(
    own_workspace: Path, own_data: Path, task: Task, generalist: ScriptedGeneralist
) -> None:
    manifest = own_data / "manifest.csv"
    manifest.write_text(
        manifest.read_text().replace("train-01.png,train,blue", "train-01.png,train,red")
    )
    said: list[str] = []
    found = read_dataset(own_data, task)
    done = construct(found, own_workspace, "spots", SMALL, generalist=generalist, say=said.append)
    assert done.trained == ("resnet18-small",)
    assert TaskFolder(own_workspace, "spots").specialists() == ["resnet18-small"]
    assert "Specialist 'vit-tiny' was trained on other data; removed." in said
    # The ids are the same as before, the label is not.
    assert index_of(done.folder)["train-01.png"].labels == ("red spot",)


@pytest.mark.parametrize("lost", ["vectors", "fusion", "done"])
def test_a_damaged_part_is_made_again_without_training(
    own_workspace: Path, dataset: Dataset, plan: Plan, generalist: ScriptedGeneralist, lost: str
) -> None:
    folder = own_workspace / "tasks" / "spots"
    if lost == "vectors":
        next((folder / "index").glob("vectors-*")).unlink()
    else:
        (folder / f"{lost}.json").write_text("{")
    done = construct(dataset, own_workspace, "spots", plan, generalist=generalist)
    assert not done.nothing_to_do
    assert done.trained == ()
    assert len(index_of(folder)) == 40
    assert json.loads((folder / "done.json").read_text())["key"]


def test_more_images_are_read_alone_than_with_evidence(
    own_workspace: Path,
    dataset: Dataset,
    plan: Plan,
    generalist: ScriptedGeneralist,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fusing, "READ_AT_MOST", 11)
    monkeypatch.setattr(fusing, "ALONE_AT_MOST", 14)
    folder = TaskFolder(own_workspace, "spots")
    (folder.path / "done.json").unlink()
    steps: list[tuple[int, int]] = []

    def progress(step: str, done: int, total: int) -> None:
        if step == "hear the generalist":
            steps.append((done, total))

    construct(dataset, own_workspace, "spots", plan, generalist=generalist, progress=progress)
    with np.load(folder.voices) as kept:
        read = {s: int((~np.isnan(kept[f"reading {s}"]).any(1)).sum()) for s in READ_SYSTEMS}
    assert read == {"generalist": 14, "moed": 11, "rad": 11, "gsco": 11}
    assert steps[-1] == (47, 47)
    assert steps == sorted(steps)


def test_a_generalist_is_weighed_only_where_validation_shows_that_it_helps(
    own_workspace: Path, dataset: Dataset, plan: Plan, generalist: ScriptedGeneralist
) -> None:
    def guess(prompt: Prompt) -> dict[str, float]:
        share = float(np.asarray(prompt.images[-1]).std() % 1)
        return {"red spot": share, "blue spot": 1 - share}

    folder = TaskFolder(own_workspace, "spots")
    for reader, helps in ((ScriptedGeneralist(guess), False), (generalist, True)):
        (folder.path / "done.json").unlink()
        construct(dataset, own_workspace, "spots", plan, generalist=reader)
        made = folder.read_fusion()
        assert (made.fused["generalist"] > 0) == helps
        page = (folder.report / "report.md").read_text()
        assert (f"does not hear {reader.name}" in page) != helps
        assert (f"weighs what {reader.name} reads" in page) == helps
        if not helps:
            assert made.fused == {**made.stack, "generalist": 0.0}
            assert made.thresholds["gsco-fused"] == made.thresholds["stack"]
        agent = GSCo.open(own_workspace, generalist=reader, settings=Settings())
        cases = [Case(images=(record.open(),), task="spots") for record in dataset.split("test")]
        fused, stack = (agent.diagnose_many(cases, s) for s in ("gsco-fused", "stack"))
        pairs = zip(fused, stack, strict=True)
        alike = [a.probabilities == pytest.approx(b.probabilities) for a, b in pairs]
        assert all(alike) != helps
        # Who is not heard is shown, and is no reason to look again.
        assert all(d.reading is not None for d in fused)
        assert all(("weighs nothing" in d.explanation) != helps for d in fused)
        asides = [any("The generalist reads" in why for why in d.review_reasons) for d in fused]
        assert not any(asides) or helps


def test_prompts_that_are_too_long_are_shortened_while_fitting_as_when_asking(
    own_workspace: Path, dataset: Dataset, plan: Plan
) -> None:
    narrow = Narrow(tell)
    folder = TaskFolder(own_workspace, "spots")
    (folder.path / "done.json").unlink()
    construct(dataset, own_workspace, "spots", plan, generalist=narrow)
    made = folder.read_fusion()
    assert set(made.temperatures) == set(READ_SYSTEMS)
    assert set(READ_SYSTEMS) <= set(made.thresholds)


def test_a_generalist_that_is_never_understood_leaves_the_stack_its_sets(
    own_workspace: Path, dataset: Dataset, plan: Plan
) -> None:
    mute = ScriptedGeneralist(lambda prompt: {})
    (TaskFolder(own_workspace, "spots").path / "done.json").unlink()
    construct(dataset, own_workspace, "spots", plan, generalist=mute)
    agent = GSCo.open(own_workspace, generalist=mute, settings=Settings())
    case = Case(images=(dataset.split("test")[0].open(),), task="spots")
    fused, stack = (agent.diagnose(case, system) for system in ("gsco-fused", "stack"))
    assert fused.prediction_set == stack.prediction_set
    assert fused.prediction_set is not None
    # What it begins to say later is not calibrated, and has no part in the answer.
    agent = GSCo.open(own_workspace, generalist=ScriptedGeneralist(tell), settings=Settings())
    later = agent.diagnose(case, "gsco-fused")
    assert later.prediction_set == stack.prediction_set
    assert later.probabilities == pytest.approx(dict(stack.probabilities))
    read = agent.diagnose(case, "gsco")
    assert any("not calibrated with this evidence" in why for why in read.review_reasons)


def test_the_name_of_the_card_given_does_not_matter_to_a_second_run(
    own_workspace: Path, dataset: Dataset, plan: Plan, generalist: ScriptedGeneralist
) -> None:
    renamed = replace(dataset, task=replace(dataset.task, id="another"))
    assert construct(renamed, own_workspace, "spots", plan, generalist=generalist).nothing_to_do


@pytest.mark.parametrize("name", ["../spots", "", "Two Words", "a/b"])
def test_a_name_that_is_no_folder_is_refused(dataset: Dataset, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a folder"):
        construct(dataset, tmp_path / "w", name, SMALL)
    assert not (tmp_path / "w").exists()


def test_too_few_validation_cases_are_refused_before_training(
    own_workspace: Path, dataset: Dataset
) -> None:
    before = times(own_workspace)
    with pytest.raises(FusionError, match="need at least 99 validation cases; there are 30"):
        construct(dataset, own_workspace, "spots", replace(SMALL, coverage=0.99))
    assert times(own_workspace) == before
    assert open_task(own_workspace, "spots").is_done


@pytest.mark.parametrize("split", ["train", "val"])
def test_data_without_a_part_are_refused(dataset: Dataset, tmp_path: Path, split: str) -> None:
    less = replace(dataset, records=tuple(r for r in dataset.records if r.split != split))
    with pytest.raises(DataError, match="no training or no validation"):
        construct(less, tmp_path / "w", "spots", SMALL)


def test_a_full_disk_is_a_sentence_and_loses_nothing(
    own_workspace: Path,
    dataset: Dataset,
    generalist: ScriptedGeneralist,
    monkeypatch: pytest.MonkeyPatch,
    plan: Plan,
) -> None:
    folder = own_workspace / "tasks" / "spots"
    whole = {k: v for k, v in times(folder).items() if k.startswith(("specialists", "index"))}
    later = replace(plan, coverage=0.8)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WorkspaceError, match=r"No space left on device\. Free some space"):
            construct(dataset, own_workspace, "spots", later, generalist=generalist)
    after = times(folder)
    assert {k: after.get(k) for k in whole} == whole
    assert not [name for name in after if "/." in f"/{name}"]
    done = construct(dataset, own_workspace, "spots", later, generalist=generalist)
    assert done.trained == ()
    assert TaskFolder(own_workspace, "spots").read_fusion().coverage == 0.8


def test_a_folder_that_refuses_is_a_sentence(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="Cannot write 'spots'"):
        construct(dataset, tmp_path / "file", "spots", SMALL)


@pytest.mark.slow
def test_a_construction_killed_at_every_stage_goes_on_and_keeps_what_was_whole(
    data: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    folder = workspace / "tasks" / "spots"
    script = Path(__file__).with_name("dying_construction.py")
    kept: dict[str, int] = {}
    for stage in STAGES:
        ran = subprocess.run(
            [sys.executable, str(script), str(data), str(workspace), stage],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert ran.stdout.strip() == f"{stage}|{int(signal.SIGKILL)}", ran.stderr
        with pytest.raises(WorkspaceError, match=r"is not complete.*goes on where it stopped"):
            open_task(workspace, "spots")
        now = times(folder)
        assert {k: now[k] for k in kept} == kept
        kept = {k: v for k, v in now.items() if is_whole(folder, k)}
    told = [line.split("|") for line in (tmp_path / "told.txt").read_text().splitlines()]
    second = [done for stage, step, done in told if (stage, step) == (STAGES[2], SECOND)]
    # The first of its two epochs was stored before the kill.
    assert second == ["2"]
    assert {stage for stage, step, _ in told if step == SECOND} <= {STAGES[1], STAGES[2]}
    assert [s for s, step, _ in told if step == "train resnet18-small"] == [STAGES[0]] * 2
    plan = Plan(backbones=("resnet18-small", "mobilenetv3-small"))
    done = construct(read_dataset(data), workspace, "spots", plan)
    assert done.trained == ()
    now = times(folder)
    assert {k: now[k] for k in kept} == kept
    agent = GSCo.open(workspace, settings=Settings())
    made = agent.diagnose(Case(images=(data / "test-00.png",), task="spots"), "stack")
    assert made.failures == ()
    assert made.answer in ("red spot", "blue spot")


def is_whole(folder: Path, name: str) -> bool:
    """Whether a file belongs to a specialist or an index that is complete."""
    if name.startswith("specialists"):
        return (folder / name).with_name("card.toml").exists()
    return name.startswith("index/") and (folder / "index" / "manifest.json").exists()


def test_a_specialist_of_an_installed_package_is_fitted_and_consulted(
    own_workspace: Path, dataset: Dataset, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Foreign:
        name, weights_hash = "foreign", "f00d"

        def predict(self, images: Sequence[Image.Image]) -> list[Opinion]:
            return [Opinion("foreign", ("blue spot", "red spot"), (0.6, 0.4)) for _ in images]

    monkeypatch.setattr(registry, "installed", lambda task: {"foreign": Foreign()})
    made = construct(dataset, own_workspace, "spots", replace(plan, coverage=0.8))
    assert made.trained == ()
    assert "foreign" in TaskFolder(own_workspace, "spots").read_fusion().stack
    agent = GSCo.open(own_workspace)
    diagnosis = agent.diagnose(Case((dataset.split("test")[0].open(),), "spots"), "stack")
    heard = next(o for o in diagnosis.opinions if o.specialist == "foreign")
    assert heard.probabilities == (0.4, 0.6)
    assert construct(dataset, own_workspace, "spots", replace(plan, coverage=0.8)).nothing_to_do
