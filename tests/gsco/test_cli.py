"""The command line: what it prints, and how it fails."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from command import run
from fake_server import serving

from gsco import cli, show
from gsco.case import SYSTEMS

COMMANDS = (
    ("diagnose",),
    ("construct",),
    ("evaluate",),
    ("tasks",),
    ("specialists",),
    ("demo",),
    ("ask",),
    ("report",),
    ("data", "list"),
    ("data", "show"),
    ("data", "check"),
    ("data", "prepare"),
    ("index", "info"),
    ("index", "build"),
    ("index", "add"),
    ("index", "remove"),
    ("bench", "run"),
    ("bench", "merge"),
    ("bench", "verify"),
    ("bench", "compare"),
    ("bench", "report"),
)
KEYS = {
    *("version", "case", "task", "system", "answer", "probabilities", "prediction_set"),
    *("coverage", "review", "review_reasons", "opinions", "neighbours", "reading", "in_domain"),
    *(
        "familiarity",
        "dropped_neighbours",
        "explanation",
        "changed_by",
        "failures",
        "seconds",
        "provenance",
    ),
    "notice",
}
Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start in an empty folder, with a terminal wide enough."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "dumb")


def test_help_and_import_load_no_heavy_library() -> None:
    code = (
        "import sys, gsco\n"
        "from gsco import cli\n"
        "sys.argv = ['gsco', '--help']\n"
        "try:\n"
        "    cli.main()\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code\n"
        "heavy = {'torch', 'timm', 'transformers', 'faiss', 'langgraph', 'sklearn', 'openai'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in ran.stdout
    assert "not a medical device" in " ".join(ran.stdout.split())


def test_the_version_comes_with_the_notice(
    monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    assert run(monkeypatch, "--version") == 0
    assert "gsco 0." in (out := capsys.readouterr().out)
    assert "Research software, not a medical device" in out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    assert run(monkeypatch, *command, "--help") == 0
    out = capsys.readouterr().out
    assert "Usage:" in out
    assert f"gsco {' '.join(command)}" in out.split("Example:")[1]
    assert "--json" in out


def test_a_diagnosis_is_printed_as_json(
    workspace: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    image = data / "test-00.png"
    words = ("diagnose", image, "-t", "spots", "-w", workspace, "--system", "stack", "--json")
    assert run(monkeypatch, *words) == 0
    made = json.loads(capsys.readouterr().out)
    assert set(made) == KEYS
    assert made["version"] == 1
    assert sum(made["probabilities"].values()) == pytest.approx(1)
    assert len(made["opinions"]) == 3
    assert run(monkeypatch, *words, data / "test-01.png") == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_a_diagnosis_is_shown_to_people(
    workspace: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    image = data / "test-00.png"
    assert (
        run(monkeypatch, "diagnose", image, "-t", "spots", "-w", workspace, "--system", "stack")
        == 0
    )
    out = capsys.readouterr().out
    for words in ("test-00.png", "answer:", "specialist vit-tiny:", "neighbours:", "not a medical"):
        assert words in out


def test_an_image_that_cannot_be_read_costs_the_others_nothing(
    workspace: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    broken = tmp_path / "broken.png"
    broken.touch()
    images = (data / "test-00.png", broken, data / "test-01.png")
    words = ("diagnose", *images, "-t", "spots", "-w", workspace, "--system", "stack")
    assert run(monkeypatch, *words, "--json") == 2
    printed = capsys.readouterr()
    first, problem, last = json.loads(printed.out)
    assert set(first) == set(last) == KEYS
    assert problem["image"] == str(broken)
    assert "is empty" in problem["problem"]
    assert printed.err.count("gsco: ") == 1
    assert run(monkeypatch, *words) == 2
    printed = capsys.readouterr()
    assert printed.out.count("answer:") == 2
    assert str(broken) in printed.err


def test_without_which_evidence_the_answer_would_change_is_told_even_if_it_would_not(
    workspace: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    words = ("diagnose", data / "test-00.png", "-t", "spots", "-w", workspace)
    assert run(monkeypatch, *words, "--system", "stack", "--explain") == 0
    assert "without any one of these the answer would be the same" in capsys.readouterr().out


def test_a_question_with_options_is_answered_by_choice(
    workspace: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    words = ("ask", data / "test-00.png", data / "test-01.png", "Which tint?", "-w", workspace)
    options = ("--option", "red", "--option", "blue")
    assert run(monkeypatch, *words, *options, "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert set(made) == {
        *("version", "question", "text", "probabilities", "model", "prompt_hash", "composed"),
        *("caution", "failures", "notice"),
    }
    assert made["question"] == "Which tint?"
    assert set(made["probabilities"]) == {"red", "blue"}
    assert run(monkeypatch, *words, *options) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{made['text']}\n    {made['text']} ")
    assert "caution: gsco-tiny is too small to write" in out
    assert "generalist gsco-tiny. Research software" in out


def test_a_question_and_a_report_are_streamed_from_a_server(
    workspace: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    draft = tmp_path / "draft.txt"
    draft.write_text("Dull.\n\nVery dull.")
    with serving() as server:
        where = ("-t", "spots", "-w", workspace, "--generalist", server.url)
        image = data / "test-00.png"
        assert run(monkeypatch, "ask", image, "What is shown?", *where) == 0
        assert capsys.readouterr().out.startswith("The lungs are clear.\n  generalist tiny-vlm.")
        assert run(monkeypatch, "report", image, "--draft", draft, *where, "--json") == 0
        assert json.loads(capsys.readouterr().out)["text"] == "The lungs are clear."
        said = server.requests[-1]["messages"][-1]["content"][0]["text"]
    assert said.endswith('- "Dull. Very dull."\n')


def test_what_a_model_writes_cannot_steer_the_terminal(capsys: Printed) -> None:
    show.piece("clear\x1b[2J\x07.\nEnd [bold]")
    assert capsys.readouterr().out == "clear[2J.\nEnd [bold]"


def test_gsco_tiny_reports_what_the_evidence_says(
    workspace: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    words = ("report", data / "test-00.png", "-t", "spots", "-w", workspace)
    assert run(monkeypatch, *words) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("The answer is ")
    assert "Composed from the evidence, not written by a model. generalist gsco-tiny." in out


@pytest.mark.slow
def test_an_evaluation_is_a_list_of_rows(
    workspace: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    chosen = "specialist,neighbours"
    words = ("evaluate", "-t", "spots", "-d", data, "-w", workspace, "--system", chosen)
    assert run(monkeypatch, *words, "--limit", 10, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["system"] for row in rows] == ["specialist", "neighbours"]
    for row in rows:
        assert row["n"] == 10
        assert {"accuracy", "auc", "ece", "failures", "balanced_accuracy_interval"} <= set(row)
    assert run(monkeypatch, *words, "--limit", 10) == 0
    assert "neighbours" in capsys.readouterr().out
    words = ("evaluate", "-t", "all", "-w", workspace, "--system", chosen, "--limit", 10)
    assert run(monkeypatch, *words, "-d", data.parent, "--json") == 0
    assert json.loads(capsys.readouterr().out) == rows
    assert run(monkeypatch, *words, "-d", workspace) == 2
    told = capsys.readouterr().err
    assert "spots is left out" in told
    assert "holds the data of no task" in told


def test_a_benchmark_is_run_verified_compared_and_reported(
    workspace: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed, tmp_path: Path
) -> None:
    words = ("bench", "run", "-d", data.parent, "-w", workspace, "--system", "specialist,stack")
    assert run(monkeypatch, *words, "--out", data / "manifest.csv" / "out") == 2
    assert "cannot be made or written to" in capsys.readouterr().err
    parts = [tmp_path / "a", tmp_path / "b"]
    for part, out in enumerate(parts, start=1):
        assert run(monkeypatch, *words, "--out", out, "--shard", f"{part}/2") == 0
        assert "other shards are missing" in capsys.readouterr().out
    whole = tmp_path / "whole"
    assert run(monkeypatch, "bench", "merge", "-o", whole, *parts, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["set"], row["system"], row["n"]) for row in rows] == [
        ("spots", "specialist", 20),
        ("spots", "stack", 20),
    ]
    assert (whole / "report.html").is_file()
    assert run(monkeypatch, "bench", "verify", whole) == 0
    assert "Every figure follows" in capsys.readouterr().out
    assert run(monkeypatch, "bench", "compare", whole, whole) == 0
    assert "stack" in capsys.readouterr().out
    assert run(monkeypatch, "bench", "report", whole) == 0
    capsys.readouterr()
    (whole / "results.json").write_text("{}")
    assert run(monkeypatch, "bench", "verify", whole, "--json") == 2
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 1


def test_tasks_and_specialists_are_listed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    assert run(monkeypatch, "tasks", "-w", workspace, "--json") == 0
    tasks = {t["id"]: t for t in json.loads(capsys.readouterr().out)["tasks"]}
    assert tasks["spots"]["constructed"] is True
    assert tasks["pneumonia-cxr"]["constructed"] is False
    assert run(monkeypatch, "specialists", "-w", workspace, "--json") == 0
    listed = json.loads(capsys.readouterr().out)["specialists"]
    assert len(listed) == 3
    assert run(monkeypatch, "specialists", "-w", workspace) == 0
    said = capsys.readouterr().out
    assert all(row["name"] in said for row in listed)
    assert "balanced" in said
    assert run(monkeypatch, "specialists", "--backbones") == 0
    assert "vit-tiny" in capsys.readouterr().out


def test_a_task_whose_construction_stopped_is_not_listed_as_ready(
    own_workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    (own_workspace / "tasks" / "spots" / "done.json").unlink()
    assert run(monkeypatch, "tasks", "-w", own_workspace, "--json") == 0
    tasks = {t["id"]: t for t in json.loads(capsys.readouterr().out)["tasks"]}
    assert tasks["spots"]["constructed"] is False


def test_the_index_is_described_and_changed(
    own_workspace: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    where = ("-t", "spots", "-w", own_workspace)

    def count() -> int:
        assert run(monkeypatch, "index", "info", *where, "--json") == 0
        return int(json.loads(capsys.readouterr().out)["index"]["count"])

    assert count() == 40
    assert run(monkeypatch, "index", "remove", "train-00.png", *where) == 0
    assert "now 39 cases, 1 removed" in capsys.readouterr().out
    assert run(monkeypatch, "index", "add", *where, "-d", data) == 0
    assert "now 40 cases" in capsys.readouterr().out
    assert run(monkeypatch, "index", "build", *where, "-d", data) == 0
    assert "40 cases indexed, 0 dropped" in capsys.readouterr().out
    assert count() == 40
    assert run(monkeypatch, "index", "remove", "train-00.png", *where, "--json") == 0
    changed = json.loads(capsys.readouterr().out)
    assert changed == {"version": 1, "task": "spots", "count": 39, "dropped": 1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("diagnose {image} -t spot -w {w} --system stack", "Did you mean 'spots'"),
        ("diagnose {image} -t dermoscopy -w {w} --system stack", "nothing is constructed from it"),
        ("diagnose {image} -t spots -w {w} --system stak", "Did you mean 'stack'"),
        ("diagnose {image} -t spots -w {w} --style papr", "Did you mean 'paper'"),
        ("diagnose none.png -t spots -w {w} --system stack", "There is no file 'none.png'"),
        ("diagnose {csv} -t spots -w {w} --system stack", "is not an image"),
        ("diagnose {image} -t spots -w nowhere", "is not a workspace"),
        ("evaluate -t spots -w {w} -d nowhere", "There is no folder or file 'nowhere'"),
        ("evaluate -t spots -w {w} -d {data} --split tset", "Did you mean 'test'"),
        ("bench run -w {w} -d nowhere -o out", "No constructed task has its data under 'nowhere'"),
        ("bench run -w {w} -d {data} -o out --shard 3/2", "Shard '3/2' is no part"),
        ("bench verify nowhere", "'nowhere' holds no run"),
        ("evaluate -t spots -w {w} -d {data} --system all,none", "Unknown system 'all'"),
        ("construct spots -d {data} --backbone resnet81-small", "Unknown backbone"),
        ("construct spots -d {data} --recipe papr", "Did you mean 'paper'"),
        ("construct ../spots -d {data} --no-generalist", "cannot name a folder"),
        ("construct spots -d nowhere --no-generalist", "There is no folder or file"),
        ("construct spots -d {data} --no-generalist --coverage 0.99", "at least 99 validation"),
        (
            "construct spots -d {data} --card none.toml --no-generalist",
            "'none.toml' cannot be read",
        ),
        ("specialists -t spot -w {w}", "Did you mean 'spots'"),
        ("ask {image} {image} -w {w}", "is a file. Put the question there"),
        ("ask {image} Why? -w {w}", "can only choose, and the question is open"),
        ("ask {image} Which? -w {w} --option a --option a", "Option 'a' is given twice"),
        ("ask none.png Why? -w {w}", "Cannot read image 'none.png'"),
        ("report {image} -t spots -w {w} --draft none.txt", "Draft 'none.txt' cannot be read"),
        ("report {image} -t spots -w {w} --draft {image}", "Give a file of UTF-8 text"),
        ("report {image} -t spots -w {w} --style papr", "Did you mean 'paper'"),
        ("index info -t spot -w {w}", "Did you mean 'spots'"),
        ("index remove train-00.png -t spots -w nowhere", "is not a workspace"),
    ],
)
def test_what_cannot_be_right_is_a_sentence_and_exit_code_2(
    words: str,
    said: str,
    workspace: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Printed,
) -> None:
    places = {
        "{w}": str(workspace),
        "{data}": str(data),
        "{image}": str(data / "test-00.png"),
        "{csv}": str(data / "manifest.csv"),
    }
    asked = words.split()
    for name, place in places.items():
        asked = [word.replace(name, place) for word in asked]
    assert run(monkeypatch, *asked) == 2
    printed = capsys.readouterr()
    assert printed.err.count("gsco: ") == 1
    assert said in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_a_full_disk_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli, "app", full)
    assert run(monkeypatch) == 2
    assert capsys.readouterr().err.startswith("gsco: The disk is full.")


def test_a_mistake_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> None:
        raise ValueError("ours")

    monkeypatch.setattr(cli, "app", wrong)
    with pytest.raises(ValueError, match="ours"):
        run(monkeypatch)


def test_the_help_names_every_system(monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    assert run(monkeypatch, "diagnose", "--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(system in out for system in SYSTEMS)
