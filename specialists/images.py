"""Images: the only place where files become RGB images, and RGB images become tensors.

`decode` reads PNG, JPEG, BMP, TIFF, WebP, DICOM and NIfTI, upright as viewers show them, and
refuses what would have to be guessed: several frames, 16 bits without a window, transparency, print
colours.
"""

import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from specialists.errors import SpecialistError

if TYPE_CHECKING:
    from torch import Generator, Tensor

SMALLEST = 8
"""Shortest side in pixels that can hold anything to see."""
LARGEST = 64_000_000
"""Most pixels an image may have; a whole-slide image needs a tile first."""
_EIGHT_BITS = {"1", "L", "P", "RGB", "YCbCr", "LA", "PA", "RGBA"}


def decode(source: Path | str | bytes | Image.Image) -> Image.Image:
    """Return an 8-bit RGB image.

    Raises:
        SpecialistError: the file is missing, empty, truncated, of another kind, too small, too
            large, animated, CMYK, transparent, or has more than 8 bits and no window; or what is
            given is none of the above.
    """
    if isinstance(source, Image.Image):
        with _foreign_errors("the given image"):
            return _to_rgb(source, "the given image")
    if isinstance(source, bytes):
        return _decode_bytes(source, "the given file")
    if not isinstance(source, str | Path):
        raise SpecialistError(
            f"An image cannot be read from {type(source).__name__!r}. Give a path, the bytes of a "
            "file, or a PIL image; `PIL.Image.fromarray` makes one of an array."
        )
    path = Path(source)
    data = bytes_of(path)
    if path.name.endswith((".nii", ".nii.gz")):
        return _decode_nifti(path)
    return _decode_bytes(data, repr(path.name))


def bytes_of(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        SpecialistError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecialistError(
            f"Cannot read image {path.name or str(path)!r}: {error.strerror}. "
            "Check the path and its rights."
        ) from error


def _decode_bytes(data: bytes, name: str) -> Image.Image:
    if not data:
        raise SpecialistError(f"{name} is empty (0 bytes). Export or copy it again.")
    if data[128:132] == b"DICM":
        return _decode_dicom(data, name)
    with _foreign_errors(name), Image.open(io.BytesIO(data)) as image:
        return _to_rgb(image, name)


@contextmanager
def _foreign_errors(name: str) -> Iterator[None]:
    """Turn what Pillow raises into our error, once."""
    try:
        with warnings.catch_warnings():
            # Pillow warns at more pixels than we read; `_to_rgb` says so in a sentence.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except UnidentifiedImageError as error:
        raise SpecialistError(
            f"{name} is not an image that can be read. Give a PNG, JPEG, BMP, TIFF, WebP, DICOM "
            "or NIfTI file; the ending of the name alone does not make one."
        ) from error
    except Image.DecompressionBombError as error:
        raise SpecialistError(_too_large(name, "far more")) from error
    # A broken header shows as any of these.
    except (OSError, SyntaxError, ValueError, TypeError, EOFError) as error:
        raise SpecialistError(
            f"{name} is damaged or cut off ({error}). Export or copy it again."
        ) from error


def _too_large(name: str, pixels: str) -> str:
    return (
        f"{name} has {pixels} pixels; at most {LARGEST:,} are read. "
        "Cut out a tile or scale it down first."
    )


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if min(width, height) < SMALLEST:
        raise SpecialistError(
            f"{name} is {width} x {height} pixels: nothing can be seen in it. "
            f"Give an image of at least {SMALLEST} pixels a side."
        )
    if width * height > LARGEST:
        raise SpecialistError(_too_large(name, f"{width:,} x {height:,}"))
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise SpecialistError(
            f"{name} has {frames} frames. Save the frame that you mean as an image of its own."
        )
    if image.mode == "CMYK":
        raise SpecialistError(
            f"{name} is in CMYK, the colours of print. Convert it to RGB first; "
            "better still, take the original image."
        )
    if image.mode not in _EIGHT_BITS:
        raise SpecialistError(
            f"{name} has more than 8 bits a channel (mode {image.mode!r}), and no window says "
            "which part matters. Give the DICOM file, or window it to 8 bits first."
        )
    image.load()
    # A camera held on its side says so in the header, and every viewer turns the image. A header
    # that cannot be read turns nothing; the pixels are there.
    broken = (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error)
    with suppress(*broken), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        image = ImageOps.exif_transpose(image)
    if image.mode in {"LA", "PA", "RGBA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise SpecialistError(
                f"{name} is partly transparent, so what lies behind it would be guessed. "
                "Save it without an alpha channel."
            )
    return image.convert("RGB")


def _decode_dicom(data: bytes, name: str) -> Image.Image:
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

    try:
        header = pydicom.dcmread(io.BytesIO(data))
        pixels = header.pixel_array
        if int(getattr(header, "NumberOfFrames", 1) or 1) > 1:
            raise SpecialistError(
                f"{name} is a DICOM file of {header.NumberOfFrames} frames. Save one frame alone."
            )
        if getattr(header, "PhotometricInterpretation", "") == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, header)
            # A palette's 16 bits hold a colour of 8 in the upper byte.
            pixels = pixels >> 8 if pixels.itemsize == 2 else pixels
        if pixels.ndim == 3:
            if pixels.max() > 255:
                raise SpecialistError(
                    f"{name} is a colour DICOM file of {header.BitsStored} bits a channel, and no "
                    "window says which part matters. Export it with 8 bits a channel."
                )
            return _to_rgb(Image.fromarray(pixels.astype(np.uint8)), name)
        values = apply_voi_lut(apply_modality_lut(pixels, header), header).astype(np.float32)
    except (
        *(pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException),
        *(AttributeError, RuntimeError, ValueError, TypeError),
    ) as error:
        raise SpecialistError(
            f"{name} is a DICOM file without pixels that can be read ({error}). "
            "Give one with an uncompressed or JPEG image."
        ) from error
    if getattr(header, "PhotometricInterpretation", "") == "MONOCHROME1":
        values = -values
    # Without a window of its own, the middle 99 % of the values make the picture.
    return _to_rgb(_grey(values, windowed="WindowWidth" in header), name)


def _decode_nifti(path: Path) -> Image.Image:
    import nibabel

    name = repr(path.name)
    with nifti_errors(name):
        image = nibabel.load(path)
        shape = image.shape
        check_planes(shape, name)
        # Before it is read: a header can promise more than there is memory.
        if shape[0] * shape[1] > LARGEST:
            raise SpecialistError(_too_large(name, f"{shape[0]:,} x {shape[1]:,}"))
        middle = tuple(slice(None) if i < 2 else size // 2 for i, size in enumerate(shape))
        plane = np.asarray(image.dataobj[middle], dtype=np.float32)
    return _to_rgb(_grey(np.rot90(plane), windowed=False), name)


@contextmanager
def nifti_errors(name: str) -> Iterator[None]:
    """Turn what nibabel raises into our error."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        yield
    except (
        *(ImageFileError, HeaderDataError, OSError, ValueError, EOFError, zlib.error),
        # Voxels of several numbers, such as colours.
        TypeError,
    ) as error:
        raise SpecialistError(
            f"{name} is damaged or not a NIfTI file ({error}). Export or copy it again."
        ) from error


def check_planes(shape: Sequence[int], name: str) -> None:
    """Check that a volume of that shape has a plane to look at.

    Raises:
        SpecialistError: otherwise.
    """
    if len(shape) < 2 or 0 in shape:
        raise SpecialistError(f"{name} holds no plane: its shape is {shape!r}. Export it again.")


def _grey(values: NDArray[np.float32], *, windowed: bool) -> Image.Image:
    # Volumes mark what lies outside the body as not a number.
    values = np.nan_to_num(values)
    low, high = (values.min(), values.max()) if windowed else np.percentile(values, (0.5, 99.5))
    scaled = (values - low) / max(float(high - low), 1e-6)
    return Image.fromarray((scaled.clip(0, 1) * 255).astype(np.uint8))


def is_larger(image: Image.Image, size: tuple[int, int]) -> bool:
    """Whether an image is both wider and higher than a (width, height)."""
    return image.width > size[0] and image.height > size[1]


def reduced(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Return an image at the (width, height) of small images that were learnt, where it is larger.

    What learnt from 28 x 28 pixels, as MedMNIST has them, is misled by finer detail.
    """
    if size is None or not is_larger(image, size):
        return image
    return image.resize(size, Image.Resampling.BICUBIC)


def resize(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Return (3, size, size) uint8, squeezed to a square as in the published method."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1)


def stack(images: Iterable[Image.Image], count: int, size: int, file: Path) -> NDArray[np.uint8]:
    """Write (count, 3, size, size) uint8 to `file` and return it mapped, not loaded."""
    partial = file.with_suffix(".partial")
    # Not every numpy has types for it.
    table: Any = np.lib.format.open_memmap(  # type: ignore[no-untyped-call,unused-ignore]
        partial, mode="w+", dtype=np.uint8, shape=(count, 3, size, size)
    )
    for row, image in enumerate(images):
        table[row] = resize(image, size)
    table.flush()
    del table
    partial.replace(file)
    mapped: NDArray[np.uint8] = np.load(file, mmap_mode="r")
    return mapped


def to_tensor(images: Sequence[Image.Image], size: int) -> "Tensor":
    """Return (N, 3, size, size) uint8, not yet normalised, channels last in memory."""
    import torch

    pixels = np.stack([resize(image, size) for image in images])
    return torch.from_numpy(pixels).contiguous(memory_format=torch.channels_last)


def normalise(pixels: "Tensor", mean: Sequence[float], std: Sequence[float]) -> "Tensor":
    """Turn (N, 3, H, W) uint8, or floats in [0, 255], into normalised float32."""
    import torch

    shape = (1, 3, 1, 1)
    scale = 1 / (255 * torch.tensor(std)).view(shape)
    shift = (torch.tensor(mean) / torch.tensor(std)).view(shape)
    return pixels.float() * scale.to(pixels.device) - shift.to(pixels.device)


def augment(pixels: "Tensor", generator: "Generator") -> "Tensor":
    """Return (N, 3, S, S) float in [0, 255]: flipped, turned, scaled, shifted, brighter or darker.

    One resampling does all the geometry. Ranges: 10 degrees, 0.85 to 1.1, 6 % of a side,
    contrast 20 %, brightness 10 %.
    """
    import torch
    from torch.nn import functional

    n = len(pixels)

    def between(low: float, high: float, *shape: int) -> "Tensor":
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    turn = between(-10, 10) * math.pi / 180
    zoom = 1 / between(0.85, 1.1)
    flip = torch.where(between(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = turn.cos() * zoom * flip
    theta[:, 0, 1] = -turn.sin() * zoom
    theta[:, 1, 0] = turn.sin() * zoom * flip
    theta[:, 1, 1] = turn.cos() * zoom
    theta[:, :, 2] = between(-0.12, 0.12, 2)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(
        # Bilinear would blur what is learnt from, and not what is asked about later.
        pixels.float(),
        grid,
        mode="bicubic",
        padding_mode="border",
        align_corners=False,
    )
    contrast, brightness = between(0.8, 1.2, 1, 1, 1), between(-25.5, 25.5, 1, 1, 1)
    return (moved * contrast + brightness).clamp(0, 255)
