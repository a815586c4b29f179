"""Volumes: slices in order, windows kept, and no word of the patient."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, examples
from pydicom.data import get_testdata_file

from specialists import SpecialistError
from specialists.images import decode
from specialists.volumes import KEPT, open_volume

CT = Path(str(get_testdata_file("CT_small.dcm")))


def written(folder: Path, number: int, place: float, series: str = "1.2.3") -> Path:
    """Write a copy of a CT slice, all its values `number`, at a place along the axis."""
    one: Dataset = examples.ct.copy()
    one.PatientName, one.SeriesInstanceUID = "Very^Secret", series
    one.InstanceNumber, one.ImagePositionPatient = number, [0, 0, place]
    pixels = np.full((one.Rows, one.Columns), 1000 + number, dtype=np.int16)
    one.PixelData = pixels.tobytes()
    path = folder / f"{number}.dcm"
    one.save_as(path)
    return path


def test_a_series_is_ordered_by_where_its_slices_lie(tmp_path: Path) -> None:
    files = [written(tmp_path, n, place) for n, place in ((1, 30.0), (2, 10.0), (3, 20.0))]
    volume = open_volume(files)
    assert volume is not None
    # Places 10, 20, 30 hold slices 2, 3, 1.
    assert (np.diff(volume.values.mean(axis=(1, 2))) == [1, -2]).all()


def test_no_field_of_the_patient_is_handed_out(tmp_path: Path) -> None:
    volume = open_volume([written(tmp_path, 1, 0.0)])
    assert volume is not None
    assert set(volume.header) <= {*KEPT, "Slices"}
    assert "Secret" not in str(volume.header)


def test_one_slice_looks_as_decoding_shows_it() -> None:
    volume = open_volume([CT])
    assert volume is not None
    assert np.array_equal(np.asarray(volume.picture(0)), np.asarray(decode(CT)))


def test_window_and_invert() -> None:
    volume = open_volume([CT])
    assert volume is not None
    narrow = np.asarray(volume.picture(0, -100, 100))
    assert {0, 255} <= set(np.unique(narrow).tolist())
    inverted = np.asarray(volume.picture(0, -100, 100, invert=True))
    assert (narrow.astype(int) + inverted == 255).all()


def test_the_middle_slice_of_a_nifti_file_looks_as_decoding_shows_it() -> None:
    import nibabel

    path = Path(nibabel.__file__).parent / "tests/data/example4d.nii.gz"
    if not path.is_file():
        pytest.skip("this build of nibabel leaves its test files out")
    volume = open_volume([path])
    assert volume is not None
    assert len(volume.values) == 24
    assert np.array_equal(np.asarray(volume.picture(12)), np.asarray(decode(path)))


def test_ordinary_images_are_no_volume(tmp_path: Path) -> None:
    decode(CT).save(tmp_path / "a.png")
    assert open_volume([tmp_path / "a.png"]) is None


def test_what_cannot_be_one_volume_is_refused_with_a_reason(tmp_path: Path) -> None:
    two = [written(tmp_path, 1, 0.0), written(tmp_path, 2, 1.0, series="9.9")]
    with pytest.raises(SpecialistError, match="2 DICOM series"):
        open_volume(two)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(CT.read_bytes()[:2000])
    with pytest.raises(SpecialistError, match=r"cut\.dcm|pixels"):
        open_volume([cut])
    (tmp_path / "bad.nii").write_bytes(b"no volume")
    with pytest.raises(SpecialistError, match="not a NIfTI file"):
        open_volume([tmp_path / "bad.nii"])
    with pytest.raises(SpecialistError, match="Check the path"):
        open_volume([tmp_path / "none.dcm"])


def test_a_nifti_file_of_colours_gets_a_sentence(tmp_path: Path) -> None:
    import nibabel

    colour = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    path = tmp_path / "colours.nii"
    nibabel.Nifti1Image(np.zeros((8, 8, 3), dtype=colour), np.eye(4)).to_filename(path)
    with pytest.raises(SpecialistError, match="not a NIfTI file"):
        open_volume([path])
