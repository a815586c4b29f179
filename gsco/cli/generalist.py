"""`gsco construct generalist`: train gsco-tiny, or tune a vision-language model."""

from pathlib import Path
from typing import TYPE_CHECKING

from gsco.errors import DataError, UsageError, unknown
from gsco.progress import Progress, Say

if TYPE_CHECKING:
    from gsco.datasets import Dataset

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
        from gsco.generalist.tiny.recipe import Plan, train

        return train(data, out, Plan(seed=seed), say)
    from gsco.generalist.card import card_of
    from gsco.generalist.lora import Plan as Tuning
    from gsco.generalist.lora import tune
    from gsco.generalist.tiny import FOLDER

    source = model or str(FOLDER)
    plan = Tuning(seed=seed, answer_form=card_of(Path(source)).answer_form)
    if steps is not None:
        from dataclasses import replace

        plan = replace(plan, steps=steps)
    return tune(source, sets_under(data), out, plan, progress=progress)


def sets_under(folder: Path) -> "list[Dataset]":
    """Return the data sets in a folder whose folders are named like task cards.

    Raises:
        DataError: there is none.
    """
    from gsco.datasets import read_dataset
    from gsco.task import builtin_tasks

    if not folder.is_dir():
        raise DataError(f"There is no folder {str(folder)!r}.")
    named = sorted(one for one in folder.iterdir() if one.name in builtin_tasks())
    if not named:
        raise DataError(
            f"{str(folder)!r} holds no folder named like a task ({', '.join(builtin_tasks())}). "
            "Name one folder for each task, or call `gsco.generalist.lora.tune` with data sets."
        )
    return [read_dataset(one, builtin_tasks()[one.name]) for one in named]
