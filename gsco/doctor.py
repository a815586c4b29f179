"""Whether a server is what GSCo relies on; each check says what it found and how to mend it.

    for check in examine("http://127.0.0.1:8000/v1"):
        print(check.ok, check.name, check.found, check.remedy)

A server that ignores a constraint, or tells probabilities from before it, answers every request
politely; only asking it shows that its answers would mean nothing.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from string import ascii_uppercase
from threading import Thread
from typing import Any, NamedTuple

import openai
from PIL import Image

from gsco.generalist.client import BROKEN, NO_API, TIMEOUT, first_of, is_local
from gsco.generalist.proof import IMPOSSIBLE
from gsco.generalist.request import TOPS, data_url, image_part, only, step_of

ODD = (IMPOSSIBLE, "xj4", "vw9")
"""What no model says of its own accord: what probability they have comes from the constraint."""
AGREE = 0.02
"""How far a probability may move when the same prompt comes from the prefix cache."""
SERVE = "Serve the model with `gsco serve MODEL`"


@dataclass(frozen=True)
class Check:
    """One thing that was tried."""

    name: str
    ok: bool
    found: str
    remedy: str = ""
    """What to do; empty if all is well."""


@dataclass(frozen=True)
class Patient:
    """The server under examination."""

    client: openai.OpenAI
    url: str
    model: str

    # Any: the client's many overloads do not pass through one function.
    def ask(
        self,
        content: object,
        choices: Sequence[str],
        most: int = 1,
        salt: str | None = None,
        tops: int = TOPS,
    ) -> Any:
        """Ask with a constraint and return the first choice of the answer.

        Args:
            content: text, or the parts of a message.
            choices: what may be said.
            most: tokens.
            salt: prompts with another one share no prefix cache with this one.
            tops: alternatives to tell of.
        """
        past = {} if salt is None else {"cache_salt": salt}
        said = self.client.chat.completions.create(
            model=self.model,
            messages=[{"role": "user", "content": content}],  # type: ignore[misc,list-item]  # as above
            max_tokens=most,
            temperature=0,
            logprobs=True,
            top_logprobs=tops,
            extra_body={**only(choices), **past},
        )
        return first_of(said)

    def chances(self, content: object, salt: str | None = None) -> dict[str, float]:
        """Return the probability of each token told of as the beginning of an odd answer."""
        said = self.ask(content, ODD, salt=salt)
        tokens = said.logprobs.content if said.logprobs else None
        if not tokens:
            return {}
        return dict(step_of(tokens[0]).tops)


def examine(url: str, *, model: str = "", api_key: str = "") -> list[Check]:
    """Try everything that GSCo relies on; later checks are left out if the server does not answer.

    Args:
        url: address up to and with `/v1`.
        model: its name there; the first one that is offered if empty.
        api_key: if the server wants one.
    """
    with openai.OpenAI(
        base_url=url,
        api_key=api_key or "none",
        timeout=TIMEOUT,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=not is_local(url)),
    ) as client:
        try:
            offered = list(client.models.list())
        except (*BROKEN, *NO_API) as error:
            remedy = f"{SERVE}, and give the address with /v1 at its end."
            return [Check("answers", False, f"{type(error).__name__}: {error}"[:200], remedy)]
        names = [one.id for one in offered]
        if not names:
            return [Check("answers", False, "it offers no model", f"{SERVE}.")]
        if model and model not in names:
            remedy = f"Ask for one that is offered: {', '.join(names)}."
            return [Check("answers", False, f"it does not offer {model!r}", remedy)]
        length = getattr(offered[names.index(model) if model else 0], "max_model_len", None)
        found = f"offers {', '.join(names)}; context of {length or 'unknown'} tokens"
        patient = Patient(client, url, model or names[0])
        tried = [_tried(trial, patient) for trial in TRIALS]
        return [Check("answers", True, found), *tried]


def _tried(trial: "Trial", patient: Patient) -> Check:
    try:
        ok, found = trial.run(patient)
    except openai.APIStatusError as error:
        ok, found = False, f"refused: {error.status_code} {error.message[:160]}"
    except BROKEN as error:
        ok, found = False, f"{type(error).__name__}: {error}"[:200]
    return Check(trial.name, ok, found, "" if ok else trial.remedy)


class Finding(NamedTuple):
    """What a trial found."""

    ok: bool
    found: str


def keeps_to_choices(patient: Patient) -> Finding:
    """Allow one word that no model says of its own accord."""
    said = patient.ask("Say a word.", (IMPOSSIBLE,), most=8).message.content or ""
    found = f"allowed to say only {IMPOSSIBLE!r}, it said {said[:40]!r}"
    return Finding(said.strip() == IMPOSSIBLE, found)


def tells_probabilities(patient: Patient) -> Finding:
    """See whether what is told of a constrained token sums to 1 over what was allowed."""
    chances = patient.chances("Say a word.")
    if not chances:
        return Finding(False, "it tells none")
    allowed = sum(
        chance
        for token, chance in chances.items()
        if token.strip() and any(word.startswith(token.strip()) for word in ODD)
    )
    return Finding(allowed > 0.99, f"what is allowed has {allowed:.3f} of the probability")


def tells_of_all_letters(patient: Patient) -> Finding:
    """Let it choose among all letters, and tell of each."""
    patient.ask("Say a letter.", ascii_uppercase, tops=len(ascii_uppercase))
    return Finding(True, f"tells of {len(ascii_uppercase)} options")


def looks_at_images(patient: Patient) -> Finding:
    """Ask the same about two images that differ in everything."""
    one, other = _pictures()
    # Past the cache, whose rounding must not look like sight.
    asked = [patient.chances(_about(p), salt=uuid.uuid4().hex) for p in (one, one, other)]
    noise, change = _distance(asked[0], asked[1]), _distance(asked[1], asked[2])
    found = f"another image moves a probability by {change:.2g}, the same one by {noise:.2g}"
    return Finding(change > 1e-6 + 3 * noise, found)


def cache_agrees(patient: Patient) -> Finding:
    """Ask the same twice, and once past the prefix cache."""
    content = _about(_pictures()[0], "A case with a long beginning. " * 40)
    first, again = patient.chances(content), patient.chances(content)
    fresh = patient.chances(content, salt=uuid.uuid4().hex)
    if not (first and again and fresh):
        return Finding(False, "it tells no probabilities")
    change = max(_distance(first, again), _distance(again, fresh))
    return Finding(change <= AGREE, f"a probability moves by at most {change:.2g}")


def takes_evidence(patient: Patient) -> Finding:
    """Send a prompt as long as one with ten specialists and ten neighbours."""
    line = '- Specialist "efficientnet", reliability 0.91: "pneumonia" 0.81, "normal" 0.19\n'
    patient.chances(_about(_pictures()[0], line * 20))
    return Finding(True, "takes twenty lines of it")


def takes_two_images(patient: Patient) -> Finding:
    """Send two images in one prompt."""
    question = {"type": "text", "text": "Say a word."}
    patient.chances([*(image_part(data_url(p)) for p in _pictures()), question])
    return Finding(True, "yes")


def fetches_nothing(patient: Patient) -> Finding:
    """Name an image by an address of our own, and see whether the server comes for it."""
    if not is_local(patient.url):
        return Finding(True, "not tried: the server is on another machine")
    with _bait() as (address, visits), suppress(openai.APIStatusError):
        image = image_part(f"{address}/image.png")
        patient.chances([image, {"type": "text", "text": "Say a word."}])
    found = "it came for one" if visits else "it does not come for foreign images"
    return Finding(not visits, found)


@dataclass(frozen=True)
class Trial:
    """A question to the server, and what to do if the answer is wrong."""

    name: str
    run: Callable[[Patient], Finding]
    remedy: str


TRIALS = (
    Trial(
        "keeps to choices",
        keeps_to_choices,
        f"{SERVE}, or with vLLM 0.12 or newer: `structured_outputs` must be honoured.",
    ),
    Trial(
        "probabilities after the constraint",
        tells_probabilities,
        f"{SERVE}, or with `--logprobs-mode processed_logprobs`.",
    ),
    Trial(
        "tells of many options",
        tells_of_all_letters,
        f"{SERVE}, or with `--max-logprobs -1`; until then, tasks of more than {TOPS} options "
        "are refused.",
    ),
    Trial(
        "looks at the image",
        looks_at_images,
        "Serve a vision-language model whose chat template takes images.",
    ),
    Trial(
        "prefix cache changes nothing",
        cache_agrees,
        "Serve in float32 or bfloat16 and without a quantised cache, or turn the cache off.",
    ),
    Trial(
        "has room for evidence",
        takes_evidence,
        "Serve with a longer context (`--length`); until then, far neighbours are left out.",
    ),
    Trial(
        "takes two images",
        takes_two_images,
        "Serve with `--images 2` or more if your cases have several images.",
    ),
    Trial(
        "fetches nothing",
        fetches_nothing,
        f"{SERVE}, or with `--allowed-media-domains` set to a domain of yours.",
    ),
)


def _pictures() -> tuple[Image.Image, Image.Image]:
    dark = Image.linear_gradient("L").convert("RGB")
    bright = Image.radial_gradient("L").rotate(90).point(lambda value: 255 - value // 3)
    return dark, bright.convert("RGB")


def _about(picture: Image.Image, before: str = "") -> list[dict[str, object]]:
    text: dict[str, object] = {"type": "text", "text": f"{before}Look at the image."}
    return [text, image_part(data_url(picture)), {"type": "text", "text": "Say a word."}]


def _distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return the largest difference of a token's probability."""
    return max((abs(one.get(t, 0) - other.get(t, 0)) for t in {*one, *other}), default=0.0)


@contextmanager
def _bait() -> Iterator[tuple[str, list[str]]]:
    """Listen on this machine, and note who asks for something."""
    visits: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            visits.append(self.path)
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", visits
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
