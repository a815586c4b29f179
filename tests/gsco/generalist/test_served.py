import base64
import gc
import io
import threading
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fake_server import CHANCES, DEAD, TASK, Handler, by_label, serving
from PIL import Image

from gsco.agent import open_generalist
from gsco.errors import GeneralistError, TextCutError, UsageError
from gsco.generalist.card import CARD, card_served, weights_in
from gsco.generalist.request import data_url, urls_of
from gsco.generalist.seen import seen_in, write_seen
from gsco.generalist.served import ServedGeneralist, connect
from gsco.prompts import Prompt, build_prompt
from gsco.settings import Settings
from gsco.task import Label


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


@pytest.mark.parametrize(
    ("chances", "further"),
    [
        ({"glioma": 0.5, "meningioma": 0.4, "meningitis": 0.07, "metastasis": 0.03}, ["me"]),
        # Of what is asked about, a third is still too little of the whole to be asked about.
        (
            {"glioma": 0.994, "meningioma": 0.005, "metastasis": 0.0006, "metaplasia": 0.0004},
            ["me"],
        ),
        (
            {"glioma": 0.9, "meningioma": 0.06, "metastasis": 0.03, "metaplasia": 0.01},
            ["me", "meta"],
        ),
    ],
)
def test_labels_that_begin_alike_are_told_apart_by_asking_how_the_answer_would_go_on(
    chances: Mapping[str, float], further: list[str]
) -> None:
    def says(body: dict[str, Any]) -> Mapping[str, float]:
        last = body["messages"][-1]
        said = last["content"] if last["role"] == "assistant" else ""
        assert bool(said) == bool(body.get("continue_final_message"))
        return {rest: chances[said + rest] for rest in body["structured_outputs"]["choice"]}

    task = replace(TASK, labels=tuple(map(Label, chances)))
    picture = Image.new("RGB", (8, 8), "red")
    asked = build_prompt(task, images=[picture], answer_form="label")
    with serving(says) as server, connect([server.url]) as generalist:
        before = len(server.requests)
        (reading,) = generalist.read([asked], permutations=1)
    assert reading.probabilities == pytest.approx(chances, abs=0.002)
    began = [body["messages"][-1]["content"] for body in server.requests[before + 1 :]]
    assert began == further


@pytest.mark.parametrize(
    "chances",
    [
        {"normal": 0.55, "\u00f6dem": 0.45},
        {"normal": 0.45, "\u00f6dem": 0.55},
        {"normal": 0.4, "\u00f6dem": 0.35, "\u00fcbel": 0.25},
        {"\u6b63\u5e38": 0.6, "\u80ba\u708e": 0.4},
        {"\u6b63\u5e38": 0.4, "\u80ba\u708e": 0.3, "\u80ba\u6c34": 0.2, "\u7ed3\u8282": 0.1},
        {"no": 0.2, "no \u00f6dem": 0.5, "no \u00fcbel": 0.3},
        {"\u00e9": 0.7, "\u00e9a": 0.3},
    ],
)
def test_labels_may_begin_with_characters_of_which_a_token_is_only_a_part(
    chances: Mapping[str, float],
) -> None:
    def says(body: dict[str, Any]) -> Mapping[str, float]:
        last = body["messages"][-1]
        said = last["content"] if last["role"] == "assistant" else ""
        return {rest: chances[said + rest] for rest in body["structured_outputs"]["choice"]}

    task = replace(TASK, labels=tuple(map(Label, chances)))
    picture = Image.new("RGB", (8, 8), "red")
    asked = build_prompt(task, images=[picture], answer_form="label")
    with serving(says) as server, connect([server.url]) as generalist:
        (reading,) = generalist.read([asked], permutations=1)
    assert reading.probabilities == pytest.approx(chances)


def of_labels(chances: Mapping[str, float]) -> Prompt:
    task = replace(TASK, labels=tuple(map(Label, chances)))
    return build_prompt(task, images=[Image.new("RGB", (8, 8), "red")], answer_form="label")


@pytest.mark.parametrize("goes_on", [True, False])
def test_labels_of_which_one_begins_another_are_told_apart_where_the_answer_left_both(
    goes_on: bool,
) -> None:
    chances = {"glioma": 0.5, "no": 0.3, "no tumour": 0.12, "meningioma": 0.05, "metastasis": 0.03}

    def says(body: dict[str, Any]) -> Mapping[str, float]:
        last = body["messages"][-1]
        said = last["content"] if last["role"] == "assistant" else ""
        return {rest: chances[said + rest] for rest in body["structured_outputs"]["choice"]}

    with serving(says) as server, connect([server.url]) as generalist:
        # Not every server can go on with words that it has not said.
        server.refuses = lambda body: (
            400 if body.get("continue_final_message") and not goes_on else 200
        )
        (reading,) = generalist.read([of_labels(chances)], permutations=1)
    assert reading.probabilities == pytest.approx(chances)


@pytest.mark.parametrize("lack", ["top_logprobs", "message"])
def test_an_answer_that_lacks_a_part_is_a_sentence_or_no_probability(
    lack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Handler._answer

    def without(self: Handler, body: dict[str, Any]) -> dict[str, Any]:
        made = whole(self, body)
        (choice,) = made["choices"]
        if lack == "message":
            choice["message"] = None
        for token in (choice["logprobs"] or {}).get("content", []):
            token["top_logprobs"] = None
        return made

    with serving() as server, ServedGeneralist([server.url], patience=0.2) as generalist:
        generalist.check()
        monkeypatch.setattr(Handler, "_answer", without)
        if lack == "message":
            with pytest.raises(GeneralistError, match="No generalist answers"):
                generalist.read([prompt("label")], permutations=1)
        else:
            (reading,) = generalist.read([prompt("label")], permutations=1)
            assert reading.answer == "no tumour"


def test_one_token_is_asked_for_a_letter_under_the_constraint() -> None:
    with serving() as server, connect([server.url]) as generalist:
        generalist.read([prompt()], permutations=1)
    body = server.requests[-1]
    assert body["max_tokens"] == 1
    assert body["structured_outputs"] == {"choice": ["A", "B", "C"]}
    assert body["logprobs"] is True
    assert body["top_logprobs"] == 20


def test_an_answer_is_asked_for_as_far_as_it_decides() -> None:
    with serving() as server, connect([server.url]) as generalist:
        (reading,) = generalist.read([prompt("label")], permutations=1)
    assert server.requests[-1]["max_tokens"] == len("no") + 1
    assert reading.raw == "no tum"
    assert reading.answer == "no tumour"
    assert reading.probabilities == pytest.approx(CHANCES)


def test_as_many_probabilities_are_asked_for_as_there_are_options() -> None:
    labels = tuple(Label(f"finding {number}") for number in range(26))
    many = build_prompt(replace(TASK, labels=labels), images=[Image.new("RGB", (8, 8))])

    def even(body: dict[str, Any]) -> Mapping[str, float]:
        return dict.fromkeys(body["structured_outputs"]["choice"], 1 / 26)

    with serving(even) as server, connect([server.url]) as generalist:
        (reading,) = generalist.read([many], permutations=1)
    assert server.requests[-1]["top_logprobs"] == 26
    assert min(reading.probabilities.values()) == pytest.approx(1 / 26)


def test_an_empty_answer_is_no_answer() -> None:
    empty = serving(lambda body: {"": 1.0}, logprobs=False)
    with empty as server, connect([server.url]) as generalist:
        (reading,) = generalist.read([prompt()], permutations=1)
    assert (reading.answer, reading.probabilities, reading.raw) == (None, {}, "")


def test_the_image_travels_as_a_lossless_data_url_between_the_texts() -> None:
    with serving() as server, connect([server.url]) as generalist:
        generalist.read([prompt()], permutations=1)
    before, image, after = server.requests[-1]["messages"][-1]["content"]
    assert (before["text"], after["text"]) == (prompt().before, prompt().after)
    head, data = image["image_url"]["url"].split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as sent:
        assert sent.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(("size", "mode"), [(256, "P"), (600, "L")])
def test_a_grey_image_travels_as_one_channel_without_loss(size: int, mode: str) -> None:
    ramp = Image.linear_gradient("L").resize((size, size)).convert("RGB")
    with Image.open(io.BytesIO(base64.b64decode(data_url(ramp).split(",")[1]))) as sent:
        assert sent.mode == mode
        assert sent.convert("RGB").tobytes() == ramp.tobytes()


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
        readings = generalist.read(prompts)
    assert [reading.prompt_hash for reading in readings] == [p.hash for p in prompts]


def test_without_log_probabilities_there_is_an_answer_and_nothing_made_up() -> None:
    with serving(logprobs=False) as server, connect([server.url]) as generalist:
        (reading,) = generalist.read([prompt("label")])
    assert reading.answer == "no tumour"
    assert reading.probabilities == {}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("ends", "says"),
    [("length", "cut after 500 tokens"), (None, "broke off:"), ("abort", r"off \(abort\)")],
)
def test_text_without_its_end_is_told_after_the_last_piece(
    whole: bool, ends: str | None, says: str
) -> None:
    with serving() as server, connect([server.url]) as generalist:
        server.ends = ends
        written = generalist.write(prompt(), whole=whole)
        assert "".join(next(written) for _ in range(1 if whole else 2)) == "The lungs are clear."
        with pytest.raises(TextCutError, match=says):
            next(written)


def test_free_text_is_streamed() -> None:
    with serving() as server, connect([server.url]) as generalist:
        assert list(generalist.write(prompt())) == ["The lungs ", "are clear."]


def test_free_text_comes_in_one_piece_where_nobody_reads_along() -> None:
    with serving() as server, connect([server.url]) as generalist:
        assert list(generalist.write(prompt(), 7, whole=True)) == ["The lungs are clear."]
        whole = server.requests[-1]
        list(generalist.write(prompt(), 7))
        streamed = server.requests[-1]
    assert streamed.pop("stream") and streamed.pop("stream_options")
    assert streamed == whole
    assert whole["max_tokens"] == 7


def test_a_server_that_ignores_choices_is_refused_before_the_first_case() -> None:
    with (
        serving(enforces=False) as server,
        pytest.raises(GeneralistError, match=r"ignores `structured_outputs`.*'zq7'.*Certainly"),
    ):
        connect([server.url])


def test_images_for_a_server_on_this_machine_pass_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    with serving() as server, connect([server.url]) as generalist:
        (reading,) = generalist.read([prompt()])
    assert reading.answer == "no tumour"


def test_a_client_that_nobody_closes_closes_itself() -> None:
    before = threading.active_count()
    with serving() as server:
        generalist = connect([server.url])
        generalist.read([prompt()])
        ends = weakref.ref(generalist)
        del generalist
        gc.collect()
        assert ends() is None
    assert threading.active_count() <= before


def test_a_client_that_cannot_be_closed_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(self: object) -> None:
        raise OSError

    before = threading.active_count()
    generalist = ServedGeneralist([DEAD])
    monkeypatch.setattr("openai.AsyncOpenAI.close", fail)
    generalist.close()
    generalist.close()
    assert threading.active_count() <= before


@pytest.mark.parametrize("ask", ["read", "write", "write whole"])
def test_who_waits_for_an_answer_is_told_when_the_connections_are_closed(ask: str) -> None:
    def wait(generalist: ServedGeneralist) -> object:
        if ask == "read":
            return generalist.read([prompt()])
        return list(generalist.write(prompt(), whole=ask == "write whole"))

    with serving() as server, ThreadPoolExecutor(1) as pool:
        generalist = connect([server.url])
        server.delay = 1.0
        before = len(server.requests)
        waiting = pool.submit(wait, generalist)
        while len(server.requests) == before:
            time.sleep(0.01)
        generalist.close()
        with pytest.raises(GeneralistError, match="are closed"):
            waiting.result(10)
        with pytest.raises(GeneralistError, match="are closed"):
            wait(generalist)


def test_a_server_named_in_the_settings_is_proved_too() -> None:
    with serving(enforces=False) as server, pytest.raises(GeneralistError, match="ignores"):
        open_generalist(Settings(generalist=server.url))


def test_the_settings_tell_how_a_model_is_asked() -> None:
    with serving() as server:
        settings = Settings(generalist=server.url, answer_form="label")
        with open_generalist(settings) as generalist:  # type: ignore[attr-defined]  # a served one
            assert generalist.answer_form == "label"
        with pytest.raises(UsageError, match=r"answer form 'lable'.*Did you mean 'label'"):
            open_generalist(replace(settings, answer_form="lable"))


def test_a_wrong_model_name_is_answered_with_those_that_are_offered() -> None:
    with (
        serving() as server,
        pytest.raises(GeneralistError, match=r"the model 'meddr'\. Offered: tiny-vlm\."),
    ):
        connect([server.url], model="meddr")


def test_a_dead_server_is_named_with_what_to_do() -> None:
    with pytest.raises(GeneralistError, match=r"127\.0\.0\.1:9/v1.*Start one with `gsco serve"):
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
        with pytest.raises(GeneralistError, match="refused the request"):
            list(generalist.write(prompt(), whole=True))


def test_a_page_that_is_no_server_is_told_from_one() -> None:
    with serving() as server:
        server.page = "<html>Welcome</html>"
        with pytest.raises(GeneralistError, match=r"does not offer models.*with /v1"):
            connect([server.url])


def test_an_answer_without_choices_costs_no_other_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gsco.generalist.pool.FIRST_REST", 0.01)
    odd = prompt(size=16)

    def says(body: dict[str, Any]) -> Mapping[str, float]:
        return {} if urls_of(odd)[id(odd.images[0])] in str(body) else by_label(body)

    with serving(says) as server, connect([server.url]) as generalist:
        broken, whole = generalist.read([odd, prompt()])
    assert "failed 4 times" in str(broken.failure)
    assert "holds no choice" in str(broken.failure)
    assert whole.answer == "no tumour"


def test_an_answer_that_is_no_utf_8_is_an_error_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gsco.generalist.pool.FIRST_REST", 0.01)
    with serving() as server, ServedGeneralist([server.url], patience=0.5) as generalist:
        generalist.check()
        server.garbles = True
        with pytest.raises(GeneralistError, match="No generalist answers"):
            generalist.read([prompt()])
        server.garbles = False
        assert generalist.read([prompt()])[0].answer == "no tumour"


def test_so_many_options_that_a_server_tells_of_too_few_are_refused_with_the_cure() -> None:
    with serving() as server, connect([server.url]) as generalist:
        server.status, server.error = 400, "Requested sample logprobs of 31, greater than 30"
        with pytest.raises(GeneralistError, match="--max-logprobs -1"):
            generalist.read([prompt()])


def test_a_model_that_takes_text_only_is_told_to_do_so() -> None:
    with serving() as server, connect([server.url]) as generalist:
        server.status, server.error = 400, "tiny-llm is not a multimodal model"
        with pytest.raises(GeneralistError, match=r"takes text only\. Serve a vision-language"):
            generalist.read([prompt()])


def test_a_server_that_is_too_slow_is_given_up_and_one_that_is_not_answers() -> None:
    with serving(delay=0.0) as quick, serving() as slow:
        urls = [slow.url, quick.url]
        with ServedGeneralist(urls, timeout=2.0, patience=0.2) as generalist:
            generalist.check()
            slow.delay, before = 10.0, len(slow.requests)
            while len(slow.requests) == before:
                # What begins otherwise goes elsewhere.
                stem = f"Look {len(quick.requests)}."
                asked = build_prompt(replace(TASK, stem=stem), images=[Image.new("RGB", (8, 8))])
                (reading,) = generalist.read([asked], permutations=1)
                assert reading.failure is None
            quick.delay = 10.0
            with pytest.raises(GeneralistError, match="No generalist answers at"):
                generalist.read([prompt()])


def test_servers_that_hang_in_turn_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever is not being proved has rested meanwhile.
    monkeypatch.setattr("gsco.generalist.pool.FIRST_REST", 0.01)
    monkeypatch.setattr("gsco.generalist.pool.LONGEST_REST", 0.01)
    with (
        serving() as one,
        serving() as other,
        ServedGeneralist([one.url, other.url], timeout=0.5, patience=0.2) as generalist,
    ):
        generalist.check()
        one.delay = other.delay = 10.0
        with pytest.raises(GeneralistError, match="No generalist answers"):
            generalist.read([prompt()], permutations=1)


def test_no_server_at_all_is_refused() -> None:
    with pytest.raises(GeneralistError, match="at least one URL"):
        connect([])


def test_the_form_of_answer_follows_the_name_of_the_model_unless_it_is_given() -> None:
    with serving() as server, connect([server.url]) as generalist:
        assert generalist.answer_form == "letter"
    tiny = serving(model="gsco-tiny")
    with tiny as server, connect([server.url]) as generalist:
        assert generalist.answer_form == "label"
        with connect([server.url], answer_form="letter") as told:
            assert told.answer_form == "letter"


def test_a_model_on_this_machine_is_asked_as_the_card_in_its_folder_says(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text('{"answer_form": "label", "writes": false}', encoding="utf-8")
    with serving(model="mine") as server:
        server.root = str(tmp_path)
        with connect([server.url]) as generalist:
            assert (generalist.answer_form, generalist.writes) == ("label", False)


def test_what_a_model_on_this_machine_learnt_from_and_weighs_is_known_behind_a_server(
    tmp_path: Path,
) -> None:
    write_seen(tmp_path, ["0123456789abcdef"])
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    with serving(model="mine") as server:
        server.root = str(tmp_path)
        with serving(model="mine") as far:
            urls = [server.url, far.url]
            for order in (urls, urls[::-1]):
                with connect(order) as generalist:
                    assert generalist.seen == {"0123456789abcdef"}
                    assert generalist.identity == f"mine@{sha256(b'weights').hexdigest()}"


def test_a_folder_that_only_the_server_may_enter_has_no_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(path: Path) -> bytes:
        raise PermissionError(path)

    for name in (CARD, "seen.txt"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr(Path, "read_bytes", forbid)
    assert card_served("gsco-tiny", tmp_path).answer_form == "label"
    assert seen_in(tmp_path) == frozenset()


def test_large_weights_are_told_apart_by_parts_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gsco.generalist.card.LARGEST_WHOLE", 100)
    monkeypatch.setattr("gsco.generalist.card.BLOCK", 4)
    file, found = tmp_path / "model.safetensors", []
    for pixels in (b"a" * 300_000, b"b" * 300_000, b"a" * 299_999 + b"b", b"a" * 300_001):
        file.write_bytes(pixels)
        found.append(weights_in(tmp_path))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("model", "told", "writes"),
    [
        ("tiny-vlm", None, True),
        ("gsco-tiny", None, False),
        ("tiny-vlm", False, False),
        ("gsco-tiny", True, True),
    ],
)
def test_a_server_writes_unless_it_is_gsco_tiny_or_is_told_otherwise(
    model: str, told: bool | None, writes: bool
) -> None:
    with serving(model=model) as server, connect([server.url], writes=told) as generalist:
        assert generalist.writes is writes
