"""Whatever happens to a file of a published set, a check says it in sentences."""

from pathlib import Path

import pytest
from asked_layouts import QUESTIONS, REPORTS
from layouts import DIAGNOSIS

from gsco.datasets.card import card_named
from gsco.datasets.check import check

WRITERS = {**DIAGNOSIS, **QUESTIONS, **REPORTS}
INDEXES = (".csv", ".json", ".txt", ".npz", ".parquet")


def damages(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return [
        b"",
        content[: len(content) // 2],
        lines[0],
        b"\n".join(line.split(b",")[0] for line in lines),
        b"\0" * 50,
        content.replace(b",", b'"', 3),
        b"[1]",
        b'{"train": [1], "val": {}, "test": 3}',
        "für".encode("cp1252"),
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_table_is_a_problem_and_no_traceback(name: str, tmp_path: Path) -> None:
    if name == "pathvqa":
        pytest.importorskip("pyarrow", reason="pyarrow (extra data) is not installed")
    WRITERS[name](tmp_path)
    for file in [f for f in tmp_path.rglob("*") if f.suffix in INDEXES]:
        content = file.read_bytes()
        for damaged in damages(content):
            file.write_bytes(damaged)
            assert check(card_named(name), tmp_path, images=False).problems, damaged[:40]
        file.unlink()
        assert check(card_named(name), tmp_path, images=False).problems
        file.write_bytes(content)
