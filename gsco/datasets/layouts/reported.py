"""Reports in the form of R2Gen: one `annotation.json` with splits, beside a folder of images."""

import json
from pathlib import Path
from typing import Any

from gsco.datasets.card import DataCard
from gsco.datasets.layouts.laid import Laid, image_files, is_inside, need
from gsco.datasets.question import Report
from gsco.datasets.record import SPLITS, Split
from gsco.datasets.table import decode, read_bytes
from gsco.errors import DataError


def read_r2gen(folder: Path, card: DataCard) -> Laid[Report]:
    """Read MIMIC-CXR or IU X-ray as R2Gen's authors pass them on.

    Raises:
        DataError: the file or the images are missing, or an item lacks a field.
    """
    short = card.name.split("-")[0]
    file = need(folder, card, "annotation.json", f"{short}_annotation.json")
    root = need(folder, card, "images")
    reports: dict[str, Report] = {}
    problems: list[str] = []
    used: set[Path] = set()
    for split, items in _splits(file).items():
        for number, item in enumerate(items, 1):
            where = f"{file.name} {split} item {number}"
            try:
                id, text = str(item["id"]), str(item["report"]).strip()
                names = [str(name) for name in item["image_path"]]
            except (KeyError, TypeError) as error:
                raise DataError(
                    f"{where} lacks id, report or image_path. Take the file as it was published."
                ) from error
            images = tuple(root / name for name in names)
            used.update(images)
            gone = [i.name for i in images if not (is_inside(root, i) and i.is_file())]
            if gone:
                problems.append(f"{where}: there is no image {gone[0]!r} in the folder")
            elif id in reports:
                problems.append(f"{where}: id {id!r} stands there already")
            elif not text:
                problems.append(f"{where}: the report of {id!r} is blank")
            else:
                patient = item.get("subject_id") or _study(names)
                reports[id] = Report(id, images, text, split, str(patient))
    spare = sorted(i.relative_to(folder).as_posix() for i in set(image_files(root)) - used)
    return Laid(tuple(reports.values()), tuple(problems), tuple(spare))


# Any: what a JSON file holds.
def _splits(file: Path) -> dict[Split, list[dict[str, Any]]]:
    try:
        data = json.loads(decode(read_bytes(file), file.name))
        return {split: list(data[split]) for split in SPLITS}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"{file.name!r} is no JSON object of train, val and test ({error}). "
            "Take the file as R2Gen's authors pass it on."
        ) from error


def _study(names: list[str]) -> str:
    """Return the patient of IU X-ray: the number in `CXR2384_IM-0942/0.png`."""
    return names[0].split("/")[0].split("_")[0] if names else ""
