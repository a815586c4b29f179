"""What small data sets are made of: images that all differ, DICOM files, tables, lists."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Writer = Callable[[Path], None]
"""Writes a small data set into a folder."""


class Painter:
    """Draws one image after another, no two alike."""

    def __init__(self, seed: int = 7) -> None:
        self._random = np.random.default_rng(seed)

    def pixels(self, height: int = 24, width: int = 20) -> np.ndarray:
        return self._random.integers(0, 256, (height, width, 3), dtype=np.uint8)

    def draw(self, file: Path, height: int = 24, width: int = 20) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.pixels(height, width)).save(file)

    def dicom(self, file: Path, height: int = 24, width: int = 20) -> None:
        """Write an uncompressed 12-bit monochrome DICOM file."""
        import pydicom
        from pydicom.uid import ExplicitVRLittleEndian, generate_uid

        file.parent.mkdir(parents=True, exist_ok=True)
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.2"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = pydicom.Dataset()
        data.file_meta = meta
        data.SOPClassUID = meta.MediaStorageSOPClassUID
        data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        data.Rows, data.Columns = height, width
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
        data.PixelRepresentation = 0
        data.PixelData = self._random.integers(0, 4096, (height, width), np.uint16).tobytes()
        data.save_as(file, enforce_file_format=True)


def table(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows([columns, *rows])


def lines(file: Path, rows: Iterable[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def write_json(file: Path, data: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
