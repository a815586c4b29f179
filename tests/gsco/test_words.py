"""The benchmark of words: every layout through it, killed, tampered with, and by command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import asked_layouts
import command
import pytest
from fake_server import serving

from gsco.agent import GSCo
from gsco.case import Reading
from gsco.errors import DataError, GeneralistError
from gsco.evaluation import engine, words
from gsco.evaluation.bench import Scope
from gsco.evaluation.ledger import Answer, Ledger
from gsco.evaluation.page import write
from gsco.evaluation.words import merge_words, run_words, verify_words
from gsco.evaluation.wordsets import fingerprint_of, word_sets
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.prompts import Prompt
from gsco.settings import Settings

QUESTIONS = {
    "slake": asked_layouts.slake,
    "vqa-rad": asked_layouts.vqa_rad,
    "vqa-med-2019": asked_layouts.vqa_med_2019,
    "omnimedvqa": asked_layouts.omnimedvqa,
    "pmc-vqa": asked_layouts.pmc_vqa,
    "pathvqa": asked_layouts.pathvqa,
}
REPORTS = ("mimic-cxr", "iu-xray")


def first(prompt: Prompt) -> Mapping[str, float]:
    """Say yes, or the first of the options in the alphabet."""
    wanted = "yes" if "yes" in prompt.answers else min(prompt.answers)
    rest = 0.2 / max(1, len(prompt.answers) - 1)
    return {answer: 0.8 if answer == wanted else rest for answer in prompt.answers}


@pytest.fixture
def writer() -> ScriptedGeneralist:
    return ScriptedGeneralist(first, text=("Findings: the left lung. ", "Impression: clear."))


@pytest.fixture
def asking(workspace: Path, writer: ScriptedGeneralist) -> GSCo:
    return GSCo.open(workspace, generalist=writer, settings=Settings())


@pytest.fixture
def rad(tmp_path: Path) -> Path:
    (tmp_path / "data" / "vqa_rad").mkdir(parents=True)
    asked_layouts.vqa_rad(tmp_path / "data" / "vqa_rad")
    return tmp_path / "data"


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_set_of_questions_is_asked_measured_and_verified(
    name: str, asking: GSCo, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    QUESTIONS[name](tmp_path / name)
    sets, left = word_sets(tmp_path, [name])
    assert left == {}
    (row,) = run_words(asking, sets, tmp_path / "out", Scope())
    assert (row["set"], row["missing"], row["model"]) == (name, 0, "scripted")
    assert row["n"] == len(sets[0].asked) > 0
    assert verify_words(tmp_path / "out") == []
    for one in sets[0].asked:
        assert f"{one.kind}_answered" in row["metrics"]


@pytest.mark.parametrize("name", REPORTS)
def test_every_set_of_reports_is_asked_with_evidence(
    name: str, asking: GSCo, tmp_path: Path
) -> None:
    (tmp_path / name).mkdir()
    asked_layouts.r2gen(name)(tmp_path / name)
    _, left = word_sets(tmp_path, [name], reports=False)
    assert "--evidence" in left[name]
    sets, _ = word_sets(tmp_path, [name])
    (row,) = run_words(asking, sets, tmp_path / "out", Scope(), "spots")
    assert row["metrics"]["report_answered"]["value"] == 1
    assert row["evidence"] == "spots"
    assert {"bleu_4", "rouge_l", "meteor", "cider", "clinical_f1"} <= set(row["metrics"])


def test_portions_overlap_and_are_told_of_in_order(asking: GSCo) -> None:
    meeting = Barrier(engine.BESIDE)

    def work(number: int) -> Callable[[GSCo], list[Answer]]:
        def ask(agent: GSCo) -> list[Answer]:
            # Nobody passes alone.
            meeting.wait(timeout=60)
            return [Answer(str(number), "yes", [], None, False, [], 0.0)]

        return ask

    works = [work(number) for number in range(2 * engine.BESIDE)]
    told = list(engine.overlapping(asking, works))
    assert [done.number for done in told] == list(range(len(works)))
    assert [done.answers[0].case for done in told] == [str(done.number) for done in told]


def test_who_breaks_off_waits_for_no_portion_that_has_not_begun(asking: GSCo) -> None:
    begun: list[int] = []

    def work(number: int) -> Callable[[GSCo], list[Answer]]:
        def ask(agent: GSCo) -> list[Answer]:
            begun.append(number)
            if number:
                time.sleep(0.2)
            return []

        return ask

    told = engine.overlapping(asking, [work(number) for number in range(60)])
    assert next(told).number == 0
    told.close()
    assert len(begun) < 60


def test_a_run_that_was_cut_off_goes_on_and_asks_nothing_twice(
    rad: Path, asking: GSCo, writer: ScriptedGeneralist, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(words, "CHUNK", 1)
    sets, _ = word_sets(rad)
    whole = run_words(asking, sets, tmp_path / "whole", Scope())
    count = len(writer.asked)
    out = tmp_path / "cut" / "vqa-rad"
    add, calls = Ledger.add, []

    def dying(ledger: Ledger, answers: list) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(answers)
        add(ledger, answers)

    monkeypatch.setattr(Ledger, "add", dying)
    with pytest.raises(KeyboardInterrupt):
        run_words(asking, sets, tmp_path / "cut", Scope())
    monkeypatch.setattr(Ledger, "add", add)
    (ledger,) = out.glob("generalist.*.jsonl")
    with ledger.open("a") as file:
        file.write('{"case": "hal')
    writer.asked.clear()
    assert run_words(asking, sets, tmp_path / "cut", Scope()) == whole
    assert 0 < len(writer.asked) < count
    results = [(tmp_path / run / "language.json").read_bytes() for run in ("whole", "cut")]
    assert results[0] == results[1]
    writer.asked.clear()
    run_words(asking, sets, tmp_path / "cut", Scope())
    assert writer.asked == []


def test_killed_in_the_middle_of_a_line_it_ends_with_the_same_bytes(
    rad: Path, workspace: Path, asking: GSCo, writer: ScriptedGeneralist, tmp_path: Path
) -> None:
    sets, _ = word_sets(rad)
    run_words(asking, sets, tmp_path / "whole", Scope())
    out, script = tmp_path / "killed", Path(__file__).with_name("dying_words.py")
    places = [script.parents[2], script.parent, script.parents[1] / "support"]
    environment = {**os.environ, "PYTHONPATH": ":".join(map(str, places))}
    known = 0
    for answers in (4, 3):
        words = [sys.executable, script, rad, workspace, out, str(answers)]
        ran = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert ran.returncode == -signal.SIGKILL, ran.stderr
        (half,) = out.glob("vqa-rad/generalist.*.jsonl")
        assert not half.read_text().endswith("\n")
        assert len(Ledger.at(half).known()) == known + answers
        known += answers
    writer.asked.clear()
    run_words(asking, sets, out, Scope())
    results = [(tmp_path / run / "language.json").read_bytes() for run in ("whole", "killed")]
    assert results[0] == results[1]
    ids = [answer.case for answer in Ledger.at(half).lines()]
    assert sorted(ids) == sorted(one.id for one in sets[0].asked)


def test_what_cannot_be_answered_is_counted_and_the_run_goes_on(
    rad: Path, workspace: Path, tmp_path: Path
) -> None:
    class Failing(ScriptedGeneralist):
        def read(self, prompts: list[Prompt], permutations: int = 2) -> list[Reading]:
            raise GeneralistError("No server answers.")

    sets, _ = word_sets(rad)
    agent = GSCo.open(workspace, generalist=Failing(first, writes=False), settings=Settings())
    (row,) = run_words(agent, sets, tmp_path / "out", Scope())
    assert row["metrics"]["closed_answered"]["value"] == 0
    assert row["metrics"]["closed_accuracy"]["value"] == 0
    assert row["metrics"]["open_answered"]["value"] == 0
    (ledger,) = (tmp_path / "out" / "vqa-rad").glob("generalist.*.jsonl")
    failures = [json.loads(line)["failures"] for line in ledger.read_text().splitlines()[1:]]
    assert all(failures)
    assert any("No server answers." in told[0] for told in failures)


@pytest.mark.parametrize(
    ("failures", "failed"),
    [
        ([], False),
        (["text: The text was cut after 500 tokens."], False),
        (["text: The server broke off: the text may lack its end."], True),
        (["prompt: too long with 10 neighbours"], False),
        (["generalist: gone", "text: cut"], True),
    ],
)
def test_text_that_was_cut_is_not_asked_for_again(failures: list[str], failed: bool) -> None:
    assert Answer("1", "A disc", [], None, False, failures, 0.0).has_failed is failed


def test_a_damaged_image_is_the_failure_of_its_own_questions(
    rad: Path, asking: GSCo, tmp_path: Path
) -> None:
    sets, _ = word_sets(rad)
    next((rad / "vqa_rad").rglob("synpic3.jpg")).write_bytes(b"no image")
    (row,) = run_words(asking, sets, tmp_path / "out", Scope())
    assert row["missing"] == 0
    (ledger,) = (tmp_path / "out" / "vqa-rad").glob("generalist.*.jsonl")
    failed = {one.case for one in Ledger.at(ledger).lines() if one.failures}
    assert failed == {one.id for one in sets[0].asked if "number 11?" in one.shown}
    assert len(failed) == 1


def test_changed_answers_and_changed_figures_are_found(
    rad: Path, asking: GSCo, tmp_path: Path
) -> None:
    sets, _ = word_sets(rad)
    out = tmp_path / "out"
    run_words(asking, sets, out, Scope())
    (out / "language.json").write_text("{}")
    assert verify_words(out) == ["language.json does not hold what the stored answers give."]
    (ledger,) = (out / "vqa-rad").glob("generalist.*.jsonl")
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:-1]))
    assert "1 of" in verify_words(out)[0]
    (out / "vqa-rad" / "asked.jsonl").write_text("nothing\n")
    with pytest.raises(DataError, match="damaged"):
        verify_words(out)


def test_shards_gathered_are_the_whole(rad: Path, asking: GSCo, tmp_path: Path) -> None:
    sets, _ = word_sets(rad)
    whole = run_words(asking, sets, tmp_path / "whole", Scope())
    shards = [tmp_path / name for name in "ab"]
    for part, shard in enumerate(shards, start=1):
        assert run_words(asking, sets, shard, Scope(shard=(part, 2))) is None
        assert not (shard / "language.json").exists()
    assert merge_words(tmp_path / "merged", shards[:1]) is None
    assert merge_words(tmp_path / "merged", shards) == whole
    results = [(tmp_path / run / "language.json").read_bytes() for run in ("whole", "merged")]
    assert results[0] == results[1]
    run_words(asking, sets, tmp_path / "few", Scope(limit=1))
    with pytest.raises(DataError, match="no shards of one run"):
        merge_words(tmp_path / "merged", [tmp_path / "few"])


def test_shards_of_words_are_gathered_by_command(
    rad: Path, workspace: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    shards = [tmp_path / name for name in "ab"]
    with serving(lambda body: {"A": 0.8, "B": 0.2}) as server:
        for part, shard in enumerate(shards, start=1):
            where = ["-d", rad, "-w", workspace, "-o", shard, "--generalist", server.url]
            words = ["bench", "run", "vqa-rad", *where, "--shard", f"{part}/2"]
            assert command.run(monkeypatch, *words) == 0
            assert "other shards are missing" in capsys.readouterr().out
    assert (
        command.run(monkeypatch, "bench", "merge", "-o", tmp_path / "all", *shards, "--json") == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["words"][0]["missing"]) == ([], 0)
    assert command.run(monkeypatch, "bench", "verify", tmp_path / "all") == 0


def test_other_questions_are_refused(rad: Path, asking: GSCo, tmp_path: Path) -> None:
    sets, _ = word_sets(rad)
    run_words(asking, sets, tmp_path / "out", Scope(limit=1))
    with pytest.raises(DataError, match="other questions"):
        run_words(asking, sets, tmp_path / "out", Scope())
    with pytest.raises(DataError, match="no test part"):
        run_words(asking, [replace(sets[0], asked=())], tmp_path / "new", Scope())


def test_a_set_that_is_not_there_is_left_out_with_where_to_find_it(tmp_path: Path) -> None:
    sets, left = word_sets(tmp_path, ["slake"])
    assert sets == []
    assert "gsco data show slake" in left["slake"]
    assert word_sets(tmp_path) == ([], {})


def test_a_damaged_set_stops_a_run_only_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "vqa_rad").mkdir()
    sets, left = word_sets(tmp_path)
    assert sets == []
    assert "vqa-rad" in left
    with pytest.raises(DataError):
        word_sets(tmp_path, ["vqa-rad"])


def test_another_wording_is_asked_anew(
    rad: Path, asking: GSCo, writer: ScriptedGeneralist, tmp_path: Path
) -> None:
    sets, _ = word_sets(rad)
    run_words(asking, sets, tmp_path / "out", Scope())
    count = len(writer.asked)
    changed = [replace(one, shown=one.shown + "?") for one in sets[0].asked]
    other = replace(sets[0], asked=tuple(changed), fingerprint=fingerprint_of(changed))
    run_words(asking, [other], tmp_path / "out", Scope())
    assert len(writer.asked) == 2 * count


def test_the_page_shows_every_metric_and_no_markup_of_others(
    rad: Path, asking: GSCo, tmp_path: Path
) -> None:
    sets, _ = word_sets(rad)
    out = tmp_path / "out"
    run_words(asking, [replace(sets[0], notes=("<script>alert(1)</script>",))], out, Scope())
    page = write(out, [])
    html, text = page.read_text(), (out / "report.md").read_text()
    for shown in (html, text):
        assert "closed_accuracy" in shown
        assert "open_token_f1" in shown
        assert "never a medical device" in shown or "not a medical device" in shown
    assert "<script>alert" not in html


def test_questions_are_asked_of_a_server_by_command(
    rad: Path, workspace: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    out = tmp_path / "out"
    with serving(lambda body: {"A": 0.8, "B": 0.2}) as server:
        asked = ["-d", rad, "-w", workspace, "-o", out, "--generalist", server.url, "--json"]
        assert command.run(monkeypatch, "bench", "run", "vqa-rad", *asked) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == []
    assert told["words"][0]["metrics"]["open_answered"]["value"] == 1
    assert command.run(monkeypatch, "bench", "verify", out) == 0
    assert command.run(monkeypatch, "bench", "report", out) == 0
    assert "report.html" in capsys.readouterr().out
