from dataclasses import replace

import pytest
from PIL import Image

from gsco.errors import UsageError
from gsco.generalist.reading import orders
from gsco.generalist.scripted import ScriptedGeneralist
from gsco.prompts import Prompt, build_prompt
from gsco.task import Label, Task

SINGLE = Task(
    id="head",
    title="Head",
    kind="single",
    labels=(Label("a"), Label("b"), Label("c")),
    modality="brain MRI",
    stem="Look.",
)
MULTI = replace(SINGLE, kind="multi", no_finding="c")


def prompt(task: Task = SINGLE) -> Prompt:
    return build_prompt(task, images=[Image.new("RGB", (8, 8))])


def place(asked: Prompt) -> dict[str, float]:
    """Prefer the first place, whatever stands there."""
    return {a: 0.6 if i == 0 else 0.2 for i, a in enumerate(asked.answers)}


@pytest.mark.parametrize(
    ("count", "permutations", "expected"),
    [
        (3, 1, [(0, 1, 2)]),
        (3, 2, [(0, 1, 2), (2, 1, 0)]),
        (3, 3, [(0, 1, 2), (2, 1, 0), (1, 2, 0)]),
        (2, 9, [(0, 1), (1, 0)]),
        (1, 2, [(0,)]),
    ],
)
def test_orders_are_the_given_one_its_mirror_and_turns(
    count: int, permutations: int, expected: list[tuple[int, ...]]
) -> None:
    assert orders(count, permutations) == expected


def test_probabilities_are_the_mean_over_the_orders_label_by_label() -> None:
    (reading,) = ScriptedGeneralist(place).read([prompt()], permutations=2)
    assert reading.probabilities == pytest.approx({"a": 0.4, "b": 0.2, "c": 0.4})
    assert reading.permutations == 2
    (once,) = ScriptedGeneralist(place).read([prompt()], permutations=1)
    assert once.probabilities == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.2})


def test_a_label_keeps_its_probability_in_whatever_order_it_is_shown() -> None:
    chances = {"a": 0.1, "b": 0.7, "c": 0.2}
    generalist = ScriptedGeneralist(lambda asked: chances)
    (reading,) = generalist.read([prompt()], permutations=6)
    assert reading.probabilities == pytest.approx(chances)
    assert reading.answer == "b"
    assert len({asked.options for asked in generalist.asked}) == 6


def test_the_hash_is_that_of_the_prompt_as_it_was_built() -> None:
    made = prompt().permuted((2, 0, 1))
    (reading,) = ScriptedGeneralist(place).read([made])
    assert reading.prompt_hash == made.hash


def yes(chances: dict[str, float]) -> ScriptedGeneralist:
    return ScriptedGeneralist(
        lambda asked: {"yes": chances[asked.asked or ""], "no": 1 - chances[asked.asked or ""]}
    )


@pytest.mark.parametrize(
    ("chances", "answer"),
    [
        ({"a": 0.7, "b": 0.9, "c": 0.1}, "b"),
        ({"a": 0.4, "b": 0.3, "c": 0.2}, "c"),
        ({"a": 0.6, "b": 0.3, "c": 0.8}, "a"),
    ],
)
def test_each_label_of_a_multi_label_task_is_asked_by_itself(
    chances: dict[str, float], answer: str
) -> None:
    (reading,) = yes(chances).read([prompt(MULTI)])
    assert reading.probabilities == pytest.approx(chances)
    assert reading.answer == answer


def test_a_generalist_that_gives_no_probabilities_gives_no_made_up_ones() -> None:
    (reading,) = ScriptedGeneralist(lambda asked: {}).read([prompt()])
    assert reading.answer is None
    assert reading.probabilities == {}


def test_an_open_question_cannot_be_read_and_says_what_to_use() -> None:
    with pytest.raises(UsageError, match=r"no options to choose from\. Use `write`"):
        ScriptedGeneralist(place).read([prompt(replace(SINGLE, kind="vqa", labels=()))])


def test_no_permutation_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="permutations is 0"):
        ScriptedGeneralist(place).read([prompt()], permutations=0)


def test_the_scripted_generalist_reads_and_writes() -> None:
    generalist = ScriptedGeneralist(place, text=("one ", "two"))
    (reading,) = generalist.read([prompt()])
    assert reading.model == "scripted"
    assert list(generalist.write(prompt())) == ["one ", "two"]


def test_a_label_without_a_probability_leaves_the_reading_without_any() -> None:
    def mute(asked: Prompt) -> dict[str, float]:
        return {} if asked.asked == "b" else {"yes": 0.7, "no": 0.3}

    (reading,) = ScriptedGeneralist(mute).read([prompt(MULTI)])
    assert reading.probabilities == {}
