"""Files become RGB images or a sentence that says why not; RGB images become tensors."""

import contextlib
import gzip
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from specialists import SpecialistError
from specialists.images import augment, decode, normalise, reduced, resize, stack, to_tensor


def drawn(width: int = 24, height: int = 16, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A one-bit PNG with an honest header and hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def refusal(source: Path | bytes | Image.Image) -> str:
    with pytest.raises(SpecialistError) as caught:
        decode(source)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_what_pillow_saves_without_loss_comes_back_as_rgb(kind: str, mode: str) -> None:
    image = drawn().convert(mode)
    found = decode(encoded(image, kind))
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_files_keep_size_and_mean_colour(kind: str) -> None:
    image = Image.new("RGB", (40, 30), (200, 100, 50))
    found = decode(encoded(image, kind))
    assert (found.mode, found.size) == ("RGB", (40, 30))
    assert np.abs(np.asarray(found, float).mean((0, 1)) - (200, 100, 50)).max() < 4


def test_a_path_its_text_its_bytes_and_its_image_decode_alike(tmp_path: Path) -> None:
    path = tmp_path / "drawn.png"
    drawn().save(path)
    with Image.open(path) as opened:
        sources = [path, str(path), path.read_bytes(), opened, drawn()]
        found = [np.asarray(decode(source)) for source in sources]
    assert all(np.array_equal(found[0], other) for other in found)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_that_its_header_says_to_turn_is_read_as_viewers_show_it(kind: str) -> None:
    upright = Image.new("RGB", (40, 24), "black")
    upright.paste((250, 250, 250), (0, 0, 40, 8))
    header = Image.Exif()
    header[274] = 6  # to be turned by a quarter, clockwise
    found = decode(encoded(upright.transpose(Image.Transpose.ROTATE_90), kind, exif=header))
    assert found.size == (40, 24)
    assert np.abs(np.asarray(found, float) - np.asarray(upright, float)).mean() < 5


def test_a_header_that_cannot_be_read_costs_no_pixel() -> None:
    header = Image.Exif()
    header[274], header[306] = 6, "2020:01:01"
    chance, whole = np.random.default_rng(0), drawn(40, 24)
    good = header.tobytes()
    for _ in range(200):
        wrong = bytearray(good)
        # Behind `Exif` and two zeros, which say what it is.
        for place in chance.integers(6, len(wrong), 3):
            wrong[place] = chance.integers(256)
        found = decode(encoded(whole, "WEBP", lossless=True, exif=bytes(wrong)))
        assert sorted(found.size) == [24, 40]


def test_what_is_no_image_at_all_is_refused_with_what_to_give() -> None:
    with pytest.raises(SpecialistError, match=r"'ndarray'.*fromarray"):
        decode(np.zeros((8, 8, 3), np.uint8))  # type: ignore[arg-type]  # that is the point


def test_no_bytes_are_named_empty(tmp_path: Path) -> None:
    assert refusal(b"") == "the given file is empty (0 bytes). Export or copy it again."
    (tmp_path / "scan.png").touch()
    assert refusal(tmp_path / "scan.png").startswith("'scan.png' is empty (0 bytes).")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_file_cut_off_in_the_middle_says_so(kind: str) -> None:
    data = encoded(drawn(120, 120), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # TIFF's reader warns, then we raise
        text = refusal(data[: len(data) // 2])
    assert "is damaged or cut off (" in text
    assert text.endswith("Export or copy it again.")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_cut_off_anywhere_never_raises_a_foreign_error(kind: str) -> None:
    data = encoded(drawn(), kind)
    for end in range(1, len(data) // 2, 7):
        refusal(data[:end])


def test_an_opened_image_that_is_cut_off_says_so_too() -> None:
    data = encoded(drawn(120, 120), "PNG")
    with Image.open(io.BytesIO(data[: len(data) // 2])) as image:
        assert "the given image is damaged or cut off" in refusal(image)


def test_bytes_that_are_wrong_never_raise_a_foreign_error() -> None:
    chance = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF"):
        data = encoded(drawn(), kind)
        for _ in range(100):
            wrong = bytearray(data)
            for place in chance.integers(0, min(len(data), 300), 3):
                wrong[place] = chance.integers(256)
            with warnings.catch_warnings(), contextlib.suppress(SpecialistError):
                warnings.simplefilter("ignore", UserWarning)
                decode(bytes(wrong))


def test_an_animation_is_refused_with_its_number_of_frames() -> None:
    frames = [drawn(seed=seed) for seed in range(3)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    expected = "has 3 frames. Save the frame that you mean as an image of its own."
    assert refusal(data).endswith(expected)


def test_a_gif_of_one_frame_is_read() -> None:
    assert decode(encoded(drawn(), "GIF")).size == (24, 16)


def test_print_colours_are_refused() -> None:
    text = refusal(encoded(drawn().convert("CMYK"), "JPEG"))
    assert "is in CMYK, the colours of print. Convert it to RGB first" in text


def test_sixteen_bits_without_a_window_are_refused() -> None:
    ramp = Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100)
    assert ramp.mode == "I;16"
    text = refusal(encoded(ramp, "PNG"))
    assert "has more than 8 bits a channel (mode 'I;16')" in text
    assert "Give the DICOM file, or window it to 8 bits first." in text


def test_transparency_is_refused_and_an_opaque_alpha_channel_accepted() -> None:
    image = drawn()
    image.putalpha(255)
    assert np.array_equal(np.asarray(decode(encoded(image, "PNG"))), np.asarray(drawn()))
    image.putpixel((3, 3), (1, 2, 3, 0))
    text = refusal(encoded(image, "PNG"))
    assert "is partly transparent" in text
    assert text.endswith("Save it without an alpha channel.")


def test_a_transparent_palette_colour_is_refused_where_it_is_used() -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 90, 80, 70])
    unused = encoded(image, "PNG", transparency=0)
    assert decode(unused).getpixel((0, 0)) == (90, 80, 70)
    assert "is partly transparent" in refusal(encoded(image, "PNG", transparency=1))


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7)])
def test_an_image_with_nothing_to_see_is_refused(size: tuple[int, int]) -> None:
    text = refusal(encoded(drawn(*size), "PNG"))
    assert f"is {size[0]} x {size[1]} pixels: nothing can be seen in it." in text
    assert "at least 8 pixels a side" in text


def test_eight_pixels_a_side_are_enough() -> None:
    assert decode(encoded(drawn(8, 8), "PNG")).size == (8, 8)


@pytest.mark.parametrize(
    ("width", "height", "said"),
    [
        (20_000, 20_000, "far more"),  # above Pillow's error limit
        (10_000, 10_000, "10,000 x 10,000"),  # between its warning and its error
        (8_001, 8_000, "8,001 x 8,000"),  # below its warning, above ours
    ],
)
def test_a_huge_image_is_refused_before_it_fills_memory_and_without_a_warning(
    width: int, height: int, said: str
) -> None:
    text = refusal(png_of_size(width, height))
    assert f"has {said} pixels; at most 64,000,000 are read." in text
    assert text.endswith("Cut out a tile or scale it down first.")


def test_text_named_png_is_not_an_image(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("the heart is enlarged")
    text = refusal(path)
    assert text.startswith("'notes.png' is not an image that can be read.")
    assert text.endswith("the ending of the name alone does not make one.")


def test_the_name_in_a_message_is_without_its_folder(tmp_path: Path) -> None:
    text = refusal(tmp_path / "gone.png")
    assert text == (
        "Cannot read image 'gone.png': No such file or directory. Check the path and its rights."
    )
    assert "Cannot read image" in refusal(tmp_path)


def ct_file() -> Path:
    from pydicom.data import get_testdata_file

    return Path(str(get_testdata_file("CT_small.dcm", download=False)))


def test_a_dicom_slice_becomes_a_grey_picture_with_contrast() -> None:
    found = decode(ct_file())
    pixels = np.asarray(found)
    assert (found.mode, found.size) == ("RGB", (128, 128))
    assert (pixels[..., 0] == pixels[..., 2]).all()
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert pixels.std() > 30


def written_dicom(**changes: object) -> bytes:
    import pydicom

    header = pydicom.dcmread(ct_file())
    for name, value in changes.items():
        setattr(header, name, value)
        if "Descriptor" in name:
            header[name].VR = "US"
        if "TableData" in name:
            header[name].VR = "OW"
    buffer = io.BytesIO()
    header.save_as(buffer)
    return buffer.getvalue()


def test_an_inverted_dicom_is_turned_round() -> None:
    plain = np.asarray(decode(written_dicom()), float)
    turned = np.asarray(decode(written_dicom(PhotometricInterpretation="MONOCHROME1")), float)
    assert np.abs(plain + turned - 255).max() <= 1.001


def test_a_dicom_window_is_used() -> None:
    narrow = np.asarray(decode(written_dicom(WindowCenter=40, WindowWidth=10)))
    assert np.isin(narrow, (0, 255)).mean() > 0.8


def test_a_dicom_palette_gives_its_colours() -> None:
    numbers = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128) % 4
    palette = {"Red": [0, 255, 0, 9], "Green": [0, 0, 255, 9], "Blue": [0, 7, 0, 9]}
    changes: dict[str, object] = {"PixelData": numbers.tobytes(), "PixelRepresentation": 0}
    for colour, values in palette.items():
        table = (np.array(values, np.uint16) << 8).tobytes()
        changes[f"{colour}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        changes[f"{colour}PaletteColorLookupTableData"] = table
    found = decode(written_dicom(PhotometricInterpretation="PALETTE COLOR", **changes))
    assert [found.getpixel((x, 0)) for x in range(4)] == [
        (0, 0, 0),
        (255, 0, 7),
        (0, 255, 0),
        (9, 9, 9),
    ]


@pytest.mark.parametrize(("bits", "kind"), [(8, np.uint8), (16, np.uint16)])
def test_a_colour_dicom_of_eight_bits_is_read_and_of_sixteen_refused(bits: int, kind: type) -> None:
    pixels = np.zeros((128, 128, 3), kind)
    pixels[..., 1] = np.iinfo(kind).max
    data = written_dicom(
        PhotometricInterpretation="RGB",
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        BitsAllocated=bits,
        BitsStored=bits,
        HighBit=bits - 1,
        PixelRepresentation=0,
        PixelData=pixels.tobytes(),
    )
    if bits == 8:
        assert decode(data).getpixel((5, 5)) == (0, 255, 0)
    else:
        assert "of 16 bits a channel, and no window says which" in refusal(data)


def test_a_dicom_file_without_its_pixels_says_so() -> None:
    data = ct_file().read_bytes()
    text = refusal(data[: len(data) // 2])
    assert "is a DICOM file without pixels that can be read" in text
    assert text.endswith("Give one with an uncompressed or JPEG image.")


def volume(folder: Path, name: str = "brain.nii.gz") -> Path:
    import nibabel

    planes = np.zeros((20, 30, 5), np.float32)
    planes[:, :, 2] = np.arange(600).reshape(20, 30)
    nibabel.save(nibabel.Nifti1Image(planes, np.eye(4)), folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["brain.nii", "brain.nii.gz"])
def test_the_middle_plane_of_a_nifti_volume_is_shown(tmp_path: Path, name: str) -> None:
    found = decode(volume(tmp_path, name))
    pixels = np.asarray(found)[..., 0]
    assert (found.mode, found.size) == ("RGB", (20, 30))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert pixels[-1, 0] < pixels[0, 0] < pixels[0, -1]


def test_a_packaged_nifti_of_four_dimensions_is_read() -> None:
    import nibabel

    path = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    found = decode(path)
    assert found.size == (128, 96)
    assert np.asarray(found).std() > 10


def test_voxels_that_are_not_a_number_are_black(tmp_path: Path) -> None:
    import nibabel

    plane = np.full((20, 20, 1), np.nan, np.float32)
    plane[5:15, 5:15] = 3
    nibabel.save(nibabel.Nifti1Image(plane, np.eye(4)), tmp_path / "map.nii")
    pixels = np.asarray(decode(tmp_path / "map.nii"))
    assert (pixels[0].max(), pixels[10, 10].min()) == (0, 255)


def test_a_damaged_nifti_says_so(tmp_path: Path) -> None:
    whole = volume(tmp_path).read_bytes()
    path = tmp_path / "cut.nii.gz"
    wrong_middle = bytearray(whole)
    wrong_middle[60:100] = b"\xff" * 40
    for data in (whole[: len(whole) // 2], bytes(wrong_middle), b"text", gzip.compress(b"text")):
        path.write_bytes(data)
        text = refusal(path)
        assert text.startswith("'cut.nii.gz' is damaged or not a NIfTI file (")


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (70, struct.pack("<h", 255), "damaged or not a NIfTI file (data code 255 not supported)"),
        (108, struct.pack("<f", 130), "damaged or not a NIfTI file (vox offset 130 too"),
        (40, struct.pack("<hhh", 2, 0, 12), "holds no plane: its shape is (0, 12)"),
        (40, struct.pack("<hh", 1, 9), "holds no plane: its shape is (9,)"),
        (40, struct.pack("<hhh", 2, 32000, 32000), "has 32,000 x 32,000 pixels"),
        (70, struct.pack("<hh", 128, 24), "damaged or not a NIfTI file ("),
    ],
)
def test_a_nifti_header_that_cannot_be_right_is_refused(
    tmp_path: Path, offset: int, value: bytes, reason: str
) -> None:
    path = volume(tmp_path, "brain.nii")
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)
    assert reason in refusal(path)


def test_resize_gives_channels_first_bytes_and_squeezes() -> None:
    image = drawn(40, 20)
    found = resize(image, 32)
    assert (found.shape, found.dtype) == ((3, 32, 32), np.uint8)
    same = drawn(32, 32)
    assert np.array_equal(resize(same, 32), np.asarray(same).transpose(2, 0, 1))
    half = Image.new("RGB", (40, 20))
    half.paste((255, 255, 255), (20, 0, 40, 20))
    assert (resize(half, 32)[:, :, :12].max(), resize(half, 32)[:, :, 20:].min()) == (0, 255)


def test_a_stack_on_disk_holds_what_resize_gives(tmp_path: Path) -> None:
    images = [drawn(seed=seed) for seed in range(4)]
    table = stack(iter(images), 4, 16, tmp_path / "train.npy")
    assert isinstance(table, np.memmap)
    assert (table.shape, table.dtype) == ((4, 3, 16, 16), np.uint8)
    assert np.array_equal(table, np.stack([resize(image, 16) for image in images]))
    assert [path.name for path in tmp_path.iterdir()] == ["train.npy"]


def test_a_stack_that_breaks_leaves_no_finished_file(tmp_path: Path) -> None:
    with pytest.raises(SpecialistError):
        stack((decode(b"") for _ in range(2)), 2, 16, tmp_path / "train.npy")
    assert not (tmp_path / "train.npy").exists()


def test_a_tensor_holds_the_resized_images_channels_last() -> None:
    images = [drawn(seed=seed) for seed in range(3)]
    found = to_tensor(images, 16)
    assert (found.shape, found.dtype) == ((3, 3, 16, 16), torch.uint8)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(found[1].numpy(), resize(images[1], 16))


def test_normalise_is_scaling_to_one_then_mean_and_deviation() -> None:
    pixels = to_tensor([drawn()], 16)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    shape = (1, 3, 1, 1)
    expected = (pixels / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    found = normalise(pixels, mean, std)
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(normalise(pixels.float(), mean, std), expected, atol=1e-5)


def test_augment_is_repeatable_varied_and_within_bytes() -> None:
    pixels = to_tensor([drawn()] * 6, 24)
    before = pixels.clone()
    first = augment(pixels, torch.Generator().manual_seed(1))
    again = augment(pixels, torch.Generator().manual_seed(1))
    other = augment(pixels, torch.Generator().manual_seed(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert (first.shape, first.dtype) == (pixels.shape, torch.float32)
    assert first.min() >= 0
    assert first.max() <= 255
    assert torch.equal(pixels, before)


def test_augment_leaves_a_grey_image_grey_within_its_ranges() -> None:
    grey = torch.full((64, 3, 16, 16), 100, dtype=torch.uint8)
    found = augment(grey, torch.Generator().manual_seed(0))
    spread = found.flatten(1).amax(1) - found.flatten(1).amin(1)
    level = found.flatten(1).mean(1)
    assert spread.max() < 1e-2
    assert level.min() >= 100 * 0.8 - 25.5
    assert level.max() <= 100 * 1.2 + 25.5
    assert level.max() - level.min() > 20


def test_augment_flips_about_half_the_images() -> None:
    image = torch.zeros(64, 3, 16, 16, dtype=torch.uint8)
    image[..., 10:] = 200
    found = augment(image, torch.Generator().manual_seed(0))
    flipped = (found[..., :5].mean((1, 2, 3)) > found[..., -5:].mean((1, 2, 3))).sum()
    assert 20 <= flipped <= 44


def test_only_images_larger_than_those_learnt_are_reduced() -> None:
    assert reduced(drawn(24, 16), None).size == (24, 16)
    assert reduced(drawn(24, 16), (28, 28)).size == (24, 16)
    assert reduced(drawn(200, 20), (28, 28)).size == (200, 20)
    assert reduced(drawn(56, 30), (28, 28)).size == (28, 28)
