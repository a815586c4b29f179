"""Speed, as ratios measured side by side in one run.

    python -m benchmarks.speed [--data DIR] [--cases 64]

Writes `benchmarks/results/speed.json`. Machines are noisy: calls take turns, and ratios are
geometric means over the rounds.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import retrieval_speed
from benchmarks.record import command_of, write
from benchmarks.retrieval_speed import interleaved, medians
from benchmarks.rounds import ratio_of
from gsco.agent import GSCo
from gsco.case import Case
from specialists import images as pixels
from specialists.classifier import Classifier
from specialists.images import normalise, to_tensor

TASK = "pneumonia-cxr"
SEARCHED = 1676
"""Images of the retrieval part: all of the set."""


def prediction(specialist: Classifier, pictures: list[Image.Image]) -> dict[str, Any]:
    """Compare `predict_tensor` with bare loops over the same decoded tensors.

    One with our batch, which depends on the network, and one with 64, which people write.
    """
    tensor = to_tensor(pictures, specialist.input_size)
    bare = specialist.card.backbone

    @torch.inference_mode()
    def loop(batch: int) -> None:
        for part in tensor.split(batch):
            specialist.network(normalise(part, bare.mean, bare.std)).softmax(1).tolist()

    taken = interleaved(
        {
            "bare": lambda: loop(specialist.batch),
            "bare_64": lambda: loop(64),
            "ours": lambda: specialist.predict_tensor(tensor),
        }
    )
    return {
        **medians(taken),
        "to_ours": ratio_of(taken["bare"], taken["ours"]),
        "64_to_ours": ratio_of(taken["bare_64"], taken["ours"]),
    }


def decodes(agent: GSCo, picture: Image.Image) -> int:
    """Count how often one image is decoded for all specialists of a task."""
    count = 0
    true = pixels.decode

    def counted(source: object) -> Image.Image:
        nonlocal count
        count += 1
        return true(source)  # type: ignore[arg-type]  # passed through unchanged

    pixels.decode = counted  # restored below
    try:
        agent.diagnose(Case(images=(picture,), task=TASK), "stack")
    finally:
        pixels.decode = true
    return count


def overhead(agent: GSCo, pictures: list[Image.Image]) -> float:
    """Return the median milliseconds a case costs beyond its models."""
    beyond = []
    for picture in pictures:
        start = time.perf_counter()
        made = agent.diagnose(Case(images=(picture,), task=TASK), "gsco-fused")
        whole = time.perf_counter() - start
        # consult and recall run side by side: the longer one counts.
        parallel = max(made.seconds["consult"], made.seconds["recall"])
        beyond.append(whole - parallel - made.seconds.get("decide", 0))
    return 1000 * statistics.median(beyond[2:])


def batching(agent: GSCo, pictures: list[Image.Image]) -> dict[str, Any]:
    """Compare `diagnose_many` with `diagnose` one by one."""
    cases = [Case(images=(picture,), task=TASK) for picture in pictures]
    taken = interleaved(
        {
            "one by one": lambda: [agent.diagnose(case) for case in cases],
            "many": lambda: agent.diagnose_many(cases),
        },
        repeats=5,
    )
    failed = sum(bool(made.failures) for made in agent.diagnose_many(cases))
    ratio = ratio_of(taken["one by one"], taken["many"])
    return {**medians(taken), "failures": failed, "to_many": ratio}


def pictures_from(root: Path | None, count: int) -> list[Image.Image]:
    """Return test images, or drawn ones where there are no data."""
    if root:
        files = sorted((root / "cxr_pneumonia" / "images").iterdir())
        return [pixels.decode(file) for file in files[:: max(len(files) // count, 1)][:count]]
    noise = np.random.default_rng(0).integers(0, 255, (count, 28, 28), dtype=np.uint8)
    return [Image.fromarray(one).convert("RGB").resize((224, 224)) for one in noise]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cases", type=int, default=64)
    given = parser.parse_args()
    pictures = pictures_from(given.data, max(given.cases, 200))
    agent = GSCo.open()
    some = pictures[: given.cases]
    batches = batching(agent, some)
    specialists = agent.tools(TASK).specialists
    result = {
        "threads": torch.get_num_threads(),
        "n": len(some),
        "failures": batches["failures"],
        "seed": 0,
        "images": "cxr_pneumonia" if given.data else "drawn",
        "batched_prediction_against_timm": {
            name: prediction(one, pictures[:128])
            for name, one in specialists.items()
            if isinstance(one, Classifier)
        },
        "decodes_of_one_image": decodes(agent, some[0]),
        "overhead_ms_a_case": overhead(agent, some[:32]),
        "many_against_one_by_one": batches,
        "retrieval": retrieval_speed.measure(pictures_from(given.data, SEARCHED)),
    }
    print(write("speed", command_of("speed", parser, given), result))


if __name__ == "__main__":
    main()
