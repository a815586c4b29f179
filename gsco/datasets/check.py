"""Whether a copy of a published data set is whole: counts, labels, images, overlaps of splits.

    checked = check(card_named("ham10000"), Path("ham10000"))
    print(checked.ok, checked.problems)

What stands in two splits makes accuracy too high; it is listed case by case.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from gsco.datasets.card import DataCard, task_of
from gsco.datasets.known import check_there, found_in
from gsco.datasets.layouts import DIAGNOSIS, QUESTIONS, REPORTS
from gsco.datasets.question import Question, Report
from gsco.datasets.read import resolve
from gsco.datasets.record import SPLITS, Record, Split
from gsco.datasets.row import Row
from gsco.errors import DataError
from gsco.progress import Progress
from specialists.errors import SpecialistError

if TYPE_CHECKING:
    from PIL import Image

    from retrieval.entry import Entry

SHOWN = 5
"""How many examples a sentence names."""


@dataclass(frozen=True)
class Shared:
    """Two cases that share something and stand in two splits."""

    kind: str
    """patient, content, or near-duplicate."""
    a: str
    a_split: Split
    b: str
    b_split: Split


@dataclass(frozen=True)
class Checked:
    """What a check found."""

    name: str
    counts: Mapping[Split, int]
    """Cases found; of sets without official splits all of them under train."""
    expected: Mapping[Split, int | None]
    """Cases that the card promises; None if that is unknown."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """Cases of each label of the card."""
    problems: tuple[str, ...] = ()
    """What is wrong, in sentences."""
    notes: tuple[str, ...] = ()
    """What a person should know, and need not mend."""
    overlaps: tuple[Shared, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True)
class _Image:
    """One image of a split, however many cases ask about it."""

    id: str
    split: Split
    open: "Callable[[], Image.Image]"
    patient: str | None


@dataclass(frozen=True)
class _Copy:
    """What a folder holds, in one form for all kinds of sets."""

    cases: Sequence[Split | None]
    images: Sequence[_Image]
    labels: Mapping[str, int]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: Mapping[Split, int]


def check(
    card: DataCard, folder: Path, *, images: bool = True, progress: Progress | None = None
) -> Checked:
    """Compare a folder with its card; without `images` no image is opened.

    Raises:
        DataError: the folder does not exist.
    """
    check_there(card, folder)
    nothing = Checked(card.name, dict.fromkeys(SPLITS, 0), card.splits)
    try:
        copy = _copy(card, folder)
    except DataError as error:
        return replace(nothing, problems=(str(error),))
    counts = Counter(split or "train" for split in copy.cases)
    found = replace(
        nothing,
        counts={split: counts[split] for split in SPLITS},
        labels=copy.labels,
        problems=(*_miscounted(card, copy), *copy.problems),
        notes=(*copy.notes, *_remarks(card, copy)),
    )
    return _with_images(card, found, copy.images, progress) if images else found


def _copy(card: DataCard, folder: Path) -> _Copy:
    if card.layout in QUESTIONS:
        asked = QUESTIONS[card.layout](folder, card)
        once = {(q.split, q.place): q for q in asked.items}
        images = [_asked_about(q, folder) for q in once.values()]
        cases = [q.split for q in asked.items]
        notes = (*asked.notes, *_unlisted(asked.unlisted))
        return _Copy(cases, images, {}, asked.problems, notes, {})
    if card.layout in REPORTS:
        written = REPORTS[card.layout](folder, card)
        images = [image for report in written.items for image in _reported(report, folder)]
        cases = [report.split for report in written.items]
        notes = (*written.notes, *_unlisted(written.unlisted))
        return _Copy(cases, images, {}, written.problems, notes, {})
    laid = DIAGNOSIS[card.layout](folder, card)
    task = task_of(card)
    named = resolve(found_in(laid, card), task, card.name)
    labels = Counter(label for row in named.rows for label in row.labels)
    return _Copy(
        [row.split for row in laid.items],
        [_diagnosed(row) for row in laid.items],
        {text: labels[text] for text in task.texts},
        (*laid.problems, *named.problems, *_unlisted(laid.unlisted)),
        laid.notes,
        laid.left_out,
    )


def _diagnosed(row: Row) -> _Image:
    split = row.split or "train"
    record = Record(row.id, row.source, row.labels, split, row.patient)
    return _Image(row.id, split, record.open, row.patient)


def _asked_about(question: Question, folder: Path) -> _Image:
    image = question.image
    id = image.relative_to(folder).as_posix() if isinstance(image, Path) else question.id
    return _Image(id, question.split, question.open, question.patient)


def _reported(report: Report, folder: Path) -> list[_Image]:
    from specialists.images import decode

    return [
        _Image(i.relative_to(folder).as_posix(), report.split, partial(decode, i), report.patient)
        for i in report.images
    ]


def _unlisted(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    return (
        f"{len(names)} images are named by no line: {_some(names)}. Remove them, or take the "
        "tables of the same release.",
    )


def _miscounted(card: DataCard, copy: _Copy) -> list[str]:
    counts = Counter(copy.cases)
    if None in counts:
        # Without official splits only the whole can be compared.
        total = [n for n in card.splits.values() if n is not None]
        whole = sum(total) if len(total) == len(SPLITS) else None
        said = [_count(card, "the set", len(copy.cases), whole)]
    else:
        said = [
            _count(card, split, counts[split] + copy.left_out.get(split, 0), card.splits[split])
            for split in SPLITS
        ]
    return [sentence for sentence in said if sentence]


def _count(card: DataCard, what: str, found: int, expected: int | None) -> str:
    if expected is None or found == expected:
        return ""
    if found > expected:
        return (
            f"{what} has {found:,} cases, {found - expected:,} more than the {expected:,} of the "
            "card: take one release, and nothing beside it."
        )
    return (
        f"{what} has {found:,} cases, {expected - found:,} of {expected:,} are missing. "
        f"Get them from {card.url} ({card.tier}); `gsco data show {card.name}` says what "
        "belongs where."
    )


def _remarks(card: DataCard, copy: _Copy) -> list[str]:
    notes = []
    if None in copy.cases:
        notes.append(f"All cases count as train here: {card.split_note or 'no official split'}.")
    if gone := [text for text, count in copy.labels.items() if not count]:
        notes.append(f"No case has the label(s) {', '.join(map(repr, gone))}.")
    return notes


def _with_images(
    card: DataCard, found: Checked, images: Sequence[_Image], progress: Progress | None
) -> Checked:
    from retrieval.entry import Entry
    from retrieval.guard import fingerprint

    entries: dict[Split, list[Entry]] = {split: [] for split in SPLITS}
    unreadable: list[str] = []
    for number, image in enumerate(images, 1):
        try:
            hashes = fingerprint(image.open())
        except SpecialistError as error:
            unreadable.append(f"{image.id}: {error}")
        else:
            patient = None if image.patient is None else str(image.patient)
            entry = Entry(image.id, (), patient, None, hashes.content_hash, hashes.perceptual_hash)
            entries[image.split].append(entry)
        if progress:
            progress("images", number, len(images))
    shared = _shared(entries)
    told = _told(shared)
    wrong = [] if card.shares_images else told.certain
    known = "The official splits are known to share images."
    known_notes = (known, *told.certain) if card.shares_images and told.certain else ()
    return replace(
        found,
        problems=(*found.problems, *unreadable, *wrong),
        notes=(*found.notes, *known_notes, *told.likely),
        overlaps=tuple(shared),
    )


def _shared(entries: "Mapping[Split, Sequence[Entry]]") -> list[Shared]:
    from retrieval.guard import overlaps

    found: list[Shared] = []
    for a, b in combinations(SPLITS, 2):
        seen: set[tuple[str, str]] = set()
        for overlap in overlaps(entries[a], entries[b]):
            # A patient with many images is one finding for each case of the later split.
            if (overlap.kind, overlap.b) not in seen:
                seen.add((overlap.kind, overlap.b))
                found.append(Shared(overlap.kind, overlap.a, a, overlap.b, b))
    return found


@dataclass(frozen=True)
class _Told:
    """Sentences on overlaps."""

    certain: list[str]
    likely: list[str]


def _told(shared: Sequence[Shared]) -> _Told:
    told = _Told([], [])
    groups: dict[tuple[str, Split, Split], list[Shared]] = {}
    for one in shared:
        groups.setdefault((one.kind, one.a_split, one.b_split), []).append(one)
    for (kind, a, b), members in groups.items():
        pairs = _some([f"{one.b} and {one.a}" for one in members])
        if kind == "near-duplicate":
            told.likely.append(
                f"{len(members)} images of {b} look like one of {a}: {pairs}. Look at them: they "
                "may be copies."
            )
        else:
            what = "share a patient with" if kind == "patient" else "stand also in"
            told.certain.append(
                f"{len(members)} images of {b} {what} {a}: {pairs}. Accuracy would be too high; "
                f"leave these out of {a}, as the readers do."
            )
    return told


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
