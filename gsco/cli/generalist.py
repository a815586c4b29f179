"""`gsco construct generalist`: train gsco-tiny, or tune a vision-language model."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gsco.errors import DataError, UsageError, unknown
from gsco.progress import Progress, Say

if TYPE_CHECKING:
    from gsco.datasets import Dataset, PairSet

RECIPES = ("tiny", "lora")
NAME = "generalist"
"""What stands in the place of a task, and the folder in the workspace."""


def construct_generalist(
    recipe: str,
    data: Path,
    workspace: Path,
    *,
    model: str | None,
    steps: int | None,
    seed: int,
    progress: Progress,
    say: Say,
) -> Path:
    """Train by a recipe and return the folder of the model.

    Raises:
        UsageError: an unknown recipe, or none was given that trains a generalist.
    """
    if recipe not in RECIPES:
        raise UsageError(unknown("recipe", recipe, RECIPES, "gsco construct --help"))
    out = workspace / NAME
    if recipe == "tiny":
        if model or steps is not None:
            raise UsageError(
                "Recipe 'tiny' starts from nothing and has its own steps: leave out "
                "`--generalist` and `--steps`, or take `--recipe lora`."
            )
        from gsco.generalist.tiny.learning import Plan
        from gsco.generalist.tiny.recipe import beside_gpu, train

        return train(data, out, Plan(seed=seed, workers=beside_gpu()), say)
    from gsco.generalist.card import card_of
    from gsco.generalist.lora import Plan as Tuning
    from gsco.generalist.lora import tune
    from gsco.generalist.tiny import FOLDER

    source = model or str(FOLDER)
    plan = Tuning(seed=seed, answer_form=card_of(Path(source)).answer_form)
    if steps is not None:
        from dataclasses import replace

        plan = replace(plan, steps=steps)
    found = material_under(data)
    return tune(source, found.datasets, out, plan, pairs=found.pairs, progress=progress)


class Material(NamedTuple):
    """What a generalist can be tuned on."""

    datasets: "list[Dataset]"
    pairs: "list[PairSet]"


def material_under(folder: Path) -> Material:
    """Return what a folder and those in it hold: those named like task cards, and each qa.csv.

    Raises:
        DataError: there is nothing, or it cannot be read.
    """
    from gsco.datasets import read_dataset, read_pairs
    from gsco.datasets.pairs import FILE
    from gsco.task import builtin_tasks

    if not folder.is_dir():
        raise DataError(f"There is no folder {str(folder)!r}.")
    named = sorted(one for one in folder.iterdir() if one.name in builtin_tasks())
    asked = sorted(file.parent for where in (FILE, f"*/{FILE}") for file in folder.glob(where))
    if not named and not asked:
        raise DataError(
            f"{str(folder)!r} holds no folder named like a task ({', '.join(builtin_tasks())}), "
            f"and none with a {FILE}. Name one folder for each task, or call "
            "`gsco.generalist.lora.tune` with data sets."
        )
    datasets = [read_dataset(one, builtin_tasks()[one.name]) for one in named]
    return Material(datasets, [read_pairs(one) for one in asked])
