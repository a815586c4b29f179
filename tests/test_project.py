"""Promises of the whole: what ships, under which licence, and what the README says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import tables
from gsco.case import SYSTEMS
from gsco.workspace import TaskFolder, starter, tasks_of
from specialists.classifier import load, load_card

ROOT = Path(__file__).parents[1]
OPEN_LICENCES = ("CC BY 4.0", "CC BY 3.0", "MIT", "CC0")
STARTER_TASKS = sorted(tasks_of(starter()))


def test_the_starter_workspace_holds_the_promised_tasks() -> None:
    assert {"pneumonia-cxr", "breast-ultrasound", "brain-mri", "modality"} == set(STARTER_TASKS)


@pytest.mark.parametrize("task", STARTER_TASKS)
def test_a_starter_task_is_whole_and_its_weights_match_their_cards(task: str) -> None:
    folder = TaskFolder(starter(), task)
    assert folder.is_done
    assert len(folder.specialists()) >= 3
    backbones = {load(folder.specialist(n)).card.backbone.name for n in folder.specialists()}
    assert len(backbones) >= 3


@pytest.mark.parametrize("task", STARTER_TASKS)
def test_shipped_weights_come_from_data_that_may_be_shipped(task: str) -> None:
    folder = TaskFolder(starter(), task)
    for name in folder.specialists():
        card = load_card(folder.specialist(name))
        assert any(licence in card.data_licence for licence in OPEN_LICENCES), card.data_licence
        assert not re.search(r"CC BY-(SA|NC)|GPL", card.data_licence), card.data_licence


def test_what_ships_stays_under_sixty_megabytes_and_holds_no_image_of_a_case() -> None:
    files = [f for f in (ROOT / "gsco").rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    assert sum(f.stat().st_size for f in files) < 60e6
    pictures = {f.name for f in files if f.suffix in {".png", ".jpg", ".jpeg"}}
    assert pictures <= {"reliability.png", "roc.png", "confusion.png"}


def test_the_readme_names_every_system() -> None:
    text = (ROOT / "README.md").read_text()
    assert [system for system in SYSTEMS if f"`{system}`" not in text] == []


def test_the_tables_in_the_readme_are_those_of_the_committed_results() -> None:
    text = (ROOT / "README.md").read_text()
    assert tables.filled(text) == text


def test_every_result_says_its_command_versions_seed_failures_and_cases() -> None:
    for file in (ROOT / "benchmarks" / "results").glob("*.json"):
        data = json.loads(file.read_text())
        assert data["command"].startswith("python -m benchmarks."), file.name
        assert "torch" in data["versions"], file.name
        assert "failures" in data, file.name
        assert "seed" in data or "seeds" in data, file.name
        cases = data.get("n") or data.get("n_test") or data["rows"][0]["n"]
        assert cases > 0, file.name


def test_importing_gsco_and_asking_for_help_loads_no_torch() -> None:
    code = (
        "import sys, gsco, gsco.cli\n"
        "sys.argv = ['gsco', '--help']\n"
        "try:\n gsco.cli.main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'timm', 'transformers', 'faiss', 'langgraph'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
