"""The end of the walk: what the workflow found becomes a Diagnosis, with reasons to look again."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

import gsco
from gsco import workflow
from gsco.case import Case, Diagnosis, Failure, Reading, System
from gsco.explain import REDUCED, WEIGHT, explanation, is_unheard
from gsco.fusion import GENERALIST, prediction_set
from gsco.task import Task
from gsco.voices import READ_SYSTEMS, RECALLED, recalls
from gsco.workflow import State, Tools
from specialists import Specialist

if TYPE_CHECKING:
    from gsco.fusion import Fusion
    from retrieval import CaseIndex


def diagnosis_of(case: Case, number: int, state: State, tools: Tools) -> Diagnosis:
    """Return the diagnosis of one case of the batch that the workflow has finished."""
    fusion, system = tools.fusion, state["system"]
    row = state["probabilities"][number]
    recalled = state["recalled"][number]
    readings = state.get("readings")
    reading = readings[number] if readings else None
    # As many as the bound was fitted with, however many were asked for.
    similar = [n.similarity for n in recalled.neighbours[:RECALLED]]
    familiarity = float(np.mean(similar)) if similar else None
    shown, answer = _answer(row, fusion.labels, fusion.kind)
    sets = None
    bound = workflow.threshold_of(state, number, tools)
    if row is not None and bound is not None:
        sets = prediction_set(np.array(row), fusion.labels, bound)
    made = Diagnosis(
        case=case.id or state["prints"][number].content_hash,
        task=case.task,
        system=system,
        answer=answer,
        probabilities=shown,
        prediction_set=sets,
        coverage=fusion.coverage if sets is not None else None,
        review=False,
        review_reasons=(),
        opinions=tuple(said[number] for said in state.get("opinions", {}).values()),
        neighbours=recalled.neighbours,
        reading=reading,
        in_domain=None if familiarity is None else familiarity >= fusion.familiar,
        familiarity=familiarity,
        dropped_neighbours=recalled.dropped,
        failures=_failures(state, number, reading),
        seconds=dict(state["seconds"]),
        provenance={
            "generalist": tools.generalist.identity if tools.generalist else "not asked",
            **tools.provenance,
            **_reduced(tools, number),
            **_weighed(system, tools),
        },
    )
    reasons = _reasons(made, tools)
    return replace(
        made, review=bool(reasons), review_reasons=reasons, explanation=explanation(made)
    )


def _reduced(tools: Tools, number: int) -> dict[str, str]:
    """Return at which size specialists and index saw the image, if it was made smaller for them."""
    from specialists.images import is_larger

    size = tools.learnt_size
    if size is None or not is_larger(tools.pictures[number][0], size):
        return {}
    return {REDUCED: f"{size[0]} x {size[1]}"}


def _weighed(system: System, tools: Tools) -> dict[str, str]:
    """Return what the generalist's own reading weighs beside the other voices, where it is one."""
    if system != "gsco-fused" or not tools.is_calibrated:
        return {}
    return {WEIGHT: f"{tools.fusion.fused.get(GENERALIST, 0.0):.2g}"}


def _failures(state: State, number: int, reading: Reading | None) -> tuple[Failure, ...]:
    """Return what failed for one case: a part for all, its own prompt, its own fusion."""
    found = list(state["failures"])
    if reading and reading.failure:
        found.append(Failure("generalist", reading.failure))
    elif reading and recalls(state["system"]):
        shown, recalled = state["shown"][number], len(state["recalled"][number].neighbours)
        found += shortened(recalled, shown)
    if unfused := state["unfused"][number]:
        found.append(unfused)
    return tuple(found)


def shortened(recalled: int, shown: int) -> tuple[Failure, ...]:
    """Return what to say of a prompt that was too long for all its neighbours, if it was."""
    left_out = f"The prompt was too long with {recalled} neighbours: it shows {shown}."
    return (Failure("prompt", left_out),) if shown < recalled else ()


def _answer(
    row: list[float] | None, labels: tuple[str, ...], kind: str
) -> tuple[dict[str, float], str | tuple[str, ...] | None]:
    if row is None:
        return {}, None
    shown = dict(zip(labels, row, strict=True))
    if kind == "multi":
        return shown, tuple(label for label, p in shown.items() if p > 0.5)
    return shown, max(shown, key=shown.__getitem__)


def _read_answer(reading: Reading | None, tools: Tools) -> str | tuple[str, ...] | None:
    if reading is None or tools.fusion.kind == "single":
        return reading.answer if reading else None
    if not reading.probabilities:
        return None
    return _answer([reading.probabilities[t] for t in tools.task.texts], tools.task.texts, "multi")[
        1
    ]


def _said(answer: str | tuple[str, ...] | None) -> str:
    return repr(answer) if isinstance(answer, str) else ", ".join(answer or ("no label",))


def _reasons(made: Diagnosis, tools: Tools) -> tuple[str, ...]:
    """Say why a person must look, in sentences."""
    reasons = []
    if made.answer is None:
        reasons.append("No part could answer.")
    if made.in_domain is False:
        reasons.append(
            "The image lies outside what the specialists know: it resembles their training cases "
            "less than 99 % of the validation cases did."
        )
    if made.prediction_set is not None and len(made.prediction_set) != 1:
        kept = ", ".join(made.prediction_set) or "no label"
        reasons.append(f"At {made.coverage:.0%} coverage the answer is not single: {kept}.")
    if made.system in workflow.READING_SYSTEMS:
        read = _read_answer(made.reading, tools)
        differs = made.answer is not None and read not in (None, made.answer)
        if differs and not is_unheard(made):
            reasons.append(f"The generalist reads {_said(read)}, the whole {_said(made.answer)}.")
        if tools.generalist and not tools.is_calibrated:
            reasons.append(
                f"The generalist {tools.generalist.name!r} was not calibrated for this task; "
                "construct it again with `--generalist`."
            )
        elif made.system in READ_SYSTEMS and made.system not in tools.fusion.temperatures:
            reasons.append(
                "The generalist is not calibrated with this evidence: it understood too few "
                "validation cases with it. Give it a longer context, and construct the task again."
            )
    if made.failures:
        parts = ", ".join(failure.part for failure in made.failures)
        reasons.append(f"Some parts failed: {parts}.")
    return tuple(reasons)


def provenance_of(
    task: Task, fusion: "Fusion", specialists: Mapping[str, Specialist], index: "CaseIndex"
) -> dict[str, str]:
    """Return the versions and hashes of what a task consists of."""
    from importlib.metadata import version

    return {
        "gsco": gsco.__version__,
        "torch": version("torch"),
        "timm": version("timm"),
        "transformers": version("transformers"),
        "task sha256": hashlib.sha256(task.to_toml().encode()).hexdigest(),
        "fusion sha256": hashlib.sha256(fusion.to_json().encode()).hexdigest(),
        "index sha256": index.manifest().data_hash,
        "embedder sha256": index.embedder_hash,
        **{f"specialist {n} sha256": s.weights_hash for n, s in specialists.items()},
    }


def unreadable(case: Case, number: int, system: System, why: str) -> Diagnosis:
    """Return the diagnosis of a case whose image cannot be read: none."""
    return Diagnosis(
        case=case.id or f"case {number}",
        task=case.task,
        system=system,
        answer=None,
        probabilities={},
        prediction_set=None,
        coverage=None,
        review=True,
        review_reasons=("The image cannot be read.",),
        failures=(Failure("intake", why),),
    )
