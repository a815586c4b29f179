"""A plain page over the same path as the command line, on this machine only.

python app.py
"""

import gradio as gr
from PIL import Image

from gsco import Case, GSCo
from gsco.case import NOTICE, SYSTEMS, Diagnosis, System
from gsco.errors import GscoError
from specialists import SpecialistError


def answer(
    agent: GSCo, image: Image.Image | None, task: str, system: System
) -> tuple[dict[str, float], str]:
    """Return the probabilities and the evidence as Markdown; errors become a sentence."""
    if image is None:
        raise gr.Error("Give an image first.")
    try:
        made = agent.diagnose(Case(images=(image,), task=task), system)
    except (GscoError, SpecialistError) as error:
        raise gr.Error(str(error)) from error
    return dict(made.probabilities), evidence(made)


def evidence(made: Diagnosis) -> str:
    """Say in Markdown what each part said and why a person must look."""
    lines = [
        f"- Specialist `{o.specialist}`: {', '.join(o.answers)} ({max(o.probabilities):.0%})"
        for o in made.opinions
    ]
    lines += [
        f"- Similar case: {', '.join(n.labels)} (similarity {n.similarity:.2f})"
        for n in made.neighbours[:5]
    ]
    if made.reading:
        lines.append(f"- Generalist `{made.reading.model}`: {made.reading.answer}")
    lines += [f"- **A person must look:** {reason}" for reason in made.review_reasons]
    return "\n".join([made.explanation, "", *lines, "", f"_{NOTICE}_"])


def page(agent: GSCo) -> gr.Blocks:
    """Lay the page out."""
    with gr.Blocks(title="GSCo", analytics_enabled=False) as blocks:
        gr.Markdown(f"# GSCo\n{NOTICE}")
        with gr.Row():
            with gr.Column():
                image = gr.Image(type="pil", label="Image", sources=["upload", "clipboard"])
                task = gr.Dropdown(list(agent.tasks), label="Task")
                system = gr.Dropdown(list(SYSTEMS), value="gsco-fused", label="System")
                ask = gr.Button("Diagnose", variant="primary")
            with gr.Column():
                shown = gr.Label(label="Probabilities")
                said = gr.Markdown()
        ask.click(lambda *given: answer(agent, *given), [image, task, system], [shown, said])
    return blocks


if __name__ == "__main__":
    page(GSCo.open()).launch(server_name="127.0.0.1", share=False)
