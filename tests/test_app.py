"""The page: built over the shipped workspace, answers without a browser."""

import pytest
from PIL import Image

import app
from gsco.agent import GSCo
from gsco.datasets.samples import packaged_samples

gradio = pytest.importorskip("gradio", reason="the [app] extra is not installed")


@pytest.fixture(scope="module")
def agent() -> GSCo:
    return GSCo.open()


def test_an_image_gets_probabilities_and_evidence(agent: GSCo) -> None:
    sample = packaged_samples()[0]
    shown, said = app.answer(agent, sample.image, "pneumonia-cxr", "stack")
    assert sum(shown.values()) == pytest.approx(1)
    assert "Specialist" in said
    assert "not a medical device" in said


def test_no_image_and_a_tiny_image_get_a_sentence(agent: GSCo) -> None:
    with pytest.raises(gradio.Error, match="Give an image first"):
        app.answer(agent, None, "pneumonia-cxr", "stack")
    with pytest.raises(gradio.Error, match="nothing can be seen"):
        app.answer(agent, Image.new("RGB", (1, 1)), "pneumonia-cxr", "stack")


def test_the_page_offers_every_task_of_the_workspace(agent: GSCo) -> None:
    page = app.page(agent)
    offered = [c["props"].get("choices") for c in page.get_config_file()["components"]]
    names = {value for choices in offered if choices for _, value in choices}
    assert set(agent.tasks) <= names
