"""The benchmark: killed, cut in shards, tampered with, it says the same or says what is wrong."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom

from gsco.agent import GSCo
from gsco.case import System
from gsco.datasets import Dataset, read_dataset
from gsco.errors import DataError, UsageError, WorkspaceError
from gsco.evaluation import bench, stored
from gsco.evaluation.bench import Item, Scope, local_items, run
from gsco.evaluation.ledger import Answer, Ledger
from gsco.evaluation.page import write
from gsco.evaluation.paired import detectable, holm, mcnemar
from gsco.evaluation.stored import RESULTS, compare, merge, sets_of, verify
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.generalist.seen import DIGITS
from gsco.settings import Settings
from retrieval import fingerprint

SYSTEMS: tuple[System, ...] = ("specialist", "gsco")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "RESAMPLED", 50)


@pytest.fixture
def items(dataset: Dataset) -> list[Item]:
    return [Item("spots", "spots", dataset)]


@pytest.fixture
def whole(agent: GSCo, items: list[Item], tmp_path: Path) -> Path:
    """A finished run."""
    assert run(agent, items, SYSTEMS, tmp_path / "whole") is not None
    return tmp_path / "whole"


def test_a_run_gives_a_row_for_each_system_and_asks_nothing_twice(
    agent: GSCo, generalist: ScriptedGeneralist, items: list[Item], whole: Path
) -> None:
    rows = json.loads((whole / RESULTS).read_text())["rows"]
    assert [(r["set"], r["system"], r["n"]) for r in rows] == [
        ("spots", "specialist", 20),
        ("spots", "gsco", 20),
    ]
    assert rows[0]["mcnemar_p"] is None
    assert 0 < rows[1]["mcnemar_p_holm"] <= 1
    before = (whole / RESULTS).read_bytes()
    asked = len(generalist.asked)
    run(agent, items, SYSTEMS, whole)
    assert len(generalist.asked) == asked
    assert (whole / RESULTS).read_bytes() == before
    assert verify(whole) == []


def test_killed_in_the_middle_of_a_line_it_ends_with_the_same_bytes(
    agent: GSCo, items: list[Item], whole: Path, data: Path, workspace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    script = Path(__file__).with_name("dying_benchmark.py")
    for answers in (10, 15):
        words = [sys.executable, str(script), str(data), str(workspace), str(out), str(answers)]
        here = Path(__file__).parent
        paths = ":".join(map(str, (here.parents[1], here, here.parent / "support")))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        ran = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert ran.returncode == -signal.SIGKILL, ran.stderr
    (half,) = [p for p in out.glob("spots/gsco.*.jsonl")]
    assert not half.read_text().endswith("\n")
    known = len(Ledger.at(half).known())
    assert 0 < known < 20
    asked: list[str] = []
    inner = agent.diagnose_many

    def counted(cases: list[object], *given: object, **named: object) -> object:
        asked.extend(str(case.id) for case in cases)  # type: ignore[attr-defined]
        return inner(cases, *given, **named)  # type: ignore[arg-type]

    agent.diagnose_many = counted  # type: ignore[method-assign, assignment]
    run(agent, items, SYSTEMS, out)
    assert len(asked) == 20 - known
    assert (out / RESULTS).read_bytes() == (whole / RESULTS).read_bytes()


def test_shards_gathered_are_the_whole(
    agent: GSCo, items: list[Item], whole: Path, tmp_path: Path
) -> None:
    shards = [tmp_path / name for name in "abc"]
    for part, shard in enumerate(shards, start=1):
        assert run(agent, items, SYSTEMS, shard, Scope(shard=(part, 3))) is None
        assert not (shard / RESULTS).exists()
    assert merge(tmp_path / "two", shards[:2]) is None
    assert verify(tmp_path / "two") != []
    merge(tmp_path / "merged", shards)
    assert (tmp_path / "merged" / RESULTS).read_bytes() == (whole / RESULTS).read_bytes()
    with pytest.raises(DataError, match="no shards of one run"):
        other = tmp_path / "other"
        run(agent, items, SYSTEMS, other, Scope(limit=5))
        merge(tmp_path / "merged", [other])


def test_a_figure_or_an_answer_that_was_changed_is_found(whole: Path) -> None:
    text = (whole / RESULTS).read_text()
    (whole / RESULTS).write_text(text.replace('"failures": 0', '"failures": 1', 1))
    assert verify(whole) == ["results.json does not hold what the stored answers give."]
    (whole / RESULTS).write_text(text)
    (ledger,) = whole.glob("spots/gsco.*.jsonl")
    lines = ledger.read_text().splitlines()
    changed = json.loads(lines[1])
    changed["answer"] = "red spot" if changed["answer"] == "blue spot" else "blue spot"
    ledger.write_text("\n".join([lines[0], json.dumps(changed), *lines[2:]]) + "\n")
    assert verify(whole) == ["results.json does not hold what the stored answers give."]
    ledger.write_text("\n".join(lines[:-1]) + "\n")
    assert "1 of 20 cases have no answer" in verify(whole)[0]


def test_verify_reads_each_ledger_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    lines = Ledger.lines

    def noted(ledger: Ledger) -> Iterator[Answer]:
        read.append(ledger.path.name.partition(".")[0])
        return lines(ledger)

    monkeypatch.setattr(Ledger, "lines", noted)
    assert verify(whole) == []
    assert sorted(read) == ["gsco", "specialist"]


def test_a_damaged_line_is_named_and_its_ledger_made_anew_once_it_is_deleted(
    agent: GSCo, items: list[Item], whole: Path
) -> None:
    before = (whole / RESULTS).read_bytes()
    (ledger,) = whole.glob("spots/gsco.*.jsonl")
    lines = ledger.read_text().splitlines()
    ledger.write_text("\n".join([*lines[:3], "{damaged", *lines[3:]]) + "\n")
    with pytest.raises(DataError, match=r"Line 4 of ledger 'gsco\..*Delete the file"):
        verify(whole)
    ledger.unlink()
    rows = run(agent, items, ("specialist",), whole) or []
    assert [row["system"] for row in rows] == ["specialist"]
    run(agent, items, SYSTEMS, whole)
    assert (whole / RESULTS).read_bytes() == before
    assert verify(whole) == []


def test_a_ledger_under_the_name_of_another_is_refused(whole: Path) -> None:
    (ledger,) = whole.glob("spots/gsco.*.jsonl")
    renamed = ledger.with_name("gsco.0123456789abcdef.jsonl")
    ledger.rename(renamed)
    with pytest.raises(DataError, match="says that it is"):
        Ledger.at(renamed)


def test_another_style_has_a_ledger_of_its_own_and_is_not_mixed_with_the_first(
    agent: GSCo, items: list[Item], whole: Path
) -> None:
    rows = run(agent, items, ("gsco",), whole, Scope(style="paper")) or []
    assert len(list(whole.glob("spots/gsco.*.jsonl"))) == 2
    assert [row["system"] for row in rows] == ["gsco"]


def test_other_prompts_are_asked_anew_and_systems_without_prompts_are_not(
    agent: GSCo, generalist: ScriptedGeneralist, items: list[Item], whole: Path, monkeypatch
) -> None:
    asked = len(generalist.asked)
    monkeypatch.setattr(bench, "wording", lambda: "other words")
    rows = run(agent, items, ("gsco",), whole) or []
    assert len(generalist.asked) == 2 * asked
    assert len(list(whole.glob("spots/gsco.*.jsonl"))) == 2
    assert [row["system"] for row in rows] == ["specialist", "gsco"]
    monkeypatch.setattr(bench, "wording", lambda: "yet others")
    rows = run(agent, items, ("specialist", "moed"), whole) or []
    assert len(list(whole.glob("spots/specialist.*.jsonl"))) == 1
    assert [row["system"] for row in rows] == ["specialist", "moed"]


def test_systems_may_be_added_to_a_run(agent: GSCo, items: list[Item], whole: Path) -> None:
    rows = run(agent, items, ("vote",), whole) or []
    assert [row["system"] for row in rows] == ["specialist", "vote", "gsco"]


def test_other_cases_in_one_folder_are_refused(agent: GSCo, items: list[Item], whole: Path) -> None:
    with pytest.raises(DataError, match=r"other cases.*another `--out`"):
        run(agent, items, SYSTEMS, whole, Scope(limit=5))


def test_a_second_run_in_the_folder_is_refused(
    agent: GSCo, items: list[Item], tmp_path: Path
) -> None:
    from filelock import FileLock

    (tmp_path / "busy").mkdir()
    with FileLock(tmp_path / "busy" / ".lock"), pytest.raises(UsageError, match="Another run"):
        run(agent, items, SYSTEMS, tmp_path / "busy")


def test_a_case_that_fails_is_recorded_counted_and_asked_again_on_request(
    agent: GSCo, own_data: Path, draw: Callable[..., Image.Image], tmp_path: Path
) -> None:
    damaged = read_dataset(own_data, agent.tools("spots").task)
    broken = damaged.split("test")[3]
    good = Path(str(broken.source)).read_bytes()
    Path(str(broken.source)).write_bytes(good[:100])
    items = [Item("spots", "spots", damaged)]
    (row,) = run(agent, items, ("specialist",), tmp_path / "out") or []
    assert (row["n"], row["failures"]) == (20, 1)
    Path(str(broken.source)).write_bytes(good)
    (row,) = run(agent, items, ("specialist",), tmp_path / "out") or []
    assert row["failures"] == 1
    (row,) = run(agent, items, ("specialist",), tmp_path / "out", Scope(retry=True)) or []
    assert row["failures"] == 0


def test_a_full_disk_is_said_and_harms_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path, "stack", {"data": "x"})
    answers = [Answer(str(i), "a", [1.0, 0.0], None, False, [], 0.1) for i in range(4)]
    ledger.add(answers[:2])

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(WorkspaceError, match=r"No space left.*unharmed"):
            ledger.add(answers[2:])
    assert list(ledger.known()) == ["0", "1"]
    ledger.add(answers[2:])
    assert list(ledger.known()) == ["0", "1", "2", "3"]


def test_local_sets_are_found_with_the_columns_of_their_construction(
    agent: GSCo, data: Path, tmp_path: Path
) -> None:
    items, left = local_items(agent, data.parent)
    assert [(item.name, item.dataset.name) for item in items] == [("spots", "spots")]
    assert left == {}
    assert local_items(agent, tmp_path) == ([], {"spots": f"no 'spots' under {tmp_path.name!r}"})


def test_data_that_changed_since_construction_are_refused(
    workspace: Path, own_data: Path, draw: Callable[..., Image.Image]
) -> None:
    draw(("red spot",), 4711).save(own_data / "test-00.png")
    agent = GSCo.open(workspace, settings=Settings())
    with pytest.raises(DataError, match="no longer what task 'spots' was constructed from"):
        local_items(agent, own_data.parent)


def test_a_run_compared_with_itself_differs_in_nothing(
    agent: GSCo, items: list[Item], whole: Path, tmp_path: Path
) -> None:
    (one, other) = compare(whole, whole)
    assert (one["system"], one["n"], one["gain"], one["mcnemar_p"]) == ("gsco", 20, 0.0, 1.0)
    assert other["gain_interval"] == (0.0, 0.0)
    run(agent, items, ("vote",), tmp_path / "vote")
    with pytest.raises(DataError, match="share no set and system"):
        compare(whole, tmp_path / "vote")


def test_the_page_shows_every_row_and_no_text_as_markup(
    agent: GSCo, whole: Path, tmp_path: Path
) -> None:
    shown = tmp_path / "shown"
    shutil.copytree(whole, shown)
    about = json.loads((shown / "spots" / "set.json").read_text())
    about["notes"] = ["<script>alert(1)</script>"]
    (shown / "spots" / "set.json").write_text(json.dumps(about))
    write(shown, json.loads((shown / RESULTS).read_text())["rows"])
    page, text = (shown / "report.html").read_text(), (shown / "report.md").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<td>gsco</td>") == 1
    assert text.count("| gsco |") >= 1
    assert page.count("<img") == page.count('alt="')
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "not a medical device" in page
    assert "not a medical device" in text


def test_mcnemar_counts_the_cases_on_which_two_systems_differ() -> None:
    ours = np.array([True] * 12 + [False] * 3 + [True] * 40)
    theirs = np.array([False] * 12 + [True] * 3 + [True] * 40)
    assert mcnemar(ours, theirs) == pytest.approx(2 * binom.cdf(3, 15, 0.5))
    assert mcnemar(ours, ours) == 1.0


def test_holm_corrects_as_in_its_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_least_difference_shown_is_shown_by_four_of_five_sets() -> None:
    generator = np.random.default_rng(0)
    least = detectable((-1.96, 1.96))
    shown = generator.normal(least, 1.0, 20000) > 1.96
    assert shown.mean() == pytest.approx(0.8, abs=0.01)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        sets_of(tmp_path)


def test_a_set_without_test_cases_is_refused(agent: GSCo, dataset: Dataset, tmp_path: Path) -> None:
    empty = Item("spots", "spots", replace(dataset, records=()))
    with pytest.raises(DataError, match="has no test cases"):
        run(agent, [empty], SYSTEMS, tmp_path / "out")


def test_cases_that_the_generalist_learnt_from_are_refused_or_noted(
    agent: GSCo, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fingerprint(dataset.split("test")[0].open()).content_hash[:DIGITS]
    monkeypatch.setattr(agent.generalist, "seen", frozenset({seen}))
    item = Item("spots", "spots", dataset)
    with pytest.raises(DataError, match="1 of 20 cases were learnt from"):
        run(agent, [item], ["gsco"], tmp_path / "out")
    assert run(agent, [item], ["specialist"], tmp_path / "out")
    run(agent, [item], ["gsco"], tmp_path / "marked", Scope(allow_overlap=True))
    (found,) = sets_of(tmp_path / "marked")
    assert "1 of 20 cases were learnt from: the figures flatter." in found.about["notes"]
