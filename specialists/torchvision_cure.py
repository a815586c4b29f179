"""Let torchvision import beside a torch without CUDA.

The registry's torchvision wheel is linked to CUDA. Beside a CPU torch its compiled operators are
missing, and `import torchvision` stops with `operator torchvision::nms does not exist`; timm and
transformers stop with it. `apply` declares the two operators before torchvision is imported.
`torchvision.io` still does not work, and nothing here uses it.

torchaudio and torchcodec, which come with vLLM, are linked to CUDA too, and transformers imports
them where they are installed; those that cannot be loaded are hidden.
"""

import importlib
import sys
from functools import cache

import torch
from torch import Tensor


def non_maximum_suppression(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes to keep, best score first.

    Args:
        boxes: (N, 4) as x0, y0, x1, y1.
        scores: (N,).
        iou_threshold: a box that overlaps a better one by more than this is dropped.
    """
    order = scores.argsort(descending=True)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    keep = []
    while order.numel():
        best, order = order[0], order[1:]
        keep.append(best)
        low = torch.maximum(boxes[best, :2], boxes[order, :2])
        high = torch.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        order = order[shared / (areas[best] + areas[order] - shared) <= iou_threshold]
    return torch.stack(keep) if keep else torch.empty(0, dtype=torch.long)


@cache
def apply() -> "torch.library.Library | None":
    """Declare the missing operators once; do nothing where torch has CUDA or they exist."""
    if torch.version.cuda is not None or "torchvision" in sys.modules:
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.impl(name, non_maximum_suppression, "CPU")
    for name in ("torchaudio", "torchcodec"):
        _hide_if_broken(name)
    return library


def _hide_if_broken(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
    except (OSError, RuntimeError):
        sys.modules[name] = None  # type: ignore[assignment]  # what is None counts as not installed
