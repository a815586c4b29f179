"""Volumes: DICOM series, DICOM files of several frames, and NIfTI files, as slices to look through.

`open_volume` keeps the numbers as they were stored, so that a window can be chosen later. A header
is handed out only as far as `KEPT` goes: technical fields, never a field of the patient.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from specialists.errors import SpecialistError
from specialists.images import bytes_of, check_planes, nifti_errors

Floats = NDArray[np.float32]
MOST_VALUES = 100_000_000
"""Most voxels of a volume: 400 MB as float32."""
KEPT = (
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "Rows",
    "Columns",
    "BitsStored",
    "PhotometricInterpretation",
    "PixelSpacing",
    "SliceThickness",
    "MagneticFieldStrength",
    "RepetitionTime",
    "EchoTime",
    "KVP",
    "ExposureTime",
)
"""DICOM fields that may be shown: how the image was made, not of whom, by whom, where or when."""
_WINDOW = ("WindowCenter", "WindowWidth")


@dataclass(frozen=True)
class Volume:
    """Grey slices in order."""

    values: Floats
    """(D, H, W), as stored or rescaled (Hounsfield units for CT)."""
    low: float
    """Value shown black by default."""
    high: float
    """Value shown white by default."""
    inverted: bool = False
    """Whether high values are shown dark by default (DICOM's MONOCHROME1)."""
    header: Mapping[str, str] = field(default_factory=dict)
    """Technical facts by name."""

    def picture(
        self,
        number: int,
        low: float | None = None,
        high: float | None = None,
        *,
        invert: bool = False,
    ) -> Image.Image:
        """Return slice `number`, from 0, as RGB: `low` and below black, `high` and above white."""
        low, high = self.low if low is None else low, self.high if high is None else high
        scaled = (self.values[number] - low) / max(high - low, 1e-6)
        pixels = (scaled.clip(0, 1) * 255).astype(np.uint8)
        return Image.fromarray(255 - pixels if invert != self.inverted else pixels).convert("RGB")


def open_volume(files: Sequence[Path]) -> Volume | None:
    """Read a volume; None if the files are ordinary images.

    Args:
        files: one NIfTI file, one DICOM file, or the DICOM files of one series in any order.

    Raises:
        SpecialistError: a file is damaged, files of several series or sizes, colour frames, or
            too many voxels.
    """
    if len(files) == 1 and files[0].name.endswith((".nii", ".nii.gz")):
        return _nifti(files[0])
    heads = [bytes_of(file) for file in files]
    if not all(_is_dicom(head) for head in heads):
        return None
    return _series([_parsed(head, file) for head, file in zip(heads, files, strict=True)])


def _is_dicom(data: bytes) -> bool:
    return data[128:132] == b"DICM"


# Any: pydicom's Dataset has its fields at run time only.
def _parsed(data: bytes, file: Path) -> Any:
    import pydicom

    try:
        return pydicom.dcmread(io.BytesIO(data))
    except (pydicom.errors.InvalidDicomError, ValueError, EOFError, OSError) as error:
        raise SpecialistError(
            f"{file.name!r} is a damaged DICOM file ({error}). Export or copy it again."
        ) from error


def _series(found: list[Any]) -> Volume:
    names = {str(getattr(one, "SeriesInstanceUID", "")) for one in found}
    if len(names) > 1:
        raise SpecialistError(
            f"The files belong to {len(names)} DICOM series. Give those of one series."
        )
    found.sort(key=_place)
    slices = [_frames(one) for one in found]
    if len({one.shape[1:] for one in slices}) > 1:
        raise SpecialistError("The slices differ in size. Give those of one series.")
    values = np.concatenate(slices)
    first = found[0]
    low, high = _window(first, values)
    header = {name: str(first[name].value)[:80] for name in KEPT if name in first}
    dark = getattr(first, "PhotometricInterpretation", "") == "MONOCHROME1"
    return Volume(values, low, high, dark, {**header, "Slices": str(len(values))})


def _place(one: Any) -> tuple[float, int]:
    """Return where a slice lies along the normal of its plane, else its number."""
    number = int(getattr(one, "InstanceNumber", 0) or 0)
    try:
        row, column = np.reshape(one.ImageOrientationPatient, (2, 3)).astype(float)
        return float(np.dot(np.cross(row, column), one.ImagePositionPatient)), number
    except (AttributeError, ValueError, TypeError):
        return 0.0, number


def _frames(one: Any) -> Floats:
    """Return (D, H, W) in the units of the modality."""
    from pydicom.pixels import apply_modality_lut

    try:
        pixels = one.pixel_array
        values = apply_modality_lut(pixels, one)
    except (AttributeError, RuntimeError, ValueError, TypeError) as error:
        raise SpecialistError(
            f"A DICOM file has no pixels that can be read ({error}). "
            "Give one with an uncompressed or JPEG image."
        ) from error
    if int(getattr(one, "SamplesPerPixel", 1) or 1) > 1:
        raise SpecialistError(
            "A DICOM file has colour frames, which cannot be windowed. Export it as PNG."
        )
    _bounded(values.shape)
    return np.asarray(values, dtype=np.float32).reshape(-1, *values.shape[-2:])


def _window(one: Any, values: Floats) -> tuple[float, float]:
    try:
        # A header may offer several windows; the first is the one meant.
        centre, width = (float(np.ravel(one[name].value)[0]) for name in _WINDOW)
        if width > 0:
            return centre - width / 2, centre + width / 2
    except (KeyError, TypeError, ValueError, IndexError):
        pass
    return _spread(values)


def _spread(slices: Floats) -> tuple[float, float]:
    """Return between what the middle 99 % of the values of the middle slice lie."""
    low, high = np.percentile(slices[len(slices) // 2], (0.5, 99.5))
    return float(low), float(high) if high > low else float(low) + 1


def _nifti(file: Path) -> Volume:
    import nibabel

    with nifti_errors(repr(file.name)):
        image: Any = nibabel.load(file)
        check_planes(image.shape, repr(file.name))
        _bounded(image.shape[:3])
        # Of further dimensions (time, say) the middle, as for a single image.
        rest = tuple(size // 2 for size in image.shape[3:])
        values = np.asarray(image.dataobj[(..., *rest)], dtype=np.float32)
        zooms = [f"{zoom:.2f}" for zoom in image.header.get_zooms()[:3]]
    values = np.nan_to_num(values.reshape(*values.shape[:2], -1))
    # The last axis counts slices; a slice is turned so that its second axis points up.
    slices = np.ascontiguousarray(np.rot90(values).transpose(2, 0, 1))
    low, high = _spread(slices)
    size = " x ".join(map(str, image.shape))
    return Volume(slices, low, high, False, {"Size": size, "Voxel, mm": " x ".join(zooms)})


def _bounded(shape: Sequence[int]) -> None:
    if np.prod(shape, dtype=np.int64) > MOST_VALUES:
        size = " x ".join(f"{side:,}" for side in shape)
        raise SpecialistError(
            f"The volume has {size} values; at most {MOST_VALUES:,} are read. Cut out a part first."
        )
