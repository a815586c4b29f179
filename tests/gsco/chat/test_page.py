"""The page in a real browser: what a person does, and what they see."""

import base64
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gsco.agent import GSCo
from gsco.case import NOTICE
from gsco.chat.serving import served
from gsco.datasets.samples import packaged_samples
from gsco.errors import UsageError

pytestmark = pytest.mark.slow
DONE = "What would change the answer"
BOX = "Drop or paste an image"
LONG = 60_000
"""Milliseconds: a first answer may wait for the models to be loaded."""


class Visit:
    """One person's page, and whatever their browser complains of."""

    def __init__(self, browser: Any, address: str, width: int = 1300) -> None:
        self.complaints: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 950})
        self.page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        self.home = address
        self.page.goto(address)
        self.page.get_by_placeholder(BOX).wait_for()

    def _said(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.complaints.append(f"asked elsewhere: {request.url}")

    def sample(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()
        self.page.get_by_text(DONE).first.wait_for(timeout=LONG)

    def send(self, text: str = "", *files: Path) -> None:
        if files:
            self.page.locator("input[type=file]").first.set_input_files([str(f) for f in files])
            self.page.locator(".thumbnail-item, .file-block, [data-testid=file]").first.wait_for()
        box = self.page.get_by_placeholder(BOX)
        box.fill(text)
        box.press("Enter")

    def sees(self, text: str, timeout: int = LONG) -> None:
        self.page.get_by_text(text).first.wait_for(timeout=timeout)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    one = Visit(browser, address)
    yield one
    one.context.close()
    assert one.complaints == []


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for sample in packaged_samples():
        sample.image.save(folder / f"{sample.name}.png")
    return folder


def test_a_sample_gets_an_answer_with_every_piece_of_evidence(visit: Visit) -> None:
    visit.sample("Dissent")
    for heading in ("Specialists", "Similar labelled cases", "Generalist"):
        assert visit.page.locator("#evidence").get_by_role("heading", name=heading).is_visible()
    assert visit.page.locator("#evidence .answer").inner_text() == "no tumour"
    assert visit.page.locator("#evidence .heat").count() == 3
    assert visit.page.locator("#evidence .gallery li").count() == 10
    assert visit.page.locator("#evidence .notice").inner_text() == NOTICE
    visit.page.locator(".strength-range").fill("10")
    assert visit.page.locator(".heat").first.evaluate("e => e.style.opacity") == "0.1"


def test_where_all_voices_agree_nobody_need_look_again(visit: Visit) -> None:
    visit.sample("Agreement")
    assert visit.page.locator("#evidence .answer").inner_text() == "brain MRI"
    assert visit.page.locator("#evidence .review").count() == 0
    assert "All 3 specialists say so." in visit.page.locator("#evidence").inner_text()
    assert "reads the same" in visit.page.locator("#evidence").inner_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Dissent", "The generalist reads"),
        ("Out of domain", "outside what the specialists know"),
        ("Undecided", "the answer is not single"),
    ],
)
def test_the_other_samples_say_why_a_person_must_look(visit: Visit, name: str, said: str) -> None:
    visit.sample(name)
    assert said in visit.page.locator("#evidence .review").inner_text()


def test_an_uploaded_image_gets_a_proposed_task_and_follow_ups_keep_the_case(
    visit: Visit, images: Path
) -> None:
    visit.send("", images / "brain-mri.png")
    visit.sees("Proposed task: Tumour in a brain MRI slice")
    visit.page.get_by_text(DONE).first.wait_for(timeout=LONG)
    visit.send("why not meningioma?")
    visit.sees("meningioma gets")
    visit.send("what if the second specialist is wrong?")
    visit.sees("Without lcnet the answer")
    visit.send("show more neighbours")
    visit.sees("The 20 most similar labelled cases:")
    visit.send("Is there a tumour?")
    visit.sees("gsco-tiny is too small to write")
    visit.send("compare with this earlier image", images / "retina.png")
    visit.sees("what changed in the patient is not measured")
    visit.page.get_by_role("button", name="Retry").click()
    visit.page.wait_for_timeout(500)
    visit.sees("Send the earlier image together with the question")
    assert visit.page.locator("#evidence .answer").inner_text() == "no tumour"


PASTE = """async (text) => {
  const image = await (await fetch(`data:image/png;base64,${text}`)).blob();
  await navigator.clipboard.write([new ClipboardItem({ "image/png": image })]);
}"""
DROP = """text => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const held = new DataTransfer();
  held.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
  return held;
}"""


@pytest.mark.parametrize("how", ["paste", "drop"])
def test_an_image_is_pasted_or_dropped(visit: Visit, images: Path, how: str) -> None:
    text = base64.b64encode((images / "retina.png").read_bytes()).decode()
    box = visit.page.get_by_placeholder(BOX)
    if how == "paste":
        visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
        visit.page.evaluate(PASTE, text)
        box.press("Control+v")
    else:
        box.dispatch_event("drop", {"dataTransfer": visit.page.evaluate_handle(DROP, text)})
    visit.page.locator(".thumbnail-item").first.wait_for()
    box.press("Enter")
    visit.sees("Proposed task: Kind of examination")


def test_two_images_are_one_case(visit: Visit, images: Path) -> None:
    visit.send("", images / "brain-mri.png", images / "chest-ct.png")
    visit.page.get_by_text(DONE).first.wait_for(timeout=LONG)
    visit.tab("Image")
    facts = visit.page.locator("#viewer").inner_text()
    assert len(re.findall(r"\d+ x \d+", facts)) == 2


def test_all_is_done_without_a_mouse(visit: Visit) -> None:
    page = visit.page
    focused = "document.activeElement.innerText || document.activeElement.ariaLabel"

    def tab_to(text: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if str(page.evaluate(focused)).strip().startswith(text):
                return
        pytest.fail(f"{text} is not reached with Tab")

    tab_to("Dissent")
    page.keyboard.press("Enter")
    page.get_by_text(DONE).first.wait_for(timeout=LONG)
    tab_to("Image")
    page.keyboard.press("Enter")
    page.locator("#viewer .frame img").wait_for()


def test_a_volume_is_looked_through_and_asked_about_slice_by_slice(visit: Visit) -> None:
    visit.sample("Dissent")
    visit.tab("Image")
    frame = visit.page.locator("#viewer .frame")
    assert "slice 13 of 24" in str(frame.locator("img").get_attribute("alt"))
    before = frame.locator("img").get_attribute("src")
    slider = visit.page.get_by_label("number input for Slice of 24")
    slider.fill("5")
    slider.press("Enter")
    visit.page.locator("#viewer img[alt*='slice 5 of 24']").wait_for()
    turned = frame.locator("img").get_attribute("src")
    assert turned != before
    visit.page.get_by_label("Invert").check()
    visit.page.wait_for_function(
        "old => document.querySelector('#viewer .frame img').src !== old", arg=turned
    )
    visit.page.get_by_role("button", name="Zoom in").click()
    assert "scale(1.25)" in str(frame.locator("img").get_attribute("style"))
    frame.focus()
    frame.press("0")
    assert "scale(1)" in str(frame.locator("img").get_attribute("style"))
    visit.send("")
    visit.sees("What is in this image (slice 5)?")


def test_the_report_can_be_taken_away(visit: Visit, tmp_path: Path) -> None:
    from pypdf import PdfReader

    visit.sample("Out of domain")
    visit.tab("Report")
    visit.page.get_by_role("button", name="Make the report").click()
    found = {}
    for ending in ("html", "pdf", "json"):
        link = visit.page.locator(f"a[href$='.{ending}']").first
        link.wait_for(timeout=LONG)
        answer = visit.context.request.get(str(link.get_attribute("href")))
        assert answer.ok
        found[ending] = answer.body()
    page = found["html"].decode()
    assert NOTICE in page and "<script" not in page and "data:image/jpeg" in page
    text = " ".join(
        one.extract_text() for one in PdfReader(io.BytesIO(found["pdf"])).pages
    ).replace("\n", " ")
    assert NOTICE[:40] in text and "Similar labelled cases" in text
    data = json.loads(found["json"])
    assert data["notice"] == NOTICE
    assert data["diagnosis"]["in_domain"] is False
    assert [message["role"] for message in data["messages"]] == ["user", "assistant"]


def test_the_cases_of_a_session_are_found_again(visit: Visit) -> None:
    visit.sample("Dissent")
    visit.page.get_by_role("button", name="New case").click()
    visit.page.get_by_text("Nothing yet.").wait_for()
    visit.sample("Undecided")
    visit.tab("History")
    visit.page.get_by_label("Cases of this session").click()
    visit.page.get_by_role("option", name="Case 1: brain-mri, no tumour").click()
    visit.tab("Evidence")
    visit.page.locator("#evidence .answer", has_text="no tumour").wait_for()


def test_two_people_see_nothing_of_each_other(browser: Any, address: str, images: Path) -> None:
    one, other = Visit(browser, address), Visit(browser, address)
    one.page.get_by_role("button", name="Dissent").click()
    other.page.get_by_role("button", name="Undecided").click()
    for who in (one, other):
        who.page.get_by_text(DONE).first.wait_for(timeout=LONG)
    assert "brain MRI" in one.page.locator("#evidence").inner_text()
    assert "brain MRI" not in other.page.locator("body").inner_text()
    assert "chest X-ray" not in one.page.locator("body").inner_text()
    assert one.complaints == other.complaints == []
    one.context.close()
    other.context.close()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("a.png", b"x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.png", b"I am no image.", "is not an image that can be read"),
        ("empty.png", b"", "is empty (0 bytes)"),
        ("bag.zip", zipped(), "is not an image that can be read"),
        ("cut.png", b"cut", "is damaged or cut off|is not an image"),
        ("<img src=x onerror=alert(1)>.png", b"?", "is not an image that can be read"),
    ],
)
def test_a_bad_file_gets_a_sentence(
    visit: Visit, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    if name == "cut.png":
        whole = io.BytesIO()
        packaged_samples()[0].image.save(whole, "PNG")
        content = whole.getvalue()[:3000]
    file = tmp_path / name
    file.write_bytes(content)
    visit.send("what is this?", file)
    visit.page.get_by_text(re.compile(said.replace("(", r"\(").replace(")", r"\)"))).first.wait_for(
        timeout=LONG
    )
    assert "Traceback" not in visit.page.locator("body").inner_text()
    assert visit.page.locator("img[src='x']").count() == 0


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def test_images_that_cannot_be_trusted_are_refused_and_the_case_goes_on(
    visit: Visit, images: Path, tmp_path: Path
) -> None:
    grey = Image.new("L", (64, 64), 90)
    frames = [Image.new("L", (64, 64), shade) for shade in (10, 200)]
    deep = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    bad = {
        "moving.gif": (saved(frames[0], "GIF", save_all=True, append_images=frames), "frames"),
        "print.jpg": (saved(grey.convert("CMYK"), "JPEG"), "is in CMYK"),
        "deep.png": (saved(deep, "PNG"), "more than 8 bits a channel"),
        "huge.png": (saved(Image.new("1", (20_000, 20_000)), "PNG"), "are read"),
        "dot.png": (saved(Image.new("L", (1, 1)), "PNG"), "nothing can be seen in it"),
        "clear.png": (saved(Image.new("RGBA", (64, 64)), "PNG"), "partly transparent"),
    }
    visit.sample("Dissent")
    for name, (content, said) in bad.items():
        (tmp_path / name).write_bytes(content)
        visit.send("", tmp_path / name)
        visit.sees(said)
    assert "Traceback" not in visit.page.locator("body").inner_text()
    visit.send("why?")
    visit.sees("no tumour gets")


def test_script_in_a_question_is_shown_as_text(visit: Visit, images: Path) -> None:
    visit.sample("Dissent")
    visit.send("<img src=x onerror=\"document.title='broken'\"><script>1</script> why?")
    visit.sees("no tumour gets")
    visit.sees("<img src=x onerror=")
    assert visit.page.title() == "GSCo"


def test_a_question_without_an_image_says_what_to_do(visit: Visit) -> None:
    visit.send("what is this?")
    visit.sees("There is no image yet.")


def test_a_file_that_is_too_large_is_refused(visit: Visit, tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    with file.open("wb") as out:
        out.truncate(70 * 2**20)
    visit.page.locator("input[type=file]").first.set_input_files(str(file))
    visit.page.get_by_text("exceed the maximum allowed size of 64").first.wait_for(timeout=LONG)
    visit.complaints.clear()


@pytest.mark.parametrize("width", [390, 1300])
def test_nothing_serious_is_found_by_the_accessibility_check(
    browser: Any, address: str, width: int
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    one = Visit(browser, address, width)
    one.sample("Dissent")
    for tab in ("Evidence", "Image", "Report", "History"):
        one.tab(tab)
        one.page.wait_for_timeout(300)
        found = Axe().run(one.page).response["violations"]
        serious = [v["id"] for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], tab
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert one.page.evaluate(overflow) <= 0
    one.context.close()


def test_another_program_asks_over_gradio_s_interface(address: str, images: Path) -> None:
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False)
    made = client.predict(
        handle_file(str(images / "retina.png")), "modality", "stack", api_name="/diagnose"
    )
    assert made["answer"] == "fundus photograph"
    names = set(client.view_api(return_format="dict")["named_endpoints"])
    assert names == {"/diagnose"}


def test_a_file_of_this_machine_that_was_not_uploaded_is_not_read(address: str) -> None:
    import httpx

    data = [{"path": str(packaged_samples()[0].path)}, "modality", "stack"]
    call = f"{address}gradio_api/call/diagnose"
    event = httpx.post(call, json={"data": data}, timeout=60).json()["event_id"]
    told = httpx.get(f"{call}/{event}", timeout=120).text
    assert "The file was not uploaded." in told
    assert "fundus photograph" not in told


def test_a_foreign_name_for_this_machine_is_refused(address: str) -> None:
    import httpx

    assert httpx.get(address, timeout=60).status_code == 200
    answer = httpx.get(address, headers={"Host": "evil.example:7860"}, timeout=60)
    assert answer.status_code == 400
    assert "GSCo" not in answer.text


def test_a_page_beyond_this_machine_needs_a_login(starter: GSCo) -> None:
    with (
        pytest.raises(UsageError, match="GSCO_LOGIN=name:password"),
        served(starter, host="0.0.0.0"),
    ):
        pass
    with pytest.raises(UsageError, match="name:password"), served(starter, login="anna"):
        pass


def test_with_a_login_nothing_is_shown_before_it(
    browser: Any, chat: Callable[..., Any], tmp_path: Path
) -> None:
    with chat(tmp_path, GSCO_LOGIN="anna:secret") as one:
        context = browser.new_context()
        page = context.new_page()
        page.goto(one.address)
        page.get_by_role("button", name="Login").wait_for()
        assert page.get_by_placeholder(BOX).count() == 0
        assert context.request.get(f"{one.address}config").status == 401
        context.close()


def test_uploads_are_private_and_gone_when_the_page_is(
    chat: Callable[..., Any], images: Path, tmp_path: Path
) -> None:
    from gradio_client import Client, handle_file

    with chat(tmp_path) as one:
        (folder,) = one.uploads.glob("gsco-chat-*")
        assert folder.stat().st_mode & 0o077 == 0
        client = Client(one.address, verbose=False)
        image = handle_file(str(images / "retina.png"))
        client.predict(image, "modality", "stack", api_name="/diagnose")
        assert any(folder.rglob("*.png"))
    assert not folder.exists()
