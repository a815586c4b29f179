"""The benchmark beside lmms-eval: equal requests, its log, and the figures, without lmms-eval."""

import base64
import importlib.util
import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import asked_layouts
import pytest
from PIL import Image

from benchmarks.harness import (
    LIMIT,
    SET,
    TASK,
    Harness,
    Told,
    equal_requests,
    parse_samples,
    prompt_of,
    seen,
    summary,
    write_task,
)
from benchmarks.rounds import ratio_of
from gsco.datasets import Question, read_questions

PLAYED = """#!{python}
# Plays lmms-eval: asks what the task says, at the address it is given, and keeps the samples.
import base64, importlib.util, json, sys, urllib.request
from pathlib import Path

given = dict(zip(sys.argv, sys.argv[1:]))
told = dict(pair.split("=", 1) for pair in given["--model_args"].split(","))
folder = Path(given["--include_path"])
spec = importlib.util.spec_from_file_location("utils", folder / "utils.py")
utils = importlib.util.module_from_spec(spec)
spec.loader.exec_module(utils)
out = Path(given["--output_path"]) / "model"
out.mkdir()
samples = []
for number, line in enumerate((folder / "questions.jsonl").read_text().splitlines()):
    doc = json.loads(line)
    turns = utils.messages(doc)
    for part in (part for turn in turns for part in turn["content"] if part["type"] == "image"):
        coded = base64.b64encode(Path(part.pop("url")).read_bytes()).decode()
        part |= dict(type="image_url", image_url=dict(url="data:image/png;base64," + coded))
    body = dict(model="m", messages=turns, max_tokens={limit}, temperature=0.0)
    url = told["base_url"] + "/chat/completions"
    asked = urllib.request.Request(url, json.dumps(body).encode())
    said = json.load(urllib.request.urlopen(asked))["choices"][0]["message"]["content"]
    utils.results(doc, [said])
    samples.append(json.dumps(dict(doc_id=number, resps=[[said]], filtered_resps=[said])))
(out / "1_samples_{task}.jsonl").write_text("\\n".join(reversed(samples)))
"""


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    folder = tmp_path / "vqa_rad"
    folder.mkdir()
    asked_layouts.vqa_rad(folder)
    return read_questions(SET, folder).split("test")


def harness(folder: Path, questions: Sequence[Question]) -> Harness:
    folder.mkdir()
    write_task(folder, questions)
    player = folder / "player.py"
    player.write_text(PLAYED.format(python=sys.executable, limit=LIMIT, task=TASK))
    player.chmod(0o755)
    return Harness(player, folder, len(questions))


def test_the_task_asks_word_for_word_what_we_ask(questions: list[Question], tmp_path: Path) -> None:
    write_task(tmp_path, questions)
    rows = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [question.id for question in questions]
    for row, question in zip(rows, questions, strict=True):
        prompt, (system, user) = prompt_of(question), json.loads(row["messages"])
        assert system == {"role": "system", "content": [{"type": "text", "text": prompt.system}]}
        before, image, after = user["content"]
        assert (before["text"], after["text"]) == (prompt.before, prompt.after)
        assert image == {"type": "image", "url": str(question.image)}
    assert f"max_new_tokens: {LIMIT}" in (tmp_path / f"{TASK}.yaml").read_text()


def test_the_functions_of_the_task_note_when_asking_begins_and_ends(
    questions: list[Question], tmp_path: Path
) -> None:
    write_task(tmp_path, questions)
    spec = importlib.util.spec_from_file_location("task", tmp_path / "utils.py")
    assert spec
    assert spec.loader
    task = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(task)
    row = json.loads((tmp_path / "questions.jsonl").read_text().splitlines()[0])
    assert task.visual(row)[0].mode == "RGB"
    assert not (tmp_path / "began").exists()
    task.messages(row)
    assert not (tmp_path / "ended").exists()
    assert task.results(row, [f" {row['answer']} "]) == {"exact": 1.0}
    first = (tmp_path / "ended").read_text()
    assert task.results(row, ["neither"]) == {"exact": 0.0}
    assert (tmp_path / "ended").read_text() == first
    assert float((tmp_path / "began").read_text()) <= float(first)


def test_the_log_of_samples_is_put_in_order_and_a_failed_request_is_no_answer() -> None:
    lines = [
        {"doc_id": 2, "resps": [["no"]], "filtered_resps": ["n"]},
        {"doc_id": 0, "filtered_resps": ["yes"]},
        {"doc_id": 1, "resps": "[LMMS_EVAL_REQUEST_FAILED after 5 retries] gone"},
    ]
    for line in lines:
        line.setdefault("filtered_resps", "")
    text = "\n".join(map(json.dumps, lines)) + "\n"
    assert parse_samples(text, 4) == ("yes", None, "no", None)


def test_requests_are_equal_by_what_a_model_sees_not_by_how_an_image_is_packed() -> None:
    def request(colour: str, level: int, text: str = "What?", most: int = 16) -> dict[str, object]:
        buffer = io.BytesIO()
        Image.new("RGB", (40, 30), colour).save(buffer, format="PNG", compress_level=level)
        url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
        turns = [{"role": "user", "content": parts}]
        return {"messages": turns, "max_tokens": most, "temperature": 0.0}

    whole = seen(request("red", 9))
    assert seen(request("red", 1)) == whole
    others = [request("blue", 1), request("red", 1, "Why?"), request("red", 1, most=17)]
    assert all(seen(other) != whole for other in others)


def test_a_harness_is_run_heard_and_found_to_ask_the_same(
    questions: list[Question], tmp_path: Path
) -> None:
    found = equal_requests(harness(tmp_path / "task", questions), "m", questions)
    assert found == dict.fromkeys(("sent", "compared", "equal"), len(questions))
    other = equal_requests(harness(tmp_path / "part", questions[1:]), "m", questions)
    assert (other["sent"], other["equal"]) == (len(questions) - 1, len(questions) - 1)


def test_a_ratio_is_a_geometric_mean_with_an_interval_over_rounds() -> None:
    found = ratio_of([2.0, 8.0], [1.0, 2.0])
    assert found["ratio"] == pytest.approx(math.sqrt(8))
    assert found["rounds"] == pytest.approx([2, 4])
    low, high = found["interval"]
    assert low < 2 < 4 < high
    assert "interval" not in ratio_of([3.0], [1.0])


def test_the_summary_counts_only_what_was_answered(questions: list[Question]) -> None:
    right = tuple(question.answer for question in questions)
    half = (right[0], *[None] * (len(right) - 1))
    every = [Told(right, 2.0, 10.0)]
    rounds = {"harness": every, "harness_best": every, "written": [Told(right, 1.0, None)]}
    rounds |= {"read": [Told(half, 1.0, None)], "run": [Told(half, None, 1.0)]}
    told = summary(rounds, questions)
    ratios = told["ratios"]
    assert isinstance(ratios, dict)
    assert ratios["written_to_harness"]["ratio"] == pytest.approx(2)
    assert ratios["read_to_harness"]["ratio"] == pytest.approx(2 / len(right))
    assert ratios["run_to_harness_whole_commands"]["ratio"] == pytest.approx(10 / len(right))
    assert told["same_text_written_and_harness"] == len(right)
    assert told["failures"] == 0
    accuracy = told["accuracy"]
    assert isinstance(accuracy, dict)
    assert accuracy["written"]["closed_accuracy"]["value"] == 1
