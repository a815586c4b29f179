"""The served path against real vLLM servers with gsco-tiny; skipped where vLLM is not installed."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from drawn import TASK
from PIL import Image, ImageDraw
from real_servers import real_servers

from gsco import Case, GSCo
from gsco.datasets import read_dataset
from gsco.doctor import examine
from gsco.errors import TextCutError
from gsco.generalist.embedded import EmbeddedGeneralist
from gsco.generalist.lora import Plan, tune
from gsco.generalist.served import connect
from gsco.generalist.tiny import FOLDER
from gsco.prompts import Prompt, build_prompt
from gsco.serving import Server, Service, free_port
from gsco.settings import Settings
from gsco.task import Label, task_named
from retrieval import Neighbour
from specialists import Opinion

TASKS = ("pneumonia-cxr", "breast-ultrasound", "brain-mri", "dermoscopy")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Server]]:
    """Start two servers side by side."""
    with real_servers(2, tmp_path_factory.mktemp("vllm")) as started:
        yield started


def picture(seed: int) -> Image.Image:
    image = Image.linear_gradient("L").convert("RGB").resize((150 + seed, 120))
    draw = ImageDraw.Draw(image)
    draw.ellipse((10 + 3 * seed, 10, 70 + 2 * seed, 100 - seed), fill=(230, 230 - 4 * seed, 200))
    return image


def prompts(count: int) -> list[Prompt]:
    """Return prompts of four tasks, half of them with evidence."""
    made = []
    for number in range(count):
        task = task_named(TASKS[number % len(TASKS)])
        label = task.texts[number % len(task.texts)]
        rest = 0.3 / (len(task.texts) - 1)
        chances = tuple(0.7 if text == label else rest for text in task.texts)
        opinions = (Opinion("resnet18", task.texts, chances, reliability=0.9),)
        neighbours = tuple(Neighbour(str(i), (label,), 0.9 - i / 50) for i in range(5))
        with_evidence = number % 8 >= 4
        made.append(
            build_prompt(
                task,
                images=[picture(number)],
                opinions=opinions if with_evidence else (),
                neighbours=neighbours if with_evidence else (),
                answer_form="label",
            )
        )
    return made


def test_served_and_embedded_say_the_same(servers: Sequence[Server]) -> None:
    asked = prompts(24)
    embedded = EmbeddedGeneralist().read(asked)
    with connect([servers[0].url]) as generalist:
        assert (generalist.name, generalist.answer_form) == ("gsco-tiny", "label")
        served = generalist.read(asked)
    for one, other in zip(embedded, served, strict=True):
        assert other.failure is None
        assert one.answer == other.answer
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.02)


@pytest.mark.parametrize(
    "labels",
    [
        ("normal", "\u00f6dem", "\u00fcbel"),
        ("\u6b63\u5e38", "\u80ba\u708e", "\u7ed3\u8282", "\u80ba\u6c34\u80bf"),
        ("no", "no \u00f6dem", "no \u00fcbel"),
    ],
)
def test_served_and_embedded_say_the_same_of_labels_beyond_ascii(
    servers: Sequence[Server], labels: tuple[str, ...]
) -> None:
    task = replace(task_named("pneumonia-cxr"), labels=tuple(map(Label, labels)))
    asked = [build_prompt(task, images=[picture(n)], answer_form="label") for n in range(3)]
    embedded = EmbeddedGeneralist().read(asked)
    with connect([servers[0].url]) as generalist:
        served = generalist.read(asked)
    for one, other in zip(embedded, served, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.02)


def test_the_doctor_finds_the_server_fit(servers: Sequence[Server]) -> None:
    assert [check.name for check in examine(servers[0].url) if not check.ok] == []


def test_a_case_is_diagnosed_with_the_server_as_without_it(servers: Sequence[Server]) -> None:
    from skimage import data

    case = Case(images=(Image.fromarray(data.retina()[::4, ::4]),), task="modality")
    here = GSCo.open(settings=Settings()).diagnose(case, "gsco")
    with GSCo.open(settings=Settings(generalist=servers[0].url)) as agent:
        there = agent.diagnose(case, "gsco")
    assert there.failures == ()
    assert there.answer == here.answer
    assert there.probabilities == pytest.approx(here.probabilities, abs=0.02)
    assert there.prediction_set == here.prediction_set


def test_text_is_streamed_and_told_to_be_cut(servers: Sequence[Server]) -> None:
    pieces: list[str] = []
    with connect([servers[0].url]) as generalist, pytest.raises(TextCutError, match="12 tokens"):
        pieces.extend(generalist.write(prompts(1)[0], longest=12))
    assert len(pieces) > 1
    assert "".join(pieces).strip()


def test_a_prompt_beyond_the_context_is_told_apart(servers: Sequence[Server]) -> None:
    task = task_named("pneumonia-cxr")
    many = tuple(Opinion(f"specialist {i}", task.texts, (0.5, 0.5)) for i in range(80))
    long = build_prompt(task, images=[picture(1)], opinions=many, answer_form="label")
    with connect([servers[0].url]) as generalist:
        told, short = generalist.read([long, prompts(1)[0]])
    assert told.too_long
    assert short.failure is None


def test_a_tuned_model_is_served_as_it_is(
    servers: Sequence[Server], data: Path, tmp_path: Path
) -> None:
    """With `servers`, which are skipped where there is no vLLM."""
    spots = read_dataset(data, TASK)
    tuned = tune(
        FOLDER,
        [spots],
        tmp_path / "tuned",
        Plan(rank=8, steps=20, batch=8, rate=5e-3, answer_form="label"),
    )
    asked = [
        build_prompt(TASK, images=[record.open()], answer_form="label")
        for record in spots.split("test")[:8]
    ]
    embedded = EmbeddedGeneralist(tuned).read(asked)
    before = EmbeddedGeneralist().read(asked)
    with Server(Service(tuned, free_port()), log=tmp_path / "log") as server:
        server.wait(600)
        with connect([server.url]) as generalist:
            assert (generalist.answer_form, generalist.writes) == ("label", False)
            served = generalist.read(asked)
    for one, other, old in zip(embedded, served, before, strict=True):
        assert other.failure is None
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.02)
        assert one.probabilities != pytest.approx(old.probabilities, abs=0.02)


def test_a_server_killed_half_way_costs_no_case_its_reading(
    servers: Sequence[Server],
) -> None:
    """Last in this file: one of the servers is gone afterwards."""
    asked = prompts(48)
    with connect([server.url for server in servers], at_once=4) as generalist:
        start = time.monotonic()
        whole = generalist.read(asked)
        half = (time.monotonic() - start) / 2
        group = os.getpgid(servers[1]._process.pid)
        killer = threading.Timer(half, os.killpg, (group, signal.SIGKILL))
        killer.start()
        readings = generalist.read(asked)
        killer.join()
    # The signal is sent; the process may take a moment to end.
    servers[1]._process.wait(30)
    assert [reading.failure for reading in readings] == [None] * len(asked)
    assert [reading.prompt_hash for reading in readings] == [prompt.hash for prompt in asked]
    for one, other in zip(whole, readings, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=0.02)
