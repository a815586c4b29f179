import asyncio
import base64
import io
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from gsco.agent import open_generalist
from gsco.errors import GeneralistError
from gsco.generalist.served import ServedGeneralist, connect
from gsco.prompts import Prompt, build_prompt
from gsco.settings import Settings
from gsco.task import Label, Task

TASK = Task(
    id="head",
    title="Head",
    kind="single",
    labels=(Label("no"), Label("no tumour"), Label("glioma")),
    modality="brain MRI",
    stem="Look.",
)
CHANCES = {"no": 0.2, "no tumour": 0.5, "glioma": 0.3}
Says = Callable[[dict[str, Any]], Mapping[str, float]]
DEAD = "http://127.0.0.1:9/v1"


class Server(ThreadingHTTPServer):
    """Speaks as much of the OpenAI-style API as the client uses."""

    daemon_threads = True

    def __init__(self, says: Says, enforces: bool, logprobs: bool, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.says, self.enforces, self.logprobs, self.status = says, enforces, logprobs, status
        self.requests: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        model = {"id": "tiny-vlm", "object": "model", "created": 0, "owned_by": "test"}
        self._json({"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        if self.server.status != 200:
            self._json({"error": {"message": "prompt too long"}}, self.server.status)
        elif body.get("stream"):
            self._stream()
        else:
            self._json(self._answer(body))

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        choices = body.get("structured_outputs", {}).get("choice")
        if not choices or not self.server.enforces:
            return completion("Certainly! It looks", None)
        chances = {c: 1.0 for c in choices} if len(choices) == 1 else self.server.says(body)
        content = steps(chances) if body.get("logprobs") and self.server.logprobs else None
        said = max(chances, key=lambda choice: chances[choice])
        return completion(said, content)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for piece in ("The lungs ", "are clear."):
            delta = {"choices": [{"index": 0, "delta": {"content": piece}}]}
            head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
            self.wfile.write(f"data: {json.dumps(head | delta)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _json(self, data: object, status: int = 200) -> None:
        text = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def completion(text: str, content: object) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    logprobs = {"content": content} if content else None
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny-vlm",
        "choices": [choice],
    }


def steps(chances: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the greedy path with tokens of two characters, as a constrained server tells it."""
    said, out = "", []
    best = max(chances, key=lambda choice: chances[choice])
    while True:
        alive = {c: p for c, p in chances.items() if c.startswith(said)}
        tops: dict[str, float] = {}
        for choice, p in alive.items():
            token = choice[len(said) : len(said) + 2] or "</s>"
            tops[token] = tops.get(token, 0.0) + p / sum(alive.values())
        chosen = best[len(said) : len(said) + 2] or "</s>"
        told = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in tops.items()]
        line = {"token": chosen, "logprob": math.log(tops[chosen]), "bytes": None}
        out.append(line | {"top_logprobs": told})
        if chosen == "</s>":
            return out
        said += chosen


def by_label(body: dict[str, Any]) -> Mapping[str, float]:
    """Answer by what a letter or label stands for, whatever the order."""
    text = " ".join(part["text"] for part in body["messages"][-1]["content"] if "text" in part)
    choices = body["structured_outputs"]["choice"]
    if choices[0] != "A":
        return {choice: CHANCES[choice] for choice in choices}
    lines = [line for line in text.splitlines() if line[1:3] == ". "]
    return {line[0]: CHANCES[json.loads(line[3:])] for line in lines}


@contextmanager
def serving(
    says: Says = by_label, *, enforces: bool = True, logprobs: bool = True, status: int = 200
) -> Iterator[Server]:
    server = Server(says, enforces, logprobs, status)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def prompt(form: str = "letter", size: int = 8) -> Prompt:
    picture = Image.new("RGB", (size, size), "red")
    return build_prompt(TASK, images=[picture], answer_form=form)  # type: ignore[arg-type]  # table


@pytest.mark.parametrize("form", ["letter", "label"])
def test_a_reading_holds_the_probability_that_the_server_gives_each_label(form: str) -> None:
    with serving() as server, connect([server.url]) as generalist:
        (reading,) = generalist.read([prompt(form)])
    assert reading.answer == "no tumour"
    assert reading.probabilities == pytest.approx(CHANCES)
    assert reading.model == "tiny-vlm"
    assert reading.permutations == 2


def test_one_token_is_asked_for_a_letter_under_the_constraint() -> None:
    with serving() as server, connect([server.url]) as generalist:
        generalist.read([prompt()], permutations=1)
    body = server.requests[-1]
    assert body["max_tokens"] == 1
    assert body["structured_outputs"] == {"choice": ["A", "B", "C"]}
    assert body["logprobs"] is True
    assert body["top_logprobs"] == 20


def test_the_image_travels_as_a_lossless_data_url_between_the_texts() -> None:
    with serving() as server, connect([server.url]) as generalist:
        generalist.read([prompt()], permutations=1)
    before, image, after = server.requests[-1]["messages"][-1]["content"]
    assert (before["text"], after["text"]) == (prompt().before, prompt().after)
    head, data = image["image_url"]["url"].split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
        assert sent.getpixel((0, 0)) == (255, 0, 0)


def test_a_place_that_the_server_prefers_is_averaged_out() -> None:
    def first(body: dict[str, Any]) -> Mapping[str, float]:
        letters = body["structured_outputs"]["choice"]
        return {letter: 0.8 if letter == "A" else 0.1 for letter in letters}

    with serving(first) as server, connect([server.url]) as generalist:
        (reading,) = generalist.read([prompt()], permutations=6)
    assert reading.probabilities == pytest.approx(dict.fromkeys(CHANCES, 1 / 3))


def test_many_cases_are_read_at_once_and_come_back_in_order() -> None:
    prompts = [prompt() if i % 2 else prompt("label") for i in range(20)]
    with serving() as server, connect([server.url]) as generalist:
        readings = asyncio.run(generalist.aread(prompts))
    assert [reading.prompt_hash for reading in readings] == [p.hash for p in prompts]


def test_without_log_probabilities_there_is_an_answer_and_nothing_made_up() -> None:
    with serving(logprobs=False) as server, connect([server.url]) as generalist:
        (reading,) = generalist.read([prompt("label")])
    assert reading.answer == "no tumour"
    assert reading.probabilities == {}


def test_free_text_is_streamed() -> None:
    with serving() as server, connect([server.url]) as generalist:
        assert list(generalist.write(prompt())) == ["The lungs ", "are clear."]


def test_a_server_that_ignores_choices_is_refused_before_the_first_case() -> None:
    with (
        serving(enforces=False) as server,
        pytest.raises(GeneralistError, match=r"ignores `structured_outputs`.*'zq7'.*Certainly"),
    ):
        connect([server.url])


def test_a_server_named_in_the_settings_is_proved_too() -> None:
    with serving(enforces=False) as server, pytest.raises(GeneralistError, match="ignores"):
        open_generalist(Settings(generalist=server.url))


def test_a_wrong_model_name_is_answered_with_those_that_are_offered() -> None:
    with (
        serving() as server,
        pytest.raises(GeneralistError, match=r"the model 'meddr'\. Offered: tiny-vlm\."),
    ):
        connect([server.url], model="meddr")


def test_a_dead_server_is_named_with_what_to_do() -> None:
    with pytest.raises(GeneralistError, match=r"127\.0\.0\.1:9/v1.*Start one with `vllm serve"):
        connect([DEAD])


def test_a_living_server_takes_the_place_of_a_dead_one() -> None:
    with serving() as server, connect([DEAD, server.url]) as generalist:
        readings = generalist.read([prompt()] * 3)
    assert [reading.answer for reading in readings] == ["no tumour"] * 3


def test_a_refused_request_says_why() -> None:
    with serving() as server, connect([server.url]) as generalist:
        server.status = 400
        with pytest.raises(GeneralistError, match=r"refused the request: 400.*prompt too long"):
            generalist.read([prompt()])
        with pytest.raises(GeneralistError, match="refused the request"):
            list(generalist.write(prompt()))


def test_no_server_at_all_is_refused() -> None:
    with pytest.raises(GeneralistError, match="at least one URL"):
        connect([])


def test_the_form_of_answer_follows_the_name_of_the_model_unless_it_is_given() -> None:
    with serving() as server, connect([server.url]) as generalist:
        assert generalist.answer_form == "letter"
    with ServedGeneralist([DEAD], model="gsco-tiny", answer_form="letter") as generalist:
        assert generalist.answer_form == "letter"
