"""GSCo beside lmms-eval: the questions of VQA-RAD, one server, the same prompts.

    pip install lmms-eval==0.7.3 "filelock<3.21"    (in an environment of its own)
    python -m benchmarks.harness --data DIR --harness-python ENV/bin/python [--url URL]

Starts a vLLM server with gsco-tiny unless a URL is given, and asks the 451 test questions in
rounds. Every arm finds the server's caches empty, and every second round goes backwards. Writes
`results/harness.json`, anew after each round.

harness     lmms-eval's `openai` model as it is, its start left out
harness_best    the same with whatever setting was quickest when each was tried once
written     the same requests through our client: same messages, same limit, free text
read        the same prompts as GSCo reads them: one of the options, with probabilities; questions
            without options are left out
run         `gsco bench run vqa-rad`, the whole command, two orders of the options; beside it stands
            lmms-eval's whole command

The harness is given paths, not images: it then encodes an image once for all of its questions.
"""

import argparse
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from PIL import Image

from benchmarks.record import write
from benchmarks.rounds import ratio_of
from benchmarks.serving import server, version_of
from gsco.datasets import Question, read_questions
from gsco.datasets.known import place_of
from gsco.errors import TextCutError
from gsco.evaluation.language import Said, measure_language
from gsco.generalist.messages import messages
from gsco.generalist.pool import AT_ONCE
from gsco.generalist.request import data_url, image_part
from gsco.generalist.served import ServedGeneralist, connect
from gsco.prompts import Prompt, options_of, question_task
from gsco.writing import Evidence

SET = "vqa-rad"
TASK = "gsco_vqa_rad"
SEED = 0
LIMIT = 16
"""Tokens of an answer: as lmms-eval's own tasks of short answers set it (VQAv2, GQA, MME)."""
PLAIN = "openai"
TRIED = (
    PLAIN,
    "openai,num_concurrent=128",
    "async_openai,num_cpus=64",
)
"""The harness's class for such servers, and its settings; the first is its default."""
ARMS = ("harness", "harness_best", "written", "read", "run")
CACHES = ("reset_prefix_cache", "reset_mm_cache", "reset_encoder_cache")
COMMAND = "python -m benchmarks.harness --data $GSCO_DATA --harness-python ENV/bin/python"
FAILED = "[LMMS_EVAL_REQUEST_FAILED"

YAML = f"""task: {TASK}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {{questions}}
test_split: test
output_type: generate_until
doc_to_messages: !function utils.messages
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
process_results: !function utils.results
generation_kwargs:
  max_new_tokens: {LIMIT}
  temperature: 0
metric_list:
  - metric: exact
    aggregation: mean
    higher_is_better: true
"""
UTILS = '''"""Asks what the file beside it says, and notes when the asking begins and ends."""

import json
import time
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
NOTED = set()


def note(name):
    if name not in NOTED:
        NOTED.add(name)
        (HERE / name).write_text(repr(time.time()))


def messages(doc):
    note("began")
    return json.loads(doc["messages"])


def visual(doc):
    return [Image.open(doc["image"]).convert("RGB")]


def text(doc):
    return doc["id"]


def results(doc, said):
    note("ended")
    return {"exact": float(said[0].strip() == doc["answer"].strip())}
'''


@dataclass(frozen=True)
class Told:
    """What one arm said in one round."""

    texts: tuple[str | None, ...]
    """One answer a question; None where there was none."""
    asking: float | None
    """Seconds from the first question to the last answer; None where nobody says."""
    whole: float | None
    """Seconds of the whole command; None where there is none."""


def prompt_of(question: Question) -> Prompt:
    """Return the prompt by which GSCo asks gsco-tiny."""
    options = options_of(question.question, question.options)
    shown = {"question": question.question, "answer_form": "label"}
    return Evidence().prompt(question_task(options), [question.open()], 0, **shown)


def write_task(folder: Path, questions: Sequence[Question]) -> None:
    """Write the questions as a task of lmms-eval: its description, its functions and its data."""
    lines = []
    for one in questions:
        image = {"type": "image", "url": str(one.image)}
        row = {"id": one.id, "answer": one.answer, "image": str(one.image)}
        # As text: a table of the harness would give every part the fields of all others.
        lines.append(json.dumps(row | {"messages": json.dumps(messages(prompt_of(one), [image]))}))
    data = folder / "questions.jsonl"
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / f"{TASK}.yaml").write_text(YAML.format(questions=data), encoding="utf-8")
    (folder / "utils.py").write_text(UTILS, encoding="utf-8")


def parse_samples(text: str, count: int) -> tuple[str | None, ...]:
    """Return the answers in lmms-eval's log of samples, in the order of the questions."""
    found: list[str | None] = [None] * count
    for line in filter(None, text.splitlines()):
        sample = json.loads(line)
        said = sample.get("resps", sample["filtered_resps"])
        while isinstance(said, list):
            said = said[0]
        found[sample["doc_id"]] = None if said.startswith(FAILED) else said
    return tuple(found)


@dataclass(frozen=True)
class Harness:
    """lmms-eval in an environment of its own, and our task for it."""

    python: Path
    folder: Path
    """Holds the task, and what the harness writes."""
    count: int

    def ask(self, url: str, model: str, setting: str) -> Told:
        """Run the command; the asking is from its first question to its first score."""
        kind, _, more = setting.partition(",")
        about = ",".join(filter(None, (f"model_version={model},base_url={url},api_key=none", more)))
        out = Path(tempfile.mkdtemp(dir=self.folder))
        for name in ("began", "ended"):
            (self.folder / name).unlink(missing_ok=True)
        start = time.perf_counter()
        subprocess.run(
            [
                *(self.python, "-m", "lmms_eval", "--model", kind, "--model_args", about),
                *("--tasks", TASK, "--include_path", self.folder, "--batch_size", "1"),
                *("--log_samples", "--output_path", out, "--seed", str(SEED)),
            ],
            env={**os.environ, "HF_HOME": str(self.folder / "home"), **OFFLINE},
            check=True,
            capture_output=True,
        )
        whole = time.perf_counter() - start
        (log,) = out.rglob(f"*samples_{TASK}.jsonl")
        began, ended = (float((self.folder / name).read_text()) for name in ("began", "ended"))
        return Told(parse_samples(log.read_text(), self.count), ended - began, whole)

    def versions(self) -> dict[str, str]:
        """Return what the harness's figures depend on."""
        names = ("lmms-eval", "openai", "pillow", "datasets")
        code = f"from importlib.metadata import version as v; print(*map(v, {names!r}))"
        said = subprocess.run([self.python, "-c", code], check=True, capture_output=True, text=True)
        return dict(zip(names, said.stdout.split(), strict=True))


OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OPENAI_API_KEY": "none",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": "",
}


@dataclass(frozen=True)
class Ours:
    """The arms of GSCo."""

    generalist: ServedGeneralist
    url: str
    data: Path
    questions: Sequence[Question]

    def written(self) -> Told:
        """Ask the same requests through our client."""

        def one(question: Question) -> str:
            pieces: list[str] = []
            # The harness cuts its texts as short.
            with suppress(TextCutError):
                pieces.extend(self.generalist.write(prompt_of(question), LIMIT, whole=True))
            return "".join(pieces)

        start = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            texts = tuple(pool.map(one, self.questions))
        return Told(texts, time.perf_counter() - start, None)

    def read(self) -> Told:
        """Read the same prompts under the constraint of their options, in one order."""
        start = time.perf_counter()
        asked = [question for question in self.questions if _is_offered(question)]
        readings = self.generalist.read([prompt_of(q) for q in asked], permutations=1)
        seconds = time.perf_counter() - start
        said = {q.id: reading.answer for q, reading in zip(asked, readings, strict=True)}
        return Told(tuple(said.get(q.id) for q in self.questions), seconds, None)

    def run(self) -> Told:
        """Run the product's own command."""
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subprocess.run(
                [
                    *(sys.executable, "-m", "gsco", "bench", "run", SET, "--data", self.data),
                    *("--out", folder, "--generalist", self.url),
                ],
                check=True,
                capture_output=True,
            )
            whole = time.perf_counter() - start
            (log,) = (Path(folder) / SET).glob("generalist.*.jsonl")
            rows = [json.loads(line) for line in log.read_text().splitlines()]
        said = {row["case"]: row["answer"] for row in rows if "case" in row}
        return Told(tuple(said.get(q.id) for q in self.questions), None, whole)


def _is_offered(question: Question) -> bool:
    return bool(options_of(question.question, question.options))


def empty_caches(url: str) -> None:
    """Let the server forget what it has seen; it must be in its developers' mode."""
    for name in CACHES:
        address = f"{url.removesuffix('/v1')}/{name}"
        urllib.request.urlopen(urllib.request.Request(address, method="POST"), timeout=60).close()


@contextmanager
def recorder(model: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Stand for a server: keep every request, and answer `yes`."""
    kept: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            kept.append(body)
            message = {"role": "assistant", "content": "yes"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            about = {"id": "0", "object": "chat.completion", "created": 0, "model": model}
            answer = json.dumps(about | {"choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as standing:
        Thread(target=standing.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{standing.server_port}/v1", kept
        standing.shutdown()


def seen(request: Mapping[str, Any]) -> str:
    """Return what a model is shown by a request: every text and pixel, and the limits."""
    parts = []
    for turn in request["messages"]:
        for part in turn["content"]:
            if part["type"] == "text":
                parts.append([turn["role"], part["text"]])
            else:
                data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
                with Image.open(io.BytesIO(data)) as image:
                    pixels = image.convert("RGB")
                parts.append([turn["role"], str(pixels.size), pixels.tobytes().hex()])
    return json.dumps([parts, request["max_tokens"], float(request["temperature"])])


def equal_requests(harness: Harness, model: str, questions: Sequence[Question]) -> dict[str, int]:
    """Return how many requests of both sides show a model the same."""
    ours = []
    for prompt in map(prompt_of, questions):
        said = messages(prompt, [image_part(data_url(image)) for image in prompt.images])
        ours.append(seen({"messages": said, "max_tokens": LIMIT, "temperature": 0}))
    with recorder(model) as (url, kept):
        harness.ask(url, model, PLAIN)
        theirs = [seen(request) for request in kept]
    left = list(theirs)
    for one in ours:
        if one in left:
            left.remove(one)
    return {"sent": len(theirs), "compared": len(ours), "equal": len(theirs) - len(left)}


def summary(
    rounds: Mapping[str, Sequence[Told]], questions: Sequence[Question]
) -> dict[str, object]:
    """Return rates, ratios, accuracies and agreement of the arms."""
    asking = {arm: _rates(told, "asking") for arm, told in rounds.items()}
    whole = {arm: _rates(told, "whole") for arm, told in rounds.items()}
    ratios = {
        f"{ours}_to_{theirs}": ratio_of(asking[ours], asking[theirs])
        for ours in ("written", "read")
        for theirs in ("harness", "harness_best")
    }
    ratios |= {
        f"run_to_{theirs}_whole_commands": ratio_of(whole["run"], whole[theirs])
        for theirs in ("harness", "harness_best")
    }
    return {
        "answered": {arm: _answered(told[-1]) for arm, told in rounds.items()},
        "cases_a_second_while_asking": {arm: rates for arm, rates in asking.items() if rates},
        "cases_a_second_of_the_command": {arm: rates for arm, rates in whole.items() if rates},
        "ratios": ratios,
        "accuracy": {arm: _figures(told[-1], questions) for arm, told in rounds.items()},
        "same_text_written_and_harness": _same(rounds["written"][-1], rounds["harness"][-1]),
        "failures": sum(
            one is None
            for arm in ("harness", "harness_best", "written")
            for t in rounds[arm]
            for one in t.texts
        ),
    }


def _rates(told: Sequence[Told], which: str) -> list[float]:
    return [_answered(one) / s for one in told if (s := getattr(one, which)) is not None]


def _answered(told: Told) -> int:
    return sum(text is not None for text in told.texts)


def _same(one: Told, other: Told) -> int:
    pairs = zip(one.texts, other.texts, strict=True)
    return sum(a is not None and b is not None and a.strip() == b.strip() for a, b in pairs)


def _figures(told: Told, questions: Sequence[Question]) -> dict[str, Any]:
    """Return the metrics of what was said: the same rule for every arm."""
    said = [
        Said(q.id, str(q.patient or q.place), q.kind, q.answer, text)
        for q, text in zip(questions, told.texts, strict=True)
    ]
    return {name: asdict(one) for name, one in measure_language(said, SEED).items()}


def say(line: str) -> None:
    """Tell at once how far it is."""
    print(line, file=sys.stderr, flush=True)


def measure(
    harness: Harness, ours: Ours, rounds: int, told: Callable[[str], None] = say
) -> Iterator[dict[str, object]]:
    """Try the harness's settings once, then let all arms ask in every round; tell after each."""
    tried = {}
    for setting in TRIED:
        empty_caches(ours.url)
        said = harness.ask(ours.url, ours.generalist.name, setting)
        tried[setting] = _rates([said], "asking")[0]
        told(f"{setting}: {tried[setting]:.1f} a second")
    best = max(tried, key=tried.__getitem__)
    name = ours.generalist.name
    arms: dict[str, Callable[[], Told]] = {
        "harness": lambda: harness.ask(ours.url, name, PLAIN),
        "harness_best": lambda: harness.ask(ours.url, name, best),
        "written": ours.written,
        "read": ours.read,
        "run": ours.run,
    }
    found: dict[str, list[Told]] = {arm: [] for arm in ARMS}
    for number in range(rounds):
        for arm in ARMS[:: -1 if number % 2 else 1]:
            empty_caches(ours.url)
            said = arms[arm]()
            found[arm].append(said)
            told(f"round {number + 1}, {arm}: {said.asking}, {said.whole}")
        about = {"tried_cases_a_second": tried, "best": best, "rounds": number + 1}
        yield about | summary(found, ours.questions)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--harness-python", type=Path, required=True)
    parser.add_argument("--url", default="", help="a running server with VLLM_SERVER_DEV_MODE=1")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    place = place_of(SET, given.data)
    if place is None:
        parser.error(f"no {SET} under {given.data}")
    questions = read_questions(SET, place).split("test")
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    with (
        tempfile.TemporaryDirectory() as folder,
        server(given.url) as url,
        connect([url]) as generalist,
    ):
        write_task(Path(folder), questions)
        harness = Harness(given.harness_python, Path(folder), len(questions))
        ours = Ours(generalist, url, given.data, questions)
        result = {
            "server": f"vLLM {version_of(url)}, {generalist.name}",
            "harness_versions": harness.versions(),
            "data": SET,
            "split": "test, official",
            "seed": SEED,
            "n": len(questions),
            "tokens_at_most": LIMIT,
            "requests": equal_requests(harness, generalist.name, questions),
        }
        for found in measure(harness, ours, given.rounds):
            text = write("harness", COMMAND, {**result, **found})
    print(text)


if __name__ == "__main__":
    main()
