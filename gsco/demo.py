"""The main job on a fresh machine: real images, real models, a real collaborative diagnosis.

Images come from packages that are installed anyway; where GSCO_DATA names a folder of data sets,
test images of every starter task are diagnosed as well, beside their true labels; what kind of
examination they are is asked too.
"""

from pathlib import Path

from gsco.agent import GSCo
from gsco.case import Case, Diagnosis
from gsco.datasets import read_dataset
from gsco.datasets.samples import packaged_samples
from gsco.errors import DataError
from gsco.settings import load_settings

TEST_SETS = {
    "pneumonia-cxr": "cxr_pneumonia",
    "breast-ultrasound": "busi_breast_us",
    "brain-mri": "brain_tumor_mri",
}
EACH = 2


def run(*, quiet: bool = False) -> list[Diagnosis]:
    """Diagnose the packaged images, then test images if there are any; print unless `quiet`."""
    from gsco import show

    settings = load_settings()
    agent = GSCo.open(settings=settings)
    made = []
    for sample in packaged_samples():
        for task in _tasks_for(sample.name, agent):
            case = Case(images=(sample.image,), task=task, id=sample.name)
            made.append(agent.diagnose(case))
            if not quiet:
                show.console.print(f"[dim]{sample.what} ({sample.source}, {sample.licence})[/]")
                show.diagnosis(made[-1], sample.name)
    if settings.data:
        made += _test_images(agent, Path(settings.data), quiet)
    elif not quiet:
        show.console.print("GSCO_DATA is not set: no test images beyond the packaged ones.")
    return made


def _tasks_for(name: str, agent: GSCo) -> list[str]:
    """Ask every image its modality; the brain slice also what is in it."""
    wanted = ["modality", "brain-mri"] if name == "brain-mri" else ["modality"]
    known = [task for task in wanted if task in agent.tasks]
    return known or list(agent.tasks)[:1]


def _test_images(agent: GSCo, root: Path, quiet: bool) -> list[Diagnosis]:
    from gsco import show

    made = []
    for task, folder in TEST_SETS.items():
        if task not in agent.tasks or not (root / folder).is_dir():
            continue
        try:
            records = read_dataset(root / folder, agent.tasks[task]).split("test")
        except DataError as error:
            show.errors.print(str(error))
            continue
        truths = {task: None, "modality": agent.tasks[task].modality}
        for record in records[:: max(len(records) // EACH, 1)][:EACH]:
            for asked, truth in truths.items():
                if asked in agent.tasks:
                    case = Case((record.open(),), asked, id=record.id, patient=record.patient)
                    made.append(agent.diagnose(case))
                    if not quiet:
                        show.diagnosis(made[-1], f"{record.id} (true: {truth or record.label})")
    return made
