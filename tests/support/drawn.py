"""The task of the drawn images that the tests of gsco construct from, and who reads them."""

from collections.abc import Mapping

import numpy as np

from gsco.prompts import Prompt
from gsco.task import Label, Task

TASK = Task(
    id="spots",
    title="Drawn spots",
    kind="single",
    labels=(Label("red spot"), Label("blue spot")),
    modality="drawing",
    stem="Your task is to tell the colour of the spot. You are given a drawing.",
)


def tell(prompt: Prompt) -> Mapping[str, float]:
    """Say what the tint says, not quite surely: a fixed function of the prompt."""
    red, _, blue = np.asarray(prompt.images[-1], dtype=np.float64).reshape(-1, 3).mean(axis=0)
    if prompt.asked is not None:
        other = prompt.images[-1].getchannel("G")
        tint = (red if prompt.asked == "red spot" else blue) - np.asarray(other).mean()
        sure = 1 / (1 + np.exp(-(tint - 20) / 10))
        return {"yes": sure, "no": 1 - sure}
    sure = float(1 / (1 + np.exp(-(red - blue) / 40)))
    return {"red spot": sure, "blue spot": 1 - sure}
