"""Tables as people keep them."""

from pathlib import Path

import pytest

from gsco.datasets.table import read_table
from gsco.errors import DataError


def write(folder: Path, content: bytes) -> Path:
    file = folder / "labels.csv"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    "content",
    [
        b"image,dx\na.png, nv \n\nb.png,mel\n",
        b"image\tdx\na.png\tnv\nb.png\tmel\n",
        b"\xef\xbb\xbfimage,dx\r\na.png,nv\r\nb.png,mel\r\n",
        b'image,dx\n"a.png",nv\n"b.png","mel"',
    ],
)
def test_commas_tabs_quotes_marks_and_blank_lines_are_read(content: bytes, tmp_path: Path) -> None:
    table = read_table(write(tmp_path, content), ("image", "dx"))
    assert [dict(line.cells) for line in table.lines] == [
        {"image": "a.png", "dx": "nv"},
        {"image": "b.png", "dx": "mel"},
    ]


def test_a_line_keeps_its_number_in_the_file(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, b"image\na\n\n\nb\n"), ("image",))
    assert [line.number for line in table.lines] == [2, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column 'image'; its columns are none"),
        (b"file,dx\n", "has no column 'image'; its columns are 'file', 'dx'"),
        ("image,dx\na,für\n".encode("cp1252"), "is not UTF-8: line 2 has the byte 0xfc"),
        ("image\n".encode("utf-16"), "is not UTF-8: line 1 "),
        (b"id,image,dx\n1,a,nv\n2", "line 3 has 1 cells for 3 columns. The file is cut off"),
        (b"image,dx\na,nv, spotted\n", "line 2 has 3 cells for 2 columns"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, content), ("image",))


def test_a_file_that_is_a_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_table(tmp_path, ("image",))


def test_cells_that_nobody_needs_may_be_left_out_at_the_end(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, b"image,dx,age\na,nv\nb,mel,50,\n"), ("image", "dx"))
    assert [line.cells.get("age") for line in table.lines] == [None, "50"]
