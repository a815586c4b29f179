"""A small server that speaks as much of the OpenAI-style API as the client uses, with faults."""

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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
WRITTEN = ("The lungs ", "are clear.")
END = "</s>"
DEAD = "http://127.0.0.1:9/v1"
LONG = (
    "The prompt (length 2000) is longer than the maximum model length of 1024. Make sure that "
    "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens."
)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # Connections that a client keeps open must not keep a stopped server alive.
    block_on_close = False
    # As many as may knock at one time; others would be turned away, and that is a failure.
    request_queue_size = 256

    def __init__(
        self,
        says: Says,
        enforces: bool,
        logprobs: bool,
        status: int,
        port: int = 0,
        model: str = "tiny-vlm",
        delay: float = 0.0,
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.says, self.enforces, self.logprobs, self.status = says, enforces, logprobs, status
        self.model, self.delay = model, delay
        self.root = model
        self.page = ""
        self.garbles = False
        self.requests: list[dict[str, Any]] = []
        self.refuses: Callable[[dict[str, Any]], int] = lambda body: self.status
        self.error = "prompt too long"
        self.ends: str | None = "stop"
        self.busy, self.busiest = 0, 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.server.page:
            self._send(self.server.page, 200, "text/html")
            return
        model = {"id": self.server.model, "object": "model", "created": 0, "owned_by": "test"}
        self._json({"object": "list", "data": [model | {"root": self.server.root}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(body)
            self.server.busy += 1
            self.server.busiest = max(self.server.busiest, self.server.busy)
        try:
            # A client may go away before its answer comes.
            with suppress(BrokenPipeError):
                self._reply(body)
        finally:
            with self.server.lock:
                self.server.busy -= 1

    def _reply(self, body: dict[str, Any]) -> None:
        time.sleep(self.server.delay)
        if (status := self.server.refuses(body)) != 200:
            self._json({"error": {"message": self.server.error}}, status)
        elif body.get("stream"):
            self._stream(body)
        else:
            self._json(self._answer(body))

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        choices = body.get("structured_outputs", {}).get("choice")
        if not choices:
            return completion("".join(WRITTEN), None, self.server.ends)
        if not self.server.enforces:
            return completion("Certainly! It looks", None)
        chances = {c: 1.0 for c in choices} if len(choices) == 1 else self.server.says(body)
        if not chances:
            return completion("", None) | {"choices": []}
        content = steps(chances)[: body["max_tokens"]]
        said = "".join(line["token"] for line in content if line["token"] != END)
        told = body.get("logprobs") and self.server.logprobs
        return completion(said, content if told else None)

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in WRITTEN
        ]
        last = {"index": 0, "delta": {}, "finish_reason": self.server.ends}
        chunks.append({"choices": [last]})
        if body.get("stream_options", {}).get("include_usage"):
            used = {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45}
            chunks.append({"choices": [], "usage": used})
        head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(head | chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def _json(self, data: object, status: int = 200) -> None:
        self._send(json.dumps(data), status, "application/json")

    def _send(self, text: str, status: int, kind: str) -> None:
        coded = text.encode()
        if self.server.garbles:
            coded = coded.replace(b"assistant", b"\xff\xfe")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(coded)))
        self.end_headers()
        self.wfile.write(coded)


def completion(text: str, content: object, ends: str | None = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    logprobs = {"content": content} if content else None
    choice = {"index": 0, "finish_reason": ends, "message": message, "logprobs": logprobs}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny-vlm",
        "choices": [choice],
        "usage": {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32},
    }


def steps(chances: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the greedy path as a constrained server tells it.

    Tokens have two bytes, or one where a character may have more: a token that ends inside of one
    has no text, and the next has all of it.
    """
    width = 2 if all(choice.isascii() for choice in chances) else 1
    coded = {choice.encode(): p for choice, p in chances.items()}
    said, out = b"", []
    best = max(coded, key=lambda choice: coded[choice])

    def told(token: bytes, chance: float) -> dict[str, Any]:
        whole, before = (text.decode(errors="ignore") for text in (said + token, said))
        text = whole[len(before) :] if token else END
        return {"token": text, "logprob": math.log(chance), "bytes": None}

    while True:
        alive = {c: p for c, p in coded.items() if c.startswith(said)}
        tops: dict[bytes, float] = {}
        for choice, p in alive.items():
            token = choice[len(said) : len(said) + width]
            tops[token] = tops.get(token, 0.0) + p / sum(alive.values())
        chosen = best[len(said) : len(said) + width]
        others = [told(token, chance) for token, chance in tops.items()]
        out.append(told(chosen, tops[chosen]) | {"top_logprobs": others})
        if not chosen:
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
    says: Says = by_label,
    *,
    enforces: bool = True,
    logprobs: bool = True,
    status: int = 200,
    port: int = 0,
    model: str = "tiny-vlm",
    delay: float = 0.0,
) -> Iterator[Server]:
    server = Server(says, enforces, logprobs, status, port, model, delay)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
