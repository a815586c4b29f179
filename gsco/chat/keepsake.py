"""What a person takes away of a case: a printable page, a PDF, and JSON."""

import io
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from gsco.case import NOTICE, Diagnosis
from gsco.chat.evidence import Sheet, render, style, template
from gsco.chat.session import Talk
from gsco.thumbnail import data_url

if TYPE_CHECKING:
    from fpdf import FPDF


def as_html(sheet: Sheet, talk: Talk) -> str:
    """Return the case as one self-contained page that prints well."""
    return str(
        template("keepsake").render(
            sheet=render(sheet),
            style=style(),
            picture=data_url(sheet.picture, 640),
            talk=talk,
            made=sheet.made,
            notice=NOTICE,
        )
    )


def as_json(talk: Talk) -> str:
    """Return what was said and found, without pixels."""
    return json.dumps({"version": 1, "notice": NOTICE, **talk.told()}, indent=1, ensure_ascii=False)


def as_pdf(sheet: Sheet, talk: Talk) -> bytes:
    """Return the case on A4 pages, the notice at the foot of each."""
    from fpdf import FPDF

    class Paper(FPDF):  # fpdf2 calls a method for the foot of each page
        def footer(self) -> None:
            self.set_y(-14)
            self.set_font("sans", size=8)
            self.cell(0, 8, f"{NOTICE}  {self.page_no()}", align="C")

    made, paper = sheet.made, Paper()
    fonts = Path(str(resources.files("matplotlib"))) / "mpl-data/fonts/ttf"
    paper.add_font("sans", "", fonts / "DejaVuSans.ttf")
    paper.add_font("sans", "B", fonts / "DejaVuSans-Bold.ttf")
    paper.set_title(f"GSCo: {sheet.title}")
    paper.set_auto_page_break(True, margin=18)
    paper.add_page()
    _line(paper, f"GSCo: {sheet.title}", 15, bold=True)
    _line(paper, f"{talk.diagnosis.case[:16] if talk.diagnosis else ''}  system {made.system}", 8)
    paper.image(_jpeg(sheet.picture), w=70)
    paper.ln(3)
    _bars(paper, made)
    _line(paper, made.explanation)
    for reason in made.review_reasons:
        _line(paper, f"A person must look: {reason}", bold=True)
    _specialists(paper, sheet)
    _neighbours(paper, sheet)
    _line(paper, "What was said", 12, bold=True)
    for message in talk.messages:
        _line(paper, f"{'You' if message['role'] == 'user' else 'GSCo'}: {message['content']}")
    _line(paper, "Versions", 12, bold=True)
    for name, value in made.provenance.items():
        _line(paper, f"{name}: {value}", 7)
    return bytes(paper.output())


def _line(paper: "FPDF", text: str, size: int = 10, *, bold: bool = False) -> None:
    paper.set_font("sans", "B" if bold else "", size)
    paper.multi_cell(0, size * 0.5, text, new_x="LMARGIN", new_y="NEXT")
    paper.ln(1)


def _bars(paper: "FPDF", made: Diagnosis) -> None:
    paper.set_font("sans", size=10)
    for label, chance in sorted(made.probabilities.items(), key=lambda pair: -pair[1]):
        y = paper.get_y()
        paper.cell(70, 6, _short(label, made))
        paper.set_fill_color(31, 111, 235)
        paper.rect(82, y + 1.2, max(chance * 90, 0.3), 3.6, style="F")
        paper.set_x(176)
        paper.cell(0, 6, f"{chance:.0%}", new_x="LMARGIN", new_y="NEXT")
    paper.ln(2)


def _short(label: str, made: Diagnosis) -> str:
    mark = " •" if made.prediction_set and label in made.prediction_set else ""
    return (label if len(label) <= 34 else label[:33] + "…") + mark


def _specialists(paper: "FPDF", sheet: Sheet) -> None:
    if sheet.made.opinions:
        _line(paper, "Specialists", 12, bold=True)
    for opinion in sheet.made.opinions:
        said = ", ".join(opinion.answers) or "no label"
        sure = f"{max(opinion.probabilities):.0%}"
        known = f", right on validation {opinion.reliability:.0%}" if opinion.reliability else ""
        _line(paper, f"{opinion.specialist}: {said} ({sure}{known})")
        if look := sheet.looks.get(opinion.specialist):
            both = Image.alpha_composite(sheet.picture.convert("RGBA"), _paler(look))
            paper.image(_jpeg(both.convert("RGB")), w=42)
            paper.ln(2)


def _neighbours(paper: "FPDF", sheet: Sheet) -> None:
    """Write the similar cases, then those of which there is an image in rows of five."""
    if sheet.made.neighbours:
        _line(paper, "Similar labelled cases", 12, bold=True)
    for place, one in enumerate(sheet.made.neighbours, 1):
        source = f", {one.source}" if one.source else ""
        said = ", ".join(one.labels) or "no label"
        _line(paper, f"{place}. {said}: similarity {one.similarity:.2f}{source}", 9)
    shown = [(p, one) for p, one in enumerate(sheet.made.neighbours, 1) if one.id in sheet.shown]
    for row in range(0, len(shown), 5):
        if paper.will_page_break(40):
            paper.add_page()
        left, top = paper.l_margin, paper.get_y()
        for column, (place, one) in enumerate(shown[row : row + 5]):
            x = left + 37 * column
            paper.image(_jpeg(sheet.shown[one.id]), x, top, 34, 34, keep_aspect_ratio=True)
            paper.set_xy(x, top + 34)
            paper.cell(34, 5, f"{place}", align="C")
        paper.set_xy(left, top + 41)


def _paler(look: Image.Image) -> Image.Image:
    look = look.copy()
    look.putalpha(look.getchannel("A").point(lambda value: value * 0.6))
    return look


def _jpeg(image: Image.Image) -> io.BytesIO:
    small = image.copy()
    small.thumbnail((640, 640))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=90)
    return file


def write_all(sheet: Sheet, talk: Talk, folder: Path) -> Sequence[Path]:
    """Write page, PDF and JSON into a folder of their own; return them."""
    files = [folder / f"gsco-{talk.task}.{ending}" for ending in ("html", "pdf", "json")]
    files[0].write_text(as_html(sheet, talk), encoding="utf-8")
    files[1].write_bytes(as_pdf(sheet, talk))
    files[2].write_text(as_json(talk), encoding="utf-8")
    return files
