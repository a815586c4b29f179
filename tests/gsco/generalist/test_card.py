"""The card of a generalist: what it says, and what holds where it says nothing."""

from pathlib import Path

import pytest

from gsco.errors import GeneralistError
from gsco.generalist.card import CARD, Card, card_of
from gsco.generalist.tiny import FOLDER


def test_the_shipped_model_says_that_it_can_only_choose() -> None:
    assert card_of(FOLDER) == Card("gsco-tiny", "label", writes=False)


@pytest.mark.parametrize("text", [None, "{}", '{"name": null, "base": "x", "tuned_on": {}}'])
def test_a_model_whose_card_says_nothing_else_writes_and_answers_by_letter(
    text: str | None, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / CARD).write_text(text)
    assert card_of(tmp_path) == Card("", "letter", writes=True)


@pytest.mark.parametrize("text", ["{", "[1]", '"name"'])
def test_a_broken_card_is_named_with_what_to_do(text: str, tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(text)
    with pytest.raises(GeneralistError, match=r"'gsco\.json'.*Mend or remove it"):
        card_of(tmp_path)
