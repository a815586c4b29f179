"""Tasks: what can be asked of an image, as cards (TOML) that a person can read and edit.

The order of a card's labels is the order of class numbers, also in MedMNIST files.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from gsco.cleaned import cleaned
from gsco.errors import DataError, UsageError, unknown

Kind = Literal["single", "multi", "vqa", "report"]
ID = re.compile(r"[a-z0-9][a-z0-9-]*")
"""What names a task, and its folders."""


@dataclass(frozen=True)
class Label:
    """One diagnosis that can be given."""

    text: str
    """As people and the generalist read it."""
    synonyms: tuple[str, ...] = ()
    """Other words for it, such as those of a data set's folders."""
    code: str | None = None
    """Its short code in the field."""


@dataclass(frozen=True)
class Task:
    """A question with its possible answers."""

    id: str
    """Names folders: small letters, digits, hyphens."""
    title: str
    kind: Kind
    labels: tuple[Label, ...]
    modality: str
    """What the image is, for example `chest X-ray`."""
    stem: str
    """The task sentence of the prompt."""
    no_finding: str | None = None
    """In multi-label tasks the label that stands only alone."""

    @property
    def labelling(self) -> Literal["single", "multi"]:
        """Whether one label holds of an image, or any number of them."""
        return "multi" if self.kind == "multi" else "single"

    @property
    def texts(self) -> tuple[str, ...]:
        """The labels' texts in order."""
        return tuple(label.text for label in self.labels)

    def resolve(self, text: str) -> str | None:
        """Return the label that `text` names, by text, synonym or code; None if there is none."""
        return _names(self).get(_plain(text))

    def to_toml(self) -> str:
        """Return the card as TOML."""
        import tomli_w

        head = {
            "id": self.id,
            "title": self.title,
            "kind": self.kind,
            "modality": self.modality,
            "stem": self.stem,
        }
        if self.no_finding:
            head["no_finding"] = self.no_finding
        labels = [
            {"text": label.text}
            | ({"synonyms": list(label.synonyms)} if label.synonyms else {})
            | ({"code": label.code} if label.code else {})
            for label in self.labels
        ]
        return tomli_w.dumps({**head, "labels": labels})


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[_\-]+", " ", text.casefold()).split())


# Readers of data sets resolve one label a row.
@lru_cache(maxsize=64)
def _names(task: Task) -> dict[str, str]:
    names: dict[str, str] = {}
    for label in task.labels:
        for name in (label.text, *label.synonyms, *([label.code] if label.code else [])):
            if names.setdefault(_plain(name), label.text) != label.text:
                raise UsageError(
                    f"Card {task.id!r}: {name!r} names two labels, {names[_plain(name)]!r} and "
                    f"{label.text!r}. Edit the card so that each name stands once."
                )
    return names


def task_from_toml(text: str, source: str = "the given text") -> Task:
    """Read and check a card; `source` is what errors call it.

    Raises:
        UsageError: the text is not TOML, a field is missing or of another type, or labels clash.
    """
    try:
        data = tomllib.loads(text)
        rows = data.pop("labels", [])
        labels = tuple(
            Label(row["text"], tuple(row.get("synonyms", ())), row.get("code")) for row in rows
        )
        task = Task(labels=labels, **data)
    except KeyError as error:
        raise UsageError(
            f"Task card {source!r} has a label without {error}. Add the field."
        ) from error
    except (tomllib.TOMLDecodeError, TypeError, AttributeError) as error:
        raise UsageError(f"Task card {source!r} cannot be read: {error}. Edit the card.") from error
    _check_types(task, rows, source)
    if task.no_finding and (label := task.resolve(task.no_finding)):
        # The label itself, whatever spelling or synonym names it.
        task = replace(task, no_finding=label)
    validate(task)
    return task


# Any: rows are whatever the file holds.
def _check_types(task: Task, rows: Sequence[Mapping[str, Any]], source: str) -> None:
    words = [task.id, task.title, task.kind, task.modality, task.stem, task.no_finding or "none"]
    words += [label.code or "none" for label in task.labels]
    words += [name for label in task.labels for name in (label.text, *label.synonyms)]
    for word in words:
        if not isinstance(word, str) or not word.strip():
            raise UsageError(
                f"Task card {source!r} has {word!r} where words belong. "
                "Write text in quotes, and leave nothing empty."
            )
    for row in rows:
        if not isinstance(row.get("synonyms", []), list):
            raise UsageError(
                f"Task card {source!r}: synonyms {row['synonyms']!r} are not a list. "
                'Write them as ["one", "other"].'
            )
        if other := set(row) - {"text", "synonyms", "code"}:
            raise UsageError(
                f"Task card {source!r}: label {row['text']!r} has the unknown field "
                f"{min(other)!r}. A label has text, synonyms and code."
            )


def validate(task: Task) -> None:
    """Check that a task's id can name a folder and that its labels can be told apart.

    Raises:
        UsageError: with what to edit.
    """
    if not ID.fullmatch(task.id):
        raise UsageError(
            f"Task id {task.id!r} cannot name a folder. Use small letters, digits and hyphens."
        )
    if task.kind not in get_args(Kind):
        raise UsageError(unknown("task kind", task.kind, get_args(Kind), "gsco tasks"))
    if len(task.labels) < 2 and task.kind in ("single", "multi"):
        raise UsageError(
            f"Card {task.id!r} has fewer than two labels: {list(task.texts)!r}. "
            "Add the missing ones as [[labels]] tables."
        )
    plain = [_plain(text) for text in task.texts]
    for text, key in zip(task.texts, plain, strict=True):
        if plain.count(key) > 1:
            raise UsageError(
                f"Card {task.id!r} has the label {text!r} twice. Edit the card: remove one."
            )
    read = [cleaned(text) for text in task.texts]
    for text, words in zip(task.texts, read, strict=True):
        if not words or read.count(words) > 1:
            raise UsageError(
                f"Card {task.id!r}: in a prompt the label {text!r} reads {words!r}, which is "
                "nothing, or what another one reads. Edit the card: use plain words."
            )
    _names(task)
    if task.no_finding is not None and task.no_finding not in task.texts:
        raise UsageError(
            f"Card {task.id!r}: no_finding {task.no_finding!r} is not a label. "
            "Add the label, or name one of the card."
        )


def load_card(path: Path) -> Task:
    """Read a card from a file."""
    try:
        return task_from_toml(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise UsageError(
            f"Task card {path.name!r} cannot be read: {error.strerror}. Check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"Task card {path.name!r} is not UTF-8 text ({error.reason}). Save it as UTF-8."
        ) from error


@cache
def builtin_tasks() -> Mapping[str, Task]:
    """Return the shipped cards by id."""
    folder = resources.files("gsco") / "cards"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    tasks = (task_from_toml(f.read_text(encoding="utf-8"), f.name) for f in files)
    return {task.id: task for task in tasks}


def task_named(name: str, extra: Mapping[str, Task] | None = None) -> Task:
    """Return a task of `extra` or a shipped one, or raise with the closest names."""
    tasks = {**builtin_tasks(), **(extra or {})}
    if name not in tasks:
        raise UsageError(unknown("task", name, tasks, "gsco tasks"))
    return tasks[name]


def card_from_labels(name: str, labels: Sequence[str]) -> Task:
    """Make a card for data that has none; its words are for a person to improve.

    Raises:
        DataError: two labels are the same but for case, blanks, underscores or hyphens.
    """
    seen: dict[str, str] = {}
    for label in labels:
        if (other := seen.get(_plain(label))) is not None:
            raise DataError(
                f"Labels {other!r} and {label!r} are the same but for case, blanks, underscores "
                "or hyphens. Use one spelling for both."
            )
        seen[_plain(label)] = label
    made = tuple(_readable(label) for label in labels)
    task = Task(
        id=name,
        title=name.replace("-", " "),
        kind="single",
        labels=made,
        modality="medical image",
        stem="Your task is disease diagnosis. You are given a medical image.",
    )
    validate(task)
    return task


def _readable(label: str) -> Label:
    text = " ".join(label.replace("_", " ").split())
    return Label(text, (label,) if label != text else ())
