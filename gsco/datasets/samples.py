"""Real medical images that arrive inside the packages gsco installs: a first case without download.

Licences are as the packages state them. The images are not labelled, and no case of any task.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Sample:
    """One image to try things on."""

    name: str
    """Short, as a file or menu would name it."""
    image: Image.Image
    """RGB; windowed, and the middle slice of a volume."""
    what: str
    """What can be seen."""
    source: str
    """The package, the file in it, and where the package has it from."""
    licence: str
    """What the package says on using it."""
    path: Path
    """The file itself."""


@dataclass(frozen=True)
class _File:
    name: str
    package: str
    path: str
    what: str
    origin: str
    licence: str


_FILES = (
    _File(
        "retina",
        "skimage",
        "data/retina.jpg",
        "Colour fundus photograph of a normal left eye",
        "Mikael Häggström, WikiJournal of Medicine 1 (2), 2014, doi:10.15347/wjm/2014.008",
        "CC0 1.0",
    ),
    _File(
        "colon-tissue",
        "skimage",
        "data/ihc.png",
        "Colonic glands, FHL2 stained brown by immunohistochemistry, nuclei blue",
        "Center for Microscopy and Molecular Imaging (CMMI)",
        "No known copyright restrictions, as scikit-image states",
    ),
    _File(
        "chest-ct",
        "pydicom",
        "data/test_files/CT_small.dcm",
        "CT through a thoracic vertebra, 128 x 128 pixels",
        "NEMA DICOM sample CT1_UNC, scaled down",
        "Shipped with pydicom (MIT), whose authors know of no restriction",
    ),
    _File(
        "brain-mri",
        "nibabel",
        "tests/data/example4d.nii.gz",
        "Axial MRI slice of a brain",
        "test volume of the nibabel project",
        "Shipped with nibabel (MIT), which states nothing else for this file",
    ),
)


def packaged_samples() -> list[Sample]:
    """Return the images that are there; some builds of the packages leave their test files out.

    Raises:
        SpecialistError: a file is damaged.
    """
    from specialists.images import decode

    samples: list[Sample] = []
    for file in _FILES:
        path = _locate(file)
        if path is not None:
            source = f"{file.package}/{file.path}: {file.origin}"
            samples.append(Sample(file.name, decode(path), file.what, source, file.licence, path))
    return samples


def _locate(file: _File) -> Path | None:
    """Find the file without importing its package."""
    spec = find_spec(file.package)
    folders = (spec.submodule_search_locations if spec else None) or []
    paths = (Path(folder) / file.path for folder in folders)
    return next((path for path in paths if path.is_file()), None)
