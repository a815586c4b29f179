"""The task of the drawn images that the tests of gsco construct from."""

from gsco.task import Label, Task

TASK = Task(
    id="spots",
    title="Drawn spots",
    kind="single",
    labels=(Label("red spot"), Label("blue spot")),
    modality="drawing",
    stem="Your task is to tell the colour of the spot. You are given a drawing.",
)
