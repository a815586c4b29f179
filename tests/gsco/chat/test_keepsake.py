"""What is taken away of a case: foreign text stands in it as text, pixels only in pictures."""

import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from gsco.case import Diagnosis, Reading, System
from gsco.chat.evidence import Sheet, render
from gsco.chat.keepsake import as_html, as_json, as_pdf
from gsco.chat.session import Exam, Talk
from gsco.explain import WEIGHT
from retrieval import Neighbour
from specialists import Opinion

TAG = "<script>alert(1)</script>"
LABELS = (f"<b>{TAG}", "benign")
MADE = Diagnosis(
    case="a",
    task="t",
    system="stack",
    answer=LABELS[0],
    probabilities=dict(zip(LABELS, (0.8, 0.2), strict=True)),
    prediction_set=(LABELS[0],),
    coverage=0.9,
    review=True,
    review_reasons=(f"Because of {TAG}.",),
    opinions=(Opinion(f"net {TAG}", LABELS, (0.7, 0.3)),),
    neighbours=(Neighbour("1", (LABELS[0],), 0.81, source=f'x" onload="{TAG}'),),
    explanation=f"It is {TAG}.",
)


@pytest.fixture
def talk() -> Talk:
    one = Talk(Exam((Image.new("RGB", (64, 64)),), facts={"Pixels": TAG}), "t", "stack")
    one.say("user", f"What is {TAG}?")
    one.diagnosis = MADE
    return one


@pytest.fixture
def sheet(talk: Talk) -> Sheet:
    return Sheet(MADE, f"Title {TAG}", talk.exam.pictures[0])


def test_markup_in_any_text_is_shown_and_never_run(talk: Talk, sheet: Sheet) -> None:
    for page in (render(sheet), as_html(sheet, talk)):
        assert "<script" not in page
        assert ' onload="' not in page
        assert page.count("&lt;script&gt;alert(1)") >= 6


@pytest.mark.parametrize(
    ("system", "weight", "caption"),
    [
        ("gsco-fused", "0.48", "Without evidence: one voice among others"),
        ("gsco-fused", "0", "Without evidence: it weighs nothing here"),
        ("gsco", None, "With the evidence in the prompt"),
    ],
)
def test_the_sheet_says_how_the_generalist_was_heard(
    sheet: Sheet, system: System, weight: str | None, caption: str
) -> None:
    reading = Reading("benign", {"benign": 0.9, LABELS[0]: 0.1}, "benign", "tiny", "")
    told = {WEIGHT: weight} if weight else {}
    made = replace(MADE, system=system, reading=reading, provenance=told)
    assert caption in render(replace(sheet, made=made))


def test_the_paper_shows_every_neighbour_whose_image_is_there(talk: Talk, sheet: Sheet) -> None:
    from pypdf import PdfReader

    some = [Neighbour(str(n), ("benign",), 0.9 - n / 100) for n in range(12)]
    pictures = {str(n): Image.new("RGB", (40, 20 + n), (n, n, n)) for n in range(11)}
    made = replace(MADE, neighbours=tuple(some))
    pages = PdfReader(io.BytesIO(as_pdf(replace(sheet, made=made, shown=pictures), talk))).pages
    sizes = {image.image.size for page in pages for image in page.images if image.image}
    assert {(40, 20 + n) for n in range(11)} <= sizes
    text = " ".join(page.extract_text() for page in pages)
    assert "12. benign: similarity 0.79" in text


def test_the_paper_and_the_data_hold_the_words_as_they_are(talk: Talk, sheet: Sheet) -> None:
    assert as_pdf(sheet, talk).startswith(b"%PDF")
    told = json.loads(as_json(talk))
    assert told["diagnosis"]["answer"] == LABELS[0]
    assert told["messages"] == [{"role": "user", "content": f"What is {TAG}?"}]
    assert "base64" not in as_json(talk)
