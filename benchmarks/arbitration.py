"""Arbitration: whom does the generalist believe when it and the specialists differ?

    python -m benchmarks.arbitration --data DIR [--generalist URL]

On the test cases of the starter tasks, as the publication measured it on two sets. Four shares,
each with n and a 95 % interval over cases:

- `kept`: its own answer was right, every specialist is made to say the same wrong label, and with
  that in the prompt it still answers rightly (publication: 94.5 % on PCam200);
- `corrected`: its own answer was wrong, the specialists' vote was right, and with their true
  opinions it answers rightly (81.0 % on PneumoniaMNIST);
- `misled`: its own answer was right, the vote was wrong, and with their true opinions it errs;
- `against_all`: of all cases, right although every specialist is made to say a wrong label
  (67.6 % of tumour images on PCam200).
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import command_of, write
from benchmarks.starter import datasets
from gsco.agent import GSCo, open_generalist
from gsco.datasets import targets_of
from gsco.evaluation.metrics import interval, resamples
from gsco.fusion import votes
from gsco.generalist import Generalist
from gsco.prompts import build_prompt
from gsco.settings import load_settings
from gsco.voices import together
from specialists import Opinion

PUBLISHED = {"kept": 0.945, "corrected": 0.810, "against_all": 0.676}
Opinions = list[dict[str, Opinion]]
"""Specialist to opinion, for each case."""


def measure(agent: GSCo, generalist: Generalist, task: str, data: Any) -> dict[str, Any]:
    """Return the four shares on the test cases of one task."""
    records = data.split("test")
    card = agent.tools(task).task
    targets = targets_of(records, card)
    images = [record.open() for record in records]
    fusion, specialists = agent.tools(task).fusion, agent.tools(task).specialists
    said = [specialist.predict(images) for specialist in specialists.values()]
    true = [dict(zip(specialists, case, strict=True)) for case in zip(*said, strict=True)]
    forced = [
        {k: _saying(o, _wrong(target, number, len(card.texts))) for k, o in case.items()}
        for number, (case, target) in enumerate(zip(true, targets.tolist(), strict=True))
    ]

    failed: set[int] = set()

    def answers(shown: Opinions) -> NDArray[np.bool_]:
        prompts = [
            build_prompt(
                card,
                images=[image],
                opinions=list(one.values()),
                together=together(fusion, one, ()),
                answer_form=generalist.answer_form,
            )
            for image, one in zip(images, shown, strict=True)
        ]
        readings = generalist.read(prompts)
        failed.update(i for i, reading in enumerate(readings) if reading.failure is not None)
        found = [reading.answer for reading in readings]
        pairs = zip(found, targets.tolist(), strict=True)
        return np.array([answer == card.texts[target] for answer, target in pairs])

    alone = answers([{} for _ in images])
    guided, misguided = answers(true), answers(forced)
    shares = [np.array([opinion.probabilities for opinion in one]) for one in said]
    vote = votes(shares).argmax(axis=1) == targets
    who = [record.patient or record.id for record in records]
    return {
        "n": len(records),
        "failures": len(failed),
        "alone": share(alone, np.ones_like(alone), who),
        "vote": share(vote, np.ones_like(alone), who),
        "kept": share(misguided, alone, who),
        "corrected": share(guided, ~alone & vote, who),
        "misled": share(~guided, alone & ~vote, who),
        "against_all": share(misguided, np.ones_like(alone), who),
    }


def _wrong(target: int, number: int, count: int) -> int:
    """Return another label; which one goes round with the cases."""
    return (target + 1 + number % (count - 1)) % count


def _saying(opinion: Opinion, label: int) -> Opinion:
    """Return the opinion with its greatest probability given to a label."""
    chances = list(opinion.probabilities)
    best = max(range(len(chances)), key=chances.__getitem__)
    chances[best], chances[label] = chances[label], chances[best]
    return replace(opinion, probabilities=tuple(chances))


def share(hits: NDArray[np.bool_], among: NDArray[np.bool_], who: Sequence[str]) -> dict[str, Any]:
    """Return the share of hits among some cases, with an interval over patients."""
    rows = np.flatnonzero(among)
    if not len(rows):
        return {"n": 0, "share": None, "interval": None}
    found = hits[rows]
    draws = resamples([who[row] for row in rows.tolist()], 1000, seed=0)
    return {
        "n": len(rows),
        "share": float(found.mean()),
        "interval": interval(lambda drawn: float(found[drawn].mean()), draws),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--generalist", help="URL, folder or hub id; gsco-tiny if left out")
    given = parser.parse_args()
    generalist = open_generalist(load_settings(generalist=given.generalist))
    agent = GSCo.open()
    tasks = {
        task: measure(agent, generalist, task, read())
        for task, read in datasets(given.data).items()
    }
    result = {
        "generalist": generalist.name,
        "n": sum(found["n"] for found in tasks.values()),
        "seed": 0,
        "failures": sum(found["failures"] for found in tasks.values()),
        "published": PUBLISHED,
        "tasks": tasks,
    }
    print(write("arbitration", command_of("arbitration", parser, given), result))


if __name__ == "__main__":
    main()
