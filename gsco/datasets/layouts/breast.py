"""CBIS-DDSM: the crop of each abnormality, from TCIA's DICOM tree or Kaggle's JPEG tree."""

from collections.abc import Iterable
from pathlib import Path

from gsco.datasets.card import DataCard
from gsco.datasets.layouts.laid import Laid, need, seek
from gsco.datasets.record import Split
from gsco.datasets.row import Row
from gsco.datasets.table import Line, read_table
from gsco.errors import DataError

_CROP, _MASK = "cropped image file path", "ROI mask file path"
_COLUMNS = ("patient_id", "pathology", _CROP, _MASK)


def read_cbis_ddsm(folder: Path, card: DataCard) -> Laid[Row]:
    """Read the calc or the mass part, as the card says.

    Raises:
        DataError: a table is missing, or a file is neither a DICOM file nor an image.
    """
    jpegs = seek(folder, "jpeg")
    trees = [folder, *(p for p in (folder / "CBIS-DDSM", folder / "DICOM") if p.is_dir())]
    rows: list[Row] = []
    problems: list[str] = []
    first: dict[str, str] = {}
    splits: tuple[Split, Split] = ("train", "test")
    for split in splits:
        name = f"{card.part}_case_description_{split}_set.csv"
        table = read_table(need(folder, card, name), _COLUMNS)
        for line in table.lines:
            where = f"{name} line {line.number}"
            crop = _crop(_candidates(line, jpegs, trees))
            if crop is None:
                problems.append(f"{where}: there is no image {line.cells[_CROP]!r}")
                continue
            id = crop.relative_to(folder).as_posix()
            if (before := first.setdefault(id, where)) != where:
                problems.append(f"{where}: image {id!r} stands on {before} already")
                continue
            cells = line.cells
            rows.append(Row(where, id, crop, (cells["pathology"],), split, cells["patient_id"]))
    return Laid(tuple(rows), tuple(problems))


def _candidates(line: Line, jpegs: Path | None, trees: Iterable[Path]) -> list[Path]:
    """Return the crop and the mask of an abnormality, in no order: the tables mix them up."""
    if jpegs is not None:
        series = {Path(line.cells[column]).parent.name for column in (_CROP, _MASK)}
        return [file for name in sorted(series) for file in sorted((jpegs / name).glob("*.jp*g"))]
    abnormality = Path(line.cells[_CROP]).parts[:1]
    places = [tree.joinpath(*abnormality) for tree in trees] if abnormality else []
    return [f for p in places if p.is_dir() for f in sorted(p.rglob("*.dcm"))]


def _crop(files: list[Path]) -> Path | None:
    """Return the smallest image: a mask is as large as the whole mammogram."""
    return min(files, key=lambda file: (_pixels(file), file), default=None)


def _pixels(file: Path) -> int:
    """Return the number of pixels, reading no more than the header."""
    import pydicom
    from PIL import Image

    try:
        if file.suffix == ".dcm":
            header = pydicom.dcmread(file, stop_before_pixels=True)
            return int(header.Rows) * int(header.Columns)
        with Image.open(file) as image:
            return image.width * image.height
    # Pillow's own error is an OSError, too.
    except (pydicom.errors.InvalidDicomError, OSError, AttributeError) as error:
        raise DataError(
            f"{file.name!r} of {file.parent.name!r} is damaged ({error}). Download it again."
        ) from error
