"""Every task that there is: the one place that lists them."""

from __future__ import annotations

from octavo.errors import InputError, ModelError
from octavo.tasks.base import FolderFacts, Task
from octavo.tasks.classify import Classify
from octavo.tasks.embed import Embed
from octavo.tasks.rank import Rank
from octavo.tasks.tag import Tag
from octavo.types import Json

# In the order in which they are asked whether a folder is theirs: the most particular sign first.
TASKS: tuple[type[Task], ...] = (Rank, Embed, Tag, Classify)
# The other way round: as a query meets them, understood before it is matched and ranked.
NAMES = tuple(task.name for task in reversed(TASKS))


def task_named(name: str) -> type[Task]:
    """Return a task by its name.

    Raises:
        InputError: there is no such task.
    """
    for task in TASKS:
        if task.name == name:
            return task
    raise InputError(f"Task '{name}' is not known. Known: {', '.join(NAMES)}.")


def task_from_facts(facts: FolderFacts, name: str = "") -> Task:
    """Return the task that a model folder does; `name` overrides what the folder says.

    Raises:
        ModelError: the folder does not say what it does and no name is given, or lacks what the task takes.
        InputError: there is no task of this name.
    """
    if name:
        return task_named(name).from_folder(facts)
    for task in TASKS:
        if task.claims(facts):
            return task.from_folder(facts)
    raise ModelError(
        f"{facts.source} does not say what it was trained for (architectures: {facts.config.get('architectures')}). "
        f"Say it with --task ({', '.join(NAMES)})."
    )


def task_from_settings(name: str, settings: Json, source: str) -> Task:
    """Return the task of a release.

    Raises:
        ModelError: settings that are no such task's.
    """
    try:
        return task_named(name).from_settings(settings)
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise ModelError(f"{source}: the settings of task '{name}' cannot be used ({error}).") from None
