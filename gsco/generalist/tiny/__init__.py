"""gsco-tiny: the generalist that comes with the package, and how it was made."""

from pathlib import Path

FOLDER = Path(__file__).parent / "model"
"""The model in hub format: transformers and vLLM read it like any other."""
CARD = "gsco.json"
"""File in a model's folder with its `name` and the `answer_form` that suits it; may be missing."""
