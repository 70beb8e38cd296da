"""Asking the service for what a task does, on behalf of any dialect.

Finds the model: the one that is named, or the only one that does the task. Knows no dialect, and no task by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from octavo.serve.http.exchange import Call
from octavo.serve.refusals import BadRequest, Unavailable, UnknownModel
from octavo.serve.service import ModelInfo, Reply, Request, Service
from octavo.tasks.base import Task


async def ask(
    call: Call,
    task: type[Task],
    items: Sequence[Any],
    model: str | None = None,
    version: str | None = None,
    *,
    inputs: int | None = None,
    decode: bool = True,
    whole: bool = False,
) -> Reply:
    """Ask for some items to be answered.

    Args:
        call: on whose behalf.
        task: that the model has to do.
        items: as the task's `prepare` takes them.
        model: its name; None for the only model of the task.
        version: of the model; None for the one that serves.
        inputs: that the items come to; None for one each.
        decode: whether answers are wanted, or the outputs suffice.
        whole: whether what is too long is refused, in place of being cut.

    Raises:
        Refusal: one of its kinds.
    """
    call.check_inputs(len(items) if inputs is None else inputs)
    info = model_for(call.service, task, model, version)
    return await call.ask(Request(info.model, items, version, call.deadline_s, decode=decode, whole=whole))


def model_for(service: Service, task: type[Task], model: str | None, version: str | None = None) -> ModelInfo:
    """Return the release that is to do a task.

    Args:
        service: that serves it.
        task: what is asked for.
        model: its name; None (or "") for the only model of this task.
        version: one of its loaded versions; None for the one that serves.

    Raises:
        UnknownModel: there is no such model or version, or none of this task.
        BadRequest: the model does something else, or several models do this.
        Unavailable: no model serves at all.
    """
    if not model:
        model = _only_one(service, task)
    info = service.model(model, version)
    if info.task.name != task.name:
        raise BadRequest(
            f"Model '{info.model}' {info.task.what} (task {info.task.name}); this asks for task {task.name}. "
            f"{_known(service, task)}"
        )
    return info


def _only_one(service: Service, task: type[Task]) -> str:
    fitting = [info.model for info in service.models() if info.task.name == task.name]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise BadRequest(f'Several models do task {task.name}: {", ".join(fitting)}. Say which one under "model".')
    if not service.models():
        raise Unavailable("No model serves yet.")
    raise UnknownModel(_known(service, task))


def _known(service: Service, task: type[Task]) -> str:
    names = ", ".join(info.model for info in service.models() if info.task.name == task.name)
    if names:
        return f"Models of that task: {names}."
    others = ", ".join(f"{info.model} ({info.task.name})" for info in service.models())
    return f"No model here does task {task.name}. Models: {others}."
