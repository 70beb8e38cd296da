"""Which objectives a task trains with: each task's stand in a file of its own beside this one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from octavo.distill import classify, embed, rank, tag
from octavo.distill.steps import Objective
from octavo.tasks.base import Split, Task
from octavo.types import Outputs

_MODULES: dict[str, ModuleType] = {
    "classify": classify,
    "tag": tag,
    "embed": embed,
    "rank": rank,
}


def labelled_objective(split: Split, task: Task) -> Objective:
    """Return the loss against the truth of a split, whose groups are trained on."""
    objective: Any = _MODULES[task.name].labelled
    return objective(split, task)  # type: ignore[no-any-return]


def distilled_objective(
    teacher: Outputs, split: Split | None, task: Task, temperature: float, label_weight: float
) -> Objective:
    """Return the loss against the teacher's outputs, with the truth of the labelled groups mixed in.

    Args:
        teacher: its outputs to every training input.
        split: the labelled rows; their inputs and groups are the first ones. None where there are query logs only.
        task: what the model does.
        temperature: softens both models' distributions.
        label_weight: share of the truth in the loss of a labelled group, 0 to 1.
    """
    objective: Any = _MODULES[task.name].distilled
    return objective(teacher, split, task, temperature, label_weight)  # type: ignore[no-any-return]
