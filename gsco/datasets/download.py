"""Downloading a file of a card: it goes on where it stopped, and is checked before it has its name.

download(card.files[0], Path("pneumoniamnist"))
"""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from filelock import FileLock, Timeout

from gsco.datasets.card import DataFile
from gsco.errors import DataError
from gsco.progress import Progress

if TYPE_CHECKING:
    from io import FileIO

SECONDS = 60.0
"""How long a server may be silent."""
CHUNK = 1 << 18


def download(file: DataFile, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch a file, or what is missing of it, and return where it stands.

    What has arrived is kept as `<name>.partial`; killed or cut off, a second call goes on from
    there. A file that is there already is checked, not fetched.

    Raises:
        DataError: the server cannot be reached or refuses, what arrived is not the published file,
            another process is fetching it, or another file has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"The folder {folder.name!r} cannot be made: {error.strerror}. Name another one."
        ) from error
    target = folder / file.name
    try:
        with FileLock(folder / f".{file.name}.lock", timeout=0):
            if target.exists():
                return _checked(target, file)
            partial = folder / f"{file.name}.partial"
            _fetch(file, partial, progress)
            _finish(partial, target, file)
    except Timeout as error:
        raise DataError(
            f"{file.name!r} is being downloaded into {folder.name!r} by another process. "
            "Wait for it."
        ) from error
    return target


def _checked(target: Path, file: DataFile) -> Path:
    if _md5(target) != file.md5:
        raise DataError(
            f"{file.name!r} is there already, and is not the published file (md5 "
            f"{file.md5}). Move it away, then run the command again."
        )
    return target


def _fetch(file: DataFile, partial: Path, progress: Progress | None) -> None:
    there = partial.stat().st_size if partial.exists() else 0
    # Compressed on the way, the parts would not fit together.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={there}-"} if there else {})
    try:
        with httpx.stream(
            "GET", file.url, headers=headers, follow_redirects=True, timeout=SECONDS
        ) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                # All of it is there, or more: the hash says which.
                return
            if response.is_error:
                raise DataError(
                    f"The server refused {file.name!r} ({response.status_code} "
                    f"{response.reason_phrase}). Try again later, or open {file.url} in a browser."
                )
            start = there if _continues(response, there) else 0
            with partial.open("ab" if start else "wb", buffering=0) as opened:
                _write(response, opened, start, file.name, progress)
    except httpx.HTTPError as error:
        kept = partial.stat().st_size if partial.exists() else 0
        raise DataError(
            f"The download of {file.name!r} stopped after {kept:,} bytes ({error}). "
            "Run the command again: it goes on from there."
        ) from error


def _continues(response: httpx.Response, there: int) -> bool:
    """Return whether the answer is what comes after the bytes that are there."""
    said = response.headers.get("Content-Range", "")
    return response.status_code == httpx.codes.PARTIAL_CONTENT and said.startswith(
        f"bytes {there}-"
    )


def _write(
    response: httpx.Response, opened: "FileIO", start: int, name: str, progress: Progress | None
) -> None:
    length = int(response.headers.get("Content-Length", 0))
    done = start
    for chunk in response.iter_raw(CHUNK):
        opened.write(chunk)
        done += len(chunk)
        if progress:
            progress(f"{name} (KiB)", done >> 10, max(start + length, done) >> 10)
    os.fsync(opened.fileno())


def _finish(partial: Path, target: Path, file: DataFile) -> None:
    if _md5(partial) != file.md5:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"What arrived as {file.name!r} is not the published file (md5 {file.md5}), and was "
            "removed. Run the command again; if it fails again, the server has another file."
        )
    partial.replace(target)


def _md5(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest()
