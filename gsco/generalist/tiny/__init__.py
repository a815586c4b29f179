"""gsco-tiny: the generalist that comes with the package, and how it was made."""

from pathlib import Path

FOLDER = Path(__file__).parent / "model"
"""The model in hub format: transformers and vLLM read it like any other."""
