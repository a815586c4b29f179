"""What was uploaded becomes images. Names of files are not looked at: the bytes say what they are.

A NIfTI file is written to a folder of its own for a moment, because its reader wants a path.
"""

import gzip
import io
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from gsco.service.problems import Problem
from specialists import SpecialistError
from specialists.images import LARGEST, decode

UNPACKED = 1_000_000_000
"""Most bytes of a volume after it is unpacked."""
_PIECE = 1 << 20
_GZIP = b"\x1f\x8b"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
"""The DICOM transfer syntax whose header alone can unpack to any size (PS3.5, A.5)."""


def images_of(files: Sequence[bytes]) -> tuple[Image.Image, ...]:
    """Return the images of one case.

    Raises:
        Problem: one cannot be read, or they have more pixels together than one image may.
    """
    images: list[Image.Image] = []
    for number, data in enumerate(files, 1):
        try:
            images.append(decoded(data))
        except SpecialistError as error:
            raise unreadable(number, len(files), error) from error
        if (pixels := sum(image.width * image.height for image in images)) > LARGEST:
            raise Problem(
                "too-large",
                f"The images of the case have {pixels:,} pixels together; at most {LARGEST:,} are "
                "read. Scale them down or send fewer.",
            )
    return tuple(images)


def unreadable(number: int, total: int, error: SpecialistError) -> Problem:
    """Return the problem of an image that cannot be read."""
    return Problem("unreadable-image", f"Image {number!r} of {total}: {error}")


def decoded(data: bytes) -> Image.Image:
    """Return an RGB image from the bytes of a file of any kind that `decode` reads.

    Raises:
        SpecialistError: see `decode`; or it unpacks to more than is read.
    """
    packed = data.startswith(_GZIP)
    if _is_nifti(_begin(data) if packed else data):
        with tempfile.TemporaryDirectory(prefix="gsco-") as folder:
            path = Path(folder) / "volume.nii"
            _unpack(data, path) if packed else path.write_bytes(data)
            return decode(path)
    if data[128:132] == b"DICM" and _DEFLATED in data:
        raise SpecialistError(
            "The DICOM file is deflated, which is not read from an upload. Save it uncompressed."
        )
    return decode(data)


def _is_nifti(head: bytes) -> bool:
    return head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0"


def _begin(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, 352)
    except zlib.error:
        return b""


def _unpack(data: bytes, path: Path) -> None:
    size = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as volume, path.open("wb") as out:
            while piece := volume.read(_PIECE):
                if (size := size + len(piece)) > UNPACKED:
                    raise SpecialistError(
                        f"The volume unpacks to more than {UNPACKED:,} bytes. "
                        "Save the slice that you mean as an image of its own."
                    )
                out.write(piece)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SpecialistError(
            f"The volume is damaged or cut off ({error}). Export or copy it again."
        ) from error
