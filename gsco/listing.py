"""What a workspace offers, as rows: the tasks that can be asked for, and their specialists."""

from gsco.agent import GSCo
from gsco.workspace import TaskFolder, open_task

Row = dict[str, object]


def tasks_of(agent: GSCo) -> list[Row]:
    """Return the tasks whose construction is done."""
    return [
        {
            "id": name,
            "title": task.title,
            "kind": task.kind,
            "labels": list(task.texts),
            "modality": task.modality,
        }
        for name, task in agent.tasks.items()
        if TaskFolder(agent.workspace, name).is_done
    ]


def specialists_of(agent: GSCo, task: str | None = None) -> list[Row]:
    """Return the trained specialists of a task, or of all, with how good they are on validation.

    Raises:
        UsageError: unknown task. WorkspaceError: it is half constructed.
    """
    from specialists.classifier import load_card

    if task:
        open_task(agent.workspace, task)
    rows: list[Row] = []
    for name in [task] if task else list(agent.tasks):
        folder = TaskFolder(agent.workspace, name)
        for specialist in folder.specialists():
            card = load_card(folder.specialist(specialist))
            rows.append(
                {
                    "task": name,
                    "name": specialist,
                    "n": card.validation.n,
                    "balanced_accuracy": round(card.validation.balanced_accuracy, 4),
                    "auc": card.validation.auc,
                    "ece": round(card.validation.ece, 4),
                    "data": card.data,
                    "licence": card.data_licence,
                    "sha256": card.weights_sha256[:12],
                }
            )
    return rows
