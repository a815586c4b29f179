from collections.abc import Mapping

import pytest

from gsco.generalist.choice import (
    Branch,
    Group,
    Step,
    Vocabulary,
    branches,
    deciding,
    meant,
    parted,
    weigh,
)

ENDS = {"no": 0.25, "no tumour": 0.75}


def evenly(groups: Mapping[Group, float]) -> dict[str, float]:
    out: dict[str, float] = {}
    for group, mass in groups.items():
        for choice in group.choices:
            out[choice] = out.get(choice, 0.0) + mass / len(group.choices)
    return out


@pytest.mark.parametrize(
    ("choices", "steps", "shares"),
    [
        (("A", "B"), [Step("A", {"A": 0.7, "B": 0.3})], {"A": 0.7, "B": 0.3}),
        # What the constraint forbids is left out, so raw log-probabilities mean the same.
        (("A", "B"), [Step("A", {"A": 0.35, "B": 0.15, "The": 0.5})], {"A": 0.7, "B": 0.3}),
        # An answer may end where another goes on.
        (
            ("no", "no tumour"),
            [Step("no", {"no": 1.0}), Step(" tum", {" tum": 0.75, "</s>": 0.25}), Step("our", {})],
            ENDS,
        ),
        (
            ("no", "no tumour"),
            [Step("no", {"no": 1.0}), Step("</s>", {" tum": 0.2, "</s>": 0.8})],
            {"no": 0.8, "no tumour": 0.2},
        ),
        # One choice may begin with several tokens.
        (("glioma", "normal"), [Step("g", {"g": 0.2, "gl": 0.4, "n": 0.4})],
         {"glioma": 0.6, "normal": 0.4}),
        # Choices that leave the path together share evenly.
        (("ab", "ac", "d"), [Step("d", {"d": 0.6, "a": 0.4})], {"ab": 0.2, "ac": 0.2, "d": 0.6}),
        (("ab", "ac"), [Step("a", {"a": 1.0})], {"ab": 0.5, "ac": 0.5}),
        # A token belongs to the choice that no longer token begins, on the path and beside it.
        (("melanoma", "melanocytic"), [Step("melanoma", {"melanoma": 0.6, "me": 0.3, "m": 0.1})],
         {"melanoma": 0.65, "melanocytic": 0.35}),
        (("melanoma", "melanocytic"),
         [Step("me", {"melanoma": 0.2, "me": 0.8}), Step("lano", {"lano": 1.0})],
         {"melanoma": 0.2, "melanocytic": 0.8}),
        # A token that ends inside a character has no text, chosen or not.
        (("normal", "\u00f6dem"), [Step("normal", {"normal": 0.6}, 0.4)],
         {"normal": 0.6, "\u00f6dem": 0.4}),
        (("\u6b63", "\u80ba"), [Step("", {"": 0.6}, 0.4), Step("\u6b63", {"\u6b63": 1.0})],
         {"\u6b63": 0.6, "\u80ba": 0.4}),
        # Where it fits no choice, it ends the answer.
        (("no", "no tumour"), [Step("no", {"no": 1.0}), Step("", {" tum": 0.3, "": 0.7})],
         {"no": 0.7, "no tumour": 0.3}),
        (("A", "B"), [], {}),
        (("A", "B"), [Step("The", {"The": 1.0})], {}),
    ],
)  # fmt: skip
def test_the_tokens_of_an_answer_tell_the_probability_of_each_choice(
    choices: tuple[str, ...], steps: list[Step], shares: dict[str, float]
) -> None:
    assert evenly(parted(choices, steps)) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("choices", "tokens"),
    [
        (("A",), 1),
        (("A", "B", "C"), 1),
        (("melanoma", "melanocytic nevus", "no"), 7),
        (("no", "no tumour", "glioma"), 3),
        # Bytes, not characters: a token may be a part of one.
        (("\u00e4a", "\u00e4b"), 3),
        # A server tells of whole characters only.
        (("\u6b63", "no"), 3),
    ],
)
def test_one_choice_is_left_after_one_token_more_than_two_share_bytes(
    choices: tuple[str, ...], tokens: int
) -> None:
    assert deciding(choices) == tokens


@pytest.mark.parametrize(
    ("said", "choice"),
    [
        ("gl", "glioma"),
        ("no", "no"),
        ("no t", "no tumour"),
        ("no tumour", "no tumour"),
        ("n", None),
        ("maybe", None),
        ("", None),
    ],
)
def test_an_answer_means_the_one_choice_that_it_can_become(said: str, choice: str | None) -> None:
    assert meant(("no", "no tumour", "glioma"), said) == choice


def test_choices_that_leave_the_answer_together_are_one_group() -> None:
    groups = parted(("ab", "ac", "d"), [Step("d", {"d": 0.6, "a": 0.4})])
    assert groups == {Group(("d",), "d"): 0.6, Group(("ab", "ac"), "a"): 0.4}
    assert parted(("ab", "ac"), [Step("a", {"a": 1.0})]) == {Group(("ab", "ac"), "a"): 1.0}


def test_a_beginning_that_two_ways_of_spelling_lead_to_is_one_group() -> None:
    steps = [
        Step("m", {"m": 0.8, "me": 0.2}),
        Step("ea", {"ea": 0.5, "e": 0.5}),
        Step("l", {"l": 0.75, "t": 0.25}),
    ]
    groups = parted(("meal", "meat"), steps)
    assert groups[Group(("meal", "meat"), "me")] == pytest.approx(0.2 + 0.4)
    assert sum(groups.values()) == pytest.approx(1)


def test_branches_are_the_places_where_sequences_part_the_root_first() -> None:
    sequences = [(5, 1, 9), (5, 2, 3, 9), (5, 2, 4, 9), (7, 9)]
    assert branches(sequences) == [
        Branch((), (5, 7)),
        Branch((5,), (1, 2)),
        Branch((5, 2), (3, 4)),
    ]


def test_tokens_that_only_begin_a_choice_are_rivals_where_choices_part() -> None:
    vocabulary = Vocabulary({"</s>": 0, "mel": 1, "anoma": 2, "anocyte": 3, "m": 4, "a": 5, "n": 6})
    sequences = [(1, 2, 0), (1, 3, 0), (6, 0)]
    root, fork = branches(sequences, vocabulary)
    assert root == Branch((), (1, 6), {4: (0, 1)})
    assert fork == Branch((1,), (2, 3), {5: (0, 1)})


def test_a_sequence_weighs_the_product_of_its_branches_and_all_sum_to_one() -> None:
    sequences = [(5, 1, 9), (5, 2, 9), (7, 8, 8, 9)]
    chances = {(): {5: 0.6, 7: 0.4}, (5,): {1: 0.5, 2: 0.5}}
    assert weigh(sequences, branches(sequences), chances) == pytest.approx([0.3, 0.3, 0.4])


def test_what_goes_to_a_rival_is_shared_by_the_choices_it_leads_to() -> None:
    sequences = [(5, 1, 9), (5, 2, 9), (7, 9)]
    tree = [Branch((), (5, 7), {6: (0, 1, 2)}), Branch((5,), (1, 2), {3: (1,)})]
    chances = {(): {5: 0.5, 7: 0.2, 6: 0.3}, (5,): {1: 0.4, 2: 0.4, 3: 0.2}}
    assert weigh(sequences, tree, chances) == pytest.approx([0.3, 0.4, 0.3])


def test_a_servers_answer_and_the_tree_say_the_same_of_a_rival() -> None:
    vocabulary = Vocabulary({"</s>": 0, "glioma": 1, "normal": 2, "g": 3, "n": 4})
    sequences = [(1, 0), (2, 0)]
    tops = {"glioma": 0.4, "g": 0.3, "normal": 0.1, "n": 0.2}
    numbers = {"glioma": 1, "normal": 2, "g": 3, "n": 4}
    chances = {(): {numbers[text]: chance for text, chance in tops.items()}}
    steps = [Step("glioma", tops), Step("</s>", {"</s>": 1.0})]
    served = evenly(parted(("glioma", "normal"), steps))
    weighed = weigh(sequences, branches(sequences, vocabulary), chances)
    assert [served[text] for text in ("glioma", "normal")] == pytest.approx(weighed)


def test_another_token_that_ends_a_text_ends_a_choice_too() -> None:
    sequences = ((1, 0), (1, 2, 0))
    (branch,) = branches(sequences, Vocabulary({}, ends=(9,)))
    assert branch == Branch((1,), (0, 2), {9: (0,)})
    shares = weigh(sequences, [branch], {(1,): {0: 0.2, 2: 0.5, 9: 0.3}})
    assert shares == pytest.approx([0.5, 0.5])
