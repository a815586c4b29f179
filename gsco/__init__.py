"""GSCo: a generalist, specialists and similar cases diagnose a medical image together.

    agent = GSCo.open("workspace")
    diagnosis = agent.diagnose(Case(images=["scan.png"], task="pneumonia-cxr"))

Research software, not a medical device. Importing this package loads no model.
"""

import os
from typing import TYPE_CHECKING, Any

# Read by langgraph at import: checkpoints must never unpickle foreign classes (CVE-2026-28277).
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")

if TYPE_CHECKING:
    from gsco.agent import GSCo
    from gsco.case import Answer, Case, Diagnosis, Reading, Report

__version__ = "0.1.0"
__all__ = ["Answer", "Case", "Diagnosis", "GSCo", "Reading", "Report", "__version__"]

_HOMES = {
    "GSCo": "gsco.agent",
    "Answer": "gsco.case",
    "Case": "gsco.case",
    "Diagnosis": "gsco.case",
    "Reading": "gsco.case",
    "Report": "gsco.case",
}


# Any: module attributes have no common type.
def __getattr__(name: str) -> Any:
    """Import the public names when they are first used, so that `import gsco` stays fast."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gsco' has no attribute {name!r}")
