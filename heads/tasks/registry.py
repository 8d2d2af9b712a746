"""All tasks by name, and the one that answers in an array ask for."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from featurestore.errors import HeadError
from heads.tasks.base import SMALLER_IS_BETTER, Link, Task
from heads.tasks.classification import Classification
from heads.tasks.multilabel import MultiLabel
from heads.tasks.regression import Regression

CLASSIFICATION: Task = Classification()
TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFICATION, MultiLabel(), Regression())}
"""The tasks by name; a new one is a file beside this one and a place here."""


class Asked(NamedTuple):
    """What is asked of the rows of a fit.

    Attributes:
        task: the task.
        link: how scores become answers; None for classes.
    """

    task: Task = CLASSIFICATION
    link: Link | None = None


ONE_CLASS = Asked()
"""One class of each row."""
METRICS: tuple[str, ...] = tuple(dict.fromkeys(metric for task in TASKS.values() for metric in task.metrics))
"""The metrics by which heads of some task can be compared."""

__all__ = ["CLASSIFICATION", "METRICS", "ONE_CLASS", "SMALLER_IS_BETTER", "TASKS", "Asked", "Task", "task_of"]


def check_one_class(task: str, where: Path | str, what: str) -> None:
    """Check that a data set asks for one class of each image.

    Args:
        task: of the data set.
        where: names it, for messages.
        what: is made of classes alone.

    Raises:
        HeadError: it asks for something else.
    """
    if task != CLASSIFICATION.name:
        raise HeadError(f"{where}: asks for {TASKS[task].asks} ({task}), and {what} is of one class of each image")


def task_of(y: ArrayLike) -> Task:
    """Return the task of answers in an array: several labels if it has several columns, as in scikit-learn; else
    classes. A regression is never guessed.

    Example:
        >>> task_of([0, 1, 2]).name, task_of([[0, 1], [1, 1]]).name
        ('classification', 'multilabel')
    """
    shape = np.asarray(y).shape
    return TASKS["multilabel"] if len(shape) == 2 and shape[1] > 1 else CLASSIFICATION
