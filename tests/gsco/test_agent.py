"""The agent: one case from its images to a diagnosis, through every system."""

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from narrow import Narrow
from PIL import Image

import specialists.images
from gsco.agent import GSCo
from gsco.case import SYSTEMS, Case, System
from gsco.errors import GeneralistError, UsageError, WorkspaceError
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.prompts import Prompt
from gsco.settings import Settings
from gsco.workflow import READING_SYSTEMS, SPECIALIST_SYSTEMS
from retrieval import RetrievalError
from specialists import SpecialistError
from specialists.classifier import Classifier

Draw = Callable[..., Image.Image]
RED = ("red spot",)


def case_of(image: Image.Image | Path, name: str | None = None) -> Case:
    return Case(images=(image,), task="spots", id=name)


class Mute:
    """A generalist whose server is gone."""

    name, identity, answer_form = "scripted", "scripted", "letter"

    def read(self, prompts: list[Prompt], permutations: int = 2) -> list[None]:
        raise GeneralistError("The server does not answer. Start it again.")


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_gives_a_whole_diagnosis(agent: GSCo, draw: Draw, system: System) -> None:
    made = agent.diagnose(case_of(draw(RED, 1001)), system)
    assert made.failures == ()
    assert made.answer in ("red spot", "blue spot")
    assert sum(made.probabilities.values()) == pytest.approx(1)
    assert made.answer == max(made.probabilities, key=made.probabilities.__getitem__)
    if system in SPECIALIST_SYSTEMS and system != "specialist":
        assert len({o.specialist for o in made.opinions}) == 3
    assert len(made.neighbours) == 10
    assert (made.reading is not None) == (system in READING_SYSTEMS)
    hashes = {k: v for k, v in made.provenance.items() if k.endswith("sha256")}
    assert len(hashes) == 7
    assert all(len(value) == 64 for value in hashes.values())
    assert made.coverage == 0.9
    assert made.prediction_set is not None
    data = json.loads(json.dumps(made.to_dict()))
    assert data["version"] == 1
    assert "not a medical device" in data["notice"]


@pytest.mark.parametrize(
    ("system", "opinions", "neighbours"),
    [("generalist", 0, 0), ("moed", 3, 0), ("rad", 0, 10), ("gsco", 3, 10), ("gsco-fused", 0, 0)],
)
def test_the_prompt_holds_the_evidence_of_its_system_and_no_other(
    agent: GSCo,
    generalist: ScriptedGeneralist,
    draw: Draw,
    system: System,
    opinions: int,
    neighbours: int,
) -> None:
    agent.diagnose(case_of(draw(RED, 1002)), system)
    text = generalist.asked[0].before
    assert sum(name in text for name in ("mobilenetv3-small", "vit-tiny", "resnet18-small")) == (
        opinions
    )
    listed = [line for line in text.splitlines() if line.startswith("- ")]
    assert len([line for line in listed if "reliability" not in line]) == neighbours
    assert bool(generalist.asked[0].evidence) == bool(opinions or neighbours)


def test_the_prompt_says_what_all_of_it_comes_to_as_the_stack_says_it(
    agent: GSCo, generalist: ScriptedGeneralist, draw: Draw
) -> None:
    case = case_of(draw(RED, 1001))
    agent.diagnose(case, "gsco")
    pooled = agent.diagnose(case, "stack")
    (line,) = [e for e in generalist.asked[0].evidence if e.startswith("All of it together")]
    assert f'"{pooled.answer}" {pooled.probabilities[str(pooled.answer)]:.2f}' in line
    assert f"reliability {agent.tools('spots').fusion.reliability:.2f}" in line


def test_the_tint_that_the_voices_learnt_is_told(agent: GSCo, draw: Draw) -> None:
    cases = [case_of(draw((label,), 1100 + i)) for i in range(6) for label in agent_labels(agent)]
    said = [d.answer for d in agent.diagnose_many(cases, "gsco-fused")]
    assert np.mean([a == b for a, b in zip(said, agent_labels(agent) * 6, strict=True)]) > 0.8


def agent_labels(agent: GSCo) -> list[str]:
    return list(agent.tasks["spots"].texts)


def test_the_stream_tells_its_steps_and_ends_with_the_diagnosis(agent: GSCo, draw: Draw) -> None:
    case = case_of(draw(RED, 1003))
    steps = list(agent.stream(case, "gsco"))
    names = [step.name for step in steps]
    assert sorted(names[:2]) == ["consult", "recall"]
    assert names[2:] == ["decide", "check"]
    assert [step.diagnosis is None for step in steps] == [True, True, True, False]
    made = steps[-1].diagnosis
    assert made is not None
    assert set(made.seconds) == {"consult", "recall", "decide", "check"}
    assert without_times(made.to_dict()) == without_times(agent.diagnose(case, "gsco").to_dict())


def without_times(data: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in data.items() if key != "seconds"}


def test_diagnosing_without_blocking_gives_the_same(agent: GSCo, draw: Draw) -> None:
    case = case_of(draw(RED, 1004))
    made = asyncio.run(agent.adiagnose(case, "stack"))
    assert made.probabilities == agent.diagnose(case, "stack").probabilities


@pytest.mark.parametrize("system", ["stack", "gsco", "gsco-fused"])
def test_many_are_diagnosed_as_one_by_one_and_in_order(
    agent: GSCo, draw: Draw, tmp_path: Path, system: System
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    images = [draw((label,), 1200 + i) for i, label in enumerate(agent_labels(agent) * 3)]
    cases = [case_of(image, f"c{i}") for i, image in enumerate(images)]
    cases.insert(2, case_of(broken, "broken"))
    made = agent.diagnose_many(cases, system)
    assert [d.case for d in made] == [case.id for case in cases]
    lost = made.pop(2)
    assert (lost.answer, lost.review) == (None, True)
    assert [f.part for f in lost.failures] == ["intake"]
    assert "broken.png" in lost.failures[0].reason
    cases.pop(2)
    for case, one in zip(cases, made, strict=True):
        alone = agent.diagnose(case, system)
        assert one.failures == ()
        assert one.answer == alone.answer
        assert one.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
        assert [n.id for n in one.neighbours] == [n.id for n in alone.neighbours]


def test_a_reading_not_understood_costs_no_other_case_its_own(workspace: Path, draw: Draw) -> None:
    def script(prompt: Prompt) -> dict[str, float]:
        if np.asarray(prompt.images[0]).mean() < 5:
            return {}
        return {"red spot": 0.9, "blue spot": 0.1}

    reader = ScriptedGeneralist(script)
    agent = GSCo.open(workspace, generalist=reader, settings=Settings())
    dark = Image.new("RGB", (64, 64))
    cases = [case_of(draw(RED, 1301)), case_of(dark)]
    for system in ("gsco", "gsco-fused"):
        good, bad = agent.diagnose_many(cases, system)
        assert good.probabilities == pytest.approx(
            agent.diagnose(cases[0], system).probabilities, abs=1e-5
        )
        assert good.failures == ()
        assert (bad.answer is None) == (system == "gsco")


def test_cases_that_share_their_first_image_keep_their_others(
    agent: GSCo, generalist: ScriptedGeneralist, draw: Draw
) -> None:
    first = draw(RED, 1302)
    cases = [
        Case(images=(first, draw((label,), 1303)), task="spots") for label in agent_labels(agent)
    ]
    made = agent.diagnose_many(cases, "generalist")
    assert [d.answer for d in made] == agent_labels(agent)


def test_an_image_is_decoded_once_and_resized_once_for_each_size(
    agent: GSCo, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scan.png"
    draw(RED, 1005).save(file)
    agent.diagnose(case_of(file), "stack")
    sizes: Counter[int] = Counter()
    decoded: Counter[str] = Counter()
    resize, decode = specialists.images.resize, specialists.images.decode

    def counted_resize(image: Image.Image, size: int) -> object:
        sizes[size] += 1
        return resize(image, size)

    def counted_decode(source: Path) -> Image.Image:
        decoded[str(source)] += 1
        return decode(source)

    monkeypatch.setattr(specialists.images, "resize", counted_resize)
    monkeypatch.setattr(specialists.images, "decode", counted_decode)
    made = agent.diagnose(case_of(file), "gsco-fused")
    assert len(made.opinions) == 3
    # Two specialists see 96 pixels, one 64, the embedder 128.
    assert sizes == {96: 1, 64: 1, 128: 1}
    assert decoded == {str(file): 1}


def test_a_specialist_that_fails_is_listed_and_the_others_answer(
    agent: GSCo, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = Classifier.predict_tensor

    def failing(self: Classifier, pixels: object) -> object:
        if self.name == "vit-tiny":
            raise SpecialistError("It is ill. Let it rest.")
        return predict(self, pixels)  # type: ignore[arg-type]

    monkeypatch.setattr(Classifier, "predict_tensor", failing)
    for system in ("vote", "mean", "stack", "gsco", "gsco-fused"):
        made = agent.diagnose(case_of(draw(RED, 1006)), system)
        assert [(f.part, f.reason) for f in made.failures] == [
            ("specialist vit-tiny", "It is ill. Let it rest.")
        ]
        assert {o.specialist for o in made.opinions} == {"mobilenetv3-small", "resnet18-small"}
        assert sum(made.probabilities.values()) == pytest.approx(1)
        assert made.review
        assert "Some parts failed: specialist vit-tiny." in made.review_reasons


def test_the_farthest_neighbours_are_left_out_of_a_prompt_that_is_too_long(
    workspace: Path, draw: Draw
) -> None:
    generalist = Narrow(lambda prompt: {"red spot": 0.8, "blue spot": 0.2})
    agent = GSCo.open(workspace, generalist=generalist, settings=Settings())
    made = agent.diagnose(case_of(draw(RED, 1008)), "rad")
    assert made.answer == "red spot"
    assert [(f.part, f.reason) for f in made.failures] == [
        ("prompt", "The prompt was too long with 10 neighbours: it shows 2.")
    ]
    whole, cut = generalist.asked[0], generalist.asked[-1]
    first = [line for line in whole.before.splitlines() if line.startswith("- ")][:2]
    assert [line for line in cut.before.splitlines() if line.startswith("- ")] == first


def test_a_prompt_that_is_too_long_even_without_neighbours_is_a_failure_of_its_case(
    workspace: Path, draw: Draw
) -> None:
    generalist = Narrow(lambda prompt: {"red spot": 0.8, "blue spot": 0.2})
    generalist.most = -1
    agent = GSCo.open(workspace, generalist=generalist, settings=Settings())
    made = agent.diagnose(case_of(draw(RED, 1008)), "gsco")
    assert made.answer is None
    assert [f.part for f in made.failures] == ["generalist", "fusion"]
    assert "2000 tokens" in made.failures[0].reason


def test_without_the_generalist_gsco_has_no_answer_and_the_fused_one_is_the_stack(
    workspace: Path, draw: Draw
) -> None:
    agent = GSCo.open(workspace, generalist=Mute(), settings=Settings())  # type: ignore[arg-type]
    case = case_of(draw(RED, 1007))
    made = agent.diagnose(case, "gsco")
    assert made.answer is None
    assert made.probabilities == {}
    assert [f.part for f in made.failures] == ["generalist", "fusion"]
    assert "No part could answer." in made.review_reasons
    fused, stack = agent.diagnose(case, "gsco-fused"), agent.diagnose(case, "stack")
    assert fused.probabilities == pytest.approx(stack.probabilities)
    assert fused.prediction_set == stack.prediction_set
    assert [f.part for f in fused.failures] == ["generalist"]


def test_a_generalist_that_was_not_calibrated_is_told_and_trusted_with_no_set(
    workspace: Path, draw: Draw
) -> None:
    stranger = ScriptedGeneralist(lambda p: {"red spot": 0.7, "blue spot": 0.3}, name="stranger")
    agent = GSCo.open(workspace, generalist=stranger, settings=Settings())
    made = agent.diagnose(case_of(draw(RED, 1008)), "gsco")
    assert made.probabilities == pytest.approx({"red spot": 0.7, "blue spot": 0.3})
    assert made.prediction_set is None
    assert made.coverage is None
    assert any("'stranger' was not calibrated" in reason for reason in made.review_reasons)


def test_the_index_failing_is_listed_and_the_specialists_answer(
    agent: GSCo, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieval.index import CaseIndex

    def failing(*_: object, **__: object) -> None:
        raise RetrievalError("The index is gone. Build it again.")

    monkeypatch.setattr(CaseIndex, "search", failing)
    made = agent.diagnose(case_of(draw(RED, 1009)), "stack")
    assert [f.part for f in made.failures] == ["index"]
    assert made.answer is not None
    assert made.in_domain is None
    alone = agent.diagnose(case_of(draw(RED, 1009)), "neighbours")
    assert alone.answer is None
    assert [f.part for f in alone.failures] == ["index", "fusion"]


def test_an_unknown_task_or_system_is_refused_with_the_closest_name(
    agent: GSCo, draw: Draw
) -> None:
    with pytest.raises(UsageError, match=r"Unknown task 'spot'\. Did you mean 'spots'\?"):
        agent.diagnose(Case(images=(draw(RED, 1),), task="spot"))
    with pytest.raises(UsageError, match=r"Unknown system 'stak'\. Did you mean 'stack'\?"):
        agent.diagnose(case_of(draw(RED, 1)), "stak")  # type: ignore[arg-type]


def test_one_image_alone_is_a_case_of_one(agent: GSCo, data: Path) -> None:
    path = data / "train-06.png"
    with Image.open(path) as opened:
        cases = [Case(images=one, task="spots") for one in (path, str(path), opened)]  # type: ignore[arg-type]  # what a person writes
        said = [agent.diagnose(case, "stack").case for case in cases]
    assert len(set(said)) == 1


def test_a_case_without_an_image_is_refused(agent: GSCo) -> None:
    with pytest.raises(UsageError, match="has no image"):
        agent.diagnose(Case(images=(), task="spots"))


def test_a_folder_that_is_no_workspace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="is not a workspace"):
        GSCo.open(tmp_path, settings=Settings())


@pytest.mark.parametrize(
    ("harm", "error", "words"),
    [
        ("altered weights", SpecialistError, "'vit-tiny' were altered"),
        ("no weights", SpecialistError, "'vit-tiny' are missing"),
        ("no specialist", SpecialistError, "'vit-tiny' of task 'spots' is missing"),
        ("no fusion", WorkspaceError, "'fusion.json' is missing"),
        ("no index", RetrievalError, "No index in"),
        ("other embedder", RetrievalError, "was made by the embedder"),
        ("other labels", WorkspaceError, "were learnt"),
        ("not done", WorkspaceError, "is not complete"),
    ],
)
def test_a_damaged_workspace_is_refused_in_a_sentence(
    own_workspace: Path,
    generalist: ScriptedGeneralist,
    draw: Draw,
    harm: str,
    error: type[Exception],
    words: str,
) -> None:
    damage(own_workspace / "tasks" / "spots", harm)
    agent = GSCo.open(own_workspace, generalist=generalist, settings=Settings())
    with pytest.raises(error, match=words):
        agent.diagnose(case_of(draw(RED, 1)))


def damage(folder: Path, harm: str) -> None:
    specialist = folder / "specialists" / "vit-tiny"
    weights = specialist / "weights.safetensors"
    if harm == "altered weights":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif harm == "no weights":
        weights.unlink()
    elif harm == "no specialist":
        shutil.rmtree(specialist)
    elif harm == "no fusion":
        (folder / "fusion.json").unlink()
    elif harm == "no index":
        shutil.rmtree(folder / "index")
    elif harm == "not done":
        (folder / "done.json").unlink()
    elif harm == "other labels":
        card = folder / "task.toml"
        card.write_text(card.read_text().replace("red spot", "crimson spot"))
    else:
        remake_with_another_embedder(folder / "index")


def remake_with_another_embedder(index: Path) -> None:
    from retrieval import CaseIndex
    from specialists.embedder import NAME, independent_embedder

    old = CaseIndex.load(index, embedder=NAME, embedder_hash=independent_embedder().weights_hash)
    new = CaseIndex.build(old.vectors(), old.entries, embedder=NAME, embedder_hash="0" * 64)
    new.save(index)


def test_a_very_different_picture_is_flagged_in_plain_words(agent: GSCo, draw: Draw) -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = (0, 255, 0)
    strange = agent.diagnose(case_of(Image.fromarray(stripes)), "stack")
    assert strange.in_domain is False
    assert strange.review
    assert any("outside what the specialists know" in r for r in strange.review_reasons)
    usual = agent.diagnose_many([case_of(draw(RED, 1400 + i)) for i in range(8)], "stack")
    assert sum(d.in_domain is True for d in usual) >= 6


def test_a_copy_of_an_indexed_case_and_its_patient_are_no_neighbours(
    agent: GSCo, data: Path
) -> None:
    case = Case(images=(data / "train-06.png",), task="spots", patient="train-3")
    made = agent.diagnose(case, "neighbours")
    assert made.dropped_neighbours >= 1
    assert "The training cases hold this image" in made.explanation
    assert not {"train-06.png", "train-07.png"} & {n.id for n in made.neighbours}


def test_explaining_says_what_would_change_without_a_voice(agent: GSCo, draw: Draw) -> None:
    made = agent.diagnose(case_of(draw(RED, 1011)), "neighbours", explain=True)
    assert made.changed_by == {"neighbours": "None"}
    usual = agent.diagnose(case_of(draw(RED, 1011)), "gsco-fused", explain=True)
    assert set(usual.changed_by.values()) <= {"blue spot"}


def test_a_multi_label_case_gets_every_label_that_holds(
    multi_workspace: Path, generalist: ScriptedGeneralist, draw: Draw
) -> None:
    agent = GSCo.open(multi_workspace, generalist=generalist, settings=Settings())
    both = Case(images=(draw(("red spot", "blue spot"), 1500),), task="findings")
    for system in SYSTEMS:
        made = agent.diagnose(both, system)
        assert made.failures == ()
        assert isinstance(made.answer, tuple)
        assert made.prediction_set is None
        assert made.answer == tuple(k for k, p in made.probabilities.items() if p > 0.5)
        json.dumps(made.to_dict())
    told = agent.diagnose(both, "generalist")
    assert told.answer == ("red spot", "blue spot")
    assert not any("The generalist reads" in reason for reason in told.review_reasons)


def test_a_piece_of_evidence_can_be_left_out(agent: GSCo, draw: Draw) -> None:
    case = case_of(draw(RED, 1011))
    made = agent.diagnose(case, "stack", without=("vit-tiny",))
    assert "vit-tiny" not in {opinion.specialist for opinion in made.opinions}
    assert made.probabilities != agent.diagnose(case, "stack").probabilities
    assert agent.diagnose(case, "stack", without=("neighbours",)).neighbours == ()
    with pytest.raises(UsageError, match="Did you mean 'vit-tiny'"):
        agent.diagnose(case, without=("vit-tin",))


def test_as_many_similar_cases_as_asked_for_nearest_first(agent: GSCo, data: Path) -> None:
    case = Case(images=(data / "train-06.png",), task="spots", patient="train-3")
    found = agent.similar(case, 25)
    assert len(found) == 25
    assert found[:10] == agent.diagnose(case, "neighbours").neighbours
    assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)
