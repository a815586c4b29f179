"""The folder that holds an index: written whole or not at all, read only if it is what it says.

    manifest.json                    written last: names the other files by their content
    vectors-<hash>.safetensors       float16 rows
    entries-<hash>.jsonl             one case a line, in the order of the rows
    fast-<hash>.faiss                only where a factory was asked for
    .lock                            held while somebody writes

A process killed at any moment leaves the old manifest with its files or the new one with its own;
what nobody names is removed by the next save. Reading takes no lock.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from retrieval.errors import RetrievalError

VERSION = 1
MANIFEST = "manifest.json"
LOCK_SECONDS = 60.0
"""How long a writer waits for another one."""

_OURS = re.compile(r"(vectors|entries|fast)-[0-9a-f]{64}\.\w+|[\w.-]+\.tmp")


@dataclass(frozen=True)
class IndexManifest:
    """What an index is made of and by; the file holds these fields and a checksum of them."""

    embedder: str
    """Name of the embedder that made the vectors."""
    embedder_hash: str
    """Its weights hash: vectors of other weights are not comparable."""
    dimension: int
    """Length of a vector."""
    factory: str | None
    """FAISS factory string of the approximate index; None if the search is exact."""
    count: int
    """Number of cases."""
    data_hash: str
    """SHA-256 over vectors and entries: equal hashes mean equal answers."""
    files: Mapping[str, str]
    """Part (for example `vectors.safetensors`) to the SHA-256 of its content."""
    version: int = VERSION
    """Changes when the folder's layout does."""


def file_name(part: str, digest: str) -> str:
    """Return the name of the file that holds `part` with that SHA-256."""
    stem, _, suffix = part.partition(".")
    return f"{stem}-{digest}.{suffix}"


def describe(
    parts: Mapping[str, bytes],
    *,
    embedder: str,
    embedder_hash: str,
    dimension: int,
    factory: str | None,
    count: int,
) -> IndexManifest:
    """Return the manifest of these parts."""
    files = {part: hashlib.sha256(content).hexdigest() for part, content in parts.items()}
    core = files["vectors.safetensors"] + files["entries.jsonl"]
    return IndexManifest(
        embedder=embedder,
        embedder_hash=embedder_hash,
        dimension=dimension,
        factory=factory,
        count=count,
        data_hash=hashlib.sha256(core.encode()).hexdigest(),
        files=files,
    )


@contextlib.contextmanager
def locked(folder: Path, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Keep other writers out of `folder`, which is made if it is missing.

    Raises:
        RetrievalError: another writer held it for `seconds`, or the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=seconds)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RetrievalError(
            f"Somebody else has been writing to the index {str(folder)!r} for {seconds:g} s. "
            "Wait for them, or stop them, and try again."
        ) from error
    except OSError as error:
        raise RetrievalError(
            f"Cannot write to the index folder {str(folder)!r}: {error.strerror}. "
            "Choose a folder that you may write to."
        ) from error
    try:
        yield
    finally:
        lock.release()


def write(folder: Path, parts: Mapping[str, bytes], manifest: IndexManifest) -> None:
    """Replace the index in `folder`, whose lock the caller holds.

    Raises:
        RetrievalError: the disk is full or refuses; the index that was there is untouched.
    """
    fields = asdict(manifest)
    text = json.dumps({**fields, "checksum": _checksum(fields)}, indent=1, sort_keys=True)
    try:
        for part, content in parts.items():
            _write_file(folder / file_name(part, manifest.files[part]), content)
        _sync_folder(folder)
        _write_file(folder / MANIFEST, text.encode())
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else str(error.strerror)
        raise RetrievalError(
            f"Cannot save the index to {str(folder)!r}: {reason}. The index that was there is "
            "unchanged; make room or choose another folder, and save again."
        ) from error
    finally:
        _remove_unnamed(folder)
    # The new index is in place by now; whether it survives a power cut is up to the system.
    with contextlib.suppress(OSError):
        _sync_folder(folder)


def _write_file(path: Path, content: bytes) -> None:
    """Put the whole content at `path`, or leave what is there."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    # os.replace rather than Path.replace: it is what the tests of sudden death watch.
    os.replace(temporary, path)  # noqa: PTH105


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_unnamed(folder: Path) -> None:
    """Remove our files that the manifest on disk does not name; failing to is no harm."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        named: set[str] = set()
        if (folder / MANIFEST).exists():
            files = json.loads((folder / MANIFEST).read_bytes())["files"]
            named = {file_name(part, digest) for part, digest in files.items()}
        for path in list(folder.iterdir()):
            if _OURS.fullmatch(path.name) and path.name not in named:
                path.unlink()


def read(folder: Path) -> tuple[IndexManifest, dict[str, bytes]]:
    """Return the manifest and the content of each part, all checked against their hashes.

    Raises:
        RetrievalError: there is no index, or it is incomplete, altered or of another version.
    """
    manifest = read_manifest(folder)
    while True:
        try:
            return manifest, {part: _read_part(folder, manifest, part) for part in manifest.files}
        except FileNotFoundError as error:
            # A save between the two reads removed the old files: read the new ones.
            newer = read_manifest(folder)
            if newer == manifest:
                raise _broken(folder, f"it lacks the file {error.filename!r}") from error
            manifest = newer


def read_manifest(folder: Path) -> IndexManifest:
    """Return the manifest alone: cheap, and the files beside it are not looked at.

    Raises:
        RetrievalError: there is none, or it is altered or of another version.
    """
    try:
        fields = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise RetrievalError(
            f"No index in {str(folder)!r}. Build one with `CaseIndex.build` and save it there."
        ) from error
    except OSError as error:
        raise RetrievalError(
            f"Cannot read the index in {str(folder)!r}: {error.strerror}. Check the path."
        ) from error
    except ValueError as error:
        raise _broken(folder, f"{MANIFEST!r} is not JSON") from error
    if not isinstance(fields, dict) or fields.pop("checksum", None) != _checksum(fields):
        raise _broken(folder, f"{MANIFEST!r} does not match its own checksum")
    if fields.get("version") != VERSION:
        raise RetrievalError(
            f"The index in {str(folder)!r} has the version {fields.get('version')!r}, this program "
            f"reads {VERSION}. Build it again."
        )
    return IndexManifest(**fields)


def _read_part(folder: Path, manifest: IndexManifest, part: str) -> bytes:
    """Return the content of a part, checked."""
    digest = manifest.files[part]
    path = folder / file_name(part, digest)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise _broken(folder, f"the content of {path.name!r} is not what its name says")
    return content


def _checksum(fields: Mapping[str, object]) -> str:
    """Return the SHA-256 of a manifest's fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _broken(folder: Path, reason: str) -> RetrievalError:
    """Return the error for an index that is not what it should be."""
    return RetrievalError(
        f"The index in {str(folder)!r} is incomplete or altered: {reason}. "
        "Build it again, or restore it from a copy."
    )
