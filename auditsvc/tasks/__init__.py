"""Tasks: what a model's outputs are.  Each turns outputs and targets into one score in 0..1 for each image.

That score is common to all tasks: it can be sliced, paired and given an interval, so a check need not know the task.
A task also counts, image by image, what its corpus metrics are made of (``ImageScores.tally``).

Targets are one tensor with an entry for each image, padded where images have different numbers of boxes or characters.
One file of this package is one task; installed packages add theirs in the entry-point group ``auditsvc.tasks``.
"""

from __future__ import annotations

from auditsvc.errors import InvalidInput
from auditsvc.plugins import Registry, classes_in, concrete
from auditsvc.tasks.task import ImageScores, TargetKind, Task

TASKS: Registry[type[Task]] = Registry(
    "auditsvc.tasks",
    lambda: ((task.name, task) for task in classes_in(__name__, Task)),  # type: ignore[type-abstract]
    accepts=concrete(Task),
    id_of=lambda task: task.name,
)


def task_type(name: str) -> type[Task]:
    """The task of this name, without its classes.

    Raises:
        InvalidInput: there is no task of this name.
        Unavailable: a plug-in that can't be loaded.
    """
    found = TASKS.by_id.get(name)
    if found is None:
        raise InvalidInput(f"there is no task {name!r}; there are: {', '.join(TASKS.by_id)}")
    return found


def task_named(name: str, classes: tuple[str, ...]) -> Task:
    """The task of this name, for data with these classes.

    Raises:
        InvalidInput: there is no task of this name.
        Unavailable: a plug-in that can't be loaded.

    Example:
        >>> task_named("classification", ("cat", "dog")).name
        'classification'
    """
    return task_type(name)(classes)


__all__ = ["TASKS", "ImageScores", "TargetKind", "Task", "task_named", "task_type"]
